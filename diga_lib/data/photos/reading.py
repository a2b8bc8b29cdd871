"""Read the images that a layout lists: each is decoded once, and found again in the store by what it is."""

import os
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import numpy as np
import pandas as pd
from filelock import FileLock

from diga_lib.data import store
from diga_lib.data.dataset import ImageDataset, draw_rows
from diga_lib.data.photos import files

EYE_COLUMNS = ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
KEY_BYTES = 16
_VERSION = 2  # changes when the same file is decoded to other pixels


@dataclass(frozen=True)
class Listing:
    """The images that a layout has, before they are decoded; the tables are as in `ImageDataset`."""

    name: str
    paths: list[str]  #: one file for each image
    attributes: pd.DataFrame
    factors: pd.DataFrame | None
    metadata: pd.DataFrame  #: with a column image_id
    eyes: np.ndarray | None = None  #: float64 (N, 2, 2): the picture's left and right eye, (x, y) in pixels, if known
    size: tuple[int, int] | None = None  #: width and height that all images must have
    eyes_size: tuple[int, int] | None = None  #: width and height for which `eyes` hold; None: for any
    faces: bool = True  #: whether to align faces; other pictures are cut to their middle square
    absent: list[str] = field(default_factory=list)  #: files that are not there although `table` names them
    table: str = ""


def read(
    listing: Listing, n: int | None, resolution: int, align: bool, missing: str, seed: int = 0, jobs: int | None = None
) -> ImageDataset:
    """Decode images of a listing (once: later calls find them in the store), in so many processes.

    Parameters and errors are those of :func:`diga_lib.data.load`; one sentence names all that is wrong.
    """
    total = len(listing.paths)
    chosen = draw_rows(listing.name, n, total, seed)
    if listing.absent:
        many = f"{len(listing.absent):,} of {total + len(listing.absent):,} images"
        said = f"There is no file for {many} that {listing.table} names: {_names(listing.absent)}"
        if missing == "error" or not total:
            raise FileNotFoundError(f"{said}. Valid is also missing='drop', which leaves them out.")
        print(f"{said}: they are left out.")
    align, size = align and listing.faces, listing.size
    if size is None and not align and listing.faces:
        size = files.open_rgb(listing.paths[0]).size
    how = {"resolution": resolution, "align": align, "size": size, "eyes_size": listing.eyes_size}
    paths = [listing.paths[row] for row in chosen]
    eyes = list(listing.eyes[chosen] if align and listing.eyes is not None else [None] * len(paths))
    arrays, rows = _stored(listing, paths, eyes, how, jobs)

    def sentence(i):
        try:
            files.picture(paths[i], eyes[i], how)
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
        many, names = f"{copies.sum():,} of {len(images):,}", _names([paths[i] for i in kept[copies]])
        print(f"{many} are the same as another, so training and test may share them: {names}")
    tables = (listing.attributes, listing.factors, listing.metadata)
    attributes, factors, metadata = (t if t is None else t.iloc[chosen].reset_index(drop=True) for t in tables)
    return ImageDataset(images, attributes, factors, listing.name, metadata)


def _stored(listing, paths, eyes, how, jobs):
    """The store's arrays, with all that can be decoded, and the row of each image in them (-1: it is broken)."""
    keys = np.stack([_key(path, one) for path, one in zip(paths, eyes, strict=True)])
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
            return [paths[i] for i in which], [eyes[i] for i in which], keys[which]

        if len(new):
            arrays = store.open_store(identity, have + len(new), make, doing, jobs, inputs)
            rows = place(arrays)
    return arrays, rows


def _nothing(rows):
    return [None] * len(rows), [None] * len(rows), np.zeros((len(rows), KEY_BYTES), np.uint8)


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
