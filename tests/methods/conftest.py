"""Toy sets that a classifier learns in seconds: bright and dark squares on noise, and two lamps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diga_lib.data.dataset import LabelledImages
from diga_lib.directions import Direction


def toy(n, seed, size=16):
    """Target 1 brightens the middle; the spurious attribute reddens all and is unrelated to the target."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    s = random.integers(0, 2, n)
    x = random.integers(0, 120, (n, 3, size, size))
    x[y == 1, :, 4:12, 4:12] += 60
    x[s == 1, 0] += 60
    return LabelledImages(x.astype(np.uint8), y, s, np.arange(n))


@pytest.fixture(scope="session")
def train():
    return toy(512, 0)


@pytest.fixture(scope="session")
def test():
    return toy(300, 1)


SIDE = 16


class Lamps:
    """Codes (N, 1, 2) are the brightness of two patches; encoding and decoding are exact."""

    def encode(self, images):
        x = torch.as_tensor(np.asarray(images)).float() / 255
        return torch.stack([x[:, :, :6, :6].mean((1, 2, 3)), x[:, :, 9:, 9:].mean((1, 2, 3))], 1)[:, None]

    def decode(self, codes):
        images = torch.full((len(codes), 3, SIDE, SIDE), 0.5)
        images[:, :, :6, :6] = codes[:, 0, 0, None, None, None]
        images[:, :, 9:, 9:] = codes[:, 0, 1, None, None, None]
        return images.clamp(0, 1)


def lamps(n, bias, seed):
    """Target lamp: dim and noisy. Shortcut lamp: clear, and right as often as the bias makes it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    s = np.where(rng.random(n) < 1 / (1 + bias), y, 1 - y)
    codes = np.c_[
        0.5 + 0.10 * (2 * y - 1) + 0.11 * rng.normal(size=n), 0.5 + 0.3 * (2 * s - 1) + 0.04 * rng.normal(size=n)
    ]
    images = (Lamps().decode(torch.tensor(codes, dtype=torch.float32)[:, None]) * 255).round().to(torch.uint8).numpy()
    return LabelledImages(images, y.astype(np.int64), s.astype(np.int64), np.arange(n))


@pytest.fixture(scope="session")
def world():
    """The lamps as a generator, sets of them, and the direction of the shortcut."""
    axis = torch.tensor([[0.0, 1.0]])
    return SimpleNamespace(generator=Lamps(), draw=lamps, shortcut=Direction(axis, axis, 0.04, 0.5))


@pytest.fixture(scope="session")
def biased():
    return lamps(1200, 1 / 9, 0)
