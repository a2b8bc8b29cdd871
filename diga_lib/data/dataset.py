"""Images with a table of attributes, and the labelled parts that a method trains and is tested on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ImageDataset:
    """A pool of images of one size with one row of attributes each.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, H, W)
        RGB, 0 to 255; may be a read-only memory map.
    attributes : DataFrame of int8, shape (N, A)
        Binary attributes (0 or 1) under CelebA's names.
    factors : DataFrame or None, shape (N, F)
        Numbers that are not binary: the truth behind rendered faces (action units 0 to 5, …), or the
        numeric columns of a user's own table.
    name : str
        What the pool is called in tables and figures.
    metadata : DataFrame or None, shape (N, M)
        Text about each image as its source wrote it: file name, official partition, subject, ….

    Raises
    ------
    ValueError
        When the parts do not have the same number of rows, the images are not uint8 (N, 3, H, W), or an attribute has
        other values than 0 and 1.
    """

    images: np.ndarray
    attributes: pd.DataFrame
    factors: pd.DataFrame | None
    name: str
    metadata: pd.DataFrame | None = None

    def __post_init__(self):
        _check_images(self.images)
        for part in ("attributes", "factors", "metadata"):
            table = getattr(self, part)
            if table is not None and len(table) != len(self.images):
                raise ValueError(
                    f"{part} has {len(table)} rows for {len(self.images)} images: valid is one row for each image."
                )
        for name, values in self.attributes.items():
            if not values.isin([0, 1]).all():
                wrong = values[~values.isin([0, 1])].iloc[0]
                raise ValueError(f"The attribute {name!r} of {self.name} has the value {wrong!r}: valid are 0 and 1.")

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices) -> ImageDataset:
        """The rows `indices` (integers, a slice or a Boolean mask) as a pool of their own."""

        def rows(table):
            return None if table is None else table.iloc[indices].reset_index(drop=True)

        return dataclasses.replace(
            self,
            images=self.images[indices],
            attributes=rows(self.attributes),
            factors=rows(self.factors),
            metadata=rows(self.metadata),
        )

    def with_attribute(self, name: str, values) -> ImageDataset:
        """The same pool with one more binary attribute, or with `name` replaced.

        Parameters
        ----------
        name : str
            The attribute's name.
        values : array-like of shape (N,)
            0 or 1 (or Boolean) for each image.
        """
        values = np.asarray(values)
        if values.shape != (len(self),) or not np.isin(values, (0, 1)).all():
            raise ValueError(f"The attribute {name!r} needs {len(self)} values that are 0 or 1.")
        return dataclasses.replace(self, attributes=self.attributes.assign(**{name: values.astype(np.int8)}))


@dataclass(frozen=True)
class LabelledImages:
    """Images with a target label: what a method trains on and is tested on.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, 3, H, W)
        RGB, 0 to 255.
    target : ndarray of int64, shape (n,)
        The label to predict, 0 or 1.
    spurious : ndarray of int64 or None, shape (n,)
        The spurious attribute, 0 to `n_spurious` - 1; only oracles and the scoring of a test may read it.
    index : ndarray of int64, shape (n,)
        Row of each image in the pool it was drawn from.
    n_spurious : int
        How many values the spurious attribute can take (two attributes at once: 4).

    Raises
    ------
    ValueError
        When the parts do not have the same number of rows, or the images are not uint8 (n, 3, H, W).
    """

    images: np.ndarray
    target: np.ndarray
    spurious: np.ndarray | None
    index: np.ndarray
    n_spurious: int = 2

    def __post_init__(self):
        _check_images(self.images)
        for part in ("target", "spurious", "index"):
            values = getattr(self, part)
            if values is not None and np.shape(values) != (len(self.images),):
                raise ValueError(
                    f"{part} has shape {np.shape(values)} for {len(self.images)} images: "
                    "valid is one value for each image."
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def group(self) -> np.ndarray:
        """Group of each image, `n_spurious * target + spurious` (int64, shape (n,))."""
        if self.spurious is None:
            raise ValueError(
                "These images carry no spurious attribute, so they have no groups: "
                "only oracles and the test set's scoring may ask for them."
            )
        return self.n_spurious * self.target + self.spurious

    def without_spurious(self) -> LabelledImages:
        """The same images and labels for a method that must not see the spurious attribute."""
        return dataclasses.replace(self, spurious=None)


@dataclass(frozen=True)
class BiasedSplit:
    """Disjoint training, validation and test images, biased except for the test.

    Parameters
    ----------
    train, validation : LabelledImages
        Biased alike: minority groups are `bias` times as large as majority groups.
    test : LabelledImages
        As many images of every group.
    target, spurious : str
        The attributes' names; two spurious attributes are joined by "&".
    bias : float
        Minority size divided by majority size, above 0, at most 1 (balanced).
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    target: str
    spurious: str
    bias: float


def _check_images(images):
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"Images have shape {images.shape} and type {images.dtype}: valid is uint8 of shape (N, 3, height, width)."
        )
