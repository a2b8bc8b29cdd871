"""Cats and dogs: the same picture everywhere, labels that are true of it, and no cue that tells the species alone."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

from diga_lib import data
from diga_lib.data import critters
from diga_lib.data.painter import in_batches


@pytest.fixture(scope="module")
def population():
    return critters.render(31, range(500))


@pytest.fixture(scope="module")
def numbers():
    """Parameters, attributes and factors of many critters, not painted (at the smallest grain)."""
    return critters.parameters(32, range(4000), resolution=2)


def test_a_critter_does_not_depend_on_its_batch_order_or_threads(population):
    images, attributes, factors = population
    order = np.array([499, 3, 41, 3, 0, 77])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again, table, truth = critters.render(31, order)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(again, images[order])
    pd.testing.assert_frame_equal(table, attributes.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(truth, factors.iloc[order].reset_index(drop=True))


def test_seeds_and_numbers_draw_different_critters(population):
    other = critters.render(32, range(40))[0]
    assert not any((a == b).all() for a, b in itertools.product(population[0][:40], other))
    assert not any((a == b).all() for a, b in itertools.combinations(population[0][:60], 2))


def test_any_resolution_shows_the_same_critter(population):
    large = critters.render(31, range(40), resolution=128)[0]
    small = large.reshape(40, 3, 64, 2, 64, 2).mean((3, 5))
    for a, b in zip(small, population[0][:40], strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("attribute", [name for name in critters.ATTRIBUTES if name != "Dark_Fur"])
def test_fur_is_drawn_independently_of_everything_else(numbers, attribute):
    table = numbers[1]
    assert chi2_contingency(pd.crosstab(table["Dark_Fur"], table[attribute])).pvalue > 1e-4


def test_every_attribute_has_both_values_often_enough(population):
    share = population[1].mean()
    assert (share > 0.1).all() and (share < 0.9).all()
    assert tuple(population[1].columns) == critters.ATTRIBUTES
    assert tuple(population[2].columns) == critters.FACTORS


def test_dark_fur_is_dark_on_the_picture(population):
    images, attributes, _ = population
    head = images[:, :, 14:44, 20:44].mean((1, 2, 3))  # the forehead down to the muzzle
    assert roc_auc_score(attributes["Dark_Fur"], -head) > 0.95
    background = images[:, :, :6, :6].mean((1, 2, 3))
    assert abs(roc_auc_score(attributes["Dark_Fur"], -background) - 0.5) < 0.08


def test_cues_overlap_and_only_together_tell_the_species(numbers):
    _, attributes, factors = numbers
    dog = attributes["Dog"]
    alone = pd.Series({name: roc_auc_score(dog, factors[name]) for name in critters.FACTORS})
    alone = np.maximum(alone, 1 - alone)
    assert alone.max() < 0.90, alone
    assert abs(roc_auc_score(dog, factors["fur_level"]) - 0.5) < 0.03
    together = cross_val_score(LogisticRegression(max_iter=1000), factors, dog, cv=4)
    assert together.mean() > 0.93
    floppy = pd.crosstab(dog, attributes["Floppy_Ears"], normalize="index").to_numpy()
    assert (floppy > 0.1).all(), "some cats' ears hang and some dogs' stand"


# Where a cue acts: rows and columns of the 64-pixel picture.
REGION = {
    "muzzle": (28, 60, 16, 48),
    "nose_size": (32, 50, 22, 42),
    "eye_size": (20, 38, 12, 52),
    "pupil": (20, 38, 12, 52),
    "whiskers": (32, 56, 0, 64),
    "stripes": (10, 48, 4, 60),
    "collar": (46, 64, 0, 64),
    "tongue": (38, 64, 18, 46),
    "ear_size": (0, 46, 0, 64),
}


@pytest.mark.parametrize("cue", REGION)
def test_each_cue_is_visible_grows_and_acts_where_it_should(cue):
    levels = np.linspace(0, 1, 4, dtype=np.float32)
    top, bottom, left, right = REGION[cue]
    differences, inside = [], []
    for number in (0, 1, 4, 9, 12):
        p, _, _ = critters.parameters(33, [number] * 4)
        p[cue] = levels
        images = in_batches(critters.paint, p, 64).astype(float)
        change = np.abs(images - images[0]).max(1)
        differences.append(change.sum((1, 2)))
        inside.append(change[3, top:bottom, left:right].sum() / change[3].sum())
    assert (np.diff(np.mean(differences, 0)) > 0).all()
    assert np.mean(inside) > 0.75, np.mean(inside)


def test_a_hanging_ear_ends_below_the_eyes_and_a_standing_one_above_the_head():
    p, _, _ = critters.parameters(34, [2] * 2)
    p["droop"] = np.array([0, 1], np.float32)
    p["ear"] = np.tile(np.array([1, 0, 1], np.float32), (2, 1))  # magenta, which nothing else is
    p["inner_ear"], p["fluff"][:] = p["ear"], 0
    p["background"][:], p["fur"][:], p["second"][:] = 0.5, 0.5, 0.5
    images = in_batches(critters.paint, p, 64).astype(int)
    magenta = images[:, [0, 2]].min(1) - images[:, 1] > 60
    rows = [np.flatnonzero(mask.any(1)) for mask in magenta]
    eyes = (1 - 0.12) * 32
    assert rows[0].max() < eyes and rows[0].min() < 8
    assert rows[1].max() > eyes + 4 and rows[1].min() > 8


def test_the_pool_is_the_renderers_and_fewer_are_the_first():
    pool = data.load("rendered-critters", n=24, seed=905, resolution=32)
    images, attributes, factors = critters.render(905, [3, 17], 32)
    assert (pool.images[[3, 17]] == images).all()
    assert (pool.attributes.iloc[[3, 17]].to_numpy() == attributes.to_numpy()).all()
    pd.testing.assert_frame_equal(pool.factors.iloc[[3, 17]].reset_index(drop=True), factors)
    fewer = data.load("rendered-critters", n=10, seed=905, resolution=32)
    assert (fewer.images == pool.images[:10]).all()
    split = data.biased_split(
        data.load("rendered-critters", n=400, seed=905, resolution=32),
        "Dog",
        "Dark_Fur",
        bias=1 / 4,
        n_train=100,
        n_test_per_group=10,
        seed=0,
    )
    assert split.target == "Dog" and len(split.train) == 100


@pytest.mark.parametrize("seed, indices", [(-1, [0]), (0, [3, -2])])
def test_bad_requests_say_what_is_valid(seed, indices):
    with pytest.raises(ValueError, match="0 or more"):
        critters.render(seed, indices)
