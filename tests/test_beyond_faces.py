"""Cats and dogs: their generator, its direction, and the cells of their table."""

import json
import pickle
import runpy
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from diga_lib import data, directions, latent, methods
from diga_lib.data import critters
from diga_lib.studies import beyond_faces, grid, results


@pytest.fixture(scope="module")
def generator():
    return latent.load(beyond_faces.GENERATOR, device="cpu")


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


def line(cell):
    groups = dict.fromkeys(("y0s0", "y0s1", "y1s0", "y1s1"), 0.9)
    return results.Result(
        **cell.key,
        accuracy=0.9,
        worst_group=0.9,
        equalized_odds=0.0,
        groups=groups,
        seconds=1,
        peak_memory_mb=1,
        versions={},
        commit="",
        extra={"row": cell.row, "cell": asdict(cell)},
    )


def test_the_table_has_its_order_and_its_bias(tmp_path):
    store = tmp_path / "store.jsonl"
    assert len(beyond_faces.kept(1 / 9, store)) == 0
    for cell in (
        beyond_faces.CritterCell("Balanced"),
        beyond_faces.CritterCell("LfF"),
        beyond_faces.CritterCell("ERM"),
        beyond_faces.CritterCell("DiGA", bias=1 / 4),
    ):
        results.append(store, line(cell))
    assert list(beyond_faces.kept(1 / 9, store)["row"]) == ["ERM", "LfF", "oracle: balanced data"]
    assert list(beyond_faces.kept(1 / 4, store)["row"]) == ["DiGA"]


def test_rows_of_older_code_are_known(tmp_path):
    store, cells = tmp_path / "store.jsonl", [beyond_faces.CritterCell(row) for row in ("ERM", "LfF")]
    results.append(store, line(cells[0]).model_copy(update={"fingerprint": cells[0].fingerprint}))
    results.append(store, line(cells[1]).model_copy(update={"fingerprint": "older"}))
    assert beyond_faces.kept(1 / 9, store)["stale"].tolist() == [False, True]


def test_competitors_are_tuned_and_the_others_are_not():
    cells = beyond_faces.cells(["ERM", "JTT", "DiGA"], [0, 1])
    assert [(cell.row, cell.seed) for cell in cells] == [
        (row, seed) for seed in (0, 1) for row in ("ERM", "JTT", "DiGA")
    ]
    assert json.loads(cells[1].changes) in methods.SEARCH["JTT"] or cells[1].changes == "{}"
    assert cells[0].changes == cells[2].changes == "{}"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # run again as a command, on purpose
def test_the_command_s_cells_can_be_sent_to_other_processes(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(grid, "run", lambda cells, *rest, **more: given.extend(cells))
    monkeypatch.setattr(sys, "argv", ["beyond_faces", "--output", str(tmp_path / "store.jsonl"), "--jobs", "2"])
    runpy.run_module("diga_lib.studies.beyond_faces", run_name="__main__")
    assert len(given) > 20 and pickle.loads(pickle.dumps(given)) == given


def test_a_cell_s_fingerprint_covers_its_own_configuration():
    one, same = beyond_faces.CritterCell("ERM"), beyond_faces.CritterCell("ERM")
    assert one.fingerprint == same.fingerprint != beyond_faces.CritterCell("ERM", seed=1).fingerprint
    assert one.key["target"] == "Dog" and one.key["spurious"] == "Dark_Fur"


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
    for wrong in ({"channels": 12}, {"components": 0}, {"components": 321}):
        with pytest.raises(ValueError, match="multiple of 8 and a number from 1 to 320"):
            latent.Generator(64, **wrong)
