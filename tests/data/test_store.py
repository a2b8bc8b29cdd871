"""The store against what it promises: same rows, made once, remade where damaged, whole after a kill."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diga_lib.data import store

IDENTITY = {"name": "numbers", "seed": 1, "resolution": 4}


def truth(rows):
    return {
        "images": np.stack([np.full((3, 4, 4), row % 251, np.uint8) for row in rows]),
        "factors": np.stack([np.array([row, row**0.5], np.float32) for row in rows]),
    }


class Maker:
    """Makes rows and remembers which."""

    def __init__(self):
        self.made = []

    def __call__(self, rows):
        self.made += rows.tolist()
        return truth(rows)


def assert_whole(arrays, n):
    for name, values in truth(range(n)).items():
        assert arrays[name].dtype == values.dtype and (arrays[name] == values).all()


def test_rows_are_made_once_and_fewer_and_more_share_them():
    make = Maker()
    assert_whole(store.open_store(IDENTITY, 50, make), 50)
    assert sorted(make.made) == list(range(50))
    assert_whole(store.open_store(IDENTITY, 20, make), 20)
    assert_whole(store.open_store(IDENTITY, 80, make), 80)
    assert sorted(make.made) == list(range(80))
    store.open_store(IDENTITY | {"seed": 2}, 10, make)
    assert len(make.made) == 90


def test_maps_are_read_only():
    arrays = store.open_store(IDENTITY, 5, Maker())
    with pytest.raises(ValueError, match="read-only"):
        arrays["images"][0] = 0


@pytest.mark.parametrize("name", ["images", "factors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_named_and_mended(name, damage):
    store.open_store(IDENTITY, 64, Maker())
    path = store.store_folder(IDENTITY) / f"{name}.bin"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-3])
    else:
        path.unlink()
    make = Maker()
    with pytest.warns(UserWarning, match=f"{name}.bin is damaged"):
        arrays = store.open_store(IDENTITY, 64, make)
    assert_whole(arrays, 64)
    assert len(make.made) == (64 if damage == "delete" else 8)  # only the damaged shard
    assert_whole(store.open_store(IDENTITY, 64, make), 64)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: "[]",
        lambda text: '{"sha256": 1, "manifest": 2}',
        lambda text: text.replace('"stop": 2', '"stop": 1'),
        lambda text: text.replace("|u1", "|u2"),
    ],
)
def test_a_damaged_manifest_is_named_and_remade(damage):
    store.open_store(IDENTITY, 12, Maker())
    path = store.store_folder(IDENTITY) / "manifest.json"
    text = path.read_text()
    path.write_text(damage(text))
    with pytest.warns(UserWarning, match="manifest.json is damaged"):
        assert_whole(store.open_store(IDENTITY, 12, Maker()), 12)
    assert path.read_text() == text


def test_a_failing_maker_leaves_what_was_finished():
    def failing(rows):
        if rows[0] >= 30:
            raise RuntimeError("no more")
        return truth(rows)

    with pytest.raises(RuntimeError, match="no more"):
        store.open_store(IDENTITY, 80, failing)
    make = Maker()
    assert_whole(store.open_store(IDENTITY, 80, make), 80)
    assert sorted(make.made) == list(range(30, 80))


def test_several_processes_make_the_same_rows():
    assert_whole(store.open_store(IDENTITY, store.ROWS_FOR_PROCESSES, truth, jobs=2), store.ROWS_FOR_PROCESSES)


SLOW = """
import sys, time
sys.path.insert(0, {here!r})
from test_store import IDENTITY, store, truth
def slow(rows):
    time.sleep(0.05)
    return truth(rows)
store.open_store(IDENTITY, 400, slow)
"""


def test_kill_at_random_points_loses_nothing_finished(cache):
    rng, finished = np.random.default_rng(0), []
    manifest = store.store_folder(IDENTITY) / "manifest.json"
    code = SLOW.format(here=str(Path(__file__).parent))
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.getcwd()})
        before = manifest.read_text() if manifest.exists() else None
        while process.poll() is None and (not manifest.exists() or manifest.read_text() == before):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished.append(json.loads(manifest.read_text())["manifest"]["shards"][-1]["stop"])
    assert finished == sorted(finished) and finished[0] > 0
    make = Maker()
    assert_whole(store.open_store(IDENTITY, 400, make), 400)
    assert sorted(make.made) == list(range(finished[-1], 400))


def _open(queue):
    make = Maker()
    arrays = store.open_store(IDENTITY, 100, lambda rows: time.sleep(0.01) or make(rows))
    queue.put((len(make.made), int(arrays["images"][:, 0, 0, 0].sum())))


def test_two_processes_at_once_make_it_once():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_open, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(made for made, _ in results) == [0, 100]
    assert {total for _, total in results} == {sum(range(100))}
