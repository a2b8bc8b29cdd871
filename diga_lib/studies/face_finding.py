"""The share of FairFace's photographs in which a face and its eyes are found, by race and gender: the table of page 11.

``--data DIR`` has a ``fairface``, a folder of ``images`` with an ``attributes.csv`` of the columns Male and race_group.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from diga_lib.data.photos import align
from diga_lib.studies import runner, store


class Finds(store.Record):
    """In how many of a group's photographs "cascades" (OpenCV's), or "yunet", which `data` uses, find a face."""

    KEY = ("detector", "race", "male")
    detector: str
    race: str
    male: int
    images: int
    found: int


@dataclass(frozen=True)
class Cell(runner.Cell):
    """One detector and one group."""

    record = Finds
    detector: str
    race: str
    male: int
    root: str


def _groups(root: str):
    return pd.read_csv(Path(root) / "attributes.csv").head(2_000).groupby(["race_group", "Male"])["image_id"]


def cells(data) -> list[Cell]:
    """Both detectors on each group."""
    root = str(Path(data).resolve() / "fairface")
    groups = _groups(root).groups
    return [Cell(detector, race, int(male), root) for detector in ("cascades", "yunet") for race, male in groups]


def by_yunet(image: Image.Image) -> bool:
    """Whether `align.find_eyes` finds a face."""
    with suppress(align.NoFaceFound):
        return align.find_eyes(image) is not None
    return False


def by_cascades(image: Image.Image) -> bool:
    """Whether Viola and Jones's cascades, as OpenCV has them, find a face and an eye in each half of its upper part."""

    def found(name, where, least):
        cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
        return list(cascade.detectMultiScale(where, 1.1, 3, minSize=(least, least)))

    grey = np.asarray(image.convert("L"))
    grey = np.pad(grey, max(grey.shape) // 5, mode="edge")  # tightly cropped faces need something around them
    faces = found("frontalface_alt2", grey, min(image.size) // 5)
    if not faces:
        return False
    left, top, size, _ = max(faces, key=lambda box: box[2])
    upper = cv2.resize(grey[top : top + int(0.6 * size), left : left + size], (200, 120))
    eyes = found("eye", upper, 33) + found("eye_tree_eyeglasses", upper, 33)
    return len({x + width / 2 > 100 for x, _, width, _ in eyes}) == 2


def compute(cell: Cell) -> Finds:
    """Look for a face in each photograph of a group."""
    names = _groups(cell.root).get_group((cell.race, cell.male))
    find = by_yunet if cell.detector == "yunet" else by_cascades
    found = sum(find(Image.open(Path(cell.root) / "images" / name).convert("RGB")) for name in names)
    return Finds(version=cell.version, **cell.key, images=len(names), found=found)


STUDY = runner.Study("face_finding", cells, compute)
