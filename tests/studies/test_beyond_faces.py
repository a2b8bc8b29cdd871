"""Cats and dogs: their generator, its direction, and the cells of their table."""

import json
import pickle

import numpy as np
import pytest
import torch

from diga_lib import data, directions, latent
from diga_lib.data import critters
from diga_lib.studies import store, tables
from diga_lib.studies.grids import GENERATORS, TRIALS, beyond_faces


@pytest.fixture(scope="module")
def generator():
    return latent.load(GENERATORS["rendered-critters"], device="cpu")


@pytest.fixture(scope="module")
def unseen():
    """Critters of a seed that the generator was not trained on: images and attributes."""
    images, attributes, _ = critters.render(905, range(2500))
    return images, attributes


def test_reconstructions_are_near_and_keep_the_coat(generator, unseen):
    images = unseen[0][:200]
    again = generator.decode(generator.encode(images)).numpy()
    error = ((again - images / 255) ** 2).mean((1, 2, 3))
    assert np.mean(-10 * np.log10(error)) > 25  # dB
    forehead = (slice(None), slice(None), slice(14, 22), slice(26, 38))
    shade = [pictures[forehead].mean((1, 2, 3)) for pictures in (images / 255, again)]
    assert np.corrcoef(*shade)[0, 1] > 0.95


def test_a_picture_does_not_depend_on_its_batch(generator, unseen):
    one = generator.decode(generator.encode(unseen[0][5:6]))
    many = generator.decode(generator.encode(unseen[0][:16]))[5:6]
    torch.testing.assert_close(one, many, atol=1e-4, rtol=1e-3)


def test_the_direction_of_a_biased_set_is_the_fur_s_and_edits_it(generator, unseen):
    images, attributes = unseen
    pool = data.ImageDataset(images, attributes, None, "critters")
    split = data.biased_split(pool, "Dog", "Dark_Fur", 1 / 4, 1500, 20, 5, seed=0)
    codes = generator.encode(split.train.images)
    found = directions.spurious_direction(codes, split.train.target)
    fur, species = directions.true_shifts(codes, split.train.target, split.train.spurious)
    assert abs(directions.cosine(found.direction, fur)) > 0.8
    assert abs(directions.cosine(found.direction, species)) < 0.4
    forehead = (slice(None), slice(None), slice(14, 22), slice(26, 38))
    low, high = (generator.decode(found.move(codes[:50], sign * 2.0))[forehead].mean((1, 2, 3)) for sign in (-1, 1))
    assert ((high > low) if float((high - low).mean()) > 0 else (high < low)).float().mean() > 0.95


def line(cell, **changes):
    groups = dict.fromkeys(("y0s0", "y0s1", "y1s0", "y1s1"), 0.9)
    values = {"accuracy": 0.9, "worst_group": 0.9, "equalized_odds": 0.0, "groups": groups, "seconds": 1}
    values |= {"peak_memory_mb": 1, "versions": {}, "commit": "", "method": cell.row, "version": cell.version}
    return store.Result(**cell.key | values | changes)


def test_the_table_has_its_order_its_bias_and_its_age(tmp_path):
    def kept(bias):
        return tables.runs("Dog", "Dark_Fur", bias, "beyond_faces", tmp_path)

    output = tmp_path / "beyond_faces.jsonl"
    assert len(kept(1 / 9)) == 0
    for cell in beyond_faces(["balanced", "lff", "erm"], [0]):
        store.append(output, line(cell, version=0 if cell.row == "lff" else cell.version))
    store.append(output, line(*beyond_faces(["diga-one-stage"], [0], bias=1 / 4)))
    table = kept(1 / 9)
    assert list(table["row"]) == ["erm", "lff", "balanced"] and list(table["stale"]) == [False, True, False]
    assert list(kept(1 / 4)["row"]) == ["diga-one-stage"]


def test_competitors_are_tuned_and_the_others_are_not():
    cells = beyond_faces(["erm", "jtt", "diga-one-stage"], [0, 1])
    assert [(cell.row, cell.seed) for cell in cells] == [
        (row, seed) for seed in (0, 1) for row in ("erm", "jtt", "diga-one-stage")
    ]
    assert json.loads(cells[1].changes) in TRIALS["jtt"] and cells[0].changes == cells[2].changes == "{}"
    assert (cells[0].target, cells[0].spurious) == ("Dog", "Dark_Fur") and pickle.loads(pickle.dumps(cells)) == cells


def test_a_narrow_generator_survives_its_files(tmp_path, unseen):
    torch.manual_seed(0)
    narrow = latent.Generator(64, channels=8, components=12)
    narrow.base.fit(unseen[0][:60])
    latent.save(narrow, "narrow", tmp_path)
    again = latent.load("narrow", device="cpu", folder=tmp_path)
    codes = narrow.encode(unseen[0][:4])
    torch.testing.assert_close(again.encode(unseen[0][:4]), codes, atol=0.02, rtol=0.02)
    torch.testing.assert_close(again.decode(codes), narrow.decode(codes), atol=0.02, rtol=0.02)
    assert (codes.flatten(1)[:, 12:] == 0).all(), "an untrained network adds nothing to the components"
    for name, value in ("channels", 12), ("components", 0), ("components", 321):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            latent.Generator(64, **{name: value})
