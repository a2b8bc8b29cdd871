"""LfF's weights computed by hand and by a slow transcription, and its two networks kept apart."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diga_lib.data.dataset import LabelledImages
from diga_lib.methods import LfF
from diga_lib.methods.lff import generalised_cross_entropy


def prepared(target, **parameters):
    method = LfF(**parameters)
    images = np.zeros((len(target), 3, 8, 8), np.uint8)
    method.prepare(LabelledImages(images, np.array(target), None, np.arange(len(target))))
    return method


def test_weights_by_hand():
    method = prepared([0, 0, 1], momentum=0.7)
    weights = method.weights(torch.tensor([0, 1, 2]), torch.tensor([[0.2, 0.8, 0.5], [0.6, 0.3, 0.1]]))
    # Divided by the largest of the class: biased 1/4, 1 and 1, debiased 1, 1/2 and 1.
    np.testing.assert_allclose(weights, [0.25 / 1.25, 1 / 1.5, 0.5], rtol=1e-6)
    weights = method.weights(torch.tensor([1]), torch.tensor([[0.1], [1.3]]))
    # The averages of image 1 are now 0.7 * 0.8 + 0.3 * 0.1 = 0.59 and 0.7 * 0.3 + 0.3 * 1.3 = 0.6, both the largest.
    np.testing.assert_allclose(method.average[:, 1], [0.59, 0.6], rtol=1e-6)
    np.testing.assert_allclose(weights, [0.5], rtol=1e-6)
    weights = method.weights(torch.tensor([0]), torch.tensor([[0.2], [0.3]]))
    biased, debiased = 0.2 / 0.59, 0.51 / 0.6
    np.testing.assert_allclose(weights, [biased / (biased + debiased)], rtol=1e-6)


def test_weights_are_those_of_a_slow_transcription():
    random = np.random.default_rng(0)
    target = random.integers(0, 2, 12)
    method, average = prepared(target, momentum=0.4), [{}, {}]
    for _ in range(9):
        index, losses = random.permutation(12)[:5], random.exponential(size=(2, 5)).astype(np.float32)
        found = method.weights(torch.from_numpy(index), torch.from_numpy(losses))
        for network in (0, 1):
            for i, loss in zip(index, losses[network], strict=True):
                average[network][i] = 0.4 * average[network][i] + 0.6 * loss if i in average[network] else loss
        for i, weight in zip(index, found, strict=True):
            biased, debiased = (one[i] / max(one[j] for j in one if target[j] == target[i]) for one in average)
            assert weight.item() == pytest.approx(biased / (biased + debiased), rel=1e-5)


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_generalised_cross_entropy_and_its_gradient(q):
    logits = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.arange(8) % 2
    p = logits.detach().softmax(1)[torch.arange(8), y]
    losses = generalised_cross_entropy(logits, y, q)
    torch.testing.assert_close(losses.detach(), (1 - p**q) / q)
    (found,) = torch.autograd.grad(losses.sum(), logits)
    (plain,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), logits)
    torch.testing.assert_close(found, p[:, None] ** q * plain)


def test_generalised_cross_entropy_tends_to_the_cross_entropy():
    logits, y = torch.tensor([[3.0, -1.0], [0.0, 0.5]], dtype=torch.float64), torch.tensor([1, 1])
    torch.testing.assert_close(
        generalised_cross_entropy(logits, y, 1e-6), F.cross_entropy(logits, y, reduction="none"), rtol=1e-4, atol=1e-6
    )


def test_each_network_learns_from_its_own_loss():
    method = prepared([0, 1, 1])
    logits, index, y = torch.randn(3, 4).requires_grad_(), torch.arange(3), torch.tensor([0, 1, 1])
    method.loss(index, logits, y).backward()
    weight = prepared([0, 1, 1]).weights(
        index,
        torch.stack(
            [F.cross_entropy(logits[:, part], y, reduction="none").detach() for part in (slice(2, 4), slice(0, 2))]
        ),
    )
    expected = torch.cat([weight[:, None], torch.ones(3, 1)], 1) / 3  # of the weighted, and of the generalised loss
    for part, factor, loss in [
        (slice(0, 2), expected[:, :1], lambda z: F.cross_entropy(z, y, reduction="sum")),
        (slice(2, 4), expected[:, 1:], lambda z: generalised_cross_entropy(z, y, 0.7).sum()),
    ]:
        own = logits[:, part].detach().requires_grad_()
        loss(own).backward()
        torch.testing.assert_close(logits.grad[:, part], factor * own.grad)


def test_images_against_a_shortcut_weigh_more():
    """Three quarters red exactly where the target is 1: the biased network fails on the others."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 512)
    s = np.where(random.random(512) < 0.9, y, 1 - y)
    x = random.integers(0, 120, (512, 3, 16, 16))
    x[s == 1, 0] += 100
    x[y == 1, 1, 6:10, 6:10] += 40
    model = LfF(epochs=3, batch_size=64).fit(LabelledImages(x.astype(np.uint8), y, None, np.arange(512)))
    weight = model.weights(torch.arange(512), model.average.clone())  # an average of equal numbers stays
    assert weight[s != y].mean() > weight[s == y].mean() + 0.1


def test_learns_repeats_and_answers_with_the_debiased_network(train, test):
    models = [LfF(epochs=3, batch_size=64, precision="fp32").fit(train.without_spurious(), seed) for seed in (0, 0, 1)]
    one, again, other = (model.scores(test.images) for model in models)
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()
    features = torch.from_numpy(models[0].features(test.images))
    debiased = models[0].network.head(features).softmax(1)[:, 1].detach()
    np.testing.assert_allclose(one, debiased, atol=1e-5)


def test_one_class_is_one_sentence(train):
    one = LabelledImages(train.images, np.zeros(len(train), np.int64), None, train.index)
    with pytest.raises(ValueError, match="the training set needs both classes"):
        LfF(epochs=1).fit(one)
