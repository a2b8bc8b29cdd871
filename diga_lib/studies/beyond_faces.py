"""The table of cats and dogs: fur colour as the shortcut, the methods of the large tables, three seeds.

``python -m diga_lib.studies.beyond_faces`` runs what is missing in ``book/results/beyond_faces.jsonl``. Nothing is tuned on
critters: the competitors have the settings that their search on faces chose (``book/results/search.jsonl``), and ERM,
DiGA and the oracles their defaults.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib import data, latent, methods
from diga_lib.pages.profiles import POOL_SEED, SIZES
from diga_lib.studies import experiments, grid, results
from diga_lib.studies.cells import Cell, chosen
from diga_lib.studies.experiments import FOLDER, TABLE, Setting
from diga_lib.studies.fingerprints import WEIGHTS, fingerprint

RESULTS = FOLDER / "beyond_faces.jsonl"
GENERATOR = "rendered-critters-64"
UNTUNED = ("ERM", "Balanced", "DiGA", "GroupDRO")


@dataclass(frozen=True)
class CritterCell(Cell):
    """A cell of this table: a :class:`diga_lib.studies.cells.Cell` whose images are critters."""

    target: str = "Dog"
    spurious: str = "Dark_Fur"
    profile: str = "quick"

    @cached_property
    def fingerprint(self) -> str:
        """Of the code and the weights behind its numbers."""
        weights = {name: entry for name, entry in json.loads(WEIGHTS.read_text()).items() if name.startswith(GENERATOR)}
        return fingerprint(["diga_lib.data.critters"], [super().fingerprint, weights])


@lru_cache(maxsize=1)
def setting_of(bias: float, seed: int, profile: str) -> Setting:
    """The critters' setting; the last one is remembered."""
    pool = data.load("rendered-critters", SIZES[profile].pool, seed=POOL_SEED)
    return experiments.setting("Dog", "Dark_Fur", bias, profile, pool, latent.load(GENERATOR), seed=seed)


def compute(cell: CritterCell) -> results.Result:
    """Train and test one cell."""
    s = setting_of(cell.bias, cell.seed, cell.profile)
    extra = {"row": cell.row, "cell": asdict(cell)}
    if TABLE[cell.row].needs:
        extra["direction"] = experiments.direction_scores(s, getattr(s, TABLE[cell.row].needs[0]))
    result, _ = experiments.run(s, TABLE[cell.row], cell.seed, extra, **json.loads(cell.changes))
    return result.model_copy(update={"variant": cell.key["variant"], "fingerprint": cell.fingerprint})


def cells(rows: Sequence[str], seeds: Sequence[int], profile: str = "quick") -> list[CritterCell]:
    """The table's cells, seed after seed."""
    changes = {row: "{}" if row in UNTUNED else chosen(row) for row in rows}
    return [CritterCell(row, seed=seed, profile=profile, changes=changes[row]) for seed in seeds for row in rows]


NAMES = {row: TABLE[row].method for row in ("ERM", *methods.SEARCH, "DiGA")} | {
    "GroupDRO": "oracle: GroupDRO",
    "Balanced": "oracle: balanced data",
}  # rows of the table, in its order


def kept(bias: float, output: Path = RESULTS) -> pd.DataFrame:
    """The results that are there for a bias, in the table's order.

    Returns
    -------
    DataFrame
        The columns of `results.read`, and: row (its name in the table), stale (whether code or configuration has changed
        since).
    """
    frame = (
        results.latest(results.read(output))
        if output.exists()
        else pd.DataFrame(columns=list(results.Result.model_fields))
    )
    frame = frame[np.isclose(frame["bias"].astype(float), bias, rtol=0.01)]
    order = [list(NAMES).index(extra["row"]) for extra in frame["extra"]]
    stale = [
        CritterCell(**extra["cell"]).fingerprint != made for extra, made in zip(frame["extra"], frame["fingerprint"])
    ]
    frame = frame.assign(row=[list(NAMES.values())[k] for k in order], stale=stale)
    return frame.iloc[np.argsort(order, kind="stable")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[*UNTUNED, *methods.SEARCH], choices=[*UNTUNED, *methods.SEARCH])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="quick", choices=tuple(SIZES))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--jobs", type=int, default=1, help="local processes")
    parser.add_argument("--renew", action="store_true", help="compute again what older code has made")
    given = parser.parse_args()
    if grid.run(cells(given.rows, given.seeds, given.profile), given.output, compute, given.jobs, renew=given.renew):
        raise SystemExit(1)


if __name__ == "__main__":
    from diga_lib.studies import beyond_faces

    beyond_faces.main()  # not this module's own: cells of a class in `__main__` cannot be sent to other processes
