"""Processes that are really killed, disks that are really full, files that are really damaged: nothing is lost."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from safetensors.torch import load as read_tensors

from diga_lib import data, latent, runtime
from diga_lib.data import store
from diga_lib.latent.perceptual import FactorNetwork
from diga_lib.latent.training import Training
from diga_lib.studies import store as results

ROOT = Path(__file__).resolve().parent.parent
fork = multiprocessing.get_context("fork")  # starts at once, and is killed like any other process


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def killed(work, *arguments, when):
    """Run `work` in a process of its own and kill -9 it a moment after `when()` has become true."""
    process = fork.Process(target=work, args=arguments)
    process.start()
    deadline = time.monotonic() + 60
    while process.is_alive() and not when():
        assert time.monotonic() < deadline, "it never came to the point at which it is to be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed"


# ------------------------------------------------------------------------------------------------ making of data
def children(of):
    """Process numbers of the living processes that a process began, and of those that they began."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True).stdout.split()
    parent = {int(pid): int(ppid) for pid, ppid, stat in zip(*[iter(found)] * 3, strict=True) if stat[0] != "Z"}
    direct = [pid for pid, ppid in parent.items() if ppid == of]
    return direct + [below for pid in direct for below in children(pid)]


def living(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()]


def test_reading_in_several_processes_survives_a_kill_and_leaves_none_behind(tmp_path, cache, draw_celeba, monkeypatch):
    tree = draw_celeba(tmp_path / "tree", 60, 3)
    code = (
        "from diga_lib.data import store; from diga_lib.data.photos import layouts, reading\n"
        "store.ROWS_FOR_PROCESSES, store.LEAST_SHARDS = 2, 30\n"
        f"reading.read(layouts.celeba({str(tree)!r}), None, 64, True, 'error', jobs=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 300
    while process.poll() is None and not list(cache.rglob("manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()  # the reader alone, as the system does when memory is short
    process.wait()
    while living(workers):
        assert time.monotonic() < deadline, "workers went on without the process that began them"
        time.sleep(0.05)
    again = np.array(data.load("celeba", root=tree).images)
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "another"))
    assert (again == data.load("celeba", root=tree).images).all()


# ------------------------------------------------------------------------------------------ training of a generator
def tensors(file):
    """What a file holds, read at once: `load_file` would map a file that is about to be spoiled."""
    return read_tensors(file.read_bytes())


def train(folder, epochs=4):
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), np.uint8)
    torch.manual_seed(1)
    Training(images, FactorNetwork(), folder, epochs=epochs, batch_size=8, seed=4).run()


def test_the_training_of_a_generator_survives_kills(tmp_path):
    """Killed twice at random points, it ends with the weights, to the bit, of one that was left alone."""
    rng, state = np.random.default_rng(0), tmp_path / "parts" / "training.safetensors"
    train(tmp_path / "whole")
    for _ in range(2):
        before = runtime.sha256(state) if state.exists() else None
        pause = rng.random() * 0.05

        def passed_an_epoch(before=before, pause=pause):
            return state.exists() and runtime.sha256(state) != before and (time.sleep(pause) or True)

        killed(train, tmp_path / "parts", when=passed_an_epoch)
    train(tmp_path / "parts")
    whole, parts = tensors(tmp_path / "whole" / "training.safetensors"), tensors(state)
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_state_of_training_is_named_and_made_again(tmp_path, damage):
    state = tmp_path / "training.safetensors"
    train(tmp_path, epochs=1)
    whole = tensors(state)
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content if damage == "flip" else content[:1000])
    with pytest.warns(UserWarning, match="training.safetensors is damaged.* The training begins again"):
        train(tmp_path, epochs=1)
    again = tensors(state)
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


