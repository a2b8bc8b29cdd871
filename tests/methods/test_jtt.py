"""JTT's multiplicities counted by hand, and what it shares with the other methods that look at a reference first."""

import numpy as np
import torch

from diga_lib.data.dataset import LabelledImages
from diga_lib.methods import ERM, JTT


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


def test_errors_are_drawn_as_often_as_in_the_larger_set():
    """Counted against the set in which each error is repeated, over many epochs of n images."""
    target, said = np.repeat([0, 1], 500), np.repeat([0, 1], [480, 520])
    method, train = JTT(upweight=20, reference=Says(said)), labelled(target)
    method.prepare(train)
    wrong = np.flatnonzero(target != said)
    larger = np.concatenate([np.flatnonzero(target == said), *[wrong] * 20])
    drawn = [method.sampler(train, torch.Generator().manual_seed(seed)).numpy() for seed in range(100)]
    assert {len(one) for one in drawn} == {1000} and (drawn[0] != drawn[1]).any()
    share, expected = np.isin(np.concatenate(drawn), wrong).mean(), np.isin(larger, wrong).mean()
    assert abs(share - expected) < 5 * (expected * (1 - expected) / 100_000) ** 0.5


def test_the_reference_has_its_own_schedule_and_may_be_shared(train, test):
    train = train.without_spurious()
    own = JTT(upweight=2, epochs=2, batch_size=64, first_epochs=1).fit(train, seed=4)
    reference = ERM(epochs=1, batch_size=64).fit(train, seed=4)
    shared = JTT(upweight=2, epochs=2, batch_size=64, reference=reference).fit(train, seed=4)
    assert (own.multiplicity == shared.multiplicity).all()
    assert (own.scores(test.images) == shared.scores(test.images)).all()
    wrong = reference.predict(train.images) != train.target
    assert 0 < wrong.sum() < len(train) and ((own.multiplicity > 1).numpy() == wrong).all()


def test_learns_and_repeats(train, test):
    train = train.without_spurious()
    one, again, other = (
        JTT(upweight=2, epochs=2, batch_size=64).fit(train, seed).scores(test.images) for seed in (0, 0, 1)
    )
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()
