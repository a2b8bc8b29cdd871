"""Execute notebooks with papermill: only those for which something changed, several at once when cores allow."""

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml
from filelock import FileLock

from diga_lib.runtime import atomic_write, available_cores, commit, sha256, versions

ROOT = Path(__file__).resolve().parent.parent
# Papermill as its own command runs it; at its end it writes down the most memory that its kernel held. Its standard
# input ends when the build does, even by kill -9: then it ends, too, and its kernel notices within a second.
PAPERMILL = """
import atexit, os, pathlib, resource, sys, threading
threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
peak, unit = pathlib.Path(sys.argv.pop(1)), 1 if sys.platform == "darwin" else 1024
atexit.register(lambda: peak.write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6)))
from papermill.cli import papermill
papermill()
"""
PATHS = ("photos", "data_root", "generator")  # parameters that name what a page depends on
LONGEST = 2_000  # characters of a parameter


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters, which makes one page."""

    page: str
    notebook: Path
    parameters: dict[str, Any]
    reads: list[Path] = field(default_factory=list)


def declared_parameters(notebook: Path) -> dict[str, str]:
    """Return name → type of what a notebook's `parameters` cell annotates."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            found = [node for node in ast.parse(cell.source).body if isinstance(node, ast.AnnAssign)]
            return {node.target.id: ast.unparse(node.annotation) for node in found}
    raise ValueError(f"{notebook.name} has no cell tagged `parameters`")


def typed(name: str, text: str, kind: str) -> Any:
    """Read the text of a command line as the type that a notebook declares; a `str` stays as it was typed."""
    if len(text) > LONGEST:
        raise ValueError(f"the value of {name} has {len(text):,} characters; valid are at most {LONGEST:,}")
    if name in PATHS and text:  # notebooks run in another folder than this command
        try:
            return str(Path(text).expanduser().resolve())
        except (OSError, RuntimeError, ValueError) as fault:
            raise ValueError(f"{name} = {text[:80]!r} is no path: {fault}") from None
    if kind == "str":
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # the notebook's own check says what is valid


def plan(profile: str, overrides: dict[str, str], only: list[str], root: Path = ROOT) -> list[Run]:
    """Read book/runs.yml and return the runs of a profile, of all pages or `only` of some.

    Overrides are NAME → text, for every notebook that declares the name and does not keep its own (`keeps` in
    runs.yml), or PAGE.NAME → text, for one page.
    """
    pages = yaml.safe_load((root / "book" / "runs.yml").read_text())["pages"]
    names = [page["page"] for page in pages]
    for name in only:
        if name not in names:
            raise ValueError(f"there is no page {name!r}; the pages are {', '.join(names)}")
    runs, used = [], set()
    for page in pages:
        notebook = root / "notebooks" / f"{page.get('notebook', page['page'])}.ipynb"
        if not notebook.exists():
            raise FileNotFoundError(f"book/runs.yml names {notebook.name}, which is not in notebooks/")
        declared = declared_parameters(notebook)
        parameters = {"profile": profile} | page.get("parameters", {}) | page.get(profile, {})
        for name, kind in declared.items():
            for key in (name, f"{page['page']}.{name}"):
                if key in overrides and key not in page.get("keeps", []):
                    parameters[name] = typed(name, overrides[key], kind)
                    used.add(key)
        reads = [path for pattern in page.get("reads", []) for path in sorted(root.glob(pattern))]
        if not only or page["page"] in only:
            runs.append(Run(page["page"], notebook, parameters, reads))
    for name in sorted(overrides.keys() - used):
        raise ValueError(f"no notebook has a parameter {name[:80]!r}")
    return runs


def fingerprint(run: Run, root: Path = ROOT) -> dict[str, str]:
    """Return what a page depends on: part → digest (or the value itself, for a parameter)."""
    parts = {"the notebook": sha256(run.notebook), "the lock": sha256(root / "requirements.lock")}
    parts |= {f"parameter {name}": json.dumps(value) for name, value in run.parameters.items()}
    package = [path for path in sorted((root / "diga_lib").rglob("*")) if path.is_file()]
    package = [path for path in package if path.suffix in (".py", ".json", ".safetensors")]
    parts |= {str(path.relative_to(root)): sha256(path) for path in package + run.reads}
    return parts | {
        f"what is in {name}": _listing(Path(run.parameters[name])) for name in PATHS if run.parameters.get(name)
    }