# ------------------------------------------------------------------------------------------------ building the book
def test_a_build_survives_a_kill(tmp_path):
    """Two pages are finished and the third is being executed when the build and its kernels are killed."""
    for name in ("notebooks", "book", "diga_lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "requirements.lock").write_text("a==1\n")
    (tmp_path / "book" / "runs.yml").write_text("pages:\n- {page: a}\n- {page: b}\n")
    run = tmp_path / "runs.txt"
    for name, code in {
        "a": "",
        "b": f"import pathlib, time\nif not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
        f"    pathlib.Path({str(tmp_path / 'waiting')!r}).touch()\n    time.sleep(120)\n",
    }.items():
        source = f"{code}\nopen({str(run)!r}, 'a').write({name!r})\nprint('page {name}')"
        cells = [
            nbformat.v4.new_code_cell("profile: str = 'quick'", id="one", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source, id="two"),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'book')!r}); from pathlib import Path\n"
        f"from execution import Executor, plan; root = Path({str(tmp_path)!r})\n"
        "Executor(root / 'executed', root, cores=1).execute(plan('quick', {}, [], root))"
    )

    def build():
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    process = build()
    while process.poll() is None and not (tmp_path / "waiting").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = (tmp_path / "executed" / "a.ipynb").read_bytes()
    assert not (tmp_path / "executed" / "b.ipynb").exists(), "half a page under a whole one's name"
    (tmp_path / "go").touch()
    process = build()
    said = process.communicate()[0]
    assert "a: unchanged" in said and "b: execute (never executed)" in said and "b: done" in said
    assert (tmp_path / "executed" / "a.ipynb").read_bytes() == finished
    page = nbformat.read(tmp_path / "executed" / "b.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text.strip() == "page b" and run.read_text() == "ab"


# ------------------------------------------------------------------------------------------------------- a full disk
IDENTITY = {"name": "numbers", "resolution": 4}


def rows(numbers):
    return {"images": np.stack([np.full((3, 40, 40), number % 251, np.uint8) for number in numbers])}


def write_store(folder):
    store.open_store(IDENTITY, 40, rows)


def write_generator(folder):
    latent.save_file(latent.Generator(32), folder / "mine.safetensors")


def write_training(folder):
    train(folder / "training", epochs=1)


def write_result(folder):
    fields = {
        "method": "ERM",
        "row": "erm",
        "version": 1,
        "target": "Smiling",
        "spurious": "Male",
        "bias": 0.1,
        "accuracy": 0.5,
        "worst_group": 0.5,
        "equalized_odds": 0.5,
        "groups": {},
        "seconds": 1.0,
        "peak_memory_mb": 1.0,
        "profile": "quick",
        "commit": "x",
        "versions": {"x": "y" * 3000},
    }
    for seed in range(8):
        results.append(folder / "results.jsonl", results.Result(seed=seed, **fields))


def with_room_for(size, write, folder, said):
    """Run `write` where no file may grow beyond `size` bytes, as on a full disk; tell what it said."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        write(folder)
        said.put("no error")
    except Exception as fault:  # whatever it is, the test wants to see its sentence
        said.put(f"{type(fault).__name__}: {fault}")


@pytest.mark.parametrize(
    "write, room, name",
    [
        (write_store, 100_000, "images.bin"),
        (write_generator, 100_000, "mine.safetensors"),
        (write_training, 100_000, "training.safetensors"),
        (write_result, 10_000, "results.jsonl"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_full_disk_is_named_and_spoils_nothing(tmp_path, cache, write, room, name):
    said = fork.Queue()
    process = fork.Process(target=with_room_for, args=(room, write, tmp_path, said))
    process.start()
    sentence = said.get(timeout=60)
    process.join()
    assert name in sentence and "is the disk full?" in sentence and "\n" not in sentence, sentence
    assert not list(tmp_path.rglob(".*-*")), "half a file is left behind"
    if write is write_result:
        kept = results.read(tmp_path / "results.jsonl")["seed"].tolist()
        assert 0 < len(kept) < 8 and kept == list(range(len(kept)))
    write(tmp_path)  # there is room again
    if write is write_store:
        assert (store.open_store(IDENTITY, 40, rows)["images"] == rows(range(40))["images"]).all()
    if write is write_generator:
        assert latent.load_file(tmp_path / "mine.safetensors").resolution == 32
