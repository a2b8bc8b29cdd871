"""Learned prompts: what the text tower is given, what learning does, and the entropy that TPT minimises."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diga_lib import image_text
from diga_lib.studies.weights.captions import PHRASES, vocabulary
from diga_lib.test_time import TDA, class_weights, prompts
from diga_lib.test_time.prompts import TPT, CoCoOp, CoOp, DiffTPT, confident_views, mean_entropy

CLASSES = ["a person with black hair", "an old person", "a woman"]


def tiny():
    torch.manual_seed(0)
    return (
        image_text.RenderedFacesText(vocabulary(PHRASES), width=16, layers=1, heads=2, dimension=16)
        .eval()
        .requires_grad_(False)
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 64, 64), np.uint8)


# ---- the way in -------------------------------------------------------------------------------------------


def test_words_as_context_are_as_if_they_were_written():
    model = tiny()
    context = model.words("a photo of a")
    assert context.shape[0] == 4
    learned = F.normalize(model.text_with_context(["woman", "old person"], context), dim=1)
    written = model.encode_text(["a photo of a woman", "a photo of a old person"])
    torch.testing.assert_close(learned, written, atol=0.02, rtol=0)  # bf16
    each = model.text_with_context(["woman"] * 2, torch.stack([context, 2 * context]))
    assert not torch.allclose(each[0], each[1], atol=1e-2)


def test_gradients_reach_the_context_and_too_long_is_said():
    model = tiny()
    context = model.words("a photo of a").requires_grad_()
    model.text_with_context(CLASSES, context).square().sum().backward()
    assert (context.grad.abs().sum(1) > 0).all()
    with pytest.raises(ValueError, match="learned context of 70 tokens"):
        model.text_with_context(CLASSES, context.detach().repeat(20, 1)[:70])


# ---- learning from shots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CoOp, CoCoOp])
def test_learning_lowers_the_loss_and_repeats_itself(kind, images):
    labels = np.arange(12) % 3
    model = tiny()
    one, two = (kind(model, 0.05, 12, 4).fit(images, labels, CLASSES, seed=1) for _ in range(2))
    torch.testing.assert_close(one.logits(images, CLASSES), two.logits(images, CLASSES))
    begun = kind(model, 1e-9, 1, 4).fit(images, labels, CLASSES, seed=1)
    late, early = (F.cross_entropy(k.logits(images, CLASSES), torch.from_numpy(labels)) for k in (one, begun))
    assert late < early
    assert one.logits(images, ["a man", "a woman"]).shape == (12, 2), "other classes than it learned from"


def test_cocoop_reads_the_image_and_coop_does_not(images):
    model, labels = tiny(), np.arange(12) % 3
    cocoop = CoCoOp(model, lr=0.05, epochs=2).fit(images, labels, CLASSES)
    features = model.encode_image(images).clone()
    text = cocoop.class_features(prompts.bare(CLASSES), features)
    for row in (0, 7):  # each image's own context, put in by hand
        context = cocoop.parameters[0] + cocoop.meta(features[row])
        torch.testing.assert_close(
            text[row], prompts.unit_text(model, prompts.bare(CLASSES), context), atol=0.02, rtol=0
        )
    with pytest.raises(ValueError, match="call fit first"):
        CoOp(model).logits(images, CLASSES)


# ---- tuning for each image --------------------------------------------------------------------------------


def test_mean_entropy_and_confident_views_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [1.0, 0.0, 0.0]])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    mean = p.mean(0)
    assert mean_entropy(logits).item() == pytest.approx(-(mean * np.log(mean)).sum(), rel=1e-5)
    assert confident_views(logits, 0.5).tolist() == [2, 0]
    assert confident_views(logits, 0.01).tolist() == [2]


def test_tpt_lowers_the_entropy_of_its_views_and_forgets(images):
    model = tiny()
    tuner = TPT(model, count=16, keep=0.25, lr=0.5)
    found = tuner.logits(images[:4], CLASSES, seed=3)
    alone = [tuner.logits(images[k : k + 1], CLASSES, seed=3) for k in range(1)]
    torch.testing.assert_close(found[:1], alone[0], msg="an image's prompt must not depend on those before it")

    image = torch.from_numpy(images[0]).float() / 255
    features = tuner.views(image, torch.Generator().manual_seed(1_000_003 * 3)).clone()
    context = model.words(prompts.START).requires_grad_()
    scale = model.scale.item()
    logits = scale * features @ prompts.unit_text(model, prompts.bare(CLASSES), context).T
    chosen = logits[confident_views(logits, 0.25)]
    before = mean_entropy(chosen)
    before.backward()
    stepped = context.detach() - 1e-3 * context.grad / context.grad.norm()
    after = mean_entropy(
        (scale * features @ prompts.unit_text(model, prompts.bare(CLASSES), stepped).T)[confident_views(logits, 0.25)]
    )
    assert after < before + 1e-3


def test_one_step_of_tpt_is_one_step_of_adamw(images):
    model = tiny()
    tuner = TPT(model, count=8, keep=0.5, lr=0.3)
    features = tuner.views(torch.from_numpy(images[0]).float() / 255, torch.Generator().manual_seed(0)).clone()
    start = model.words(prompts.START)
    context = start.clone().requires_grad_()
    logits = model.scale.item() * features @ prompts.unit_text(model, prompts.bare(CLASSES), context).T
    mean_entropy(logits[confident_views(logits, 0.5)]).backward()
    rate = 0.3 * start.std()
    moved = start - rate * 0.01 * start - rate * context.grad / (context.grad.abs() + 1e-8)  # AdamW's first step
    expected = model.scale.item() * features[:1] @ prompts.unit_text(model, prompts.bare(CLASSES), moved).T
    torch.testing.assert_close(tuner.logits(images[:1], CLASSES), expected.detach(), atol=0.05, rtol=0.02)


def test_difftpt_takes_half_of_its_views_from_the_generator(images):
    asked = []

    class Fake:
        def encode(self, x):
            assert x.shape == (1, 3, 64, 64)
            return torch.zeros(1, 2, 3)

        def decode(self, w):
            asked.append(w)
            return torch.rand(len(w), 3, 64, 64)

    tuner = DiffTPT(tiny(), Fake(), torch.randn(50, 2, 3), count=16, alike=0.75, steps=2)
    features = tuner.views(torch.from_numpy(images[0]).float() / 255, torch.Generator().manual_seed(0))
    assert len(features) == 8 + 6 and asked[0].shape == (8, 2, 3)
    similar = features[8:] @ features[0]
    assert (similar.diff() <= 1e-6).all(), "the most similar ones"
    assert tuner.logits(images[:2], CLASSES).shape == (2, 3)


def test_bad_settings():
    for kind, name, value in ((TPT, "count", 1), (TPT, "keep", 0), (TPT, "lr", 0), (CoOp, "lr", -1.0)):
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be "):
            kind(tiny(), **{name: value})
    assert prompts.bare(["a man", "an old man", "angry man"]) == ["man", "old man", "angry man"]


def test_tda_takes_any_model(images):
    model = tiny()
    weights = class_weights(model, CLASSES, ["a photo of {}", "{}"])
    features = model.encode_image(images)
    logits = TDA(weights, model.scale)(features)
    assert logits.shape == (12, 3) and torch.isfinite(logits).all()
    assert not torch.allclose(logits, model.scale * features @ weights.T, atol=1e-3)
