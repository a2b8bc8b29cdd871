"""Photographs that come with the package (CC BY 4.0), cropped and scaled, and their attributes.

``fairface-sample``: 6,000 faces of FairFace at 64 pixels (Kärkkäinen and Joo, WACV 2021), of people of 20 to 29 and of
40 and over, equally many in each group of Male and Young, as balanced by race as can be. The generator
``real-faces-64`` has learned from FairFace, too, but not from the faces whose partition is "test".

``london-photos``: 12 volunteers of the Face Research Lab London Set, each neutral and smiling (DeBruine and Jones,
figshare 2017, doi 10.6084/m9.figshare.5047666), as pictures of 256 x 256 pixels that are aligned by their eyes to any
resolution. In each half of the table are six people, three women and three men.

What the people are said to be is FairFace's annotators' guess, or their own word.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from diga_lib import runtime
from diga_lib.data.dataset import ImageDataset, draw_rows
from diga_lib.data.photos import align
from diga_lib.data.photos.reading import EYE_COLUMNS

FOLDER = Path(__file__).resolve().parent / "pictures"
FILES = {  # data set: the SHA-256 of its file
    "fairface-sample": "d42fea1e4ef30dd098913fad0cd19b2221dae8da8d5d97d2e59864179b0918ad",
    "london-photos": "feadcbb86508722e3b3c06ff23deb13ef1d92bef720333d33f04f07939b98241",
}
COUNTS = {"fairface-sample": 6_000, "london-photos": 24}
TABLE, SHEET = "attributes.csv", "faces.webp"
COLUMNS = 80  # faces beside each other on the sheet
ATTRIBUTES = ("Smiling", "Male", "Young", "Ethnicity")


def load(name: str, n: int | None, seed: int, resolution: int) -> ImageDataset:
    """Read a data set of ``FILES``, or `n` of its images, drawn at random by `seed`; errors as of `data.load`."""
    file = FOLDER / f"{name}.zip"
    if not file.is_file() or runtime.sha256(file) != FILES[name]:
        raise ValueError(f"{file} is missing or damaged: restore it, or install diga_lib again.")
    with zipfile.ZipFile(file) as archive:
        table = pd.read_csv(io.BytesIO(archive.read(TABLE)), dtype=str, keep_default_na=False)
        rows = draw_rows(name, n, len(table), seed)
        table = table.iloc[rows].reset_index(drop=True)
        on_sheet = SHEET in archive.namelist()
        images = _tiles(archive, rows, resolution) if on_sheet else _faces(archive, table, resolution)
    attributes = table[[column for column in table if column in ATTRIBUTES]].astype(np.int8)
    metadata = table.drop(columns=[*attributes, *EYE_COLUMNS], errors="ignore")
    return ImageDataset(images, attributes, None, name, metadata)


def _tiles(archive, rows, resolution):
    sheet = np.asarray(Image.open(io.BytesIO(archive.read(SHEET))).convert("RGB"))
    side = sheet.shape[1] // COLUMNS
    if resolution != side:
        raise ValueError(f"resolution is {resolution}: valid is {side}, that of these faces.")
    tiles = sheet.reshape(-1, side, COLUMNS, side, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles.reshape(-1, 3, side, side)[rows])


def _faces(archive, table, resolution):
    eyes = table[EYE_COLUMNS].to_numpy(float).reshape(-1, 2, 2)
    pictures = (Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in table["image_id"])
    return np.stack([align.align(picture, points, resolution) for picture, points in zip(pictures, eyes, strict=True)])
