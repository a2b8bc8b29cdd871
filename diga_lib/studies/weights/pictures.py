"""Make the files of photographs that ship, from FairFace and the London Set on disk (see `diga_lib.data.shipped`)."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from diga_lib import data, runtime
from diga_lib.data import shipped
from diga_lib.data.photos import align

TRAINED = 19_000  # pictures of FairFace that generators learn from, the first ones; the others are held out
OF_A_GROUP = {"train": 1250, "test": 250}  # faces of the sample in each group of Male and Young
AGES = ("20-29", "40-49", "50-59", "60-69", "more than 70")  # no minors
# Twelve of the London volunteers: each half has three women and three men, of several ages and origins.
SUBJECTS = ("030", "120", "020", "096", "103", "105", "126", "013", "009", "022", "037", "061")


def fairface(root: str | Path) -> data.ImageDataset:
    """FairFace in a folder with attributes.csv, aligned, at 64 pixels, all of it in the order of its table."""
    return data.load("folder", root=root, missing="drop")


def fairface_sample(name: str, folder: Path, work: Path, root: str) -> list[Path]:
    """6,000 faces, equally many in each group of Male and Young, and as equal as can be in race within a group."""
    pool, rng = fairface(root), np.random.default_rng(0)
    table = pd.concat([pool.metadata[["image_id", "age_group", "race_group"]], pool.attributes], axis=1)
    table["partition"] = np.where(table.index < TRAINED, "train", "test")
    some = table[table["age_group"].isin(AGES)].sample(frac=1, random_state=0)
    some["turn"] = some.groupby(["partition", "Male", "Young", "race_group"]).cumcount()
    groups = some.sort_values("turn", kind="stable").groupby(["partition", "Male", "Young"])
    chosen = pd.concat([group.head(OF_A_GROUP[part]) for (part, *_), group in groups])
    chosen = chosen.iloc[rng.permutation(len(chosen))].drop(columns="turn")
    images = np.array(pool.images[chosen.index.to_numpy()]).transpose(0, 2, 3, 1)
    side, columns = images.shape[1], shipped.COLUMNS
    blank = np.zeros((-len(images) % columns, *images.shape[1:]), np.uint8)
    tiles = np.concatenate([images, blank]).reshape(-1, columns, side, side, 3)
    sheet, packed = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, columns * side, 3), io.BytesIO()
    Image.fromarray(sheet).save(packed, "webp", quality=86, method=6)
    return _write(folder / f"{name}.zip", {shipped.SHEET: packed.getvalue()}, chosen)


def london_photos(name: str, folder: Path, work: Path, root: str) -> list[Path]:
    """Twelve people of the London Set, neutral and smiling, as they are, with the points of their eyes."""
    table = pd.read_csv(Path(root) / "attributes.csv", dtype=str).set_index("subject", drop=False).loc[list(SUBJECTS)]
    files = {image: (Path(root) / "images" / image).read_bytes() for image in table["image_id"]}
    eyes = [_eyes(Image.open(io.BytesIO(content)).convert("RGB")) for content in files.values()]
    table[shipped.EYES] = np.round(np.reshape(eyes, (-1, 4)), 2)
    return _write(folder / f"{name}.zip", files, table)


def _eyes(picture: Image.Image) -> np.ndarray:
    """The eyes (2, 2) of a face, found again in crops of several sizes: nearer to the pupils than a single look."""
    eyes = align.find_eyes(picture)
    for _ in range(3):
        found = []
        for side in (160, 224, 320):
            crop = Image.fromarray(align.align(picture, eyes, side).transpose(1, 2, 0))
            back = align.similarity(align.target_eyes(side), eyes)
            found.append(align.find_eyes(crop) @ back[:, :2].T + back[:, 2])
        eyes = np.mean(found, 0)
    return eyes


def _write(file: Path, files: dict[str, bytes], table: pd.DataFrame) -> list[Path]:
    """Write files and a table into an archive that depends on nothing but their content."""
    with runtime.atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in (files | {shipped.TABLE: table.to_csv(index=False).encode()}).items():
            kind = zipfile.ZIP_DEFLATED if name == shipped.TABLE else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    print(f"{file.name}: enter sha256 {runtime.sha256(file)} in diga_lib.data.shipped")
    return [file]
