"""Images with attributes, from the renderer or from disk, and biased splits of them."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pandas as pd

from .bias import biased_split
from .dataset import BiasedSplit, ImageDataset, LabelledImages
from .store import open_store

__all__ = ["BiasedSplit", "ImageDataset", "LabelledImages", "biased_split", "load", "NAMES"]

NAMES = ("rendered-faces", "celeba", "folder")
DEFAULT_FACES = 20_000


def load(
    name: str,
    n: int | None = None,
    seed: int = 0,
    resolution: int = 64,
    root: str | os.PathLike | None = None,
    align: bool = True,
    missing: str = "error",
) -> ImageDataset:
    """Load a pool of images with attributes; what has to be computed is made once and kept on disk.

    Parameters
    ----------
    name : {"rendered-faces", "celeba", "folder"}
        The embedded faces; CelebA in its own layout below `root`; or a folder `root` of images with an
        `attributes.csv` (see `diga_lib.data.readers`).
    n : int, optional
        Number of images: rendered faces 20,000 by default, otherwise all. Fewer are always the first ones of
        more, so they come from the same files.
    seed : int
        Chooses the rendered faces; face i depends on (seed, i) alone. Images on disk do not use it.
    resolution : int
        Height and width in pixels, 16 to 512.
    root : path, optional
        Where images on disk lie; needed for "celeba" and "folder" only.
    align : bool
        Turn, scale and shift photographs so that the eyes lie where rendered faces have them.
    missing : {"error", "drop"}
        What to do with photographs in which no face is found: stop, or leave them out and say which.

    Returns
    -------
    ImageDataset

    Raises
    ------
    ValueError, FileNotFoundError
        When a parameter or something on disk is not valid; the sentence names it and says what is.
    """
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a data set: valid are {', '.join(NAMES)}.")
    for what, value, least, most in (("n", n, 1, np.inf), ("seed", seed, 0, np.inf),
                                     ("resolution", resolution, 16, 512)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole and least <= value <= most) and not (what == "n" and value is None):
            raise ValueError(f"{what} is {value!r}: valid is a whole number of at least {least}"
                             + (f" and at most {most}." if most < np.inf else "."))
    if name == "rendered-faces":
        return _rendered_faces(n or DEFAULT_FACES, int(seed), int(resolution))
    if root is None:
        raise ValueError(f"{name!r} is read from disk: valid is root=, the folder that holds it.")
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}: valid are 'error' and 'drop'.")
    from . import readers  # imports the face finder: only where photographs are read

    return readers.read(getattr(readers, name)(root), n, int(resolution), bool(align), missing)


def _rendered_faces(n, seed, resolution):
    from . import faces  # imports torch: only where faces are drawn

    _, attributes, factors = faces.render(seed, np.arange(1), resolution)
    identity = {"name": "rendered-faces", "seed": seed, "resolution": resolution, "version": faces.VERSION}
    arrays = open_store(identity, n, partial(_render, seed=seed, resolution=resolution), "rendering faces")
    attributes = pd.DataFrame(np.array(arrays["attributes"]), columns=attributes.columns)
    factors = pd.DataFrame(np.array(arrays["factors"]), columns=factors.columns)
    return ImageDataset(arrays["images"], attributes, factors, "rendered-faces")


def _render(indices, seed, resolution):
    from . import faces

    images, attributes, factors = faces.render(seed, indices, resolution)
    return {"images": images, "attributes": attributes.to_numpy(np.int8),
            "factors": factors.to_numpy(np.float32)}
