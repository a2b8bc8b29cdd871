"""What reading a folder of images for the first time costs, from 10,000 to 200,000 files: the figure of page 11."""

import multiprocessing
import os
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from joblib.externals.loky import get_reusable_executor

from diga_lib import runtime
from diga_lib.data.photos import layouts, reading
from diga_lib.studies import celeba_tree, runner, store

READ = (10_000, 20_000, 50_000, 200_000)  # images
DRAWN = 20_000  # of them; a larger tree has hard links to these, over and over


class Step(store.Record):
    """Seconds by the clock and of computing, and the most memory held at once (10^6 bytes)."""

    KEY = ("images",)
    step: str = "read"
    images: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    worker_peak_memory_mb: float
    processes: int
    cores: int


@dataclass(frozen=True)
class Cell(runner.Cell):
    """Reading so many images of a tree in CelebA's layout, which is drawn in the cache."""

    record = Step
    images: int


def cells() -> list[Cell]:
    """Every number of images."""
    return [Cell(n) for n in READ]


def compute(cell: Cell) -> Step:
    """Read in a fresh process, whose peak memory is its own, while no other cell is measured."""
    fresh = multiprocessing.get_context("spawn")
    with FileLock(runtime.cache_folder("claims") / "own-images.lock"), ProcessPoolExecutor(1, fresh) as process:
        source = celeba_tree.make(runtime.cache_folder("celeba-tree"), DRAWN)
        found = process.submit(measured, source, cell.images).result()
    cores = runtime.available_cores()
    return Step(version=cell.version, images=cell.images, processes=cores, cores=cores, **found)


def measured(source: Path, n: int) -> dict:
    """Link and read a tree of `n` images; returns the time and memory that this process and its children took."""
    before = os.times()
    with tempfile.TemporaryDirectory(dir=source.parent) as work:
        os.environ["DIGA_CACHE"] = f"{work}/cache"
        tree = layouts.celeba(linked_tree(source, n, Path(work) / "tree"))
        reading.read(tree, None, 64, True, "error", jobs=runtime.available_cores())
    get_reusable_executor().shutdown()  # so that the workers' use is counted
    *computing, seconds = np.subtract(os.times(), before)
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(computing), 1),
        "peak_memory_mb": round(runtime.peak_memory_mb()),
        "worker_peak_memory_mb": round(worker),
    }


def linked_tree(source: Path, n: int, target: Path) -> Path:
    """A tree of `n` images in CelebA's layout whose files are hard links to those of another, over and over."""
    _, names, *lines = (source / "list_attr_celeba.txt").read_text().splitlines()
    images, rows = "img_align_celeba", []
    (target / images).mkdir(parents=True)
    for i in range(n):
        name, values = lines[i % len(lines)].split(maxsplit=1)
        os.link(source / images / name, target / images / celeba_tree.file_name(i))
        rows.append(f"{celeba_tree.file_name(i)} {values}")
    celeba_tree.write_tables(target, names.split(), rows, [0] * n)
    return target


STUDY = runner.Study("own_images", cells, compute)
