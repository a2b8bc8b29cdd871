"""A study is a list of cells and what computes one, here or on a Dask cluster; each finished cell is stored at once."""

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import joblib
import torch
from filelock import FileLock, Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError

from diga_lib import runtime
from diga_lib.studies import store

ROUNDS = 3  # of starting processes: the system may kill one, and other runs may claim cells


@dataclass(frozen=True)
class Cell:
    """Everything that decides a record, in frozen fields; `version` is raised when its computation changes."""

    record: ClassVar[type[store.Record]]
    version: ClassVar[int] = 1

    @property
    def key(self) -> dict[str, Any]:
        """The fields by which its record is found again."""
        return {name: getattr(self, name) for name in self.record.KEY}

    def __str__(self) -> str:
        words = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in self.key.values())
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Study:
    """What ``python -m diga_lib.studies NAME`` runs: `cells`, in order, from its options, each made by `compute`."""

    name: str
    cells: Callable[..., list[Cell]]
    compute: Callable[..., store.Record]

    @property
    def path(self) -> Path:
        """Where its published results are."""
        return store.FOLDER / f"{self.name}.jsonl"


class Outcome(NamedTuple):
    """What became of a cell: "finished", "was there", "claimed" by another process, or "failed" and why."""

    cell: object
    state: str
    words: str = ""


def unfinished(cells: list[Cell], output: Path, renew: bool = False) -> list[Cell]:
    """The cells without a record in a store; with `renew`, without one of their version and configuration."""
    records = store.kept(output, cells[0].record).to_dict("records") if cells else ()
    found = {tuple(record[name] for name in cells[0].key): record for record in records}

    def there(cell):
        record = found.get(tuple(cell.key.values()))
        if record is None or not renew:
            return record is not None
        kept, now = record.get("extra", {}).get("cell", {}), json.loads(json.dumps(asdict(cell)))
        return record["version"] == cell.version and all(now.get(name, value) == value for name, value in kept.items())

    return [cell for cell in cells if not there(cell)]


def attempt(cell: Cell, output: Path, work: Callable, renew: bool = False, wait: bool = False) -> Outcome:
    """Compute one cell and append it, unless it is there or another process is at it (with `wait`, until it is not)."""
    torch.set_num_threads(1)  # processes with several threads each slow one another down on the same cores
    # The system releases the lock of a process that is killed, so a claim never outlives who made it.
    name = hashlib.sha256(f"{output} {sorted(cell.key.items())}".encode()).hexdigest()
    try:
        with FileLock(runtime.cache_folder("claims") / f"{name[:24]}.lock", timeout=-1 if wait else 0):
            if not unfinished([cell], output, renew):
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


def run(cells: list[Cell], output: Path, work: Callable, jobs=None, address="", renew=False) -> list[Outcome]:
    """Compute the cells that are missing in a store by `work`, in order, and return the outcomes that are failures.

    Here `jobs` processes of one thread do it, by default one for each core; at an `address` the workers of a Dask
    scheduler, which must see the same files. With `renew`, cells of another version or configuration are missing too.
    """
    output = Path(output).resolve()
    todo, outcomes = unfinished(cells, output, renew), dict[Cell, Outcome]()
    older = len(unfinished(cells, output, True)) - len(todo)
    print(f"{len(todo)} of {len(cells)} cells are missing, {older} are there from older code (--renew)", flush=True)
    for number in range(ROUNDS):
        missing = [cell for cell in todo if cell not in outcomes or outcomes[cell].state in ("claimed", "killed")]
        one = partial(attempt, output=output, work=work, renew=renew, wait=number > 0)
        made = _computed(missing, one, jobs or runtime.available_cores(), address) if missing else ()
        for outcome in runtime.progress(made, output.stem, total=len(missing)):
            outcomes[outcome.cell] = outcome
            last = outcome.words.strip().rsplit("\n", 1)[-1]  # of a failure's traceback, the error
            print(f"[{len(outcomes)}/{len(todo)}] {outcome.cell}: {outcome.state}  {last}", flush=True)
    failures = [outcome for outcome in outcomes.values() if outcome.state in ("failed", "killed")]
    for failure in failures:
        print(f"\nFAILED {json.dumps(asdict(failure.cell))}\n{failure.words}", file=sys.stderr, flush=True)
    return failures


def _computed(cells: list, one: Callable[..., Outcome], jobs: int, address: str) -> Iterator[Outcome]:
    """Compute cells by joblib; when the system has killed a process, those that are left are "killed"."""
    client, how, killed = nullcontext(), {"backend": "loky", "inner_max_num_threads": 1}, TerminatedWorkerError
    # Tasks are handed out one by one, so that cells which share a setting run at about the same time.
    parallel = {"n_jobs": min(jobs, len(cells)), "return_as": "generator_unordered", "pre_dispatch": "n_jobs"}
    if address:
        from distributed.client import Client, FutureCancelledError  # slow to import
        from distributed.scheduler import KilledWorker

        client, how, killed = Client(address), {"backend": "dask"}, (KilledWorker, FutureCancelledError)
        parallel = {"n_jobs": -1, "pre_dispatch": "all"}  # joblib's Dask backend returns a list
    left = list(cells)
    try:
        with client, joblib.parallel_config(**how):
            for outcome in joblib.Parallel(**parallel, batch_size=1)(joblib.delayed(one)(cell) for cell in cells):
                left.remove(outcome.cell)
                yield outcome
    except killed as error:
        yield from (Outcome(cell, "killed", str(error)) for cell in left)
