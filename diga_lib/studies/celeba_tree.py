"""Rendered faces as PNG files in CelebA's own layout: something to rehearse with before one's own photographs."""

import os
from pathlib import Path

import cv2
import joblib
import numpy as np
from filelock import FileLock
from PIL import Image

from diga_lib import runtime
from diga_lib.data import faces
from diga_lib.data.photos.align import target_eyes
from diga_lib.data.photos.layouts import CELEBA_EYES, CELEBA_SIZE

SEED = 20  # a population of its own
CHUNK = 100  # faces that a process draws at a time


def make(root: str | os.PathLike, n: int, seed: int = SEED, jobs: int | None = None) -> Path:
    """Write `n` rendered faces of 178 x 218 pixels and the tables that CelebA has into a folder, and return it.

    Stopped at any time, it goes on with the files that are missing; the tables are written last. Face i depends on
    (seed, i) alone. If `n` is below 1, or the folder holds other images, that is a ValueError.
    """
    if n < 1:
        raise ValueError(f"n is {n}: valid is a whole number of at least 1.")
    root = Path(root)
    folder, mine, note = root / "img_align_celeba", f"seed {seed}, renderer {faces.VERSION}", root / ".population"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):  # a second process waits, then finds everything made
        for half in root.rglob(".*-*"):  # of a process that was killed while it wrote
            half.unlink()
        present = set(os.listdir(folder))
        if present and (not note.exists() or note.read_text() != mine):  # they would get wrong labels
            raise ValueError(f"{folder} holds images that are not those of {mine}: valid is an empty folder.")
        if not present:
            note.write_text(mine)
        missing = [i for i in range(n) if file_name(i) not in present]
        tasks = [joblib.delayed(_draw)(folder, seed, missing[i : i + CHUNK]) for i in range(0, len(missing), CHUNK)]
        joblib.Parallel(jobs or runtime.available_cores())(runtime.progress(tasks, "drawing files"))
        _, table, _ = faces.parameters(seed, range(n))
        table = table.drop(columns="Ethnicity") * 2 - 1  # which CelebA does not have
        rows = [f"{file_name(i)} " + " ".join(f"{v:2d}" for v in row) for i, row in enumerate(table.to_numpy())]
        write_tables(root, list(table.columns), rows, np.digitize(np.arange(n) / n, (0.8, 0.9)))
    return root


def file_name(i: int) -> str:
    """The name of face number `i`, from 0: CelebA counts from 1."""
    return f"{i + 1:06d}.png"


def write_tables(root: Path, names: list[str], rows: list[str], parts) -> None:
    """Write the tables of a tree: names of attributes, a line a file, parts (0, 1, 2: training, validation, test)."""
    partition = [f"{file_name(i)} {part}" for i, part in enumerate(parts)]
    attributes = [str(len(rows)), " ".join(names), *rows]
    for name, lines in (("list_eval_partition.txt", partition), ("list_attr_celeba.txt", attributes)):
        with runtime.atomic_write(root / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n")


def _draw(folder, seed, indices):
    # The side at which a rendered face has its eyes as far apart as a crop of CelebA.
    side = round((CELEBA_EYES[1, 0] - CELEBA_EYES[0, 0]) / (target_eyes(1)[1, 0] - target_eyes(1)[0, 0]))
    left, top = np.round(CELEBA_EYES[0] - target_eyes(side)[0]).astype(int)
    right, bottom = CELEBA_SIZE[0] - side - left, CELEBA_SIZE[1] - side - top
    images, _, _ = faces.render(seed, indices, side)
    for i, image in zip(indices, images.transpose(0, 2, 3, 1), strict=True):
        # CelebA's crops show more than a rendered face: its border goes on, out of focus.
        whole = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
        blurred = cv2.GaussianBlur(whole, (0, 0), 6)
        blurred[top : top + side, left : left + side] = image
        with runtime.atomic_write(folder / file_name(i)) as temporary:
            Image.fromarray(blurred).save(temporary, "PNG", compress_level=1)
