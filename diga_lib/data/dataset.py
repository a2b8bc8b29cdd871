"""Images with a table of attributes, and the labelled parts that a method trains and is tested on."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ImageDataset:
    """A pool of images of one size; parts that do not fit one another are a ValueError."""

    images: np.ndarray  #: uint8 (N, 3, H, W), RGB; may be a read-only memory map
    attributes: pd.DataFrame  #: int8 (N, A), 0 or 1, under CelebA's names
    factors: pd.DataFrame | None  #: N rows of numbers that are not binary, such as action units (0 to 5) or age
    name: str  #: what the pool is called in tables and figures
    metadata: pd.DataFrame | None = None  #: N rows of text, such as file name or partition

    def __post_init__(self):
        _check_images(self.images)
        for part in ("attributes", "factors", "metadata"):
            table, n = getattr(self, part), len(self.images)
            if table is not None and len(table) != n:
                raise ValueError(f"{part} has {len(table)} rows for {n} images: valid is one row for each image.")
        for name, values in self.attributes.items():
            for wrong in values[~values.isin([0, 1])][:1]:
                raise ValueError(f"The attribute {name!r} of {self.name} has the value {wrong!r}: valid are 0 and 1.")

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices) -> Self:
        """The rows `indices` (integers, a slice or a Boolean mask) as a pool of their own."""
        tables = {name: getattr(self, name) for name in ("attributes", "factors", "metadata")}
        tables = {name: t if t is None else t.iloc[indices].reset_index(drop=True) for name, t in tables.items()}
        return dataclasses.replace(self, images=self.images[indices], **tables)

    def with_attribute(self, name: str, values) -> Self:
        """The same pool with a binary attribute added or replaced; `values` (N,) are 0 or 1, or Boolean."""
        values = np.asarray(values)
        if values.shape != (len(self),) or not np.isin(values, (0, 1)).all():
            raise ValueError(f"The attribute {name!r} needs {len(self)} values that are 0 or 1.")
        return dataclasses.replace(self, attributes=self.attributes.assign(**{name: values.astype(np.int8)}))


@dataclass(frozen=True)
class LabelledImages:
    """Images with a target label; parts that do not fit one another are a ValueError."""

    images: np.ndarray  #: uint8 (n, 3, H, W)
    target: np.ndarray  #: int64 (n,), the label to predict, 0 or 1
    spurious: np.ndarray | None  #: int64 (n,), 0 to `n_spurious` - 1; only oracles and a test's scoring may read it
    index: np.ndarray  #: int64 (n,), row of each image in its pool
    n_spurious: int = 2  #: 4 for two attributes at once

    def __post_init__(self):
        _check_images(self.images)
        for part in ("target", "spurious", "index"):
            values, n = getattr(self, part), len(self.images)
            if values is not None and np.shape(values) != (n,):
                raise ValueError(f"{part} has shape {np.shape(values)} for {n} images: valid is one value for each.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def group(self) -> np.ndarray:
        """Group of each image, `n_spurious * target + spurious`, int64 (n,)."""
        if self.spurious is None:
            raise ValueError("These images carry no spurious attribute: only oracles and a test's scoring have groups.")
        return self.n_spurious * self.target + self.spurious

    def without_spurious(self) -> Self:
        """The same images and labels for a method that must not see the spurious attribute."""
        return dataclasses.replace(self, spurious=None)


@dataclass(frozen=True)
class BiasedSplit:
    """Disjoint parts: training and validation biased alike, a test with as many images of every group.

    Two spurious attributes are joined by "&" in `spurious`; `bias` is minority size divided by majority size.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    target: str
    spurious: str
    bias: float


def check_whole(name: str, value, least: int, most: float = math.inf) -> None:
    """Refuse a parameter that is not a whole number from `least` to `most`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        limit = f" and at most {most}" if most < math.inf else ""
        raise ValueError(f"{name} is {value!r}: valid is a whole number of at least {least}{limit}.")


def draw_rows(name: str, n: int | None, total: int, seed: int) -> np.ndarray:
    """Rows of all images in their order, or of fewer at random; a smaller `n` has some of a larger one's."""
    if n is not None and n > total:
        raise ValueError(f"n is {n:,}, but {name} has {total:,} images: valid is at most that many.")
    return np.arange(total) if n in (None, total) else np.random.default_rng(seed).permutation(total)[:n]


def _check_images(images):
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
        found = f"Images have shape {images.shape} and type {images.dtype}"
        raise ValueError(f"{found}: valid is uint8 of shape (N, 3, height, width).")
