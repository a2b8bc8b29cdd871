"""Results on disk: written whole, read back, safe under several processes and after a kill."""

import json
import math
import multiprocessing
import time
from dataclasses import asdict

import numpy as np
import pytest

from diga_lib.metrics import group_metrics, mean_and_interval
from diga_lib.pages.plots import formatted, older, summary
from diga_lib.studies.store import Result, append, kept, line_of, read, timed_run

FIELDS = {
    "method": "ERM",
    "row": "erm",
    "target": "Smiling",
    "spurious": "Male",
    "bias": 1 / 9,
    "seed": 0,
    "profile": "quick",
    "version": 1,
}


def result(**changes):
    values = {"accuracy": 0.8, "worst_group": 0.5, "equalized_odds": 0.3, "groups": {"y0s0": 0.9}, "seconds": 1.0}
    values |= {"peak_memory_mb": 2.0, "commit": "abc", "versions": {"torch": "2"}}
    return Result(**(FIELDS | values | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tables" / "fair_training.jsonl"


def test_what_is_appended_is_read_back(path):
    metrics = group_metrics([0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1])
    first = Result(**asdict(metrics), seconds=1.5, peak_memory_mb=300.0, **FIELDS, extra={"strength": np.float32(0.5)})
    append(path, first)
    append(path, result(seed=1, variant="naïve"))
    frame = read(path)
    assert frame.seed.tolist() == [0, 1] and frame.variant.tolist() == ["", "naïve"]
    assert frame.bias[0] == 1 / 9 and frame.groups[0] == {"y0s0": 1, "y0s1": 0, "y1s0": 1, "y1s1": 1}
    assert frame.extra[0] == {"strength": 0.5} and frame.versions[0]["torch"]
    assert [json.loads(line)["method"] for line in path.read_text().splitlines()] == ["ERM", "ERM"]


def test_nan_and_other_bad_values_are_never_written(path):
    for bad in (
        {"accuracy": math.nan},
        {"worst_group": 1.2},
        {"groups": {"y0s0": math.nan}},
        {"seconds": math.inf},
        {"bias": 0},
        {"profile": "fast"},
        {"colour": "red"},
    ):
        with pytest.raises(ValueError):
            result(**bad)
    for bad in ({"loss": math.nan}, {"loss": [1, {"deep": math.inf}]}, {"model": object()}):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            append(path, result(extra=bad))
    assert not path.exists()


def test_a_torn_last_line_is_named_ignored_and_removed(path):
    append(path, result())
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(whole[:40])
    with pytest.warns(UserWarning, match=r"fair_training.jsonl, line 2 is torn"):
        assert len(read(path)) == 1
    with pytest.warns(UserWarning, match="line 2 is torn"):
        append(path, result(seed=1))
    assert read(path).seed.tolist() == [0, 1]


def test_a_whole_last_line_without_line_end_is_kept(path):
    append(path, result())
    path.write_bytes(path.read_bytes().rstrip())
    append(path, result(seed=1))
    assert read(path).seed.tolist() == [0, 1]


def test_a_spoiled_line_in_the_middle_is_an_error_with_its_number(path):
    append(path, result())
    path.write_bytes(path.read_bytes() + line_of({"version": 1, "method": "ERM"}) + b"\n")
    append(path, result())
    with pytest.raises(ValueError, match="line 2 is not a result: row: Field required"):
        read(path)


def test_every_flipped_digit_is_seen(path):
    append(path, result())
    append(path, result(seed=1, accuracy=0.123))
    whole = path.read_bytes()
    for at in [k for k, byte in enumerate(whole) if chr(byte).isdigit()]:
        path.write_bytes(whole[:at] + b"%d" % (9 - int(whole[at : at + 1])) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"line [12] is not (a result|what was written)"):
            read(path)


def test_a_last_line_that_is_json_is_never_removed(path):
    append(path, result())
    more = line_of(result(seed=1).model_dump() | {"colour": "red"})  # by a newer version, and without its line end
    path.write_bytes(path.read_bytes() + more)
    append(path, result(seed=2))
    assert len(path.read_bytes().splitlines()) == 3
    with pytest.raises(ValueError, match="line 2 is not a result: colour"):
        read(path)


def test_missing_file_and_empty_file(path):
    with pytest.raises(FileNotFoundError, match="There are no results at"):
        read(path)
    path.parent.mkdir()
    path.touch()
    assert read(path).empty and "accuracy" in read(path)


def write(path, method, runs):
    for seed in range(runs):
        append(path, result(method=method, seed=seed, extra={"filler": "x" * 5000}))


@pytest.mark.filterwarnings("ignore:.*is torn")
def test_two_processes_and_a_kill_spoil_nothing(path):
    processes = multiprocessing.get_context("fork")  # the children share the imports, which take seconds
    writers = [
        processes.Process(target=write, args=(path, name, runs))
        for name, runs in [("one", 30), ("two", 30), ("killed", 1_000_000)]
    ]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 60
    while not path.exists() or "killed" not in set(read(path).method):
        assert time.monotonic() < deadline
    writers[2].kill()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, -9]
    append(path, result(method="after"))
    frame = read(path)
    for name in ("one", "two"):
        assert frame[frame.method == name].seed.tolist() == list(range(30))
    killed = frame[frame.method == "killed"].seed.tolist()
    assert killed == list(range(len(killed))) and frame.method.iloc[-1] == "after"


def test_summary_is_the_mean_and_interval_of_each_method(path):
    values = {"erm": [0.80, 0.84, 0.85], "jtt": [0.9]}
    for row, accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            append(path, result(row=row, seed=seed, accuracy=accuracy))
    append(path, result(row="erm", seed=0, accuracy=0.80))  # again: the newest counts, once
    table = summary(kept(path))
    assert table.index.tolist() == ["jtt", "erm"] or table.index.tolist() == ["erm", "jtt"]
    assert table["accuracy"].loc["erm"].to_numpy().ravel() == pytest.approx(mean_and_interval(values["erm"]))
    table = table.loc[["erm", "jtt"]]
    assert table["runs", "count"].tolist() == [3, 1]
    text = formatted(table)
    assert text.accuracy.tolist() == ["0.830 ± 0.066", "0.900"]
    assert text.columns.tolist() == ["accuracy", "worst_group", "equalized_odds"]


def test_timed_run_measures_seconds_and_memory():
    with timed_run() as small:
        time.sleep(0.1)
    with timed_run() as large:
        np.ones(40_000_000).sum()  # 320 MB
    assert 0.1 <= small["seconds"] < 1
    assert large["peak_memory_mb"] - small["peak_memory_mb"] > 250


def test_older_runs_are_told_in_a_sentence():
    assert older(0, 9, "search") == ""
    assert "2 of these 9 runs" in older(2, 9, "search") and "`python -m diga_lib.studies search --renew`" in older(
        2, 9, "search"
    )
