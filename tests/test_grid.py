"""The grid: every cell once, whatever is killed; failures are named and stop nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from diga_lib.metrics import GroupMetrics
from diga_lib.pages.profiles import SIZES
from diga_lib.studies import grid, results
from diga_lib.studies.cells import GRIDS, PAIRS, Cell
from diga_lib.studies.experiments import TABLE

CELLS = [Cell("ERM", *pair, seed=seed, profile="quick") for seed in range(2) for pair in PAIRS[:4]]


def fake(cell: Cell) -> results.Result:
    """A result in no time; the target's name says what is to go wrong."""
    time.sleep(0.05)
    if cell.target == "Big_Nose":
        raise RuntimeError("the nose is too big")
    groups = {"y0s0": 0.5, "y0s1": 0.5, "y1s0": 0.5, "y1s1": 0.5}
    return results.Result.of(
        GroupMetrics(0.5, 0.5, 0.0, groups),
        results.Run(1.0, 1.0),
        **cell.key,
        fingerprint=cell.fingerprint,
        extra={"process": os.getpid()},
    )


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


def test_a_renewed_grid_computes_what_older_code_has_made_and_the_last_line_counts(store):
    cells = CELLS[:2]
    old = fake(cells[0]).model_copy(update={"fingerprint": "older"})
    results.append(store, old)
    grid.run(cells, store, fake, jobs=1)
    assert len(results.read(store)) == 2  # without being asked to, it leaves the old one
    grid.run(cells, store, fake, jobs=1, renew=True)
    frame = results.read(store)
    assert frame["fingerprint"].tolist().count("older") == 1 and len(frame) == 3
    latest = results.latest(frame)
    assert sorted(latest["fingerprint"]) == sorted(cell.fingerprint for cell in cells)


def test_the_command_says_what_failed_by_its_exit_code_and_what_is_valid(store, monkeypatch):
    monkeypatch.setattr(grid, "compute", fake)
    monkeypatch.setitem(GRIDS, "search", lambda profile, **chosen: CELLS[:2])
    grid.main(["search", "--jobs", "1", "--output", str(store)])
    monkeypatch.setitem(GRIDS, "search", lambda profile, **chosen: CELLS[:3])
    with pytest.raises(SystemExit) as stop:
        grid.main(["search", "--jobs", "1", "--output", str(store)])
    assert stop.value.code == 1 and keys(store) == expected(CELLS[:2])
    for bad in (["nothing"], ["search", "--pairs", "Smiling/Smiling"], ["search", "--methods", "Magic"]):
        with pytest.raises(SystemExit) as stop:
            grid.main(bad)
        assert stop.value.code == 2


SCRIPT = """
import sys, time
from pathlib import Path
from tests.test_grid import CELLS, fake
from diga_lib.studies import grid

def slow(cell):
    time.sleep(0.4)
    return fake(cell)

if __name__ == "__main__":
    grid.run([cell for cell in CELLS if cell.target != "Big_Nose"], Path(sys.argv[1]), slow, jobs=2)
"""


def start(tmp_path, store):
    script = tmp_path / "grid_script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), str(store)],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.filterwarnings("ignore:.*is torn")
def test_two_grids_on_one_store_and_a_kill_make_every_cell_once(store, tmp_path):
    good = [cell for cell in CELLS if cell.target != "Big_Nose"]
    first, second = start(tmp_path, store), start(tmp_path, store)
    deadline = time.monotonic() + 120
    while not (store.exists() and len(results.read(store)) >= 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)  # the grid and its worker processes, without a chance to tidy up
    first.wait()
    there = keys(store)
    assert second.wait(120) == 0
    assert set(there) <= set(keys(store)) and keys(store) == expected(good)
    third = start(tmp_path, store)
    assert third.wait(120) == 0 and keys(store) == expected(good)
    for process in (first, second, third):
        process.stdout.close()


def worker_killed_once(cell: Cell) -> results.Result:
    """Like `fake`, but the first process that gets to the third cell is killed by the system."""
    mark = Path(os.environ["KILL_ONCE"])
    if cell == CELLS[4] and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return fake(cell)


def test_a_local_worker_that_is_killed_is_replaced(store, tmp_path, monkeypatch):
    monkeypatch.setenv("KILL_ONCE", str(tmp_path / "killed"))
    get_reusable_executor().shutdown(wait=True)  # workers that other tests left have their own environment
    good = [cell for cell in CELLS if cell.target != "Big_Nose"]
    assert grid.run(good, store, worker_killed_once, jobs=2) == []
    assert (tmp_path / "killed").exists() and keys(store) == expected(good)


def test_dask_finishes_every_cell_once_though_a_worker_is_killed_in_mid_run(store, tmp_path, monkeypatch):
    from dask.distributed import LocalCluster

    monkeypatch.setenv("KILL_ONCE", str(tmp_path / "killed"))
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        failures = grid.run(CELLS, store, worker_killed_once, address=cluster.scheduler_address)
    good = [cell for cell in CELLS if cell.target != "Big_Nose"]
    assert (tmp_path / "killed").exists()
    assert keys(store) == expected(good)
    assert {failure.cell.target for failure in failures} == {"Big_Nose"}
    assert len(set(json.dumps(extra) for extra in results.read(store)["extra"])) >= 2, "both workers took part"


def test_cells_are_in_order_and_differ(monkeypatch):
    table = GRIDS["classification"]()
    seeds = SIZES["table"].seeds
    rows = len(TABLE) - 1  # DiGA as published has one seed
    assert len(table) == len({json.dumps(cell.key) for cell in table}) == 9 * rows * seeds + 9
    first = [cell for cell in table if cell.row != "DiGABYOL"]
    assert [cell.seed for cell in first] == sorted(cell.seed for cell in first)
    assert {(cell.target, cell.spurious) for cell in first[: 9 * rows]} == set(PAIRS)
    for name in ("search", "bias_sweep", "strengths"):
        cells = GRIDS[name]()
        assert len(cells) == len({json.dumps(cell.key) for cell in cells}) > 0
    trials = [cell.row for cell in GRIDS["search"]()]
    assert {trials.count(row) for row in trials} == {4}, "every method has as many trials"
    assert all(cell.pool_seed != table[0].pool_seed for cell in GRIDS["search"]())
