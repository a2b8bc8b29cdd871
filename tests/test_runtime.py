"""Device, precision, seeds, threads, whole files and provenance."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diga_lib import runtime


def test_device():
    assert runtime.device("cpu") == torch.device("cpu")
    assert runtime.device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="valid are auto, cpu"):
        runtime.device("tpu")


def test_autocast_computes_in_the_precision_asked_for():
    x = torch.randn(64, 64)
    exact = (x.double() @ x.double()).float()
    on = torch.device("cpu")
    with runtime.autocast(on, "fp32"):
        assert (x @ x).dtype == torch.float32
    with runtime.autocast(on, "bf16"):
        product = x @ x
    assert product.dtype == torch.bfloat16
    # bfloat16 has 8 bits of mantissa: relative rounding errors of 2^-9 each way, summed over 64 products.
    assert (product.float() - exact).abs().max() < 0.05 * exact.abs().max()
    with runtime.autocast(on):
        expected = torch.bfloat16 if runtime.has_fast_bf16(on) else torch.float32
        assert (x @ x).dtype == expected
    with pytest.raises(ValueError, match="auto, fp32, bf16"):
        runtime.autocast(on, "fp8")


def test_bf16_is_chosen_only_on_hardware_that_has_it():
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    assert runtime.has_fast_bf16(torch.device("cpu")) == ("amx_tile" in flags or "avx512_bf16" in flags)


def test_the_same_seed_gives_the_same_numbers():
    def draws(seed):
        runtime.seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()

    first, again, other = draws(3), draws(3), draws(4)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_peak_memory_sees_a_large_array():
    # A child starts with its parent's peak on Linux, so the array is made larger than whatever came before.
    code = (
        "from diga_lib import runtime; import numpy as np; before = runtime.peak_memory_mb();"
        "np.ones(int((before + 500) * 125_000)); print(before, runtime.peak_memory_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before + 450 < after < 2 * before + 600  # the array, and at most what was held beside it


def test_versions_are_those_imported():
    versions = runtime.versions()
    assert versions["numpy"] == np.__version__
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit_of_a_repository_and_of_a_copy_in_somebody_elses(tmp_path):
    source = Path(runtime.__file__).parent
    package = tmp_path / "diga_lib"
    package.mkdir()
    for name in ("__init__.py", "runtime.py"):
        (package / name).write_bytes((source / name).read_bytes())

    def commit() -> str:
        code = "from diga_lib import runtime; print(runtime.commit())"
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    git(tmp_path, "init", "-q")
    (tmp_path / "mine.txt").write_text("not diga_lib")
    git(tmp_path, "add", "mine.txt")
    git(tmp_path, "commit", "-qm", "mine")
    assert commit() == "v0.1.0"  # diga_lib is not theirs to name
    git(tmp_path, "add", "diga_lib")
    git(tmp_path, "commit", "-qm", "diga_lib")
    head = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit() == head
    with open(package / "runtime.py", "a") as file:
        file.write("# changed\n")
    assert commit() == f"{head}-modified"


def test_atomic_write_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "folder" / "table.npy"
    with runtime.atomic_write(path) as temporary:
        np.save(temporary, np.arange(3))
        assert not path.exists()
    assert np.load(path).tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError), runtime.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert np.load(path).tolist() == [0, 1, 2]
    assert os.listdir(path.parent) == ["table.npy"]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")  # the standard's own example, FIPS 180-2
    assert runtime.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert runtime.sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "a"))
    assert runtime.cache_folder("faces") == tmp_path / "a" / "faces"
    assert (tmp_path / "a" / "faces").is_dir()
    monkeypatch.delenv("DIGA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert runtime.cache_folder() == tmp_path / "b" / "diga"


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x", "/proc/nothing", "~nosuchuser/x", "x" * 300, "/dev/null"):
        monkeypatch.setenv("DIGA_CACHE", str(place))
        with pytest.raises(ValueError, match="DIGA_CACHE") as said:
            runtime.cache_folder("faces")
        assert str(place) in str(said.value) and "\n" not in str(said.value)


def test_an_output_that_cannot_be_written_is_known_before_any_work(tmp_path):
    assert runtime.check_output(tmp_path / "a" / "x.npy") == tmp_path / "a" / "x.npy"
    with pytest.raises(ValueError, match="--output is .*, which is a folder"):
        runtime.check_output(tmp_path)
    for place in ("/proc/x.npy", "~nosuchuser/x.npy", "/dev/null/x.npy", f"{'x' * 5000}/x.npy"):
        with pytest.raises(ValueError, match="--output is .*, which cannot be written"):
            runtime.check_output(place)


def test_progress_passes_everything_through_and_is_silent_in_a_log(capfd):
    assert list(runtime.progress(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert capfd.readouterr().err == ""
