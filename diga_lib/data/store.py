"""Data made once and kept on disk: memory-mapped, verified by hash, remade where it is damaged.

A store is a folder. Each of its arrays (images, attributes, …) is one file of raw numbers, row after row. A shard of
rows counts from the moment that `manifest.json` lists it, with the sha256 of its part of each file. The manifest is
replaced in one step, so a killed run leaves finished shards only, and the next run goes on after them. Row i depends on
i alone: fewer rows are in the same files, and more are appended to them.
"""

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock

from diga_lib import runtime

SHARD_PIXELS = 1000 * 64 * 64  # what a process makes at a time: bounds memory at any resolution
ROWS_FOR_PROCESSES = 1000  # below this, starting processes takes longer than it saves
LEAST_SHARDS = 8  # so that the progress bar moves


def open_store(
    identity: dict,
    n: int,
    make: Callable[..., dict[str, np.ndarray]],
    doing: str = "making images",
    jobs: int | None = None,
    inputs: Callable[[np.ndarray], tuple] = lambda rows: (rows,),
) -> dict[str, np.ndarray]:
    """Return the first `n` rows of the store for `identity`, read-only memory maps, making what is missing or damaged.

    Parameters
    ----------
    identity : dict
        Everything that the rows depend on, as JSON values, among them "name" and "resolution" (of the images).
    make : callable
        Returns named arrays of m rows each when called with `inputs(rows)`; picklable, since 1,000 rows and more are
        made in several processes.
    doing, jobs : str, int
        Text before the progress bar; number of processes, by default one a core.
    inputs : callable
        Maps row numbers, int64 (m,), to the arguments of `make`.
    """
    folder = store_folder(identity)
    jobs = jobs or runtime.available_cores()
    with FileLock(folder / "lock"):  # a second process waits, then finds everything made
        for half in folder.glob(".manifest-*"):  # of a process that was killed while it wrote
            half.unlink()
        manifest = _read_manifest(folder, identity)
        todo = _damaged(folder, manifest, n)
        todo += _missing(manifest, n, jobs, SHARD_PIXELS // identity["resolution"] ** 2)
        _make_shards(folder, manifest, todo, make, inputs, doing, jobs)
    return {
        name: np.memmap(folder / f"{name}.bin", kind["dtype"], "r", shape=(n, *kind["row"]))
        for name, kind in manifest["arrays"].items()
    }


def finished(identity: dict) -> int:
    """How many rows the store for `identity` has."""
    shards = _read_manifest(store_folder(identity), identity)["shards"]
    return shards[-1]["stop"] if shards else 0


def store_folder(identity: dict) -> Path:
    """The folder of the store for `identity`, inside the cache folder; created if need be."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", str(identity["name"]))
    return runtime.cache_folder("data", f"{name}-{_hash(identity)[:12]}")


def _read_manifest(folder, identity):
    path = folder / "manifest.json"
    if path.exists():
        try:
            written = json.loads(path.read_text())
            manifest = written["manifest"]
            if written["sha256"] == _hash(manifest) and manifest["identity"] == identity:
                return manifest
        except (ValueError, KeyError, TypeError):
            pass  # as damaged as one whose hash is wrong
        warnings.warn(f"{path} is damaged: its data is made again.", stacklevel=3)
    return {"identity": identity, "arrays": {}, "shards": []}


def _hash(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _damaged(folder, manifest, n):
    """The finished shards among the first `n` rows whose files do not have the recorded hash."""
    damaged = []
    for shard in manifest["shards"]:
        start, stop = shard["start"], shard["stop"]
        for name, kind in manifest["arrays"].items() if start < n else ():
            path, row = folder / f"{name}.bin", _row_bytes(kind)
            content = np.fromfile(path, np.uint8, (stop - start) * row, offset=start * row) if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != shard["sha256"][name]:
                warnings.warn(f"{path} is damaged (rows {start} to {stop - 1}): they are made again.", stacklevel=3)
                damaged.append((start, stop))
                break
    return damaged


def _missing(manifest, n, jobs, most):
    """Row ranges that are yet to be made, small enough to keep every process busy."""
    begin = manifest["shards"][-1]["stop"] if manifest["shards"] else 0
    rows = max(1, min(most, -(-(n - begin) // max(jobs, LEAST_SHARDS))))
    return [(start, min(start + rows, n)) for start in range(begin, n, rows)]


def _make_shards(folder, manifest, ranges, make, inputs, doing, jobs):
    if sum(stop - start for start, stop in ranges) < ROWS_FOR_PROCESSES:
        jobs = 1
    # Each process computes with one thread: together they already use every core.
    settings = {"backend": "loky", "inner_max_num_threads": 1} if jobs > 1 else {"backend": "sequential"}
    with joblib.parallel_config(**settings):
        made = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs")(
            joblib.delayed(_make)(os.getpid(), make, *inputs(np.arange(start, stop))) for start, stop in ranges
        )
        for (start, stop), arrays in zip(ranges, runtime.progress(made, doing, total=len(ranges)), strict=True):
            _write_shard(folder, manifest, start, stop, arrays)


def _make(parent, make, *inputs):
    if os.getpid() != parent:
        _end_with(parent)
    return make(*inputs)


@cache
def _end_with(parent):
    """Watch from a thread of a worker process whether the process that began it still lives, and end when not."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_shard(folder, manifest, start, stop, arrays):
    shard = {"start": start, "stop": stop, "sha256": {}}
    for name, values in arrays.items():
        values = np.ascontiguousarray(values)
        this_kind = {"dtype": values.dtype.str, "row": list(values.shape[1:])}
        kind = manifest["arrays"].setdefault(name, this_kind)
        if kind != this_kind or len(values) != stop - start:
            found = f"{name!r} of rows {start} to {stop - 1} are {values.shape} {values.dtype}"
            raise ValueError(f"{found}: asked are {stop - start} rows of {kind['row']} {kind['dtype']}.")
        shard["sha256"][name] = hashlib.sha256(values).hexdigest()
        path = folder / f"{name}.bin"
        try:
            with open(path, "r+b" if path.exists() else "w+b") as file:
                file.seek(start * _row_bytes(kind))
                file.write(values)
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            raise runtime.disk_full(fault, path) from fault
    others = [old for old in manifest["shards"] if old["start"] != start]
    manifest["shards"] = sorted([*others, shard], key=lambda item: item["start"])
    with runtime.atomic_write(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps({"sha256": _hash(manifest), "manifest": manifest}))


def _row_bytes(kind):
    return np.dtype(kind["dtype"]).itemsize * int(np.prod(kind["row"], dtype=np.int64))
