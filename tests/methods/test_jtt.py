"""JTT's multiplicities counted by hand, and what it shares with the other methods that look at a reference first."""

import numpy as np
import pytest
import torch

from diga_lib.data.dataset import LabelledImages
from diga_lib.methods import EIIL, ERM, JTT, MAPLE


class Says(ERM):
    """A reference whose predictions are known."""

    def __init__(self, predictions):
        super().__init__()
        self.network, self.predictions = torch.nn.Identity(), np.array(predictions)

    def predict(self, images):
        return self.predictions


def labelled(target):
    return LabelledImages(np.zeros((len(target), 3, 8, 8), np.uint8), np.array(target), None, np.arange(len(target)))


def test_multiplicities_by_hand():
    method = JTT(upweight=20, reference=Says([0, 1, 1, 0, 1]))
    method.prepare(labelled([0, 0, 1, 1, 1]))
    assert method.multiplicity.tolist() == [1, 20, 1, 20, 1]


def test_an_epoch_is_drawn_from_the_larger_set_and_as_long_as_the_training_set():
    target, said = [0] * 500 + [1] * 500, [0] * 480 + [1] * 520
    method, train = JTT(upweight=20, reference=Says(said)), labelled(target)
    method.prepare(train)
    drawn = torch.cat([method.sampler(train, torch.Generator().manual_seed(seed)) for seed in range(20)])
    assert len(drawn) == 20 * 1000
    wrong = np.array(target) != np.array(said)
    share = 20 * 20 / (20 * 20 + 980)  # 20 errors, 20 times each, among 980 others
    assert abs(wrong[drawn.numpy()].mean() - share) < 5 * np.sqrt(share * (1 - share) / len(drawn))


def test_the_reference_has_its_own_schedule_and_may_be_shared(train, test):
    train = train.without_spurious()
    own = JTT(epochs=2, batch_size=64, first_epochs=1).fit(train, seed=4)
    reference = ERM(epochs=1, batch_size=64).fit(train, seed=4)
    shared = JTT(epochs=2, batch_size=64, reference=reference).fit(train, seed=4)
    assert (own.multiplicity == shared.multiplicity).all()
    assert (own.scores(test.images) == shared.scores(test.images)).all()
    wrong = reference.predict(train.images) != train.target
    assert 0 < wrong.sum() < len(train) and ((own.multiplicity > 1).numpy() == wrong).all()


def test_learns_and_repeats(train, test):
    train = train.without_spurious()
    one, again, other = (JTT(epochs=3, batch_size=64).fit(train, seed).scores(test.images) for seed in (0, 0, 1))
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()


def test_bad_parameters_are_one_sentence():
    with pytest.raises(ValueError, match="upweight is 0.5; it must be at least 1"):
        JTT(upweight=0.5)


@pytest.mark.parametrize("method", [JTT, EIIL, MAPLE])
def test_bad_references_are_one_sentence(method):
    with pytest.raises(ValueError, match="first_epochs is 0; it must be a whole number of at least 1"):
        method(first_epochs=0)
    with pytest.raises(ValueError, match="The reference has not been trained; call its fit first"):
        method(reference=ERM())
