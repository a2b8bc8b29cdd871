"""Readers for images on disk: CelebA in its own layout, and a folder of images with a table.

A reader checks the tables and lists the images; the images are decoded once, in several processes, into the
same store as rendered faces.

CelebA::

    root/img_align_celeba/000001.jpg …      178 x 218 pixels
    root/list_attr_celeba.txt               number of images; attribute names; then "000001.jpg -1 1 …"
    root/list_eval_partition.txt            "000001.jpg 0": 0 training, 1 validation, 2 test

A folder::

    root/images/…                           or the images beside the table
    root/attributes.csv                     image_id (a path below root/images or root), then a column each

In `attributes.csv`, columns that hold only 0 and 1 are attributes, and those with CelebA's names must. The
four columns left_eye_x, left_eye_y, right_eye_x, right_eye_y (pixels; the picture's left, not the person's)
say where the eyes are; without them, they are found. All other columns are kept as text in `metadata`, and
as numbers in `factors` where they are numbers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from . import photos
from .dataset import ImageDataset
from .store import open_store

CELEBA_SIZE = (178, 218)
CELEBA_EYES = np.array([[69.5, 111.5], [108.5, 111.5]])  # where its aligned crops have them, in pixels
CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair "
    "Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup "
    "High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose "
    "Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat "
    "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()
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
    """

    name: str
    paths: list[str]
    attributes: pd.DataFrame
    factors: pd.DataFrame | None
    metadata: pd.DataFrame
    eyes: np.ndarray | None
    size: tuple[int, int] | None


def celeba(root: str | os.PathLike) -> Listing:
    """List CelebA's aligned images; the official partition is the column "partition" of `metadata`.

    Raises
    ------
    FileNotFoundError, ValueError
        When a file is missing or not in CelebA's format; the sentence names it.
    """
    root = _folder(root)
    path = _file(root / "list_attr_celeba.txt")
    lines = _lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    if len(lines) < 3 or not lines[0].strip().isdigit() or not names:
        raise ValueError(f"{path} does not begin as CelebA's does: valid are the number of images, a line of "
                         "attribute names, and a line for each image.")
    rows = [line.split() for line in lines[2:]]
    if len(rows) != int(lines[0]):
        raise ValueError(f"{path} announces {int(lines[0])} images and lists {len(rows)}: valid is the same.")
    for number, row in enumerate(rows, start=3):
        if len(row) != 1 + len(names) or not set(row[1:]) <= {"-1", "1"}:
            raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and "
                             f"{len(names)} values that are -1 or 1.")
    ids = [row[0] for row in rows]
    _check_unique(names, path, "attribute")
    values = np.array([row[1:] for row in rows]) == "1"
    attributes = pd.DataFrame(values.astype(np.int8), columns=names)

    path = _file(root / "list_eval_partition.txt")
    partition = {}
    for number, line in enumerate(_lines(path), start=1):
        row = line.split()
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and 0, 1 or 2.")
        partition[row[0]] = ("train", "validation", "test")[int(row[1])]
    unplaced = [name for name in ids if name not in partition]
    if unplaced:
        raise ValueError(f"{path} does not place {unplaced[0]}: valid is a line for each of "
                         f"{len(ids)} images.")
    metadata = pd.DataFrame({"image_id": ids, "partition": [partition[name] for name in ids]})
    paths = _image_paths(_folder(root / "img_align_celeba"), ids, root / "list_attr_celeba.txt")
    eyes = np.broadcast_to(CELEBA_EYES, (len(ids), 2, 2))
    return Listing("celeba", paths, attributes, None, metadata, eyes, CELEBA_SIZE)


def folder(root: str | os.PathLike) -> Listing:
    """List a folder of images with `attributes.csv`; this module's first lines describe the layout.

    Raises
    ------
    FileNotFoundError, ValueError
        When the table or an image is missing, or the table is not valid; the sentence names it.
    """
    root = _folder(root)
    path = _file(root / "attributes.csv")
    table = _read_csv(path)
    if "image_id" not in table or not len(table):
        raise ValueError(f"{path} has {len(table)} rows and the columns {', '.join(table.columns)}: valid is "
                         "at least one row, a column image_id and columns of 0 and 1.")
    _check_unique(table["image_id"], path, "image_id")
    eyes = _eyes(table, path)
    table = table.drop(columns=EYE_COLUMNS, errors="ignore")

    binary = [name for name in table if name != "image_id" and table[name].isin(["0", "1"]).all()]
    for name in set(CELEBA_ATTRIBUTES) & set(table) - set(binary):
        row = int(np.argmin(table[name].isin(["0", "1"])))
        raise ValueError(f"{path} has {name} = {table[name][row]!r} for {table['image_id'][row]}: "
                         "valid are 0 and 1.")
    if not binary:
        raise ValueError(f"{path} has no column that holds only 0 and 1: valid is at least one attribute.")
    metadata = table.drop(columns=binary)
    numbers = metadata.drop(columns="image_id").apply(pd.to_numeric, errors="coerce").astype(np.float32)
    numbers = numbers.loc[:, np.isfinite(numbers).all()]
    images = root / "images"
    paths = _image_paths(images if images.is_dir() else root, metadata["image_id"], path)
    return Listing("folder", paths, table[binary].astype(np.int8), numbers if numbers.shape[1] else None,
                   metadata, eyes, None)


