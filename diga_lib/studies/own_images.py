"""A folder of images from the first reading to the result row, measured: what page 11 shows at full size.

``--data DIR`` is a tree in CelebA's layout, such as ``python -m diga_lib.studies.celeba_tree`` makes.
"""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from joblib.externals.loky import get_reusable_executor

from diga_lib import latent, runtime
from diga_lib.data.photos import layouts, reading
from diga_lib.pages import parameters
from diga_lib.pages.profiles import SIZES
from diga_lib.studies import rows, runner, store
from diga_lib.studies.celeba_tree import file_name
from diga_lib.studies.setting import setting

READ = (10_000, 20_000, 50_000, 200_000)  # images; hard links of the tree's, over and over
LEARN, EPOCHS = 20_000, 2  # of the generator
PROFILE = "full"  # of the rows


class Step(store.Record):
    """A measured step: seconds by the clock and of computing, and the most memory held at once (10^6 bytes)."""

    KEY = ("step", "images", "row")
    step: Literal["read", "generator", "row"]
    images: int
    row: str = ""
    profile: str = ""
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float | None = None
    worker_peak_memory_mb: float | None = None
    processes: int | None = None
    epochs: int | None = None
    accuracy: float | None = None
    worst_group: float | None = None
    equalized_odds: float | None = None
    groups: dict[str, float] | None = None
    agreement: float | None = None
    cores: int


@dataclass(frozen=True)
class Cell(runner.Cell):
    """One step on a tree."""

    record = Step
    step: str
    images: int
    root: str
    row: str = ""
    generator = property(lambda self: Path(f"{self.root}-generator.safetensors"))


def cells(data) -> list[Cell]:
    """Reading at each size, the generator, and two rows."""
    root = str(Path(data).resolve())
    layouts.celeba(root)  # an unfinished tree is refused
    whole = [Cell("read", n, root) for n in READ] + [Cell("generator", LEARN, root)]
    return whole + [Cell("row", SIZES[PROFILE].pool, root, row) for row in ("erm", "diga-one-stage")]


def compute(cell: Cell) -> Step:
    """Measure one step in a fresh process, whose peak memory is its own, while no other step is measured."""
    fresh = multiprocessing.get_context("spawn")
    with FileLock(runtime.cache_folder("claims") / "own-images.lock"), ProcessPoolExecutor(1, fresh) as process:
        found = process.submit(measured, cell).result()
    return Step(**cell.key, version=cell.version, cores=runtime.available_cores(), **found)


def measured(cell: Cell) -> dict:
    """Do a step; with what it found, the time and memory that this process and its children took."""
    before = os.times()
    found = {"read": _read, "generator": _learn, "row": _row}[cell.step](cell)
    *computing, seconds = np.subtract(os.times(), before)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return found | {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(computing), 1),
        "peak_memory_mb": round(runtime.peak_memory_mb()),
        "worker_peak_memory_mb": round(child / 1e6 if sys.platform == "darwin" else child * 1024 / 1e6),
    }


def linked_tree(source: Path, n: int, target: Path) -> Path:
    """A tree of `n` images in CelebA's layout whose files are hard links to those of another, over and over."""
    _, names, *lines = (source / "list_attr_celeba.txt").read_text().splitlines()
    images, table = "img_align_celeba", [str(n), names]
    (target / images).mkdir(parents=True)
    for i in range(n):
        name, values = lines[i % len(lines)].split(maxsplit=1)
        os.link(source / images / name, target / images / file_name(i))
        table.append(f"{file_name(i)} {values}")
    (target / "list_attr_celeba.txt").write_text("\n".join(table))
    (target / "list_eval_partition.txt").write_text("\n".join(f"{file_name(i)} 0" for i in range(n)))
    return target


def _read(cell):
    source, jobs = Path(cell.root), runtime.available_cores()
    with tempfile.TemporaryDirectory(dir=source.parent) as work:
        os.environ["DIGA_CACHE"] = f"{work}/cache"
        tree = linked_tree(source, cell.images, Path(work) / "tree")
        reading.read(layouts.celeba(tree), None, 64, True, "error", jobs=jobs)
        get_reusable_executor().shutdown()  # so that the workers' use is counted
        return {"processes": jobs}


def _learn(cell):
    given = {"dataset": "celeba", "root": cell.root, "images": cell.images, "epochs": EPOCHS, "output": cell.generator}
    options = [f"--{name}={value}" for name, value in given.items()]
    subprocess.run([sys.executable, "-m", "diga_lib.latent", *options], check=True)
    return {"epochs": EPOCHS}


def _row(cell):
    if not cell.generator.exists():
        _learn(Cell("generator", LEARN, cell.root))
    pool = parameters.pool("celeba", cell.root, PROFILE)
    made = setting(profile=PROFILE, dataset=pool, generator=latent.load_file(cell.generator))
    result, _ = rows.run(made, cell.row)
    found = {"profile": PROFILE} | {name: getattr(result, name) for name in (*store.METRICS, "groups")}
    if cell.row != "erm":  # for scoring only: how well the direction reads the attribute that nobody told it
        share = np.mean((made.refined.coordinate(made.codes) > 0).numpy() == (made.split.train.spurious == 1))
        found["agreement"] = float(max(share, 1 - share))
    return found


STUDY = runner.Study("own_images", cells, compute)
