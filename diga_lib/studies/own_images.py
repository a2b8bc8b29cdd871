"""A folder of images from the first reading to the result row, measured: what page 11 shows at full size.

``python -m diga_lib.studies.own_images --root DIR`` reads a tree in CelebA's layout (made by `python -m
diga_lib.studies.celeba_tree`) at several sizes, trains a generator on it, and trains and measures ERM and DiGA. Each
finished step is one JSON line of ``book/results/own_images.jsonl``; stopped at any time, it goes on with what is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from diga_lib import runtime
from diga_lib.studies.celeba_tree import file_name

RESULTS = Path(__file__).resolve().parent.parent.parent / "book" / "results" / "own_images.jsonl"
SIZES = (10_000, 20_000, 50_000, 200_000)


def read(path: str | os.PathLike = RESULTS) -> pd.DataFrame:
    """The measured steps: step, images, seconds, cpu_seconds, peak_memory_mb, …; one row each."""
    return pd.DataFrame([json.loads(line) for line in Path(path).read_text().splitlines()])


def linked_tree(source: Path, n: int, target: Path) -> Path:
    """A tree of `n` images in CelebA's layout whose files are hard links to those of another, over and over.

    Parameters
    ----------
    source : path
        A tree in CelebA's layout.
    n : int
        Number of images of the new one.
    target : path
        Its folder, on the same file system.
    """
    count, names, *rows = (source / "list_attr_celeba.txt").read_text().splitlines()
    folder = target / "img_align_celeba"
    folder.mkdir(parents=True)
    for i in range(n):
        os.link(source / "img_align_celeba" / rows[i % len(rows)].split()[0], folder / file_name(i))
    lines = [f"{file_name(i)} {rows[i % len(rows)].split(maxsplit=1)[1]}" for i in range(n)]
    (target / "list_attr_celeba.txt").write_text("\n".join([str(n), names, *lines]) + "\n")
    (target / "list_eval_partition.txt").write_text("".join(f"{file_name(i)} 0\n" for i in range(n)))
    return target


def measured(function, *arguments) -> dict:
    """Seconds, seconds of computing, and the most memory that this process and its largest child held at once."""
    start, before = time.perf_counter(), _cpu()
    found = function(*arguments)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(_cpu() - before, 1),
        "peak_memory_mb": round(runtime.peak_memory_mb()),
        "worker_peak_memory_mb": round(child / 1e6 if sys.platform == "darwin" else child * 1024 / 1e6),
    } | found


def _cpu() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def read_tree(root: str, jobs: int) -> dict:
    """Read a whole tree into the store; returns what there is to tell of it."""
    from joblib.externals.loky import get_reusable_executor

    from diga_lib.data.photos import layouts, reading

    pool = reading.read(layouts.celeba(root), None, 64, True, "error", jobs)
    if jobs > 1:
        get_reusable_executor().shutdown()  # so that the workers' use is counted
    return {"images": len(pool), "processes": jobs}


def train_row(root: str, generator: str, profile: str, row: str) -> dict:
    """Train and measure one row of the fair-training table on a tree, with the generator trained on it."""
    from diga_lib import latent
    from diga_lib.pages import parameters
    from diga_lib.studies import rows
    from diga_lib.studies.setting import setting

    pool = parameters.pool("celeba", root, profile)
    made = setting(profile=profile, dataset=pool, generator=latent.load_file(generator))
    result, _ = rows.run(made, row)
    agreement = float("nan")
    if row != "erm":  # for scoring only: how well the direction reads the attribute that nobody told it
        side = (made.refined.coordinate(made.codes) > 0).numpy()
        agreement = max(share := (side == (made.split.train.spurious == 1)).mean(), 1 - share)
    return {
        "images": len(pool),
        "row": row,
        "profile": profile,
        "accuracy": result.accuracy,
        "worst_group": result.worst_group,
        "equalized_odds": result.equalized_odds,
        "groups": result.groups,
        "agreement": None if agreement != agreement else float(agreement),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="a tree in CelebA's layout")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="images to read, hard links of the tree's")
    parser.add_argument("--jobs", type=int, default=runtime.available_cores(), help="processes that read")
    parser.add_argument("--generator-images", type=int, default=20_000, help="images that the generator learns from")
    parser.add_argument("--epochs", type=int, default=2, help="of the generator")
    parser.add_argument("--profile", default="full", help="of the result rows")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)  # one step in a process of its own
    given = parser.parse_args()
    if given.step:
        name, *arguments = given.step
        if name == "read":
            return print(json.dumps(measured(read_tree, arguments[0], int(arguments[1]))))
        return print(json.dumps(measured(train_row, *arguments)))
    if not (given.root / "list_attr_celeba.txt").is_file():
        parser.exit(
            1, f"{given.root} is no finished tree: valid is one that `python -m diga_lib.studies.celeba_tree` made.\n"
        )
    done = read(given.output) if given.output.exists() else pd.DataFrame({"step": [], "images": [], "row": []})
    for n in given.sizes:
        if not ((done["step"] == "read") & (done["images"] == n)).any():
            with tempfile.TemporaryDirectory(dir=given.root.parent) as work:
                tree = linked_tree(given.root, n, Path(work) / "tree")
                found = step(["read", str(tree), str(given.jobs)], tree, Path(work) / "cache")
                _append(given.output, {"step": "read"} | found)
    generator = given.root.with_name(f"{given.root.name}-generator.safetensors")
    if not (done["step"] == "generator").any():
        command = [
            "-m",
            "diga_lib.latent",
            "--dataset",
            "celeba",
            "--root",
            str(given.root),
            "--images",
            str(given.generator_images),
            "--output",
            str(generator),
            "--epochs",
            str(given.epochs),
        ]
        start, before = time.perf_counter(), _cpu()
        subprocess.run([sys.executable, *command], check=True)
        _append(
            given.output,
            {
                "step": "generator",
                "images": given.generator_images,
                "epochs": given.epochs,
                "seconds": round(time.perf_counter() - start, 1),
                "cpu_seconds": round(_cpu() - before, 1),
            },
        )
    for row in ("erm", "diga-one-stage"):
        if not ((done["step"] == "row") & (done.get("row") == row)).any():
            found = step(["row", str(given.root), str(generator), given.profile, row], given.root)
            _append(given.output, {"step": "row"} | found)


def step(arguments: list[str], root: Path, cache: Path | None = None) -> dict:
    """Run one step in a fresh process, whose peak memory is its own; returns what it measured."""
    environment = os.environ | ({"DIGA_CACHE": str(cache)} if cache else {})
    command = [sys.executable, "-m", "diga_lib.studies.own_images", "--root", str(root), "--step", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _append(path, record):
    record |= {"commit": runtime.commit(), "cores": runtime.available_cores(), "versions": runtime.versions()}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text() if path.exists() else ""
    with runtime.atomic_write(path) as temporary:
        temporary.write_text(lines + json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
