"""DiGA on pictures whose generator is known exactly: two lamps, one for the target and one for the shortcut."""

import numpy as np
import pytest
import torch

from diga_lib.directions import Direction
from diga_lib.methods import ERM, DiGAOneStage, PseudoGroups
from diga_lib.methods import views as augmentation
from diga_lib.methods.erm import equally_often

FEW = {"epochs": 6, "batch_size": 64, "augment": "none", "precision": "fp32"}


@pytest.fixture(scope="module")
def train(biased):
    return biased.without_spurious()


def gap(world, model):
    """Difference of accuracy between faces with and against the shortcut, on balanced data."""
    test = world.draw(800, 1.0, 1)
    right = model.predict(test.images) == test.target
    return right[test.target == test.spurious].mean() - right[test.target != test.spurious].mean(), right.mean()


def test_erm_takes_the_shortcut_and_diga_does_not(world, train):
    taken, accuracy = gap(world, ERM(**FEW).fit(train))
    assert taken > 0.25
    for edit in ("shift", "place", "flip"):
        model = DiGAOneStage(world.generator, world.shortcut, edit, (8.0, 16.0), originals=0.0, balance=False, **FEW)
        left, _ = gap(world, model.fit(train))
        assert left < 0.6 * taken, edit
    left, better = gap(world, DiGAOneStage(world.generator, world.shortcut, **FEW).fit(train))
    assert abs(left) < 0.35 * taken and better > accuracy


def test_pseudo_groups_are_the_groups_here_and_come_equally_often(world, biased, train):
    model = PseudoGroups(world.generator, world.shortcut, **FEW)
    model.fit(train)
    truth = biased.spurious
    upper = model.upper[:, 0].numpy() > 0.5
    assert (upper == truth).mean() > 0.99
    drawn = equally_often(model.group, torch.Generator().manual_seed(0)).numpy()
    share = np.bincount(2 * train.target[drawn] + upper[drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(share, 0.25, atol=0.05)


def test_flipped_views_show_one_face_on_both_sides_and_keep_the_target(world, train):
    model = DiGAOneStage(world.generator, world.shortcut, originals=0.0, **FEW)
    model.fit(train)
    index = torch.arange(100)
    first, second = model.degrees_of_views(index)
    codes = model.faces.codes[index]
    one, other = (world.shortcut.move(codes, d)[:, 0] for d in (first[:, 0], second[:, 0]))
    torch.testing.assert_close(one[:, 0], codes[:, 0, 0])
    assert ((one[:, 1] > 0.5) != (other[:, 1] > 0.5)).float().mean() > 0.99
    np.testing.assert_allclose((one[:, 1] - other[:, 1]).abs(), abs(float(model.gap)) * world.shortcut.scale, atol=1e-5)


@pytest.mark.parametrize("most", [2**30, 0])
def test_the_two_edits_of_a_face_are_painted_as_moved_codes_are_and_only_once_if_they_may_be_kept(
    world, train, most, monkeypatch
):
    monkeypatch.setattr(augmentation, "MOST_KEPT", most)
    model = DiGAOneStage(world.generator, world.shortcut, originals=0.0, **FEW)
    model.rng = torch.Generator().manual_seed(0)
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


def test_placed_views_do_not_tell_the_target(world, train):
    model = DiGAOneStage(world.generator, world.shortcut, "place", originals=0.0, balance=False, **FEW).fit(train)
    index = torch.arange(len(train.target))
    degrees, _ = model.degrees_of_views(index)
    placed = world.shortcut.move(model.faces.codes, degrees[:, 0])[:, 0, 1].numpy()
    assert (
        abs(np.corrcoef(placed, train.target)[0, 1]) < 0.1 < np.corrcoef(model.faces.codes[:, 0, 1], train.target)[0, 1]
    )


def test_the_loss_adds_the_distance_of_the_two_views(world):
    model = DiGAOneStage(world.generator, world.shortcut, invariance=0.5)
    logits = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 2.0], [0.0, -1.0]])
    y = torch.tensor([1, 0, 1, 0])
    by_hand = -torch.log_softmax(logits, 1)[torch.arange(4), y].mean() + 0.5 * ((1 - 3) ** 2 + 0 + 0 + (1 + 1) ** 2) / 4
    torch.testing.assert_close(model.loss(None, logits, y), by_hand)


def test_edits_and_groups_are_used_only_where_the_sides_are_known(world, train):
    noise = np.random.default_rng(0).normal(size=(len(train), 1))
    outliers = np.where(np.arange(len(train)) % 50 == 0, 30.0, 0.0)[:, None] + noise
    for coordinate in (noise, outliers):  # no clusters; a cluster of 2 %, too few to be an attribute
        assert not world.shortcut.sides(coordinate, train.target).known
    along = world.shortcut.coordinate(world.generator.encode(train.images)).numpy()[:, None]
    assert world.shortcut.sides(along, train.target).known


def test_where_there_is_nothing_to_see_it_is_erm_to_the_last_digit(world, train):
    nothing = Direction(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), 0.1, 0.5)
    few = FEW | {"epochs": 1}
    expected = ERM(**few).fit(train, 3).scores(train.images[:100])
    for method in (DiGAOneStage, PseudoGroups):
        model = method(world.generator, nothing, **few).fit(train, 3)
        assert not model.known
        np.testing.assert_array_equal(model.scores(train.images[:100]), expected)
