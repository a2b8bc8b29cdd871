"""The runner: every cell once, whatever is killed; failures are named and stop nothing."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from diga_lib.metrics import GroupMetrics
from diga_lib.studies import __main__ as command
from diga_lib.studies import runner, store
from diga_lib.studies.grids import PAIRS, Cell

ROOT = Path(__file__).resolve().parents[2]
CELLS = [Cell("erm", *pair, seed=seed, profile="quick") for seed in range(2) for pair in PAIRS[:4]]
GOOD = [cell for cell in CELLS if cell.target != "Big_Nose"]


def fake(cell: Cell) -> store.Result:
    """A result in no time; the target's name says what is to go wrong."""
    time.sleep(0.05)
    if cell.target == "Big_Nose":
        raise RuntimeError("the nose is too big")
    metrics = GroupMetrics(0.5, 0.5, 0.0, dict.fromkeys(("y0s0", "y0s1", "y1s0", "y1s1"), 0.5))
    more = {"method": "ERM", "version": cell.version, "seconds": 1.0, "peak_memory_mb": 1.0}
    return store.Result(**asdict(metrics), **cell.key, **more, extra={"process": os.getpid()})


def keys(path: Path) -> list[tuple]:
    return sorted(tuple(row) for row in store.read(path)[list(store.Result.KEY)].itertuples(index=False))


def expected(cells: list[Cell]) -> list[tuple]:
    return sorted(tuple(cell.key[name] for name in store.Result.KEY) for cell in cells)


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "results" / "grid.jsonl"


def test_a_failing_cell_is_named_with_its_configuration_and_stops_nothing(output, capsys):
    failures = runner.run(CELLS, output, fake, jobs=1)
    assert keys(output) == expected(GOOD)
    assert [failure.cell.target for failure in failures] == ["Big_Nose", "Big_Nose"]
    told = capsys.readouterr().err
    assert "the nose is too big" in told and '"target": "Big_Nose"' in told and "Traceback" in told
    # Again: what is there is not computed again, what failed is tried again.
    before = output.read_bytes()
    assert len(runner.run(CELLS, output, fake, jobs=1)) == 2 and output.read_bytes() == before


def test_what_an_older_version_or_another_configuration_has_made_is_renewed(output, capsys):
    cells = CELLS[:2]
    store.append(output, fake(cells[0]).model_copy(update={"version": 0}))
    store.append(output, fake(cells[1]).model_copy(update={"extra": {"cell": {"changes": '{"lr": 1}'}}}))
    runner.run(cells, output, fake, jobs=1)
    assert len(store.read(output)) == 2  # without being asked to, it leaves the old ones, and says so
    assert [int(word) for word in re.findall(r"\d+", capsys.readouterr().out)] == [0, 2, 2]
    runner.run(cells, output, fake, jobs=1, renew=True)
    runner.run(cells, output, fake, jobs=1, renew=True)
    frame = store.read(output)
    assert len(frame) == 4 and len(store.kept(output)) == 2
    assert all(store.kept(output)["version"] == cells[0].version)


@pytest.fixture
def study(monkeypatch):
    """A study of fake cells in the place of the search."""
    made = runner.Study("search", lambda seeds=(0, 1): [c for c in GOOD if c.seed in seeds], fake)
    monkeypatch.setitem(command.STUDIES, "search", made)
    return made


def test_the_command_runs_a_study_and_says_by_its_exit_code_what_failed(output, study, monkeypatch):
    command.main(["search", "--jobs", "1", "--output", str(output), "--seeds", "1"])
    assert keys(output) == expected([cell for cell in GOOD if cell.seed == 1])
    monkeypatch.setitem(command.STUDIES, "search", replace(study, cells=lambda: CELLS[:3]))
    with pytest.raises(SystemExit) as stop:
        command.main(["search", "--jobs", "1", "--output", str(output)])
    assert stop.value.code == 1


