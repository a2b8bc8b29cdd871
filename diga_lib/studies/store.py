"""Results on disk: one finished run is one line of JSON with a checksum, and a run that was killed spoils nothing."""

import fcntl
import hashlib
import json
import os
import re
import time
import warnings
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from diga_lib import runtime

FOLDER = Path(__file__).resolve().parents[2] / "book" / "results"  # what is published
METRICS = ("accuracy", "worst_group", "equalized_odds")
POOLS = ("train partition", "biased training set")  # of photographs: what a generator may have seen
SHA = re.compile(rb', "sha": "([0-9a-f]{16})"\}$')  # ends each line: of what the line is without it

Share = Annotated[float, Field(ge=0, le=1)]
# A process keeps its code, and asking git takes as long as a short run.
commit, versions = lru_cache(maxsize=1)(runtime.commit), lru_cache(maxsize=1)(runtime.versions)


class Record(BaseModel):
    """What every line of a results file says, beside what it is about; among the lines of a `KEY` the last counts.

    Lines with another `version` than their study's now are older than the code; 0 is from before versions were counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    KEY: ClassVar[tuple[str, ...]]
    version: int
    commit: str = Field(default_factory=commit)
    versions: dict[str, str] = Field(default_factory=versions)


class Result(Record):
    """One training run and its measures on the test set, as in `metrics.GroupMetrics`.

    `row` is an id in ``rows.ROWS``; `case` tells runs of one row apart; two spurious attributes are joined by "&".
    """

    KEY = ("row", "case", "target", "spurious", "bias", "seed", "profile")
    method: str
    variant: str = ""
    row: str
    case: str = ""
    target: str
    spurious: str
    bias: Annotated[float, Field(gt=0, le=1)]
    seed: int
    accuracy: Share
    worst_group: Share
    equalized_odds: Share
    groups: dict[str, Share]
    seconds: NonNegativeFloat
    peak_memory_mb: NonNegativeFloat
    profile: Literal["quick", "table", "full"]
    extra: dict[str, Any] = {}


class PhotoResult(Result):
    """A result on photographs: of which set, and what of ``POOLS`` the generator has seen."""

    KEY = (*Result.KEY, "dataset", "generator_pool")
    dataset: str
    generator_pool: str


@contextmanager
def timed_run():
    """Measure a block; yields a dict that has its "seconds" and "peak_memory_mb" (10^6 bytes) when the block has ended.

    Where the system can forget an earlier peak (Linux), the memory is the block's own, else the process's so far.
    """
    forget = Path("/proc/self/clear_refs")
    if os.access(forget, os.W_OK):
        forget.write_text("5")  # resets the peak resident set, see proc_pid_clear_refs(5)
    run, start = {}, time.perf_counter()
    yield run
    run |= {"seconds": time.perf_counter() - start, "peak_memory_mb": runtime.peak_memory_mb()}


def line_of(fields):
    """Write fields as one line with its checksum (bytes without a line end); `ValueError` where JSON cannot."""
    try:  # NumPy's numbers and arrays become Python's
        body = json.dumps(fields, allow_nan=False, ensure_ascii=False, default=lambda value: value.tolist()).encode()
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"The result {fields} cannot be written as JSON: {error}.") from error
    return body[:-1] + f', "sha": "{hashlib.sha256(body).hexdigest()[:16]}"}}'.encode()


def append(path, record):
    """Add a record to a file, made if need be, whole or not at all; several processes may do so at once.

    A torn last line, left by a process that was killed while writing, is removed with a warning; nothing else ever is.
    """
    line = line_of(record.model_dump()) + b"\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        size = len(whole := _whole(path, file.read()))
        file.truncate(size)
        line = line if whole.endswith(b"\n") or not whole else b"\n" + line
        if file.write(line) != len(line):  # a full disk
            file.truncate(size)
            raise OSError(f"{path} could not be written; is the disk full?")
        os.fsync(file.fileno())


def read(path, kind=Result):
    """Read all records of a file as a table with a column for each field of `kind`, a `Record`.

    A torn last line is left out with a warning; no file is a FileNotFoundError, any other wrong line a ValueError.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There are no results at {path}.")
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        whole = _whole(path, file.read())
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        sha = SHA.search(line)
        body = line[: sha.start()] + b"}" if sha else line
        try:
            record = kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise ValueError(f"{path}, line {number} is not a result: {place}: {first['msg']}.") from error
        if not sha or hashlib.sha256(body).hexdigest()[:16] != sha[1].decode():
            raise ValueError(f"{path}, line {number} is not what was written: its checksum is missing or differs.")
        rows.append(record.model_dump())
    return pd.DataFrame(rows, columns=list(kind.model_fields))


def _whole(path, content):
    """A file's bytes without what a killed process left of a last line (with a warning)."""
    cut = content.rfind(b"\n") + 1
    try:
        if cut == len(content) or isinstance(json.loads(content[cut:]), dict):
            return content  # at most its line end is missing
    except ValueError:
        pass  # no JSON: torn, as is said below
    number = content.count(b"\n") + 1
    warnings.warn(f"{path}, line {number} is torn (a run was killed while writing it) and is ignored.", stacklevel=3)
    return content[:cut]


def kept(path, kind=Result):
    """The last record of each key in a file as a frame, as `read` does; without a line if there is no such file."""
    frame = read(path, kind) if Path(path).exists() else pd.DataFrame(columns=list(kind.model_fields))
    return frame.drop_duplicates(list(kind.KEY), keep="last", ignore_index=True)
