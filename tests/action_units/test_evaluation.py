"""Measures on stand-ins whose answers are known, and the raw results on disk."""

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib.action_units import editors
from diga_lib.action_units.data import UNITS, Sequences
from diga_lib.studies import store
from diga_lib.studies.action_units import evaluation, judge_training

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
    return evaluation.exam(frames, Painter(), Judge(), Strict(), seed=0, pairs=30)


def test_pairs_are_of_one_film_and_the_gallery_of_another(given):
    assert (given.source.film == given.target.film).all() and len(given.codes) == len(given.target_codes) == 30
    assert given.neutral.shape == given.source.images.shape
    np.testing.assert_allclose(given.gallery, np.tile([1.0, 0.0], (30, 1)))


def test_a_perfect_editor_gets_full_marks(given):
    table = evaluation.measure(editors.Linear(EASY), given).set_index("unit")
    assert table["icc"].drop("AU1").min() > 0.9999 and table["mae"].drop("AU1").max() < 1e-3
    assert table["identity"].iloc[0] == pytest.approx(1) and table["image_distance"].iloc[0] == pytest.approx(
        0, abs=1e-3
    )
    np.testing.assert_allclose(table["moved"], 1, atol=1e-3)
    leak = pd.Series(0.0, UNITS)
    leak["AU2"] = 0.1 / 11  # reading AU1 too high when AU2 is stepped
    np.testing.assert_allclose(table["leakage"], leak, atol=1e-4)


def test_no_edit_moves_and_leaks_nothing(given):
    table = evaluation.measure(editors.no_edit, given)
    assert (table["moved"] == 0).all() and (table["leakage"] == 0).all() and table["icc"].max() < 0.6


def test_results_are_kept_replaced_and_averaged(tmp_path):
    path = tmp_path / "results.jsonl"
    rows = pd.DataFrame({"unit": ["AU1", "AU2"], "icc": [0.5, 0.7], "leakage": [np.nan, np.nan]})
    for seed, more in ((0, 0.0), (1, 0.2), (1, 0.1)):
        evaluation.write(rows.assign(icc=rows["icc"] + more), "one", seed, path)
    evaluation.write(rows, "other", 0, path)
    assert evaluation.done("one", 1, path) and not evaluation.done("other", 1, path)
    back = evaluation.read(path)
    assert len(back) == 6 and set(back["editor"]) == {"one", "other"}
    table = evaluation.summary(back, ["icc", "leakage"])
    assert table.loc["one", ("icc", "mean")] == pytest.approx(0.65)
    assert table.loc["one", ("icc", "interval")] == pytest.approx(
        12.706 * 0.05, rel=1e-3
    )  # t(0.975, 1) times the standard error
    assert np.isnan(table.loc["one", ("leakage", "mean")])
    assert store.formatted(table)["icc"]["other"] == "0.600"


def test_margin_and_scale_of_the_recognisers_loss():
    random = torch.Generator().manual_seed(0)
    embedding, people = torch.randn(3, 4, generator=random), torch.randn(5, 4, generator=random)
    person, expected = torch.tensor([0, 3, 3]), 0.0
    for e, k in zip(embedding.double().numpy(), person.tolist()):
        logits = np.array(
            [
                20 * (e @ p / np.linalg.norm(e) / np.linalg.norm(p) - 0.2 * (i == k))
                for i, p in enumerate(people.double().numpy())
            ]
        )
        expected += (np.log(np.exp(logits).sum()) - logits[k]) / 3
    assert float(judge_training.cosface(embedding, people, person)) == pytest.approx(expected, rel=1e-4)
