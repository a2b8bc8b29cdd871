"""What every run needs and no method should care about: device, precision, seeds, files, provenance."""

import contextlib
import errno
import hashlib
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from tqdm.auto import tqdm

import diga_lib

PRECISIONS = ("auto", "fp32", "bf16")


def device(name: str = "auto") -> torch.device:
    """Return the device to compute on: "cpu", "cuda", "mps" or, for "auto", the accelerator if the machine has one."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [kind for kind, is_there in there.items() if is_there]
    if name not in ("auto", *available):
        raise ValueError(f"device {name!r} is not available here; valid are auto, {', '.join(available)}")
    return torch.device(available[-1] if name == "auto" else name)


def has_fast_bf16(on: torch.device) -> bool:
    """Tell whether bfloat16 products are computed by hardware on this device (else fp32 is faster)."""
    if on.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return on.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(on: torch.device | None = None, precision: str = "auto") -> torch.autocast:
    """Return the context in which networks run on a device (``device()`` by default).

    "auto" computes products in bfloat16 where the hardware has it. Parameters and losses stay in fp32, so that training
    ends where fp32 training does.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; valid are {', '.join(PRECISIONS)}")
    on = on or device()
    enabled = precision == "bf16" or (precision == "auto" and has_fast_bf16(on))
    return torch.autocast(on.type, dtype=torch.bfloat16, enabled=enabled)


def in_batches(step: Callable, *arrays, size: int = 512) -> torch.Tensor:
    """Join what `step` gives for so many rows of one or several arrays (N, ...) at a time; N is at least 1."""
    starts = range(0, len(arrays[0]), size)
    return torch.cat([step(*(rows[start : start + size] for rows in arrays)) for start in starts])


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    # Linux; elsewhere nothing restricts a process to some cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Return the most memory that this process has held at once since it began, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, KiB elsewhere


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, by name: Python's and those of the packages that compute."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "fairlearn")
    own = {"python": platform.python_version(), "diga_lib": diga_lib.__version__}
    return own | {name: metadata.version(name) for name in packages}


def commit() -> str:
    """Return the git commit of this code, with "-modified" if diga_lib differs from it.

    Where the code is not in a git repository of its own (an installed package), the version, as "v0.1.0".
    """

    def git(*arguments: str) -> str | None:
        if shutil.which("git") is None:
            return None
        folder = Path(diga_lib.__file__).resolve().parent
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    # A package installed inside somebody's repository must not be given that repository's commit.
    head = git("rev-parse", "HEAD") if git("ls-files", "--error-unmatch", "__init__.py") else None
    if head is None:
        return f"v{diga_lib.__version__}"
    return f"{head[:12]}-modified" if git("status", "--porcelain", "--", ".") else head[:12]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `path`, on error it is removed.

    A reader sees the old file or the whole new one, never a part, even if the process is killed or the disk full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder: os.replace is atomic only within a file system. Same suffix: numpy.save would add its own.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except (OSError, SafetensorError) as fault:
        raise disk_full(fault, path) from fault
    finally:
        temporary.unlink(missing_ok=True)


def disk_full(fault: Exception, path: str | os.PathLike) -> Exception:
    """Return the error with a sentence that names the file, if it says that there is no room; else as it is."""
    said = re.search(r"os error (\d+)", str(fault))  # safetensors puts the system's number into words
    number = getattr(fault, "errno", None) or (int(said[1]) if said else None)
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return fault
    return OSError(number, f"{path} could not be written, is the disk full? What was finished before is kept")


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(*parts: str) -> Path:
    """Return the folder for made data, created if need be; `parts` name a folder inside it.

    It is DIGA_CACHE in the environment, else "diga" in the user's cache folder (XDG_CACHE_HOME or ~/.cache).
    """
    folder = os.environ.get("DIGA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "diga")
    said = f"Made data cannot be kept in {folder}: set the variable DIGA_CACHE to a folder that can be written"
    return _writable(Path(folder, *parts), said)


def check_output(file: str | os.PathLike) -> Path:
    """Return the path of a file that can be written; if it cannot, raise a ValueError about --output."""
    file = Path(file)
    if os.path.isdir(os.path.expanduser(file)):
        raise ValueError(f"--output is {file}, which is a folder: valid is the name of a file.")
    return _writable(file.parent, f"--output is {str(file)[:200]}, which cannot be written") / file.name


def _writable(folder: Path, said: str) -> Path:
    """Return a folder, made if need be; if nothing can be written there, raise a ValueError that begins with `said`."""
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as fault:  # RuntimeError: a home that nobody has
        raise ValueError(f"{said} ({getattr(fault, 'strerror', None) or fault}).") from fault


def progress(steps: Iterable, description: str, total: int | None = None) -> tqdm:
    """Wrap an iterable in a progress bar that vanishes when done; in a log or an executed page there is none."""
    watched = sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("DIGA_UNATTENDED"))
    return tqdm(steps, desc=description, total=total, leave=False, disable=not watched)
