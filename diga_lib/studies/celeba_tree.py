"""Rendered faces as PNG files in CelebA's own layout: something to rehearse with before one's own photographs."""

import os
import tempfile
from pathlib import Path

import cv2
import joblib
import numpy as np
from PIL import Image

from diga_lib import runtime
from diga_lib.data import faces
from diga_lib.data.photos.align import target_eyes
from diga_lib.data.photos.layouts import CELEBA_EYES, CELEBA_SIZE

SEED = 20  # a population of its own
CHUNK = 100  # faces that a process draws at a time


def make(root: str | os.PathLike, n: int, seed: int = SEED, jobs: int | None = None) -> Path:
    """Write `n` rendered faces of 178 x 218 pixels and the tables that CelebA has as a new folder, and return it.

    It is written whole or not at all. Face i depends on (seed, i) alone. If `n` is below 1, or there are files in the
    folder, that is a ValueError.
    """
    if n < 1:
        raise ValueError(f"n is {n}: valid is a whole number of at least 1.")
    root = Path(root).resolve()
    if root.exists() and os.listdir(root):
        raise ValueError(f"{root} holds other files: valid is a new or an empty folder.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tree-", dir=root.parent) as unfinished:
        tree = Path(unfinished, "tree")
        (tree / "img_align_celeba").mkdir(parents=True)
        tasks = [joblib.delayed(_draw)(tree, seed, range(i, min(i + CHUNK, n))) for i in range(0, n, CHUNK)]
        joblib.Parallel(jobs or runtime.available_cores())(runtime.progress(tasks, "drawing files"))
        _, table, _ = faces.parameters(seed, range(n))
        table = table.drop(columns="Ethnicity") * 2 - 1  # which CelebA does not have
        rows = [f"{_name(i)} {' '.join(map(str, row))}" for i, row in enumerate(table.to_numpy())]
        (tree / "list_attr_celeba.txt").write_text("\n".join([str(n), " ".join(table), *rows, ""]))
        parts = np.digitize(np.arange(n) / n, (0.8, 0.9))  # training, validation, test
        (tree / "list_eval_partition.txt").write_text("".join(f"{_name(i)} {k}\n" for i, k in enumerate(parts)))
        os.replace(tree, root)
    return root


def _name(i):
    return f"{i + 1:06d}.png"  # CelebA counts from 1


def _draw(tree, seed, indices):
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
        with runtime.atomic_write(tree / "img_align_celeba" / _name(i)) as temporary:
            Image.fromarray(blurred).save(temporary, "PNG", compress_level=1)
