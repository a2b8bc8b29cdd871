"""A toy set that a classifier learns in seconds: bright and dark squares on noise."""

import numpy as np
import pytest

from diga_lib.data.dataset import LabelledImages


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
