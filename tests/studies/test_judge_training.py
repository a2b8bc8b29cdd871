"""The judges' training on stand-ins: what it learns, and that a stopped training goes on as if it had not been."""

import numpy as np
import pytest
import torch

from diga_lib.action_units.data import UNITS
from diga_lib.action_units.judge import Judges
from diga_lib.latent.checkpoints import Resumable
from diga_lib.studies import judge_training


class Painter:
    """Paints pictures a little darker."""

    def encode(self, images):
        return torch.as_tensor(images).float() / 255

    def decode(self, codes):
        return 0.9 * codes


@pytest.fixture
def small(monkeypatch):
    """Eight people with four pictures each, of which two people are held out; a unit lights up its own square."""
    for name, value in {"PEOPLE": 8, "EACH": 4, "HELD_OUT": 2, "BATCH": 8}.items():
        monkeypatch.setattr(judge_training, name, value)
    rng, person = np.random.default_rng(0), np.arange(32) // 4
    intensities = rng.uniform(0, 5, (32, len(UNITS))).astype(np.float32)
    neutral = np.repeat(rng.integers(60, 120, (8, 3, 64, 64)), 4, 0)
    images = neutral.copy()
    for unit in range(len(UNITS)):
        row, column = 16 * (unit // 4), 16 * (unit % 4)
        images[:, :, row : row + 16, column : column + 16] += (20 * intensities[:, unit]).astype(int)[
            :, None, None, None
        ]
    return {
        "images": images.astype(np.uint8),
        "neutral": neutral.astype(np.uint8),
        "intensities": intensities,
        "person": person,
    }


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("train", [judge_training.train_reader, judge_training.train_recogniser])
def test_a_stopped_training_goes_on(small, tmp_path, monkeypatch, train):
    monkeypatch.setattr(judge_training, "READING", 3)
    whole, keep = train(small), Resumable.keep

    def stop(state, **record):
        keep(state, **record)
        if len(state.history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Resumable, "keep", stop)
        train(small, tmp_path / "half.safetensors")
    assert same(train(small, tmp_path / "half.safetensors"), whole)


def test_the_reader_learns_to_read(small, monkeypatch):
    monkeypatch.setattr(judge_training, "READING", 40)
    network = judge_training.train_reader(small)
    read = Judges(network, None).read(small["images"], small["neutral"])
    error, spread = np.abs(read - small["intensities"])[:24].mean(), np.abs(small["intensities"] - 2.5).mean()
    assert error < 0.5 * spread


def test_every_other_picture_of_the_pool_is_painted(monkeypatch, tmp_path):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path))
    monkeypatch.setattr(judge_training, "PEOPLE", 4)
    monkeypatch.setattr(judge_training, "EACH", 2)
    given = judge_training.pool(Painter())
    drawn = judge_training.pictures(np.arange(8))["images"]
    assert (given["person"] == np.arange(8) // 2).all()
    assert (given["images"][::2] == drawn[::2]).all()
    np.testing.assert_allclose(given["images"][1::2], 0.9 * drawn[1::2], atol=1)
    assert given["neutral"].shape == drawn.shape and (given["neutral"] != drawn).any()


def test_margin_and_scale_of_the_recognisers_loss():
    random = torch.Generator().manual_seed(0)
    embedding, people = torch.randn(3, 4, generator=random), torch.randn(5, 4, generator=random)
    person, expected = torch.tensor([0, 3, 3]), 0.0
    for e, k in zip(embedding.double().numpy(), person.tolist(), strict=True):
        logits = np.array(
            [
                20 * (e @ p / np.linalg.norm(e) / np.linalg.norm(p) - 0.2 * (i == k))
                for i, p in enumerate(people.double().numpy())
            ]
        )
        expected += (np.log(np.exp(logits).sum()) - logits[k]) / 3
    assert float(judge_training.cosface(embedding, people, person)) == pytest.approx(expected, rel=1e-4)
