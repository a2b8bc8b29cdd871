"""What every reader of images on disk does alike: check names, list files, decode them once into the store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.data.dataset import ImageDataset
from diga_lib.data.photos import files as photos
from diga_lib.data.store import open_store

EYE_COLUMNS = ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
_VERSION = 1  # changes when the same file is decoded to other pixels


@dataclass(frozen=True)
class Listing:
    """The images that a reader found, before they are decoded.

    Parameters
    ----------
    name : str
        The data set's name.
    paths : list of str
        One file for each image.
    attributes, factors, metadata : DataFrame
        As in `ImageDataset`.
    eyes : ndarray of float64 or None, shape (N, 2, 2)
        The picture's left and right eye, (x, y) in pixels, where they are known.
    size : tuple of int or None
        Width and height that all images must have; None lets each have its own where faces are aligned.
    faces : bool
        Whether the images show faces, which can be aligned by their eyes. Others are read as their middle square,
        whatever their size.
    """

    name: str
    paths: list[str]
    attributes: pd.DataFrame
    factors: pd.DataFrame | None
    metadata: pd.DataFrame
    eyes: np.ndarray | None
    size: tuple[int, int] | None
    faces: bool = True


def read(
    listing: Listing, n: int | None, resolution: int, align: bool, missing: str, jobs: int | None = None
) -> ImageDataset:
    """Decode the first `n` images of a listing (once: later calls find them in the store).

    Parameters
    ----------
    listing : Listing
        What a function of `layouts` returned.
    n : int or None
        How many, all by default.
    resolution : int
        Height and width in pixels.
    align : bool
        Bring the eyes to where rendered faces have them; otherwise crop the middle square.
    missing : {"error", "drop"}
        Whether a photograph without a face stops the reading or is left out with a printed line.
    jobs : int, optional
        Number of processes; as many as there are cores by default.

    Returns
    -------
    ImageDataset

    Raises
    ------
    ValueError
        When `n` is more than there are, an image is not valid, or no face is found.
    """
    total = len(listing.paths)
    n = total if n is None else n
    if n > total:
        raise ValueError(f"n is {n:,}, but {listing.name} has {total:,} images: valid is at most that many.")
    size, align = listing.size, align and listing.faces
    if size is None and not align and listing.faces:
        size = photos.open_rgb(listing.paths[0]).size
    # A file that changes on disk makes another store; the file's date and size tell.
    stamps = sha256()
    for path in listing.paths:
        stamp = os.stat(path)
        stamps.update(f"{path}\0{stamp.st_size}\0{stamp.st_mtime_ns}\n".encode())
    if align and listing.eyes is not None:
        stamps.update(np.ascontiguousarray(listing.eyes))
    identity = {
        "name": listing.name,
        "resolution": resolution,
        "align": align,
        "files": stamps.hexdigest(),
        "version": _VERSION,
    }

    def inputs(rows):
        return [listing.paths[row] for row in rows], None if listing.eyes is None else listing.eyes[rows]

    make = partial(photos.decode, size=size, resolution=resolution, aligned=align)
    arrays = open_store(identity, n, make, f"reading {listing.name}", jobs, inputs)
    factors = None if listing.factors is None else listing.factors[:n]
    pool = ImageDataset(arrays["images"], listing.attributes[:n], factors, listing.name, listing.metadata[:n])
    lost = np.flatnonzero(~np.asarray(arrays["found"]))
    if not len(lost):
        return pool
    names = ", ".join(listing.paths[row] for row in lost[:5]) + (" …" if len(lost) > 5 else "")
    if missing == "error" or len(lost) == n:
        raise ValueError(
            f"No face with two open eyes is found in {len(lost)} of {n} images ({names}): "
            f"valid are eye points in the columns {', '.join(EYE_COLUMNS)}, missing='drop' or "
            "align=False."
        )
    print(f"Left out {len(lost)} of {n} images, in which no face with two open eyes is found: {names}")
    return pool.select(np.flatnonzero(arrays["found"]))


def existing_folder(path):
    path = Path(path).expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}: valid is the folder that holds the data.")
    return path


def existing_file(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: it belongs to this layout.")
    return path


def lines_of(path):
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path} is not a text file in UTF-8.") from fault


def read_csv(path):
    try:
        # Without `header`, pandas would rename columns that occur twice instead of telling.
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as fault:  # pandas' own errors and wrong encodings are of this kind
        reason = " ".join(str(fault).split())
        raise ValueError(f"{path} is not a table of comma-separated values in UTF-8 ({reason}).") from fault
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    check_unique(cells.iloc[0], path, "column")
    return cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1).reset_index(drop=True)


def check_unique(values, path, what):
    values = pd.Series(values)
    if values.duplicated().any() or (values == "").any():
        twice = values[values.duplicated() | (values == "")].iloc[0]
        raise ValueError(f"{path} has the {what} {twice!r} empty or more than once: valid is once each.")


def image_paths(base, names, table):
    """Full paths of the images, after checking that each exists and lies inside `base`."""
    base, paths = base.resolve(), []
    for name in names:
        path = None if "\0" in name else os.path.realpath(base / name)
        if path is None or not path.startswith(f"{base}{os.sep}"):
            raise ValueError(f"{table} names {name!r}, which leaves {base}: valid are files inside it.")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no file {path}, which {table} names.")
        paths.append(path)
    return paths
