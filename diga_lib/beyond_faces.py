"""The table of cats and dogs: fur colour as the shortcut, the methods of the large tables, three seeds.

``python -m diga_lib.beyond_faces`` runs what is missing in ``book/results/beyond_faces.jsonl``. Each competitor first
gets a small search, four trials with the first seed, and keeps the one with the best accuracy on the biased validation
images, which carry no group labels. ERM, DiGA and the oracles are not searched: they run with their defaults.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib import data, experiments, grid, latent, methods, results
from diga_lib.cells import Cell
from diga_lib.experiments import FOLDER, TABLE, Setting
from diga_lib.fingerprints import WEIGHTS, fingerprint
from diga_lib.profiles import POOL_SEED, SIZES

RESULTS = FOLDER / "beyond_faces.jsonl"
GENERATOR = "rendered-critters-64"
UNSEARCHED = ("ERM", "Balanced", "DiGA", "GroupDRO")
TRIAL = "trial "  # begins the variant of a search's runs


@dataclass(frozen=True)
class CritterCell(Cell):
    """A cell of this table: a :class:`diga_lib.cells.Cell` whose images are critters."""

    target: str = "Dog"
    spurious: str = "Dark_Fur"
    profile: str = "quick"

    @cached_property
    def fingerprint(self) -> str:
        """Of the code and the weights behind its numbers."""
        weights = {name: entry for name, entry in json.loads(WEIGHTS.read_text()).items() if name.startswith(GENERATOR)}
        code = fingerprint(["diga_lib.data.critters", "diga_lib.data.critter_painter"], weights)
        return fingerprint([f"{type(self).__module__}"], [super().fingerprint, code])


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


def trials(rows: Sequence[str], profile: str) -> list[CritterCell]:
    """The search: four trials of each competitor with seed 0."""
    return [CritterCell(row, profile=profile, changes=json.dumps(changes, sort_keys=True), variant=f"{TRIAL}{k}")
            for row in rows for k, changes in enumerate(methods.SEARCH[row])]  # fmt: skip


def best_trial(frame: pd.DataFrame, row: str, profile: str) -> pd.Series:
    """The finished trial of a row with the best validation accuracy, the first of several that are equally good."""
    mine = np.array([extra["row"] == row for extra in frame["extra"]], bool)
    tried = frame[mine & frame["variant"].str.contains(TRIAL) & (frame["profile"] == profile)]
    if len(tried) < len(methods.SEARCH[row]):
        raise ValueError(f"The search of {row} has {len(tried)} of {len(methods.SEARCH[row])} trials; run those first.")
    validation = pd.Series([extra["validation"] for extra in tried["extra"]], tried.index)
    return tried.loc[validation.idxmax()]


def keep_best(output: Path, row: str, profile: str) -> CritterCell:
    """Enter a row's best trial as its result for seed 0, and return that cell."""
    best = best_trial(results.latest(results.read(output)), row, profile)
    cell = CritterCell(row, profile=profile, changes=best["extra"]["cell"]["changes"])
    if not results.done(output, cell.key):
        extra = best["extra"] | {"cell": asdict(cell), "chosen": best["variant"]}
        results.append(output, results.Result(**best.to_dict() | {"variant": cell.key["variant"], "extra": extra,
                                                                  "fingerprint": cell.fingerprint}))  # fmt: skip
    return cell


NAMES = {row: TABLE[row].method for row in ("ERM", *methods.SEARCH, "DiGA")} | {
    "GroupDRO": "oracle: GroupDRO", "Balanced": "oracle: balanced data"}  # rows of the table, in its order


def kept(bias: float, output: Path = RESULTS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The results that are there for a bias: those of the table, in its order, and those of the search.

    Both have one more column, "row": the row's name in the table.
    """
    frame = results.latest(results.read(output)) if output.exists() else pd.DataFrame(columns=list(results.Result.model_fields))
    frame = frame[np.isclose(frame["bias"].astype(float), bias, rtol=0.01)]
    order = [list(NAMES).index(extra["row"]) for extra in frame["extra"]]
    frame = frame.assign(row=[list(NAMES.values())[k] for k in order]).iloc[np.argsort(order, kind="stable")]
    search = frame["variant"].str.contains(TRIAL).to_numpy(bool)
    return frame[~search], frame[search]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[*UNSEARCHED, *methods.SEARCH], choices=[*UNSEARCHED, *methods.SEARCH])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="0 is the search's")
    parser.add_argument("--profile", default="quick", choices=tuple(SIZES))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--jobs", type=int, default=1, help="local processes")
    given = parser.parse_args()

    def run(cells: list[CritterCell]) -> None:
        if grid.run(cells, given.output, compute, given.jobs):
            raise SystemExit(1)

    plain = [row for row in given.rows if row in UNSEARCHED]
    run([CritterCell(row, seed=seed, profile=given.profile) for seed in given.seeds for row in plain])
    for row in given.rows:
        if row not in UNSEARCHED:
            run(trials([row], given.profile))
            cell = keep_best(given.output, row, given.profile)
            run([replace(cell, seed=seed) for seed in given.seeds])


if __name__ == "__main__":
    main()
