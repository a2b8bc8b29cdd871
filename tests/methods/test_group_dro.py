"""GroupDRO against its algorithm computed by hand, and on a set with a shortcut."""

import numpy as np
import pytest
import torch

from diga_lib.data.dataset import LabelledImages
from diga_lib.methods import ERM, GroupDRO
from diga_lib.methods.networks import Classifier
from diga_lib.metrics import group_metrics


def labelled(target, spurious):
    images = np.zeros((len(target), 3, 8, 8), np.uint8)
    return LabelledImages(images, np.array(target), np.array(spurious), np.arange(len(target)))


def test_weights_and_loss_by_hand():
    method = GroupDRO(step_size=0.1)
    method.prepare(labelled([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 1]))
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]], requires_grad=True)
    index, y = torch.tensor([0, 1, 5]), torch.tensor([0, 0, 1])  # groups y0s0, y0s0, y1s1
    loss = method.loss(index, logits, y)
    first = (np.log1p(np.exp(-2)) + np.log(2)) / 2
    last = np.log1p(np.exp(-2))
    weights = np.exp(0.1 * np.array([first, 0, 0, last])) / 4
    weights /= weights.sum()
    np.testing.assert_allclose(method.weights, weights, rtol=1e-6)
    assert loss.item() == pytest.approx(weights[0] * first + weights[3] * last, rel=1e-6)
    loss.backward()  # the weights are constants of the gradient
    assert logits.grad[1, 0].item() == pytest.approx(-weights[0] * 0.5 / 2, rel=1e-6)


def test_sampler_meets_every_group_equally_often():
    split = labelled([0] * 900 + [1] * 100, [0] * 800 + [1] * 150 + [0] * 50)
    method = GroupDRO()
    method.prepare(split)
    drawn = torch.cat([method.sampler(split, torch.Generator().manual_seed(seed)) for seed in range(4)])
    counts = np.bincount(split.group[drawn.numpy()], minlength=4)
    assert len(drawn) == 4000 and (np.abs(counts - 1000) < 5 * np.sqrt(750)).all()  # 5 binomial deviations


def test_groups_that_do_not_occur_keep_their_share_as_in_the_original():
    method = GroupDRO()
    method.prepare(labelled([0, 1, 1], [0, 1, 1]))
    loss = method.loss(torch.tensor([0, 1]), torch.zeros(2, 2), torch.tensor([0, 1]))
    up = 0.25 * np.exp(0.01 * np.log(2))  # of both groups that occur; the two others keep exp(0)
    np.testing.assert_allclose(method.weights, np.array([up, 0.25, 0.25, up]) / (2 * up + 0.5), rtol=1e-6)
    assert loss.item() == pytest.approx(2 * up / (2 * up + 0.5) * np.log(2), rel=1e-6)


def test_helps_the_worst_group_of_a_biased_set():
    """Logistic regression on two numbers: a shortcut that mostly agrees and a target cue with noise."""
    random = np.random.default_rng(0)

    def draw(n, bias):
        y = random.integers(0, 2, n)
        s = np.where(random.random(n) < bias, y, 1 - y)
        x = np.full((n, 3, 4, 4), 128.0)
        x[:, 0] += 60 * (2 * s - 1)[:, None, None]
        x[:, 1] += (30 * (2 * y - 1) + random.normal(0, 30, n))[:, None, None]
        return LabelledImages(x.clip(0, 255).astype(np.uint8), y, s, np.arange(n))

    biased, test, worst = draw(1024, 0.95), draw(2000, 0.5), {}
    for method in (ERM, GroupDRO):

        class Linear(method):
            def build(self):
                return Classifier(torch.nn.Flatten(), torch.nn.Linear(48, 2))

        model = Linear(epochs=20, batch_size=128, lr=0.02, weight_decay=0.0, augment="none").fit(biased)
        worst[method] = group_metrics(test.target, model.predict(test.images), test.spurious).worst_group
    assert worst[GroupDRO] > worst[ERM] + 0.2