def read(listing: Listing, n: int | None, resolution: int, align: bool, missing: str) -> ImageDataset:
    """Decode the first `n` images of a listing (once: later calls find them in the store).

    Parameters
    ----------
    listing : Listing
        What `celeba` or `folder` returned.
    n : int or None
        How many, all by default.
    resolution : int
        Height and width in pixels.
    align : bool
        Bring the eyes to where rendered faces have them; otherwise crop the middle square.
    missing : {"error", "drop"}
        Whether a photograph without a face stops the reading or is left out with a printed line.

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
    size = listing.size
    if size is None and not align:
        size = photos.open_rgb(listing.paths[0]).size
    # A file that changes on disk makes another store; the file's date and size tell.
    stamps = sha256()
    for path in listing.paths:
        stamp = os.stat(path)
        stamps.update(f"{path}\0{stamp.st_size}\0{stamp.st_mtime_ns}\n".encode())
    if align and listing.eyes is not None:
        stamps.update(np.ascontiguousarray(listing.eyes))
    identity = {"name": listing.name, "resolution": resolution, "align": align, "files": stamps.hexdigest(),
                "version": _VERSION}

    def inputs(rows):
        return [listing.paths[row] for row in rows], None if listing.eyes is None else listing.eyes[rows]

    make = partial(photos.decode, size=size, resolution=resolution, aligned=align)
    arrays = open_store(identity, n, make, f"reading {listing.name}", inputs=inputs)
    factors = None if listing.factors is None else listing.factors[:n]
    pool = ImageDataset(arrays["images"], listing.attributes[:n], factors, listing.name, listing.metadata[:n])
    lost = np.flatnonzero(~np.asarray(arrays["found"]))
    if not len(lost):
        return pool
    names = ", ".join(listing.paths[row] for row in lost[:5]) + (" …" if len(lost) > 5 else "")
    if missing == "error" or len(lost) == n:
        raise ValueError(f"No face with two open eyes is found in {len(lost)} of {n} images ({names}): "
                         f"valid are eye points in the columns {', '.join(EYE_COLUMNS)}, missing='drop' or "
                         "align=False.")
    print(f"Left out {len(lost)} of {n} images, in which no face with two open eyes is found: {names}")
    return pool.select(np.flatnonzero(arrays["found"]))


def _folder(path):
    path = Path(path).expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}: valid is the folder that holds the data.")
    return path


def _file(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: it belongs to this layout.")
    return path


def _lines(path):
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path} is not a text file in UTF-8.") from fault


def _read_csv(path):
    try:
        # Without `header`, pandas would rename columns that occur twice instead of telling.
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as fault:  # pandas' own errors and wrong encodings are of this kind
        reason = " ".join(str(fault).split())
        raise ValueError(f"{path} is not a table of comma-separated values in UTF-8 ({reason}).") from fault
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    _check_unique(cells.iloc[0], path, "column")
    return cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1).reset_index(drop=True)


def _check_unique(values, path, what):
    values = pd.Series(values)
    if values.duplicated().any() or (values == "").any():
        twice = values[values.duplicated() | (values == "")].iloc[0]
        raise ValueError(f"{path} has the {what} {twice!r} empty or more than once: valid is once each.")


def _image_paths(base, names, table):
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


def _eyes(table, path):
    given = [name for name in EYE_COLUMNS if name in table]
    if not given:
        return None
    if given != EYE_COLUMNS:
        raise ValueError(f"{path} has {', '.join(given)} only: valid are all of {', '.join(EYE_COLUMNS)}, "
                         "or none.")
    eyes = table[EYE_COLUMNS].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = ~(np.isfinite(eyes).all(1) & (eyes[:, 0] < eyes[:, 2]))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{path} has the eyes {table.loc[row, EYE_COLUMNS].tolist()} for "
                         f"{table['image_id'][row]}: valid are four numbers, left_eye_x below "
                         "right_eye_x (the picture's left).")
    return eyes.reshape(-1, 2, 2)
