"""The large tables: a grid of cells, each one training run, on the local cores or on a Dask cluster.

``python -m diga_lib.studies.grid classification`` runs what is missing in ``book/results/classification.jsonl``. A finished
cell is appended at once, so a grid that was stopped goes on where it was; several may share one store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import torch
from filelock import FileLock, Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError

from diga_lib import runtime
from diga_lib.studies import results
from diga_lib.studies.cells import GRIDS, PAIRS, Cell, compute
from diga_lib.studies.experiments import FOLDER, TABLE

ATTEMPTS = 3  # how often a pool of processes is started again after the system has killed one


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: "finished", "was there", "claimed" by another process, or "failed" and why."""

    cell: Cell
    state: str
    words: str = ""


def attempt(
    cell: Cell, output: Path, work: Callable[[Cell], results.Result], renew: bool = False, wait: bool = False
) -> Outcome:
    """Compute one cell and append it, unless it is there or another process is at it.

    Parameters
    ----------
    cell, output, work, renew
        As for :func:`run`.
    wait : bool
        Whether to wait for another process that is at this cell; if that one is killed, it is computed here.
    """
    torch.set_num_threads(1)  # processes with several threads each slow one another down on the same cores
    key = cell.key | ({"fingerprint": cell.fingerprint} if renew else {})
    # The system releases the lock of a process that is killed, so a claim never outlives who made it.
    name = hashlib.sha256(f"{output.resolve()} {sorted(key.items())}".encode()).hexdigest()
    try:
        with FileLock(runtime.cache_folder("claims") / f"{name[:24]}.lock", timeout=-1 if wait else 0):
            if results.done(output, key):
                return Outcome(cell, "was there")
            try:
                result = work(cell)
            except Exception:
                return Outcome(cell, "failed", traceback.format_exc())
            results.append(output, result)
            words = (
                f"accuracy {result.accuracy:.3f}, worst group {result.worst_group:.3f}, "
                f"EO {result.equalized_odds:.3f}, {result.seconds:.0f} s"
            )
            return Outcome(cell, "finished", words)
    except Timeout:
        return Outcome(cell, "claimed")


def run(
    cells: Iterable[Cell],
    output: Path,
    work: Callable[[Cell], results.Result] = compute,
    jobs: int | None = None,
    address: str = "",
    renew: bool = False,
) -> list[Outcome]:
    """Compute the cells that are missing, in order, and return the outcomes that are failures.

    Parameters
    ----------
    cells : iterable of Cell
    output : path
        The store; with Dask, on a file system that the workers share.
    work : callable
        Cell to Result.
    jobs : int, optional
        Local processes, each with one thread; by default as many as there are cores.
    address : str
        Of a Dask scheduler, such as "tcp://127.0.0.1:8786"; "" computes here.
    renew : bool
        Whether to compute cells again whose code or configuration has changed since.
    """
    output = Path(output)
    todo = [
        cell
        for cell in cells
        if not results.done(output, cell.key | ({"fingerprint": cell.fingerprint} if renew else {}))
    ]
    outcomes: dict[Cell, Outcome] = {}
    for wait in (False, True):  # the second time for what another process had claimed the first time
        missing = [cell for cell in todo if cell not in outcomes or outcomes[cell].state == "claimed"]
        made = (
            _on_dask(missing, output, work, renew, wait, address)
            if address
            else _here(missing, output, work, renew, wait, jobs)
        )
        for outcome in runtime.progress(made, output.stem, total=len(missing)):
            outcomes[outcome.cell] = outcome
            last = outcome.words.strip().rsplit("\n", 1)[-1]  # of a failure's traceback, the error
            print(f"[{len(outcomes)}/{len(todo)}] {outcome.cell}: {outcome.state}  {last}", flush=True)
    failures = [outcome for outcome in outcomes.values() if outcome.state == "failed"]
    for failure in failures:
        print(f"\nFAILED {json.dumps(asdict(failure.cell))}\n{failure.words}", file=sys.stderr, flush=True)
    return failures


def _here(
    cells: list[Cell], output: Path, work: Callable, renew: bool, wait: bool, jobs: int | None
) -> Iterator[Outcome]:
    """Compute cells in local processes."""
    jobs, killed = min(jobs or runtime.available_cores(), max(len(cells), 1)), ""
    missing = list(cells)
    for _ in range(ATTEMPTS):
        try:
            with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                tasks = (joblib.delayed(attempt)(cell, output, work, renew, wait) for cell in tuple(missing))
                # Tasks are handed out one by one, so that cells which share a setting run at about the same time.
                for outcome in joblib.Parallel(jobs, return_as="generator_unordered", pre_dispatch=jobs, batch_size=1)(
                    tasks
                ):
                    missing.remove(outcome.cell)
                    yield outcome
        except TerminatedWorkerError as error:
            killed = str(error)
        if not missing:
            return
    for cell in missing:
        yield Outcome(cell, "failed", killed)


def _on_dask(
    cells: list[Cell], output: Path, work: Callable, renew: bool, wait: bool, address: str
) -> Iterator[Outcome]:
    """Compute cells on a Dask cluster; it gives the cells of a worker that dies to another one."""
    from dask.distributed import Client, as_completed  # slow to import, and only needed here

    with Client(address) as client:
        futures = client.map(attempt, cells, output=output.resolve(), work=work, renew=renew, wait=wait, pure=False)
        cell_of = dict(zip(futures, cells))
        for future in as_completed(futures):
            error = future.exception()
            yield Outcome(cell_of[future], "failed", repr(error)) if error else future.result()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m diga_lib.studies.grid", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=tuple(GRIDS))
    parser.add_argument("--address", default="", help="of a Dask scheduler, such as tcp://127.0.0.1:8786")
    parser.add_argument("--jobs", type=int, help="local processes (default: the number of cores)")
    parser.add_argument(
        "--pairs", nargs="+", type=_pair, metavar="TARGET/SPURIOUS", help=", ".join(map("/".join, PAIRS))
    )
    parser.add_argument("--methods", nargs="+", choices=tuple(TABLE), metavar="METHOD", help=", ".join(TABLE))
    parser.add_argument("--seeds", nargs="+", type=int, help="default: as many as the profile has")
    parser.add_argument("--profile", default="table", help="sizes of the data and the training (default: table)")
    parser.add_argument("--output", type=Path, help="default: book/results/NAME.jsonl")
    parser.add_argument("--renew", action="store_true", help="compute again what older code has made")
    given = parser.parse_args(arguments)
    chosen = {name: getattr(given, name) for name in ("pairs", "methods", "seeds") if getattr(given, name)}
    cells = GRIDS[given.name](profile=given.profile, **chosen)
    if run(cells, given.output or FOLDER / f"{given.name}.jsonl", compute, given.jobs, given.address, given.renew):
        sys.exit(1)


def _pair(text: str) -> tuple[str, str]:
    pair = tuple(text.split("/"))
    if pair not in PAIRS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a pair of the table; valid are {', '.join(map('/'.join, PAIRS))}"
        )
    return pair


if __name__ == "__main__":
    main()
