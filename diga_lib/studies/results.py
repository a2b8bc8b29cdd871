"""Results on disk: one finished run is one line of JSON, and a run that was killed spoils nothing."""

import fcntl
import json
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diga_lib import runtime
from diga_lib.metrics import mean_and_interval

Share = Annotated[float, Field(ge=0, le=1)]
METRICS = ("accuracy", "worst_group", "equalized_odds")


class Result(BaseModel):
    """One finished run.

    Parameters
    ----------
    method, variant : str
        The method's name, and what distinguishes rows of the same method ("" if nothing does).
    target, spurious : str
        Attributes; two spurious attributes at once are joined by "&".
    bias : float
        Minority to majority ratio of the training set, in (0, 1].
    seed : int
    accuracy, worst_group, equalized_odds, groups
        As in `metrics.GroupMetrics`, on the test set.
    seconds, peak_memory_mb : float
        Of the whole run.
    profile : {"quick", "table", "full"}
    commit : str
        Of the code that made it.
    fingerprint : str
        Of the statements that decide its numbers, see `fingerprints`; "" where it was not recorded.
    versions : dict of str to str
        Of the packages that computed it.
    extra : dict
        Whatever else a table needs, in JSON's types.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: str
    variant: str = ""
    target: str
    spurious: str
    bias: Annotated[float, Field(gt=0, le=1)]
    seed: int
    accuracy: Share
    worst_group: Share
    equalized_odds: Share
    groups: dict[str, Share]
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_mb: Annotated[float, Field(ge=0)]
    profile: Literal["quick", "table", "full"]
    commit: str = Field(default_factory=runtime.commit)
    fingerprint: str = ""
    versions: dict[str, str] = Field(default_factory=runtime.versions)
    extra: dict[str, Any] = {}

    @classmethod
    def of(cls, metrics, run, **fields):
        """Build a result from `metrics.GroupMetrics`, a finished `timed_run` and the other fields."""
        return cls(**asdict(metrics), **asdict(run), **fields)


@dataclass
class Run:
    """Seconds and peak memory (10^6 bytes) of a `timed_run`, known when it has ended."""

    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def timed_run():
    """Measure the seconds and the peak memory of a block.

    Where the system can forget the process's earlier peak (Linux), the memory is the block's own;
    elsewhere it is the process's peak so far.

    Yields
    ------
    Run
        Filled in when the block ends.
    """
    forget = Path("/proc/self/clear_refs")
    if os.access(forget, os.W_OK):
        forget.write_text("5")  # resets the peak resident set, see proc_pid_clear_refs(5)
    run, start = Run(), time.perf_counter()
    yield run
    run.seconds, run.peak_memory_mb = time.perf_counter() - start, runtime.peak_memory_mb()


def append(path, result):
    """Add a result to a file, whole or not at all; several processes may do so at once.

    Parameters
    ----------
    path : path_like
        The file, made if need be. A torn last line, left by a process killed while writing, is removed with
        a warning.
    result : Result
        Or a record of another kind, a pydantic model as well; a file holds records of one kind.

    Raises
    ------
    ValueError
        If `extra` holds something that JSON cannot.
    """
    try:
        line = json.dumps(result.model_dump(), allow_nan=False, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The result of {result.method} cannot be written as JSON: {error}.") from error
    line = line.encode() + b"\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole, torn = _split(path, file.read(), type(result))
        if torn:
            file.truncate(len(whole))
        elif whole and not whole.endswith(b"\n"):
            line = b"\n" + line
        size = os.fstat(file.fileno()).st_size
        if file.write(line) != len(line):  # a full disk
            file.truncate(size)
            raise OSError(f"{path} could not be written; is the disk full?")
        os.fsync(file.fileno())


def read(path, kind=Result):
    """Read all results of a file.

    Parameters
    ----------
    path : path_like
        A torn last line is left out with a warning.
    kind : type
        What its lines are: `Result`, or another pydantic model.

    Returns
    -------
    DataFrame
        One row for each result, one column for each field of `kind`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line is not a result.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There are no results at {path}.")
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        whole, _ = _split(path, file.read(), kind)
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(kind.model_validate_json(line).model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise ValueError(f"{path}, line {number} is not a result: {place}: {first['msg']}.") from error
    return pd.DataFrame(rows, columns=list(kind.model_fields))


def done(path, key):
    """Tell whether a file has a result with these fields.

    Parameters
    ----------
    path : path_like
        It need not exist.
    key : dict
        Fields of `Result` and their values, such as ``{"method": "ERM", "seed": 0}``.

    Raises
    ------
    ValueError
        If `Result` has no such field.
    """
    unknown = sorted(set(key) - set(Result.model_fields))
    if unknown:
        raise ValueError(f"A result has no field {unknown[0]!r}; valid fields: {', '.join(Result.model_fields)}.")
    if not Path(path).exists():
        return False
    rows = read(path).to_dict("records")
    return any(all(row[name] == value for name, value in key.items()) for row in rows)


KEY = ("method", "variant", "target", "spurious", "bias", "seed", "profile")


def latest(frame):
    """Keep the last of the results that have the same method, variant, attributes, bias, seed and profile.

    Parameters
    ----------
    frame : DataFrame
        From `read`.
    """
    return frame.drop_duplicates(list(KEY), keep="last", ignore_index=True)


def summary(frame, by=("method", "variant"), columns=METRICS):
    """Average results over their seeds.

    Parameters
    ----------
    frame : DataFrame
        From `read`.
    by : sequence of str
        Columns that distinguish the rows of the table.
    columns : sequence of str
        Columns that are averaged.

    Returns
    -------
    DataFrame
        Indexed by `by` in order of appearance; columns (name, "mean") and (name, "interval"), the half width
        of the 95 % t interval (NaN for a single run), and ("runs", "count").
    """

    def row(group):
        parts = {}
        for name in columns:
            parts[name, "mean"], parts[name, "interval"] = mean_and_interval(group[name])
        return parts | {("runs", "count"): len(group)}

    groups = {key: row(group) for key, group in frame.groupby(list(by), sort=False)}
    index = pd.MultiIndex.from_tuples(groups, names=by) if groups else None
    table = pd.DataFrame(list(groups.values()), index=index)
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def older(stale, runs, command):
    """Say how many of some stored runs are older than the code that makes them.

    Parameters
    ----------
    stale, runs : int
    command : str
        That makes them again.

    Returns
    -------
    str
        A sentence in Markdown; "" if there is none.
    """
    return (
        f"{stale} of these {runs} runs are older than the code that makes them; `{command} --renew` runs those again."
        if stale
        else ""
    )


def formatted(table, digits=3):
    """Write a `summary` as text, "0.812 ± 0.013" in each cell, without interval where a run is alone."""

    def cell(mean, interval):
        return f"{mean:.{digits}f}" + ("" if np.isnan(interval) else f" ± {interval:.{digits}f}")

    names = [name for name in table.columns.get_level_values(0).unique() if name != "runs"]
    return pd.DataFrame(
        {name: [cell(*pair) for pair in table[name][["mean", "interval"]].to_numpy()] for name in names},
        index=table.index,
    )


def _split(path, content, kind):
    """Split a file's bytes into whole lines and what a killed process left of one (with a warning)."""
    cut = content.rfind(b"\n") + 1
    last = content[cut:]
    if not last:
        return content, b""
    try:
        kind.model_validate_json(last)
    except ValidationError:
        number = content.count(b"\n") + 1
        warnings.warn(
            f"{path}, line {number} is torn (a run was killed while writing it) and is ignored.", stacklevel=3
        )
        return content[:cut], last
    return content, b""  # whole, and only its line end is missing


def _plain(value):
    """Turn numpy's numbers and arrays into Python's for JSON."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON type")
