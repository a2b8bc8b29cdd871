"""From a folder of files to a generator of one's own at a size that takes seconds."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from diga_lib import data, latent
from diga_lib.data import faces
from diga_lib.data.photos import layouts
from diga_lib.latent import __main__ as train_generator
from diga_lib.latent.adapters import check_generator
from diga_lib.pages import parameters


@pytest.fixture(scope="module")
def tree(tmp_path_factory, draw_celeba):
    return draw_celeba(tmp_path_factory.mktemp("tree"), 64, 5)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_tree_is_read_as_the_faces_that_were_drawn(tree):
    """The way over 178 x 218 pixels, PNG and the alignment by eyes comes back to the renderer's own picture."""
    pool = data.load("celeba", root=tree)
    drawn, attributes, _ = faces.render(5, range(64), 64)
    error = (pool.images.astype(float) - drawn) ** 2
    assert -10 * np.log10(error.mean() / 255**2) > 30  # dB; another face is 11 dB away
    assert -10 * np.log10(((pool.images[:-1].astype(float) - drawn[1:]) ** 2).mean() / 255**2) < 15
    assert (pool.attributes == attributes[list(pool.attributes)]).all(axis=None)
    assert set(pool.attributes) < set(layouts.CELEBA_ATTRIBUTES)
    assert pool.metadata["partition"].value_counts().to_dict() == {"train": 52, "validation": 6, "test": 6}
    assert Image.open(tree / "img_align_celeba" / "000001.png").size == layouts.CELEBA_SIZE


def test_the_command_trains_a_generator_on_a_folder(tree, tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine.safetensors"
    command = ["latent", "--dataset", "celeba", "--root", str(tree), "--output", str(file), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    train_generator.main()
    assert str(file) in capsys.readouterr().out
    generator = parameters.generator(str(file))
    images = data.load("celeba", root=tree).images
    check_generator(generator, np.array(images))
    again = generator.decode(generator.encode(images)).cpu()
    error = (again - torch.from_numpy(images / np.float32(255))).square().mean()
    assert -10 * torch.log10(error) > 16  # dB, after a single step; the mean face has 14


@pytest.mark.parametrize("shape", [(32, 32, 320), (64, 16, 40)])
def test_a_generator_of_any_shape_comes_back_from_its_file(tmp_path, shape):
    torch.manual_seed(0)
    generator = latent.Generator(*shape)
    for value in generator.parameters():
        torch.nn.init.normal_(value, 0, 0.05)
    again = latent.load_file(latent.save_file(generator, tmp_path / "x.safetensors"))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, shape[0], shape[0]), np.uint8)
    torch.testing.assert_close(again.encode(images).cpu(), generator.encode(images), atol=0.05, rtol=0.02)


def test_a_notebook_s_generator(tmp_path):
    class Mine:
        def decode(self, codes):
            return codes

    mine = Mine()
    assert parameters.generator(mine) is mine
    assert parameters.generator("").resolution == 64
    with pytest.raises(FileNotFoundError, match="There is no file .*nowhere.safetensors"):
        parameters.generator("nowhere.safetensors")
