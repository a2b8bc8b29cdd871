"""Read the images that a layout lists: each is decoded once, and found again in the store by what it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import numpy as np
import pandas as pd
from filelock import FileLock

from diga_lib.data import store
from diga_lib.data.dataset import ImageDataset
from diga_lib.data.photos import files

EYE_COLUMNS = ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
KEY_BYTES = 16
_VERSION = 2  # changes when the same file is decoded to other pixels


@dataclass(frozen=True)
class Listing:
    """The images that a layout has, before they are decoded.

    Parameters
    ----------
    name : str
        The data set's name.
    paths : list of str
        One file for each image.
    attributes, factors, metadata : DataFrame
        As in `ImageDataset`; `metadata` has the column image_id.
    eyes : ndarray of float64 or None, shape (N, 2, 2)
        The picture's left and right eye, (x, y) in pixels, where they are known.
    size : tuple of int or None
        Width and height that all images must have; None lets each have its own where faces are aligned.
    eyes_size : tuple of int or None
        Width and height of the images for which `eyes` hold, None for all; in others, eyes are looked for.
    faces : bool
        Whether the images show faces, which can be aligned by their eyes. Others are read as their middle square,
        whatever their size.
    absent : list of str
        Files that `table` names and that are not there.
    table : str
        Where the images' names come from.
    """

    name: str
    paths: list[str]
    attributes: pd.DataFrame
    factors: pd.DataFrame | None
    metadata: pd.DataFrame
    eyes: np.ndarray | None = None
    size: tuple[int, int] | None = None
    eyes_size: tuple[int, int] | None = None
    faces: bool = True
    absent: list[str] = field(default_factory=list)
    table: str = ""


def read(
    listing: Listing, n: int | None, resolution: int, align: bool, missing: str, seed: int = 0, jobs: int | None = None
) -> ImageDataset:
    """Decode images of a listing (once: later calls find them in the store).

    Parameters
    ----------
    listing : Listing
        What a function of `layouts` returned.
    n : int or None
        How many: all, in the listing's order, by default; fewer are drawn at random and come in random order, and
        those of a smaller `n` are among those of a larger one.
    resolution : int
        Height and width in pixels.
    align : bool
        Bring the eyes to where rendered faces have them; otherwise crop the middle square.
    missing : {"error", "drop"}
        Whether a file that is not there or broken, or a photograph without a face, stops the reading or is left out
        with a printed line.
    seed : int
        Chooses the images if there are more than `n`.
    jobs : int, optional
        Number of processes; as many as there are cores by default.

    Returns
    -------
    ImageDataset

    Raises
    ------
    ValueError, FileNotFoundError
        When `n` is more than there are, images are not there or not valid, or no face is found: one sentence names all.
    """
    total = len(listing.paths)
    if n is not None and n > total:
        raise ValueError(f"n is {n:,}, but {listing.name} has {total:,} images: valid is at most that many.")
    if listing.absent:
        said = (
            f"There is no file for {len(listing.absent):,} of {total + len(listing.absent):,} images that "
            f"{listing.table} names: {_names(listing.absent)}"
        )
        if missing == "error" or not total:
            raise FileNotFoundError(f"{said}. Valid is also missing='drop', which leaves them out.")
        print(f"Left out: {said[0].lower()}{said[1:]}")
    chosen = np.arange(total) if n in (None, total) else np.random.default_rng(seed).permutation(total)[:n]
    align = align and listing.faces
    size = listing.size
    if size is None and not align and listing.faces:
        size = files.open_rgb(listing.paths[0]).size
    how = {"resolution": resolution, "align": align, "size": size, "eyes_size": listing.eyes_size}
    paths = [listing.paths[row] for row in chosen]
    eyes = listing.eyes[chosen] if align and listing.eyes is not None else None
    arrays, rows = _stored(listing, paths, eyes, how, jobs)

    def sentence(i):
        try:
            files.picture(paths[i], None if eyes is None else eyes[i], how)
        except ValueError as fault:
            return str(fault)
        return f"{paths[i]} was not valid when it was read: read it again."

    state = np.where(rows < 0, files.BROKEN, arrays["state"][rows])
    broken, faceless = (np.flatnonzero(state == kind) for kind in (files.BROKEN, files.NO_FACE))
    said = [sentence(i) for i in broken[:3]] if missing == "error" else []
    _tell([paths[i] for i in broken], len(paths), "broken", "is also ", missing, said)
    remedy = f"are also eye points in the columns {', '.join(EYE_COLUMNS)}, align=False and "
    _tell([paths[i] for i in faceless], len(paths), "without a face", remedy, missing)
    kept = np.flatnonzero(state == files.READ)
    if not len(kept):
        raise ValueError(f"No image of {listing.name} can be read: {_names(paths)} are broken or without a face.")
    rows, chosen = rows[kept], chosen[kept]
    one_after_another = (np.diff(rows) == 1).all()
    images = arrays["images"][rows[0] : rows[-1] + 1] if one_after_another else arrays["images"][rows]
    copies = pd.Series([sha256(image).digest() for image in images]).duplicated()
    if copies.any():
        names = _names([paths[i] for i in kept[copies]])
        print(
            f"{copies.sum():,} of {len(images):,} are the same as another, so training and test may share them: {names}"
        )

    def part(table):
        return None if table is None else table.iloc[chosen].reset_index(drop=True)

    return ImageDataset(images, part(listing.attributes), part(listing.factors), listing.name, part(listing.metadata))


def _stored(listing, paths, eyes, how, jobs):
    """The store's arrays, with all that can be decoded, and the row of each image in them (-1: it is broken)."""
    keys = np.stack([_key(path, None if eyes is None else eyes[i]) for i, path in enumerate(paths)])
    folder = os.path.commonpath([os.path.dirname(path) for path in listing.paths])
    identity = {"name": listing.name, "folder": folder, "version": _VERSION} | how
    identity = {name: list(value) if isinstance(value, tuple) else value for name, value in identity.items()}
    make = partial(files.decode, how=how)
    doing = f"reading {listing.name}"

    def place(arrays):
        known = {key.tobytes(): row for row, key in enumerate(np.asarray(arrays["key"]))}
        return np.array([known.get(key.tobytes(), -1) for key in keys])

    with FileLock(store.store_folder(identity) / "reading.lock"):
        rows, have = np.full(len(paths), -1), store.finished(identity)
        if have:
            # What is damaged is emptied here, and decoded like a new file below.
            arrays = store.open_store(identity, have, make, doing, 1, _nothing)
            rows = place(arrays)
        new = np.flatnonzero(rows < 0)

        def inputs(numbers):
            which = new[numbers - have]
            return [paths[i] for i in which], None if eyes is None else eyes[which], keys[which]

        if len(new):
            arrays = store.open_store(identity, have + len(new), make, doing, jobs, inputs)
            rows = place(arrays)
    return arrays, rows


def _nothing(rows):
    return [None] * len(rows), None, np.zeros((len(rows), KEY_BYTES), np.uint8)


def _key(path, eyes):
    """What tells a file in its present state from all others."""
    stamp = os.stat(path)
    text = f"{path}\0{stamp.st_size}\0{stamp.st_mtime_ns}\n".encode()
    return np.frombuffer(sha256(text + (b"" if eyes is None else eyes.tobytes())).digest()[:KEY_BYTES], np.uint8)


def _tell(lost, total, what, remedy, missing, said=()):
    """Say in one sentence which of `total` images are lost: as an error, or printed where they are dropped."""
    if lost and missing == "error":
        first = " ".join(said) or f"{len(lost):,} of {total:,} images are {what}: {_names(lost)}."
        more = f" As bad are {_names(lost[len(said) :])}." if said and len(lost) > len(said) else ""
        raise ValueError(f"{first}{more} Valid {remedy}missing='drop', which leaves them out.")
    if lost:
        print(f"Left out {len(lost):,} of {total:,} images, which are {what}: {_names(lost)}")


def _names(paths, most=100):
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, folder) for path in paths[:most]]
    more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
    return f"{', '.join(names)}{more} in {folder}"
