"""DiGA on pictures whose generator is known exactly: two lamps, one for the target and one for the shortcut."""

import numpy as np
import pytest
import torch

from diga_lib.data import LabelledImages
from diga_lib.directions import Direction
from diga_lib.methods import ERM, DiGA, DiGAOneStage, PseudoGroups
from diga_lib.methods import views as augmentation
from diga_lib.methods.diga_one_stage import balanced_order, sides

SIDE = 16


class Lamps:
    """Codes (N, 1, 2) are the brightness of two patches; encoding and decoding are exact."""

    def encode(self, images):
        x = torch.as_tensor(np.asarray(images)).float() / 255
        return torch.stack([x[:, :, :6, :6].mean((1, 2, 3)), x[:, :, 9:, 9:].mean((1, 2, 3))], 1)[:, None]

    def decode(self, codes):
        images = torch.full((len(codes), 3, SIDE, SIDE), 0.5)
        images[:, :, :6, :6] = codes[:, 0, 0, None, None, None]
        images[:, :, 9:, 9:] = codes[:, 0, 1, None, None, None]
        return images.clamp(0, 1)


def lamps(n, bias, seed):
    """Target lamp: dim and noisy. Shortcut lamp: clear, and right as often as the bias makes it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    s = np.where(rng.random(n) < 1 / (1 + bias), y, 1 - y)
    codes = np.c_[
        0.5 + 0.10 * (2 * y - 1) + 0.11 * rng.normal(size=n), 0.5 + 0.3 * (2 * s - 1) + 0.04 * rng.normal(size=n)
    ]
    images = (Lamps().decode(torch.tensor(codes, dtype=torch.float32)[:, None]) * 255).round().to(torch.uint8).numpy()
    return LabelledImages(images, y.astype(np.int64), s.astype(np.int64), np.arange(n))


SHORTCUT = Direction(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), 0.04, 0.5)
FEW = dict(epochs=6, batch_size=64, augment="none", precision="fp32")


@pytest.fixture(scope="module")
def train():
    return lamps(1200, 1 / 9, 0).without_spurious()


def gap(model):
    """Difference of accuracy between faces with and against the shortcut, on balanced data."""
    test = lamps(800, 1.0, 1)
    right = model.predict(test.images) == test.target
    return right[test.target == test.spurious].mean() - right[test.target != test.spurious].mean(), right.mean()


def test_erm_takes_the_shortcut_and_diga_does_not(train):
    taken, accuracy = gap(ERM(**FEW).fit(train))
    assert taken > 0.25
    for edit in ("shift", "place", "flip"):
        left, better = gap(
            DiGAOneStage(Lamps(), SHORTCUT, edit, (8.0, 16.0), originals=0.0, balance=False, **FEW).fit(train)
        )
        assert left < 0.6 * taken, edit
    left, better = gap(DiGAOneStage(Lamps(), SHORTCUT, **FEW).fit(train))
    assert abs(left) < 0.35 * taken and better > accuracy


def test_pseudo_groups_are_the_groups_here_and_come_equally_often(train):
    model = PseudoGroups(Lamps(), SHORTCUT, **FEW)
    model.fit(train)
    truth = lamps(1200, 1 / 9, 0).spurious
    upper = model.upper[:, 0].numpy() > 0.5
    assert (upper == truth).mean() > 0.99
    drawn = balanced_order(train.target, model.upper, torch.Generator().manual_seed(0)).numpy()
    share = np.bincount(2 * train.target[drawn] + upper[drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(share, 0.25, atol=0.05)


def test_flipped_views_show_one_face_on_both_sides_and_keep_the_target(train):
    model = DiGAOneStage(Lamps(), SHORTCUT, originals=0.0, **FEW)
    model.fit(train)
    index = torch.arange(100)
    first, second = model.degrees_of_views(index)
    codes = model.faces.codes[index]
    one, other = (SHORTCUT.move(codes, d)[:, 0] for d in (first[:, 0], second[:, 0]))
    torch.testing.assert_close(one[:, 0], codes[:, 0, 0])
    assert ((one[:, 1] > 0.5) != (other[:, 1] > 0.5)).float().mean() > 0.99
    np.testing.assert_allclose((one[:, 1] - other[:, 1]).abs(), abs(float(model.gap)) * SHORTCUT.scale, atol=1e-5)


@pytest.mark.parametrize("most", [2**30, 0])
def test_the_two_edits_of_a_face_are_painted_as_moved_codes_are_and_only_once_if_they_may_be_kept(
    train, most, monkeypatch
):
    monkeypatch.setattr(augmentation, "MOST_KEPT", most)
    model = DiGAOneStage(Lamps(), SHORTCUT, originals=0.0, **FEW)
    model.generator = torch.Generator().manual_seed(0)
    model.prepare(train)
    decode, asked = model.faces.generator.decode, []
    monkeypatch.setattr(model.faces.generator, "decode", lambda codes: asked.append(len(codes)) or decode(codes))
    index = torch.arange(len(train.target))
    for _ in range(3):
        sides = model.opposite_sides(index)
        for side in sides:
            images, exact = (
                model.faces.option(index, side),
                model.faces.shifted(index, model.faces.options[index, side]),
            )
            asked.pop()
            torch.testing.assert_close(images, exact, atol=0.5001 / 255, rtol=0)
        assert (sides[0] + sides[1] == 1).all() and 0.4 < sides[0].float().mean() < 0.6
    assert sum(asked) == (2 if most else 6) * len(index)


def test_placed_views_do_not_tell_the_target(train):
    model = DiGAOneStage(Lamps(), SHORTCUT, "place", originals=0.0, balance=False, **FEW).fit(train)
    index = torch.arange(len(train.target))
    degrees, _ = model.degrees_of_views(index)
    placed = SHORTCUT.move(model.faces.codes, degrees[:, 0])[:, 0, 1].numpy()
    assert (
        abs(np.corrcoef(placed, train.target)[0, 1]) < 0.1 < np.corrcoef(model.faces.codes[:, 0, 1], train.target)[0, 1]
    )


def test_the_loss_adds_the_distance_of_the_two_views():
    model = DiGAOneStage(Lamps(), SHORTCUT, invariance=0.5)
    logits = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 2.0], [0.0, -1.0]])
    y = torch.tensor([1, 0, 1, 0])
    by_hand = -torch.log_softmax(logits, 1)[torch.arange(4), y].mean() + 0.5 * ((1 - 3) ** 2 + 0 + 0 + (1 + 1) ** 2) / 4
    torch.testing.assert_close(model.loss(None, logits, y), by_hand)


def test_byol_pairs_are_edits_both_ways_and_the_head_sees_conflicting_ones(train):
    settings = dict(FEW, epochs=2, lr=1e-3)
    model = DiGA(Lamps(), SHORTCUT, degrees=(2.0, 3.0), start="random", head_degrees=(8.0, 16.0), **settings)
    model.represent(train)
    before = model.faces.codes[:50, 0, 1]
    up, down = Lamps().encode((model.pairs(torch.arange(50)) * 255).numpy())[:, 0, 1].split(50)
    assert bool(((up - before) > 0.07).logical_or(up > 0.99).all()) and bool(
        ((before - down) > 0.07).logical_or(down < 0.01).all()
    )
    frozen = {name: value.clone() for name, value in model.network.backbone.state_dict().items()}
    conflicting, _ = gap(model.fit_head(train))
    model.conflicting = False
    plain, _ = gap(model.fit_head(train))
    assert conflicting < plain
    for name, value in model.network.backbone.state_dict().items():
        torch.testing.assert_close(value, frozen[name])  # the second stage trains the head alone


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="valid values: auto, shift, place, flip"):
        DiGAOneStage(Lamps(), SHORTCUT, edit="turn")
    with pytest.raises(ValueError, match="encoder, random"):
        DiGA(Lamps(), SHORTCUT, start="imagenet")


def test_edits_and_groups_are_used_only_where_the_sides_are_known(train):
    noise = np.random.default_rng(0).normal(size=(len(train), 1))
    outliers = np.where(np.arange(len(train)) % 50 == 0, 30.0, 0.0)[:, None] + noise
    for coordinate in (noise, outliers):  # no clusters; a cluster of 2 %, too few to be an attribute
        assert not sides(SHORTCUT, coordinate, train.target)[3]
    assert sides(SHORTCUT, SHORTCUT.coordinate(Lamps().encode(train.images)).numpy()[:, None], train.target)[3]
    model = DiGAOneStage(Lamps(), SHORTCUT, degrees=(2.0, 3.0), **FEW)
    model.generator = torch.Generator().manual_seed(0)
    model.prepare(train)
    model.known = False
    first, second = model.degrees_of_views(torch.arange(100))
    assert first.min() >= 2 and first.max() <= 3 and second.min() >= -3 and second.max() <= -2
    order = model.sampler(train, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(len(train)))
