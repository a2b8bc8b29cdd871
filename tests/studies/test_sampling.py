"""How many images the generator needs: what is trained on what."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diga_lib import data
from diga_lib.latent.training import POPULATION
from diga_lib.pages.parameters import SIZES
from diga_lib.studies import grids, sampling


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """The images and epochs of every training that is begun; each takes one epoch instead."""
    begun, training = [], sampling.Training

    def watched(images, *rest, epochs):
        begun.append((images, epochs))
        return training(images, *rest, epochs=1)

    monkeypatch.setattr(sampling, "Training", watched)
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path))
    return begun


def test_a_generator_is_trained_once_for_the_same_images(trainings):
    images = np.random.default_rng(0).integers(0, 256, (128, 3, 64, 64), dtype=np.uint8)
    first, again = (sampling.trained_generator(images, 512) for _ in range(2))
    other = sampling.trained_generator(images[:64], 512)
    assert [(len(some), epochs) for some, epochs in trainings] == [(128, 4), (64, 8)], "as many steps for either"
    codes = [generator.encode(images[:2]) for generator in (first, again, other)]
    torch.testing.assert_close(codes[0], codes[1])
    assert not torch.allclose(codes[0], codes[2])


def test_a_generator_sees_its_share_of_the_pool_or_the_training_images(trainings, monkeypatch):
    monkeypatch.setattr(sampling, "IMAGES", 128)
    few = {"table": replace(SIZES["quick"], pool=1_500, n_train=96, n_test_per_group=20)}
    monkeypatch.setattr(grids, "SIZES", few)
    pool = data.load("rendered-faces", 128, seed=POPULATION).images
    for share, seen in ((1.0, pool), (0.5, pool[:64])):
        sampling.SamplingCell(share=share).setting()
        np.testing.assert_array_equal(trainings[-1][0], seen)
    s = sampling.SamplingCell(share=None).setting()
    np.testing.assert_array_equal(trainings[-1][0], s.split.train.images)
    assert len(s.split.train) == 96 and len(s.codes) == 96


def test_every_share_is_asked_for_and_both_methods_with_the_biased_images():
    cells = sampling.cells(seeds=[0])
    assert {cell.share for cell in cells if cell.row == "diga-one-stage"} == {*sampling.SHARES, None}
    assert [cell.share for cell in cells if cell.row == "diga-paper"] == [None]
    assert len({tuple(cell.key.values()) for cell in cells}) == len(cells)


def test_the_reconstruction_error_is_in_steps_of_255():
    class Darker:
        def encode(self, images):
            return torch.from_numpy(images).float() / 255

        def decode(self, codes):
            return codes - 0.1

    images = np.full((4, 3, 8, 8), 200, np.uint8)
    assert sampling.reconstruction_error(Darker(), images) == pytest.approx(25.5, rel=1e-5)