def _listing(place: Path) -> str:
    """Digest names, sizes and times: a data set of 200,000 images is not read to learn that it is the same."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")) or [place]:
        if path.name.startswith(".") or not path.exists():  # what an editor or a system leaves; a link to nowhere
            continue
        status = path.stat()
        digest.update(f"{path.relative_to(place)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def why(before: dict[str, str] | None, now: dict[str, str]) -> str:
    """Return in words what changed between two fingerprints; "" if nothing did."""
    if before is None:
        return "never executed"
    changed = [part for part in now if part in before and before[part] != now[part]]
    words = [f"{part} changed" for part in changed]
    words += [f"{part} is new" for part in now if part not in before]
    words += [f"{part} is gone" for part in before if part not in now]
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def last_fingerprint(run: Run, folder: Path) -> dict[str, str] | None:
    """Return the fingerprint of the finished copy, or None if there is no whole copy with a whole record."""
    record, copy = folder / f"{run.page}.json", folder / f"{run.page}.ipynb"
    try:
        recorded = json.loads(record.read_text())
        whole = "peak_mb" in recorded and recorded["sha256"] == sha256(copy)
        return dict(recorded["fingerprint"]) if whole else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


class Executor:
    """Executes runs into a folder, each on up to four cores; `failed` holds the last line that a failed one said."""

    def __init__(self, folder: Path, root: Path = ROOT, cores: int | None = None):
        self.folder, self.root = folder, root
        cores = cores or available_cores()
        self.threads = min(4, cores)
        self.at_once = cores // self.threads
        self.processes: set[subprocess.Popen] = set()
        self.failed: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def execute(self, runs: Iterable[Run]) -> None:
        """Execute the runs that changed, saying which and why; one that fails does not stop the others."""
        changed = []
        for run in runs:
            reason = why(last_fingerprint(run, self.folder), fingerprint(run, self.root))
            print(f"{run.page}: {f'execute ({reason})' if reason else 'unchanged'}", flush=True)
            changed += [run] if reason else []
        pool = ThreadPoolExecutor(max_workers=self.at_once)
        try:
            for future in as_completed([pool.submit(self._execute_one, run) for run in changed]):
                future.result()
        except BaseException:  # interrupted: leave no notebook running behind
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(self.processes):
                process.terminate()
            raise
        pool.shutdown()

    def _execute_one(self, run: Run) -> None:
        with FileLock(self.folder / f".{run.page}.lock"):  # another build may be at the same page
            if why(last_fingerprint(run, self.folder), fingerprint(run, self.root)):
                self._papermill(run)
            else:
                print(f"{run.page}: another build has just made it", flush=True)

    def _papermill(self, run: Run) -> None:
        parts = fingerprint(run, self.root)  # before it starts: what changes meanwhile makes it stale
        began = time.monotonic()
        bounded = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        environment = os.environ | bounded | {"DIGA_UNATTENDED": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
        for left in self.folder.glob(f"{run.page}.unfinished*"):  # by a build that was killed
            left.unlink(missing_ok=True)
        unfinished = self.folder / f"{run.page}.unfinished-{os.getpid()}.ipynb"  # nobody else writes to it
        peak = unfinished.with_suffix(".peak")
        command = [sys.executable, "-c", PAPERMILL, str(peak), "--no-progress-bar", "--kernel", "python3"]
        command += ["--start-timeout", "300"]  # on a busy machine a kernel takes its time
        command += [str(run.notebook), str(unfinished), "--parameters_yaml", yaml.safe_dump(run.parameters)]
        ends_with_us, ours = os.pipe()
        streams = {"stdin": ends_with_us, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, cwd=run.notebook.parent, env=environment, **streams)
        os.close(ends_with_us)
        self.processes.add(process)
        said = process.communicate()[0].strip()
        self.processes.discard(process)
        os.close(ours)
        if process.returncode:
            self.failed[run.page] = said.splitlines()[-1] if said else f"papermill ended with {process.returncode}"
            print(f"{run.page}: failed, as far as it got it is {unfinished}", flush=True)
            return
        seconds = round(time.monotonic() - began, 1)
        os.replace(unfinished, self.folder / f"{run.page}.ipynb")
        record = {"sha256": sha256(self.folder / f"{run.page}.ipynb"), "seconds": seconds, "threads": self.threads}
        record |= {"peak_mb": round(float(peak.read_text())), "versions": versions(), "commit": commit()}
        peak.unlink()
        with atomic_write(self.folder / f"{run.page}.json") as temporary:
            temporary.write_text(json.dumps(record | {"fingerprint": parts}, indent=1))
        print(f"{run.page}: done in {seconds:.0f} s", flush=True)