WRONG = {
    "no such study": (["nothing"], "invalid choice: 'nothing'"),
    "an option of another study": (["beyond_faces", "--pairs", "Smiling/Male"], "does not take --pairs"),
    "no pair": (["classification", "--pairs", "Smiling"], "is not a pair"),
    "a pair that is in no table": (["classification", "--pairs", "Smiling/Smiling"], "is not a pair of the table"),
    "no such row": (["classification", "--rows", "magic"], "There is no row 'magic'"),
    "no such profile": (["classification", "--profile", "nope"], "invalid choice: 'nope'"),
    "no folder of photographs": (["real_photos"], "real_photos needs --data"),
    "a folder without photographs": (["real_photos", "--data", "."], "holds none of celeba"),
    "no jobs": (["classification", "--jobs", "0"], "--jobs is 0"),
    "an output that is a folder": (["classification", "--output", "."], "--output is ., which is a folder"),
    "an output below a file": (["classification", "--output", "/dev/null/x.jsonl"], "/dev/null"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_usage_ends_with_a_sentence_and_exit_code_two(what, capsys):
    arguments, words = WRONG[what]
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_a_damaged_store_ends_with_a_sentence(output, study, capsys):
    output.parent.mkdir(parents=True)
    output.write_text("{}\n")
    with pytest.raises(SystemExit) as stop:
        command.main(["search", "--jobs", "1", "--output", str(output)])
    assert stop.value.code == 2 and "line 1 is not a result" in capsys.readouterr().err


def test_every_study_has_cells_that_differ_and_results_of_its_own():
    for study in command.STUDIES.values():
        if "data" in inspect.signature(study.cells).parameters:
            continue  # it needs photographs
        cells = study.cells()
        assert len(cells) == len({json.dumps(cell.key) for cell in cells}) > 0, study.name
        assert all(set(cell.key) <= set(cell.record.model_fields) for cell in cells)


def test_the_readme_names_every_study():
    text = (Path(command.__file__).parents[2] / "README.md").read_text()
    assert [name for name in command.STUDIES if f"`{name}`" not in text] == []


SCRIPT = """
import sys, time
from pathlib import Path
from tests.studies.test_runner import GOOD, fake
from diga_lib.studies import runner

def slow(cell):
    time.sleep(0.4)
    return fake(cell)

if __name__ == "__main__":
    runner.run(GOOD, Path(sys.argv[1]), slow, jobs=2)
"""


def start(tmp_path, output):
    script = tmp_path / "grid_script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = {"stdout": subprocess.DEVNULL, "cwd": ROOT, "env": environment, "start_new_session": True}
    return subprocess.Popen([sys.executable, str(script), str(output)], **told)


@pytest.mark.filterwarnings("ignore:.*is torn")
def test_two_runs_on_one_store_and_a_kill_make_every_cell_once(output, tmp_path):
    first, second = start(tmp_path, output), start(tmp_path, output)
    deadline = time.monotonic() + 300
    while not (output.exists() and len(store.read(output)) >= 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)  # the run and its worker processes, without a chance to tidy up
    first.wait()
    there = keys(output)
    assert second.wait(300) == 0
    assert set(there) <= set(keys(output)) and keys(output) == expected(GOOD)
    third = start(tmp_path, output)
    assert third.wait(300) == 0 and keys(output) == expected(GOOD)


def worker_killed_once(cell: Cell) -> store.Result:
    """Like `fake`, but the first process that gets to the third cell is killed by the system."""
    mark = Path(os.environ["KILL_ONCE"])
    if cell == CELLS[4] and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return fake(cell)


def test_a_local_worker_that_is_killed_is_replaced(output, tmp_path, monkeypatch):
    monkeypatch.setenv("KILL_ONCE", str(tmp_path / "killed"))
    get_reusable_executor().shutdown(wait=True)  # workers that other tests left have their own environment
    assert runner.run(GOOD, output, worker_killed_once, jobs=2) == []
    assert (tmp_path / "killed").exists() and keys(output) == expected(GOOD)


def test_dask_finishes_every_cell_once_though_a_worker_is_killed_in_mid_run(output, tmp_path, monkeypatch):
    from dask.distributed import LocalCluster

    monkeypatch.setenv("KILL_ONCE", str(tmp_path / "killed"))
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        failures = runner.run(CELLS, output, worker_killed_once, address=cluster.scheduler_address)
    assert (tmp_path / "killed").exists()
    assert keys(output) == expected(GOOD)
    assert {failure.cell.target for failure in failures} == {"Big_Nose"}
    assert len({json.dumps(extra) for extra in store.read(output)["extra"]}) >= 2, "both workers took part"
