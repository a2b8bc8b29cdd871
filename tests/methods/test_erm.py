"""The training loop against what it should compute, learn and repeat."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import NotFittedError

from diga_lib.methods import ERM, GroupDRO, Settings
from diga_lib.methods.networks import Classifier

QUICK = {"epochs": 4, "batch_size": 64}


def linear():
    """A network whose gradient is known in closed form: logistic regression on the pixels."""
    return Classifier(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))


class Linear(ERM):
    def build(self):
        return linear()


def test_learns_a_separable_set_and_ignores_an_unrelated_attribute(train, test):
    model = ERM(**QUICK).fit(train.without_spurious(), seed=0)
    right = model.predict(test.images) == test.target
    assert min(right[test.group == group].mean() for group in range(4)) > 0.95
    assert [record["epoch"] for record in model.history] == [0, 1, 2, 3]
    assert model.history[-1]["loss"] < model.history[0]["loss"]


def test_scores_are_the_softmax_and_predictions_their_rounding(train, test):
    model = Linear(epochs=1, precision="fp32").fit(train)
    scores = model.scores(test.images)
    logits = model.network(torch.from_numpy(test.images).float() / 255)
    np.testing.assert_allclose(scores, torch.sigmoid(logits[:, 1] - logits[:, 0]).detach(), atol=1e-6)
    assert scores.dtype == np.float32 and model.predict(test.images).dtype == np.int64
    assert (model.predict(test.images) == logits.argmax(1).numpy()).all()
    assert model.features(test.images).shape == (300, 768)
    assert model.predict(test.images[:0]).shape == (0,)


def test_same_seed_same_network_other_seed_another(train, test):
    scores = [ERM(epochs=1).fit(train, seed=seed).scores(test.images) for seed in (0, 0, 1)]
    assert (scores[0] == scores[1]).all() and (scores[0] != scores[2]).any()


def test_each_step_is_adamw_on_the_mean_cross_entropy(train):
    """One full-batch epoch, against AdamW written out by hand."""
    settings = Settings(
        epochs=1,
        batch_size=len(train),
        lr=0.01,
        weight_decay=0.1,
        schedule="constant",
        augment="none",
        precision="fp32",
    )
    model = Linear(settings).fit(train, seed=3)
    torch.manual_seed(3)
    expected = linear()
    x = torch.from_numpy(train.images).float() / 255
    y = torch.from_numpy(train.target)
    loss = F.cross_entropy(expected(x), y)
    loss.backward()
    assert model.history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for found, start in zip(model.network.parameters(), expected.parameters(), strict=True):
        direction = start.grad / (start.grad.abs() + 1e-8)  # m / √v of the first step
        moved = start * (1 - 0.01 * 0.1) - 0.01 * direction
        torch.testing.assert_close(found, moved, atol=1e-5, rtol=1e-4)


def test_an_epoch_meets_every_image_once_and_views_see_what_belongs_to_the_index(train):
    seen = []

    class Watched(Linear):
        def views(self, x, y, index):
            torch.testing.assert_close(x, torch.from_numpy(train.images)[index].float() / 255)
            assert (y == torch.from_numpy(train.target)[index]).all()
            seen.append(index)
            return torch.cat([x, x.flip(3)]), y.repeat(2)  # two views of each image

        def loss(self, index, logits, y):
            assert len(logits) == len(y) == 2 * len(index)
            return super().loss(index, logits, y)

    Watched(epochs=2, batch_size=64).fit(train)
    assert len(seen) == 16
    for epoch in (seen[:8], seen[8:]):
        assert torch.cat(epoch).sort().values.tolist() == list(range(512))


def test_callbacks_hear_of_each_epoch(train):
    heard = []
    model = Linear(epochs=3).fit(train, callbacks=[lambda method, record: heard.append(record)])
    assert heard == model.history and len(heard) == 3


@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
def test_schedules_end_where_they_should(schedule):
    model = Linear(lr=0.5, schedule=schedule)
    model.network = linear()
    optimizer, course = model.optimizer(steps=20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert rates[-1] == 0.5 if schedule == "constant" else rates[-1] < 0.01


def test_bad_sets_are_one_sentence(train, test):
    with pytest.raises(ValueError, match="GroupDRO is an oracle that reads the spurious attribute"):
        GroupDRO().fit(train.without_spurious())
    with pytest.raises(ValueError, match="needs at least 2 with targets 0 and 1"):
        ERM().fit(type(train)(train.images, train.target + 1, None, train.index))
    with pytest.raises(NotFittedError, match="has not been trained; call fit first"):
        ERM().predict(test.images)
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(n, 3, height, width\)"):
        Linear(epochs=1).fit(train).predict(test.images / 255)


def test_read_only_images_are_fine(train):
    images = train.images.copy()
    images.flags.writeable = False
    Linear(epochs=1).fit(type(train)(images, train.target, None, train.index))
