"""Raw results of test-time adaptation: one finished run is one line of JSON."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from diga_lib import runtime
from diga_lib.studies import store

PATH = Path(__file__).resolve().parents[2] / "book" / "results" / "test_time.jsonl"
KEY = ("model", "method", "variant", "dataset", "order")


made_by = lru_cache(maxsize=1)(runtime.commit)  # a process keeps its code, and asking git takes as long as a short run
versions = lru_cache(maxsize=1)(runtime.versions)


class Record(store.Record):
    """One method on one stream.

    Parameters
    ----------
    model, method, variant, dataset : str
        Which image–text model, method, settings of it ("" for those of the table) and class space.
    order : int
        Of the stream, and the number of its subject; it also seeds whatever else is random.
    n, every : int
        How many images were predicted, and that it was every so-manieth of the stream, from the first on.
    accuracy : float
        Over these images.
    seconds_per_image, peak_memory_mb : float
        From pictures to predictions, and the process's peak meanwhile (10^6 bytes).
    correct : str
        One digit for each of them in the order of the stream: 1 if it was predicted rightly. "" where it is not kept.
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
    version: int = 1
    n: Annotated[int, Field(ge=1)]
    every: Annotated[int, Field(ge=1)] = 1
    accuracy: Annotated[float, Field(ge=0, le=1)]
    seconds_per_image: Annotated[float, Field(ge=0)]
    peak_memory_mb: Annotated[float, Field(ge=0)]
    correct: str = ""
    extra: dict[str, Any] = {}
    commit: str = Field(default_factory=made_by)
    versions: dict[str, str] = Field(default_factory=versions)


def read(path=PATH):
    """Read all records of a file, as `store.read` does."""
    return store.read(path, Record)


def finished(path):
    """Return the keys, tuples of the fields in ``KEY``, of all records of a file, which need not exist (a set)."""
    return set(read(path)[list(KEY)].itertuples(index=False, name=None)) if Path(path).exists() else set()
