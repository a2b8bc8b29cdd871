"""How many images the generator needs: what is trained on what."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diga_lib.studies import sampling


def test_a_generator_is_trained_on_its_share_once_with_as_many_steps(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (256, 3, 64, 64), dtype=np.uint8)
    made, training = [], sampling.Training

    def watched(some, *rest, epochs):
        made.append((len(some), epochs))
        np.testing.assert_array_equal(some, images[: len(some)])
        return training(some, *rest, epochs=1)

    monkeypatch.setattr(sampling, "Training", watched)
    monkeypatch.setattr(sampling, "IMAGES", len(images))
    monkeypatch.setattr(sampling, "setting", lambda *split, generator, seed: generator)
    monkeypatch.setattr(sampling.data, "load", lambda name, n, seed: SimpleNamespace(images=images))
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path))
    first, again = (sampling.SamplingCell(share=0.25, seed=seed).setting() for seed in (0, 1))
    assert made == [(64, 4 * sampling.EPOCHS)]
    torch.testing.assert_close(first.encode(images[:2]), again.encode(images[:2]))
    sampling.SamplingCell(share=0.5).setting()
    assert made[1:] == [(128, 2 * sampling.EPOCHS)]


def test_the_reconstruction_error_is_in_steps_of_255():
    class Darker:
        def encode(self, images):
            return torch.from_numpy(images).float() / 255

        def decode(self, codes):
            return codes - 0.1

    images = np.full((4, 3, 8, 8), 200, np.uint8)
    assert sampling.reconstruction_error(Darker(), images) == pytest.approx(25.5, rel=1e-5)
