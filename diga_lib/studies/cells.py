"""What the large tables consist of: pairs, methods, biases, seeds, and what one cell is."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diga_lib import data, directions, latent, methods
from diga_lib.directions import words
from diga_lib.methods import DiGAOneStage
from diga_lib.pages.profiles import POOL_SEED, SEARCH_POOL_SEED, SIZES
from diga_lib.studies import experiments, results
from diga_lib.studies.experiments import FOLDER, TABLE, Setting
from diga_lib.studies.fingerprints import fingerprint

# The papers' pairs. "Attractive" of rendered faces is Heavy_Makeup with 10 % of the labels flipped, and UTKFace's
# gender and ethnicity are the renderer's Male and its two lighter against its two darker ranges of skin tone.
PAIRS = (
    ("Smiling", "Male"),
    ("Smiling", "Young"),
    ("Big_Nose", "Male"),
    ("Attractive", "Young"),
    ("Male", "Young"),
    ("Young", "Male"),
    ("Black_Hair", "Male"),
    ("Smiling", "Male&Young"),
    ("Male", "Ethnicity"),
)
SEVEN = ("ERM", "CVaRDRO", "EIIL", "LfF", "JTT", "MAPLE", "DiGA")
ORACLES = ("GroupDRO", "Balanced")
BIASES = (1 / 4, 1 / 9, 1 / 19, 1 / 49, 1.0)
# The papers' four (lambda_2, lambda_1), for a sum over 20,000 images; ours are per image.
STRENGTHS = ((2e-4, 5e3), (1e-4, 1e4), (2e-5, 5e4), (1e-6, 1e6))
PAPER_N = 20_000
DEGREES = ((0.5, 1.0), (1.0, 3.0), (3.0, 5.0))  # ranges of shifts, in standard deviations
SEARCH = FOLDER / "search.jsonl"
TEXT = "rendered-faces-text"  # the image-text model, for the one row that reads it
N_VALIDATION = 1_000  # of the search; biased like training


@dataclass(frozen=True)
class Cell:
    """One training run of a table: everything that decides its result.

    Attributes
    ----------
    row : str
        Name in ``experiments.TABLE``.
    target, spurious, bias
        Of the split.
    seed : int
        Of the split and of the training.
    profile : str
    changes : str
        Arguments of the method that differ from its defaults, as JSON.
    variant : str
        Added to the row's own, to tell cells of one row apart.
    pool_seed : int
        Of the population that the split is drawn from.
    n_validation : int or None
        Validation images; a tenth of the training images if None.
    epochs : int or None
        Of training; the profile's if None.
    strengths : (float, float) or None
        Weak and strong regularisation per image, where the direction is to come from these two alone.
    """

    row: str
    target: str = "Smiling"
    spurious: str = "Male"
    bias: float = 1 / 9
    seed: int = 0
    profile: str = "table"
    changes: str = "{}"
    variant: str = ""
    pool_seed: int = POOL_SEED
    n_validation: int | None = None
    epochs: int | None = None
    strengths: tuple[float, float] | None = None

    def __str__(self) -> str:
        words = [self.row, self.variant, f"{self.target}/{self.spurious}", f"bias {self.bias:.3g}", f"seed {self.seed}"]
        return " ".join(filter(None, words))

    @property
    def key(self) -> dict[str, Any]:
        """The fields of its result by which it is found again."""
        row = TABLE[self.row]
        row = replace(row, variant=", ".join(filter(None, [row.variant, self.variant])))
        return experiments.key_of(row, self.target, self.spurious, self.bias, self.seed, self.profile)

    @cached_property
    def fingerprint(self) -> str:
        """Of the code and the configuration behind its numbers, see :mod:`diga_lib.studies.fingerprints`."""
        config = asdict(self) | {"sizes": asdict(SIZES[self.profile])}
        reads = self.row == "DiGAWords"
        modules = [*TABLE[self.row].modules, *([words.__name__] if reads else [])]
        return fingerprint(modules, config, (TEXT,) if reads else ())


@lru_cache(maxsize=1)
def _generator():
    return latent.load()


@lru_cache(maxsize=2)
def setting_of(
    target: str, spurious: str, bias: float, seed: int, profile: str, pool_seed: int, n_validation: int | None
) -> Setting:
    """The setting of a cell: the last two are remembered, and their codes and directions are kept on disk."""
    kept = {
        "target": target,
        "spurious": spurious,
        "bias": bias,
        "seed": seed,
        "pool_seed": pool_seed,
        "sizes": asdict(SIZES[profile]),
        "code": fingerprint([directions.__name__]),
    }
    pool = data.load("rendered-faces", SIZES[profile].pool, seed=pool_seed)
    return experiments.setting(target, spurious, bias, profile, pool, _generator(), None, seed, n_validation, kept)


def compute(cell: Cell) -> results.Result:
    """Train and test one cell."""
    s = setting_of(cell.target, cell.spurious, cell.bias, cell.seed, cell.profile, cell.pool_seed, cell.n_validation)
    row, changes = TABLE[cell.row], json.loads(cell.changes) | ({"epochs": cell.epochs} if cell.epochs else {})
    extra: dict[str, Any] = {"row": cell.row, "cell": asdict(cell)}
    if cell.strengths:
        found = directions.spurious_direction(s.codes, s.split.train.target, strengths=cell.strengths, refined=False)
        make = lambda s, **more: DiGAOneStage(s.generator, found, **{"epochs": s.sizes.epochs} | more)
        row = replace(row, make=make, needs=())
        extra["coefficient"] = float(found.coefficient)
    elif row.needs:
        found = getattr(s, row.needs[0])
    if cell.strengths or row.needs:
        extra["direction"] = experiments.direction_scores(s, found)
    result, _ = experiments.run(s, row, cell.seed, extra, **changes)
    return result.model_copy(update={"variant": cell.key["variant"], "fingerprint": cell.fingerprint})


# ------------------------------------------------------------------------------------------------ hyperparameters
# The trials of the competitors are in `methods.SEARCH`; ERM, DiGA and the oracle get as many.
TRIALS = methods.SEARCH | {
    "ERM": [{}, {"lr": 1e-3}, {"lr": 1e-2}, {"weight_decay": 0.5}],
    "DiGA": [{}, {"invariance": 0.1}, {"invariance": 2.0}, {"originals": 0.25}],
    "GroupDRO": [{}, {"step_size": 0.1}, {"weight_decay": 0.05}, {"step_size": 0.1, "weight_decay": 0.05}],
}


def chosen(row: str, path: Path = SEARCH) -> str:
    """The arguments, as JSON, of a method's trial with the best accuracy on the biased validation set.

    It is the first of several that are equally good. A method that was not searched has its defaults.
    """
    row = TABLE[row].kind.__name__  # the balanced oracle has ERM's, and DiGA with words DiGA's
    row = {"DiGAOneStage": "DiGA", "DiGA": "DiGABYOL"}.get(row, row)  # as stored
    found = results.latest(results.read(path)) if path.exists() else None
    if found is None:
        return "{}"
    found = found[[extra["row"] == row for extra in found["extra"]]]
    if not len(found):
        return "{}"
    return best_trial(found)["extra"]["cell"]["changes"]


def best_trial(tried: pd.DataFrame) -> pd.Series:
    """The first result with the best accuracy on the biased validation set."""
    return tried.iloc[int(np.argmax([extra["validation"] for extra in tried["extra"]]))]


# ----------------------------------------------------------------------------------------------------- the grids
def classification(pairs=PAIRS, methods=tuple(TABLE), seeds=None, profile="table") -> list[Cell]:
    """The main table: every pair with every method; DiGA as published with the first seed only, since it is slow."""
    seeds = range(SIZES[profile].seeds) if seeds is None else seeds
    rows = {row: chosen(row) for row in methods}
    cells = [
        Cell(row, *pair, seed=seed, profile=profile, changes=rows[row])
        for seed in seeds
        for pair in pairs
        for row in rows
        if row != "DiGABYOL"
    ]
    slow = [
        Cell("DiGABYOL", *pair, seed=min(seeds), profile=profile, changes=rows["DiGABYOL"])
        for pair in pairs
        if "DiGABYOL" in rows
    ]
    return cells + slow


def search(pairs=(PAIRS[0],), methods=None, seeds=(0,), profile="table") -> list[Cell]:
    """Four trials of each method, on a population of faces that no table uses."""
    rows = methods or [row for row in TABLE if row in TRIALS]
    return [
        Cell(
            row,
            *pair,
            seed=seed,
            profile=profile,
            changes=json.dumps(changes, sort_keys=True),
            variant=f"trial {k}",
            pool_seed=SEARCH_POOL_SEED,
            n_validation=N_VALIDATION,
        )
        for seed in seeds
        for pair in pairs
        for row in rows
        for k, changes in enumerate(TRIALS[row])
    ]


def bias_sweep(pairs=(PAIRS[0],), methods=(*SEVEN, "DiGAWords", "GroupDRO"), seeds=None, profile="table") -> list[Cell]:
    """Every method over the biases that `classification` does not have. At bias 1, ERM is the balanced oracle."""
    seeds = range(SIZES[profile].seeds) if seeds is None else seeds
    rows = {row: chosen(row) for row in methods}
    return [
        Cell(row, *pair, bias=bias, seed=seed, profile=profile, changes=changes)
        for seed in seeds
        for pair in pairs
        for bias in BIASES
        if bias != 1 / 9
        for row, changes in rows.items()
    ]


def strengths(pairs=(PAIRS[0],), methods=("DiGA",), seeds=None, profile="table") -> list[Cell]:
    """DiGA with directions from the papers' four pairs of strengths, and with shifts of three ranges of degrees."""
    seeds = range(SIZES[profile].seeds) if seeds is None else seeds
    cells = []
    for seed, pair, row in itertools.product(seeds, pairs, methods):
        same = {"seed": seed, "profile": profile}
        for weak, strong in STRENGTHS:
            cells.append(
                Cell(
                    row,
                    *pair,
                    changes=chosen(row),
                    variant=f"strengths {weak:g}, {strong:g}",
                    strengths=(weak / PAPER_N, strong / PAPER_N),
                    **same,
                )
            )
        for degrees in DEGREES:
            changes = json.loads(chosen(row)) | {"edit": "shift", "degrees": degrees}
            cells.append(
                Cell(
                    row,
                    *pair,
                    changes=json.dumps(changes, sort_keys=True),
                    variant="degrees {:g} to {:g}".format(*degrees),
                    **same,
                )
            )
    return cells


GRIDS = {"classification": classification, "search": search, "bias_sweep": bias_sweep, "strengths": strengths}
