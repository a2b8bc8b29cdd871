"""The grid: every cell once, whatever is killed; failures are named and stop nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diga_lib import grid, results
from diga_lib.cells import GRIDS, PAIRS, Cell
from diga_lib.metrics import GroupMetrics
from diga_lib.profiles import SIZES

CELLS = [Cell("ERM", *pair, seed=seed, profile="quick") for seed in range(2) for pair in PAIRS[:4]]


def fake(cell: Cell) -> results.Result:
    """A result in no time; the target's name says what is to go wrong."""
    time.sleep(0.05)
    if cell.target == "Big_Nose":
        raise RuntimeError("the nose is too big")
    groups = {"y0s0": 0.5, "y0s1": 0.5, "y1s0": 0.5, "y1s1": 0.5}
    return results.Result.of(GroupMetrics(0.5, 0.5, 0.0, groups), results.Run(1.0, 1.0), **cell.key,
                             fingerprint=cell.fingerprint, extra={"process": os.getpid()})


def keys(path: Path) -> list[tuple]:
    return sorted(tuple(row) for row in results.read(path)[list(results.KEY)].itertuples(index=False))


def expected(cells: list[Cell]) -> list[tuple]:
    return sorted(tuple(cell.key[name] for name in results.KEY) for cell in cells)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "results" / "grid.jsonl"


def test_a_failing_cell_is_named_with_its_configuration_and_stops_nothing(store, capsys):
    failures = grid.run(CELLS, store, fake, jobs=1)
    good = [cell for cell in CELLS if cell.target != "Big_Nose"]
    assert keys(store) == expected(good)
    assert [failure.cell.target for failure in failures] == ["Big_Nose", "Big_Nose"]
    told = capsys.readouterr().err
    assert "the nose is too big" in told and '"target": "Big_Nose"' in told and "Traceback" in told
    # Again: what is there is not computed again, what failed is tried again.
    before = store.read_bytes()
    assert len(grid.run(CELLS, store, fake, jobs=1)) == 2 and store.read_bytes() == before
