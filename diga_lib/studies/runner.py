"""A study is a list of cells and what computes one: here on the local cores, or on a Dask cluster.

A finished cell is appended to its store at once, so that a study which was stopped goes on where it was; several
processes may share one store.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import joblib
import torch
from filelock import FileLock, Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError

from diga_lib import runtime
from diga_lib.studies import store

ATTEMPTS = 3  # how often processes are started again after the system has killed one


class Cell(Protocol):
    """One run: a frozen dataclass that holds everything which decides its record."""

    key: dict[str, Any]  # fields of its record by which it is found again
    version: int  # of its computation; a record with another one is older


@dataclass(frozen=True)
class Study:
    """What ``python -m diga_lib.studies NAME`` runs.

    Attributes
    ----------
    name : str
        Its results are ``book/results/NAME.jsonl``.
    cells : callable
        Returns the cells in the order in which they are computed. Its arguments are options of the command.
    compute : callable
        Cell to record.
    record : type
        Of its lines.
    """

    name: str
    cells: Callable[..., list[Cell]]
    compute: Callable[[Cell], store.Record]
    record: type[store.Record] = store.Result

    @property
    def path(self) -> Path:
        """Where its published results are."""
        return store.FOLDER / f"{self.name}.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: "finished", "was there", "claimed" by another process, or "failed" and why."""

    cell: Cell
    state: str
    words: str = ""


def is_fresh(cell: Cell, record: dict[str, Any]) -> bool:
    """Whether a record of a cell has its version and, where the record tells its configuration, the same one."""
    kept, now = record.get("extra", {}).get("cell", {}), json.loads(json.dumps(asdict(cell)))
    return record["version"] == cell.version and all(now.get(name, value) == value for name, value in kept.items())


def unfinished(cells: Iterable[Cell], output: Path, kind: type, renew: bool) -> list[Cell]:
    """The cells that have no record in a store, which need not exist; with `renew`, no fresh one."""
    cells, found = list(cells), defaultdict(list)
    names = list(cells[0].key) if cells else []  # cells of one study have the same ones
    for record in store.read(output, kind).to_dict("records") if output.exists() else []:
        found[tuple(record[name] for name in names)].append(record)

    def there(cell):
        records = found[tuple(cell.key.values())]
        return any(is_fresh(cell, record) for record in records) if renew else bool(records)

    return [cell for cell in cells if not there(cell)]


def attempt(cell: Cell, output: Path, work: Callable, kind: type, renew: bool = False, wait: bool = False) -> Outcome:
    """Compute one cell and append it, unless it is there or another process is at it; arguments as for :func:`run`.

    With `wait`, another process that is at this cell is waited for; if that one is killed, it is computed here.
    """
    torch.set_num_threads(1)  # processes with several threads each slow one another down on the same cores
    # The system releases the lock of a process that is killed, so a claim never outlives who made it.
    name = hashlib.sha256(f"{output.resolve()} {sorted(cell.key.items())}".encode()).hexdigest()
    try:
        with FileLock(runtime.cache_folder("claims") / f"{name[:24]}.lock", timeout=-1 if wait else 0):
            if not unfinished([cell], output, kind, renew):
                return Outcome(cell, "was there")
            try:
                record = work(cell)
            except Exception:
                return Outcome(cell, "failed", traceback.format_exc())
            store.append(output, record)
            numbers = [(name, value) for name, value in record if isinstance(value, float) and name not in cell.key]
            return Outcome(cell, "finished", ", ".join(f"{name} {value:.3g}" for name, value in numbers))
    except Timeout:
        return Outcome(cell, "claimed")


def run(
    cells: Iterable[Cell],
    output: Path,
    work: Callable[[Cell], store.Record],
    jobs: int | None = None,
    address: str = "",
    renew: bool = False,
    kind: type[store.Record] = store.Result,
) -> list[Outcome]:
    """Compute the cells that are missing, in order, and return the outcomes that are failures.

    Parameters
    ----------
    cells, work, kind
        As in a :class:`Study`.
    output : path
        The store; with Dask, on a file system that the workers share.
    jobs : int, optional
        Local processes, each with one thread; by default as many as there are cores.
    address : str
        Of a Dask scheduler, such as "tcp://127.0.0.1:8786"; "" computes here.
    renew : bool
        Whether to compute cells again whose version or configuration has changed since.
    """
    output = Path(output).resolve()
    todo = unfinished(cells, output, kind, renew)
    outcomes: dict[Cell, Outcome] = {}
    for wait in (False, True):  # the second time for what another process had claimed the first time
        missing = [cell for cell in todo if cell not in outcomes or outcomes[cell].state == "claimed"]
        one = partial(attempt, output=output, work=work, kind=kind, renew=renew, wait=wait)
        made = _computed(missing, one, jobs or runtime.available_cores(), address)
        for outcome in runtime.progress(made, output.stem, total=len(missing)):
            outcomes[outcome.cell] = outcome
            last = outcome.words.strip().rsplit("\n", 1)[-1]  # of a failure's traceback, the error
            print(f"[{len(outcomes)}/{len(todo)}] {outcome.cell}: {outcome.state}  {last}", flush=True)
    failures = [outcome for outcome in outcomes.values() if outcome.state == "failed"]
    for failure in failures:
        print(f"\nFAILED {json.dumps(asdict(failure.cell))}\n{failure.words}", file=sys.stderr, flush=True)
    return failures


def _computed(cells: list[Cell], one: Callable[[Cell], Outcome], jobs: int, address: str) -> Iterator[Outcome]:
    """Compute cells by joblib, in new processes for what is left when the system has killed one."""
    client, how, killed = nullcontext(), {"backend": "loky", "inner_max_num_threads": 1}, TerminatedWorkerError
    # Tasks are handed out one by one, so that cells which share a setting run at about the same time.
    parallel = {"n_jobs": min(jobs, max(len(cells), 1)), "return_as": "generator_unordered", "pre_dispatch": "n_jobs"}
    if address:
        from distributed.client import Client, FutureCancelledError  # slow to import
        from distributed.scheduler import KilledWorker

        client, how, killed = Client(address), {"backend": "dask"}, (KilledWorker, FutureCancelledError)
        parallel = {"n_jobs": -1, "pre_dispatch": "all"}  # joblib's Dask backend returns a list
    missing, words = list(cells), ""
    with client:
        for _ in range(ATTEMPTS if cells else 0):
            try:
                with joblib.parallel_config(**how):
                    tasks = [joblib.delayed(one)(cell) for cell in missing]
                    for outcome in joblib.Parallel(**parallel, batch_size=1)(tasks):
                        missing.remove(outcome.cell)
                        yield outcome
            except killed as error:
                words = str(error)
            if not missing:
                return
    for cell in missing:
        yield Outcome(cell, "failed", words)
