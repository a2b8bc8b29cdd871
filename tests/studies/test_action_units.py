"""Measures on stand-ins whose answers are known, and the study's cells and records."""

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib.action_units import editors
from diga_lib.action_units.data import UNITS, Sequences
from diga_lib.pages import plots
from diga_lib.studies import action_units as study
from diga_lib.studies import runner, store

EASY = torch.zeros(12, 5, 64)
EASY.view(12, -1)[:, :12] = torch.eye(12)  # unit k is coordinate k of a code


class Painter:
    """Paints codes as pictures whose first pixels are the intensities."""

    def encode(self, images):
        codes = torch.zeros(len(images), 320)
        codes[:, :12] = torch.as_tensor(images).float().flatten(1)[:, :12] / 50
        return codes.view(-1, 5, 64)

    def decode(self, codes):
        images = torch.zeros(len(codes), 3, 64, 64)
        images.view(len(codes), -1)[:, :12] = codes.flatten(1)[:, :12] * 50 / 255
        return images


class Judge:
    """Reads such pictures: exactly, but for a bias of AU1 towards AU2's value."""

    def read(self, images, neutral):
        assert len(images) == len(neutral)
        x = torch.as_tensor(images).float().flatten(1)[:, :12].numpy()
        x = x / 50 if isinstance(images, np.ndarray) else x * 255 / 50
        return x + 0.1 * x[:, [1]] * (np.arange(12) == 0)

    def recognise(self, images):
        return np.tile([1.0, 0.0], (len(images), 1))


class Strict:
    """The same, without a neutral face."""

    def read(self, images):
        return pd.DataFrame(Judge().read(images, images), columns=UNITS)


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    intensities = rng.uniform(0, 5, (80, 12)).astype(np.float32)
    images = np.zeros((80, 3, 64, 64), np.uint8)
    images.reshape(80, -1)[:, :12] = np.round(intensities * 50)
    frames = Sequences(
        images, np.round(intensities * 50).astype(np.float32) / 50, np.arange(80) // 40, np.arange(80) // 20 % 2
    )
    return study.Exam(frames, Painter(), Judge(), Strict(), seed=0, pairs=30)


def test_pairs_are_of_one_film_and_the_gallery_of_another(given):
    assert (given.source.film == given.target.film).all() and len(given.codes) == len(given.target_codes) == 30
    assert given.neutral.shape == given.source.images.shape
    np.testing.assert_allclose(given.gallery, np.tile([1.0, 0.0], (30, 1)))


def test_a_perfect_editor_gets_full_marks(given):
    table = study.measure(editors.Linear(EASY), given).set_index("unit")
    assert table["icc"].drop("AU1").min() > 0.9999 and table["mae"].drop("AU1").max() < 1e-3
    assert table["identity"].iloc[0] == pytest.approx(1) and table["image_distance"].iloc[0] == pytest.approx(
        0, abs=1e-3
    )
    np.testing.assert_allclose(table["moved"], 1, atol=1e-3)
    leak = pd.Series(0.0, UNITS)
    leak["AU2"] = 0.1 / 11  # reading AU1 too high when AU2 is stepped
    np.testing.assert_allclose(table["leakage"], leak, atol=1e-4)


def test_no_edit_moves_and_leaks_nothing(given):
    table = study.measure(editors.no_edit, given)
    assert (table["moved"] == 0).all() and (table["leakage"] == 0).all() and table["icc"].max() < 0.6


def record(seed, add=0.0, editor="one", **fields):
    icc = dict.fromkeys(UNITS, 0.5 + add) | {"AU1": 0.7 + add}
    return study.Record(version=1, editor=editor, seed=seed, icc=icc, mae=dict.fromkeys(UNITS, 1.0), **fields)


def test_results_are_kept_and_averaged_over_units_then_seeds(tmp_path):
    path = tmp_path / "results.jsonl"
    for one in (record(0), record(1, 0.2), record(1, 0.1), record(0, editor="other", identity=0.9)):
        store.append(path, one)
    back = study.read(path)
    assert len(back) == 3 * 12 and back["unit"].tolist() == 3 * list(UNITS)
    table = study.summary(back, ["icc", "leakage", "identity"])
    mean, interval = table.loc["one", "icc"][["mean", "interval"]]
    assert mean == pytest.approx(0.5 + 0.2 / 12 + 0.05), "of a seed, the last record counts"
    assert interval == pytest.approx(12.706 * 0.05, rel=1e-3)  # t(0.975, 1) times the standard error
    assert np.isnan(table.loc["one", ("leakage", "mean")])
    assert plots.formatted(table)["identity"]["other"] == "0.900"


def test_cells_are_found_by_their_records(tmp_path):
    cells = study.cells(seeds=[0, 1])
    assert len(cells) == len({tuple(cell.key.values()) for cell in cells}) == 22
    path = tmp_path / "results.jsonl"
    store.append(path, record(0, editor="no edit"))
    assert len(runner.unfinished(cells, path, renew=True)) == 21
