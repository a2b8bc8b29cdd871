"""Reader for DISFA: video frames of 27 subjects with the intensities of twelve action units.

DISFA comes as videos and label files; the frames are to be extracted beforehand, one folder a subject::

    root/ActionUnit_Labels/SN001/SN001_au1.txt …    one file a unit; line "17,3": frame 17 has intensity 3
    root/Images/SN001/00001.jpg …                   frame 1; the file's name is the frame's number, from 1

A part of the data set will do: frames and subjects without images are left out. An image without a label is refused,
since it says that images and labels are numbered differently.
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.data.photos.reading import Listing
from diga_lib.data.photos.tables import existing_file, existing_folder, image_files, lines_of

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
MOST = 5  # the highest intensity of the coding system
PRESENT = 2  # from this intensity on, a unit counts as present in the literature on DISFA


def disfa(root: str | os.PathLike) -> Listing:
    """List the frames that have both an image and labels, in the order of subjects and frames.

    Factors are the intensities AU1 … AU26 in 0-5, attributes say which are 2 and more; metadata has subject and frame.
    """
    root = existing_folder(root)
    images, labels = existing_folder(root / "Images"), existing_folder(root / "ActionUnit_Labels")
    names = sorted(folder.name for folder in labels.iterdir() if folder.is_dir() and (images / folder.name).is_dir())
    if not names:
        raise ValueError(f"{labels} and {images} have no subject in common: valid are folders such as SN001 in both.")
    paths, tables = [], []
    for name in names:
        table = pd.DataFrame({f"AU{unit}": _intensities(labels / name / f"{name}_au{unit}.txt") for unit in UNITS})
        for unit, lacks in table.isna().items():
            if lacks.any():
                said = f"{labels / name} has no label of {unit} for frame {lacks.idxmax()}"
                raise ValueError(f"{said}: valid is a line for each frame in each unit's file.")
        frames = _frames(images / name)
        for number, path in frames.items():
            if number not in table.index:
                said = f"{images / name} has the image {path.name}, but labels go from frame {table.index.min()}"
                raise ValueError(f"{said} to {table.index.max()}: valid are images numbered as labels are, from 1.")
        paths += map(str, frames.values())
        ids = [f"{name}/{path.name}" for path in frames.values()]
        tables.append(table.loc[list(frames)].reset_index(names="frame").assign(image_id=ids, subject=name))
    table = pd.concat(tables, ignore_index=True)
    factors = table[[f"AU{unit}" for unit in UNITS]].astype(np.float32)
    present = (factors >= PRESENT).astype(np.int8)
    return Listing("disfa", paths, present, factors, table[["image_id", "subject", "frame"]])


def _intensities(path: Path) -> pd.Series:
    """The intensities of one unit's file, by frame number."""
    values = {}
    for number, line in lines_of(existing_file(path)):
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", line)
        if not match or int(match[2]) > MOST:
            valid = f"a frame's number, a comma and an intensity from 0 to {MOST}"
            raise ValueError(f"Line {number} of {path} is {line!r}: valid is {valid}.")
        if int(match[1]) in values:
            raise ValueError(f"{path} has frame {match[1]} more than once: valid is one line for each frame.")
        values[int(match[1])] = int(match[2])
    return pd.Series(values, dtype=float)


def _frames(folder: Path) -> dict[int, Path]:
    """A subject's frames in the order of their numbers."""
    frames = {}
    for path in [path for path in image_files(folder) if path.parent == folder]:
        stem = path.name.split(".")[0]
        if not (stem.isascii() and stem.isdigit()):
            raise ValueError(f"{folder} has the image {path.name}: valid are frame numbers, such as 00001.jpg.")
        if int(stem) in frames:
            raise ValueError(f"{folder} has two images of frame {int(stem)}: valid is one for each frame.")
        frames[int(stem)] = path
    if not frames:
        raise ValueError(f"{folder} has no image of a labelled frame: valid are names such as 00001.jpg.")
    return dict(sorted(frames.items()))
