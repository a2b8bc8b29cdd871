"""Raw results of test-time adaptation: one finished run is one line of JSON."""

import fcntl
import os
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diga_lib import runtime

PATH = Path(__file__).resolve().parents[2] / "book" / "results" / "test_time.jsonl"
KEY = ("model", "method", "variant", "dataset", "order")


class Record(BaseModel):
    """One method on one stream.

    Parameters
    ----------
    model, method, variant, dataset : str
        Which image–text model, method, settings of it ("" for those of the table) and class space.
    order : int
        Of the stream; it also seeds whatever else is random.
    n : int
        Images that were predicted: the first ones of the stream.
    accuracy : float
        Over these images.
    seconds_per_image, peak_memory_mb : float
        From pictures to predictions, and the process's peak meanwhile (10^6 bytes).
    correct : str
        One digit an image in the order of the stream: 1 if it was predicted rightly. "" where it is not kept.
    extra : dict
        Whatever else was chosen.
    commit : str
        Of the code that made it.
    versions : dict
        Of the packages that computed it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str
    method: str
    variant: str = ""
    dataset: str
    order: int
    n: Annotated[int, Field(ge=1)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    seconds_per_image: Annotated[float, Field(ge=0)]
    peak_memory_mb: Annotated[float, Field(ge=0)]
    correct: str = ""
    extra: dict[str, Any] = {}
    commit: str = Field(default_factory=runtime.commit)
    versions: dict[str, str] = Field(default_factory=runtime.versions)


def append(path, record):
    """Add a record to a file, whole or not at all; the torn end that a killed run left is removed first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(record.model_dump_json().encode() + b"\n")
        os.fsync(file.fileno())


def read(path=PATH):
    """Read all records of a file that end with a line end, as a DataFrame with the fields of `Record`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line is not a record.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There are no results at {path}.")
    content, rows = path.read_bytes(), []
    for number, line in enumerate(content[:content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            rows.append(Record.model_validate_json(line).model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise ValueError(f"{path}, line {number} is not a result: {place}: {first['msg']}.") from error
    return pd.DataFrame(rows, columns=list(Record.model_fields))


def finished(path):
    """Return the keys, tuples of the fields in ``KEY``, of all records of a file, which need not exist (a set)."""
    return set(read(path)[list(KEY)].itertuples(index=False, name=None)) if Path(path).exists() else set()
