"""The generator: shipped weights, what its pictures keep, and a training that can be stopped."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diga_lib import data, latent
from diga_lib.data import faces
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import FactorNetwork
from diga_lib.latent.training import Training, reconstruction_loss


@pytest.fixture(scope="module")
def generator():
    return latent.load()


@pytest.fixture(scope="module")
def unseen():
    """Faces of a population that nothing was trained on."""
    return faces.render(61, range(500))


def test_codes_and_pictures_do_not_depend_on_the_batch(generator, unseen):
    images = unseen[0][:40]
    codes = generator.encode(images)
    assert codes.shape == (40, latent.LEVELS, latent.WIDTH) and codes.dtype == torch.float32
    torch.testing.assert_close(codes, generator.encode(images, batch_size=7), atol=0.05, rtol=0)
    pictures = generator.decode(codes)
    assert pictures.shape == (40, 3, 64, 64) and float(pictures.min()) >= 0 and float(pictures.max()) <= 1
    torch.testing.assert_close(pictures, generator.decode(codes, batch_size=9), atol=0.03, rtol=0)
    torch.testing.assert_close(codes, generator.encode(torch.from_numpy(images).float() / 255), atol=0.05, rtol=0)


def test_a_reconstruction_is_nearer_than_the_nearest_other_face(generator, unseen):
    """An independent yardstick for fidelity: retrieval among 200 faces, in pixels."""
    images = torch.from_numpy(unseen[0][:200]).float() / 255
    again = generator.decode(generator.encode(images))
    distances = torch.cdist(again.flatten(1), images.flatten(1))
    assert (distances.argmin(1) == torch.arange(200)).float().mean() > 0.99


# How well a network that has seen neither knows a reconstruction by its original (correlation of what it reads).
KEPT = {
    "AU12": 0.9,
    "AU26": 0.9,
    "AU5": 0.9,
    "male_shape": 0.9,
    "age": 0.75,
    "skin_tone": 0.95,
    "makeup": 0.85,
    "nose_size": 0.75,
    "hair_length": 0.9,
}


@pytest.fixture(scope="module")
def read(generator, unseen):
    network = latent.load_factor_network()
    return network.read(unseen[0]), network.read(generator.decode(generator.encode(unseen[0])))


@pytest.mark.parametrize("factor", KEPT)
def test_reconstructions_keep_what_the_book_edits(read, factor):
    assert np.corrcoef(read[0][factor], read[1][factor])[0, 1] > KEPT[factor]


def test_reconstructions_are_near_in_every_pixel(generator, unseen):
    images = torch.from_numpy(unseen[0]).float() / 255
    error = (generator.decode(generator.encode(unseen[0])) - images).square().mean((1, 2, 3))
    assert float(-10 * torch.log10(error).mean()) > 29  # dB


def test_wrong_shapes_are_named(generator):
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\).*takes \(N, 3, 64, 64\)"):
        generator.encode(np.zeros((2, 3, 32, 32), np.uint8))
    with pytest.raises(ValueError, match="takes"):
        generator.decode(torch.zeros(2, 320))
    with pytest.raises(ValueError, match="multiple of 32"):
        latent.Generator(50)


def test_the_factor_network_reads_action_units(unseen):
    read = latent.load_factor_network().read(unseen[0])
    for unit in faces.ACTION_UNITS:
        assert np.corrcoef(read[unit], unseen[2][unit])[0, 1] > 0.7


# ------------------------------------------------------------------------------------------------ weights on disk
def test_weights_survive_and_damage_is_named(tmp_path):
    weights = {"a": torch.randn(4, 5), "n": torch.arange(3)}
    file = checkpoints.save_state("mine", weights, tmp_path)
    back = checkpoints.load_state("mine", tmp_path)
    torch.testing.assert_close(back["a"], weights["a"], atol=1e-2, rtol=1e-2)
    assert back["n"].tolist() == [0, 1, 2] and checkpoints.names(tmp_path) == ["mine"]
    damaged = bytearray(file.read_bytes())
    damaged[-3] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match="mine.safetensors is damaged"):
        checkpoints.load_state("mine", tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        checkpoints.path("mine", tmp_path)
    with pytest.raises(ValueError, match="valid names: mine"):
        checkpoints.path("other", tmp_path)


def test_every_shipped_file_is_verified_and_small():
    for name in checkpoints.names():
        assert checkpoints.path(name).stat().st_size <= 8_000_000


# ------------------------------------------------------------------------------------------------------ training
def _state(folder):
    return load_file(str(folder / "training.safetensors"))


def test_a_stopped_training_goes_on_to_the_same_end(tmp_path):
    images = faces.render(63, range(16))[0]
    perceptual = FactorNetwork()
    settings = {"epochs": 3, "batch_size": 8, "seed": 4}
    Training(images, perceptual, tmp_path / "whole", **settings).run()

    class Stop(Exception):
        pass

    stopped = Training(images, perceptual, tmp_path / "parts", **settings)
    epoch = stopped._epoch

    def until_second(number):
        if number == 2:
            raise Stop
        return epoch(number)

    stopped._epoch = until_second
    with pytest.raises(Stop):
        stopped.run()
    again = Training(images, perceptual, tmp_path / "parts", **settings)
    assert len(again.state.history) == 2
    again.run()
    whole, parts = _state(tmp_path / "whole"), _state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:
        torch.testing.assert_close(whole[name].float(), parts[name].float(), atol=1e-3, rtol=1e-2, msg=name)
    with pytest.raises(ValueError, match="belongs to a training with"):
        Training(images, perceptual, tmp_path / "parts", epochs=5, batch_size=8, seed=4)


def test_the_loss_is_zero_for_a_perfect_copy_and_counts_what_the_network_sees():
    images = torch.from_numpy(faces.render(64, range(8))[0]).float() / 255
    network = latent.load_factor_network()
    assert float(reconstruction_loss(images, images.clone(), network)) == 0
    # The same amount of error costs more on the mouth than on the background.
    noise = 0.2 * torch.randn(8, 3, 8, 20, generator=torch.Generator().manual_seed(0))
    mouth, corner = images.clone(), images.clone()
    mouth[:, :, 46:54, 22:42] += noise
    corner[:, :, 2:10, 0:20] += noise
    assert reconstruction_loss(images, mouth, network) > 1.1 * reconstruction_loss(images, corner, network)


def test_the_table_of_weights_is_plain_json():
    entries = json.loads((checkpoints.FOLDER / checkpoints.TABLE).read_text())
    assert all(set(entry) == {"file", "sha256"} and len(entry["sha256"]) == 64 for entry in entries.values())


# ---------------------------------------------------------------------------------------------------- real faces
def test_the_generator_of_real_faces_knows_faces_that_it_has_not_seen():
    """Nearest among 200 held-out photographs, in pixels, and finer than the mean face."""
    pool = data.load("fairface-sample")
    unseen = pool.select((pool.metadata["partition"] == "test").to_numpy()).images[:200]
    images = torch.from_numpy(unseen).float() / 255
    real = latent.load("real-faces-64")
    again = real.decode(real.encode(unseen))
    assert (torch.cdist(again.flatten(1), images.flatten(1)).argmin(1) == torch.arange(200)).float().mean() > 0.99
    assert float(-10 * torch.log10((again - images).square().mean((1, 2, 3))).mean()) > 27  # dB
