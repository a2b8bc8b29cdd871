"""Images with attributes, from the renderer or from disk, and biased splits of them."""

import os
from functools import partial
from importlib import import_module

import numpy as np
import pandas as pd

from diga_lib.data import shipped
from diga_lib.data.bias import biased_split
from diga_lib.data.dataset import BiasedSplit, ImageDataset, LabelledImages, check_whole
from diga_lib.data.photos import layouts, reading
from diga_lib.data.store import open_store

__all__ = ["NAMES", "BiasedSplit", "ImageDataset", "LabelledImages", "attribute_names", "biased_split", "load"]

NAMES = ("rendered-faces", "celeba", "utkface", "disfa", "dogs-vs-cats", "folder", "rendered-critters", *shipped.FILES)
DEFAULT_FACES = 20_000
RENDERED = {"rendered-faces": "faces", "rendered-critters": "critters"}  # data set: the module that draws it


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

    What is not valid, here or on disk, is a ValueError or FileNotFoundError that names it and says what is.

    Parameters
    ----------
    name : str
        One of ``NAMES``: embedded faces, or cats and dogs; photographs that ship (`diga_lib.data.shipped`); or what
        lies below `root` in a layout of `diga_lib.data.photos.layouts`.
    n, seed : int
        Number of images, by default 20,000 rendered ones, otherwise all; and which. Rendered image i depends on
        (seed, i) alone; of images on disk they are drawn at random, and fewer are among more of the same seed.
    resolution : int
        Height and width in pixels, 16 to 512.
    root, align : path, bool
        Where images on disk lie; whether to turn, scale and shift photographs so that the eyes lie where rendered faces
        have them.
    missing : {"error", "drop"}
        Whether files that are not there or broken, and photographs without a face, stop the reading, or are left out
        with a printed line; both name them all.
    """
    _check_name(name)
    check_whole("n", 1 if n is None else n, 1)
    check_whole("seed", seed, 0)
    check_whole("resolution", resolution, 16, 512)
    if name in RENDERED:
        return _rendered(name, n or DEFAULT_FACES, int(seed), int(resolution))
    if name in shipped.FILES:
        return shipped.load(name, n, int(seed), int(resolution))
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}: valid are 'error' and 'drop'.")
    return reading.read(_listing(name, root), n, int(resolution), bool(align), missing, int(seed))


def attribute_names(name: str, root: str | os.PathLike | None = None) -> list[str]:
    """The attributes of a data set of :func:`load`, by its tables and names alone: no image on disk is decoded."""
    _check_name(name)
    if name in shipped.FILES:
        return list(shipped.load(name, 1, 0, 64).attributes)
    if name in RENDERED:
        return list(import_module(f".{RENDERED[name]}", __name__).ATTRIBUTES)
    return list(_listing(name, root).attributes)


def _check_name(name):
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a data set: valid are {', '.join(NAMES)}.")


def _listing(name, root):
    if root is None:
        raise ValueError(f"{name!r} is read from disk: valid is root=, the folder that holds it.")
    return layouts.LAYOUTS[name](root)


def _rendered(name, n, seed, resolution):
    renderer = import_module(f".{RENDERED[name]}", __name__)  # imports torch: only where something is drawn
    _, *tables = renderer.render(seed, np.arange(1), resolution)
    identity = {"name": name, "seed": seed, "resolution": resolution, "version": renderer.VERSION}
    make = partial(_render, module=renderer.__name__, seed=seed, resolution=resolution)
    arrays = open_store(identity, n, make, f"rendering {RENDERED[name]}")
    columns = zip(("attributes", "factors"), tables, strict=True)
    attributes, factors = (pd.DataFrame(np.array(arrays[part]), columns=table.columns) for part, table in columns)
    return ImageDataset(arrays["images"], attributes, factors, name)


def _render(indices, module, seed, resolution):
    images, attributes, factors = import_module(module).render(seed, indices, resolution)
    return {"images": images, "attributes": attributes.to_numpy(np.int8), "factors": factors.to_numpy(np.float32)}
