"""What the tables of faces consist of: pairs, rows, biases, seeds, and what one cell is."""

import itertools
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib import data, latent
from diga_lib.pages.parameters import POOL_SEED, SEARCH_POOL_SEED, SIZES
from diga_lib.studies import rows, runner, store
from diga_lib.studies.rows import FAIR, ORACLES, ROWS
from diga_lib.studies.setting import Setting, direction_scores

GENERATORS = {"rendered-faces": "rendered-faces-64", "rendered-critters": "rendered-critters-64"}

# The papers' pairs. "Attractive" of rendered faces is Heavy_Makeup with 10 % of the labels flipped, and UTKFace's
# gender and ethnicity are the renderer's Male and its two lighter against its two darker ranges of skin tone.
PAIRS = (("Smiling", "Male"), ("Smiling", "Young"), ("Big_Nose", "Male"), ("Attractive", "Young"), ("Male", "Young"))
PAIRS += (("Young", "Male"), ("Black_Hair", "Male"), ("Smiling", "Male&Young"), ("Male", "Ethnicity"))
SIX = ("erm", "cvar-dro", "eiil", "lff", "jtt", "maple")
SEVEN = (*SIX, "diga-one-stage")  # with ours
PAPERS_SEVEN = (*SIX, "diga-paper")  # the rows of the papers' own table
TABLE = (*SIX, "diga-paper", "diga-one-stage", "diga-one-stage-words", *ORACLES)  # of the large table, in its order
SWEPT = (*SEVEN, "diga-one-stage-words", "group-dro", "diga-paper", "erm-pretrained")  # over the biases
CRITTERS = ("Dog", "Dark_Fur")
UNTUNED = ("erm", "balanced", "diga-one-stage", "group-dro")  # on critters
BIASES = (1 / 4, 1 / 9, 1 / 19, 1 / 49, 1.0)
# The papers' four (lambda_2, lambda_1), for a sum over 20,000 images; ours are per image.
STRENGTHS = ((2e-4, 5e3), (1e-4, 1e4), (2e-5, 5e4), (1e-6, 1e6))
DEGREES = ((0.5, 1.0), (1.0, 3.0), (3.0, 5.0))  # ranges of shifts, in standard deviations
SEARCH = store.FOLDER / "search.jsonl"


@dataclass(frozen=True)
class Cell(runner.Cell):
    """One training run of a table: everything that decides its result.

    `seed` is of the training, and of the split if `split_seed` is None; `changes` are arguments of the method, as JSON;
    `variant` tells cells of a row apart; `strengths` are weak and strong, per image: its direction is of these alone.
    """

    record = store.Result
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
    strengths: tuple[float, float] | None = None
    split_seed: int | None = None
    dataset: str = "rendered-faces"

    case = property(lambda self: self.variant)
    version = property(lambda self: rows.version(self.row))

    def setting(self) -> Setting:
        """What it is run on: the last two are remembered, and their codes and directions are kept on disk."""
        split = (self.target, self.spurious, self.bias, self.seed if self.split_seed is None else self.split_seed)
        return _setting(*split, self.profile, self.pool_seed, self.n_validation, self.dataset)


@lru_cache(maxsize=2)
def _setting(target, spurious, bias, seed, profile, pool_seed, n_validation, dataset) -> Setting:
    kept = {"target": target, "spurious": spurious, "bias": bias, "seed": seed, "pool_seed": pool_seed}
    sizes = SIZES[profile]
    kept |= {"sizes": asdict(sizes), "dataset": dataset}
    pool, counts = data.load(dataset, sizes.pool, seed=pool_seed), (sizes.n_train, n_validation, sizes.n_test_per_group)
    split = data.biased_split(pool, target, spurious, bias, *counts, seed)
    return Setting(pool, split, latent.load(GENERATORS[dataset]), sizes, profile, seed, kept)


def trained(cell: Cell):
    """Train and test one cell; returns the result and the model."""
    s, direction, extra = cell.setting(), ROWS[cell.row].direction, {"cell": asdict(cell)}
    if cell.strengths:
        s, sums = replace(s), [strength * len(s.codes) for strength in cell.strengths]  # per image there, a sum here
        found = s.combined(s.scorer if direction == "judged" else None, sums)
        vars(s)[direction] = found  # in the place of what the setting itself would find
        extra["coefficient"] = float(found.coefficient)
    if direction:
        extra["direction"] = direction_scores(s, getattr(s, direction))
    return rows.run(s, cell.row, cell.seed, cell.variant, extra, **json.loads(cell.changes))


def compute(cell: Cell) -> store.Result:
    """Train and test one cell."""
    return trained(cell)[0]


TELLS = 0.01  # of accuracy, one standard error of some 900 validation photographs: less is chance
NEARER = {"head_degrees": [2, 3, 4]}  # in standard deviations; the official numbers are lengths
# As many trials of hyperparameters for each, the published values first.
TRIALS = {
    "erm": [{}, {"lr": 1e-3}, {"lr": 1e-2}, {"weight_decay": 0.5}],
    "cvar-dro": [{"alpha": 0.1}, {"alpha": 0.2}, {"alpha": 0.5}, {"alpha": 0.8}],
    "eiil": [{"penalty_weight": w} for w in (1e4, 1e2, 1.0)] + [{"penalty_weight": 1.0, "first_epochs": 2}],
    "lff": [{"q": 0.7}, {"q": 0.5}, {"q": 0.3}, {"q": 0.9}],
    "jtt": [{"upweight": 20}, {"upweight": 5}, {"upweight": 5, "first_epochs": 2}, {"upweight": 20, "first_epochs": 2}],
    "maple": [{"share": 0.3}, {"share": 0.5}, {"share": 0.8}, {"share": 0.5, "first_epochs": 2}],
    "diga-paper": [{}, {"head_degrees": [3, 4, 5]}, NEARER, NEARER | {"degrees": [2, 3, 4]}],
    "diga-one-stage": [{}, {"invariance": 0.1}, {"invariance": 2.0}, {"originals": 0.25}],
    "group-dro": [{}, {"step_size": 0.1}, {"weight_decay": 0.05}, {"step_size": 0.1, "weight_decay": 0.05}],
}


def chosen(row: str, path: Path = SEARCH) -> str:
    """The arguments, as JSON, of a method's best trial; a method that was not searched has none."""
    found = store.kept(path)
    found = found[found["row"] == (ROWS[row].searched or row)]
    return best_trial(found)["extra"]["cell"]["changes"] if len(found) else "{}"


def chosen_on_photographs(row: str, path: Path = store.FOLDER / "real_photos_search.jsonl") -> str:
    """Those `chosen` on faces, unless a trial on photographs is better by more than ``TELLS``: then the best."""
    tried, before = store.kept(path, store.PhotoResult), chosen(row)
    tried = tried[tried["row"] == (ROWS[row].searched or row)]
    score = {extra["cell"]["changes"]: extra["validation"] for extra in tried["extra"]}
    best = max(score, key=score.get, default=before)
    return best if score.get(best, 0) > score.get(before, 0) + TELLS else before


def best_trial(tried: pd.DataFrame) -> pd.Series:
    """The first result with the best accuracy on the biased validation set."""
    return tried.iloc[int(np.argmax([extra["validation"] for extra in tried["extra"]]))]


def _every(pairs, names, seeds, profile, biases=(1 / 9,), changes=chosen, **same) -> list[Cell]:
    """Every pair, bias and row, seed after seed; by default as many seeds as the profile has."""
    rows.check(names)
    valid = [CRITTERS] if "dataset" in same else PAIRS
    if wrong := [pair for pair in map(tuple, pairs) if pair not in valid]:
        words = ", ".join(map("/".join, valid))
        raise ValueError(f"{'/'.join(wrong[0])} is not a pair of the table; valid pairs: {words}.")
    seeds = range(SIZES[profile].seeds) if seeds is None else seeds
    with_changes = {row: changes(row) for row in names}
    return [
        Cell(row, *pair, bias=bias, seed=seed, profile=profile, changes=with_changes[row], **same)
        for seed, pair, bias, row in itertools.product(seeds, pairs, biases, names)
    ]


def fair_training(pairs=PAIRS[:1], rows=FAIR, seeds=None, bias=1 / 9, profile="full") -> list[Cell]:
    """The rows of page 04 with their defaults: one split, and trainings with several seeds."""
    return _every(pairs, rows, seeds, profile, [bias], lambda row: "{}", split_seed=0)


def classification(pairs=PAIRS, rows=TABLE, seeds=None, profile="table") -> list[Cell]:
    """The main table: every pair with every method."""
    return _every(pairs, rows, seeds, profile)


def search(pairs=PAIRS[:1], rows=tuple(TRIALS), seeds=(0,), profile="table") -> list[Cell]:
    """Four trials of each method, on a population of faces that no table uses."""
    same = {"pool_seed": SEARCH_POOL_SEED, "n_validation": 1_000}  # biased like training
    return trials(_every(pairs, rows, seeds, profile, **same))


def trials(cells: list[Cell]) -> list[Cell]:
    """The trials of their rows in the place of cells."""
    every = [(cell, *one) for cell in cells for one in enumerate(TRIALS[cell.row])]
    return [replace(cell, changes=json.dumps(more, sort_keys=True), variant=f"trial {k}") for cell, k, more in every]


def bias_sweep(pairs=PAIRS[:1], rows=SWEPT, seeds=None, profile="table") -> list[Cell]:
    """Every method over the biases that `classification` does not have. At bias 1, ERM is the balanced oracle."""
    return _every(pairs, rows, seeds, profile, [bias for bias in BIASES if bias != 1 / 9])


def strengths(pairs=PAIRS[:1], seeds=None, profile="table") -> list[Cell]:
    """DiGA (paper) with the papers' four pairs of strengths, and DiGA in one stage with shifts of three ranges."""
    cells = [one for cell in _every(pairs, ["diga-paper"], seeds, profile) for one in with_strengths(cell)]
    for cell in _every(pairs, ["diga-one-stage"], seeds, profile):
        for degrees in DEGREES:
            changes = json.loads(cell.changes) | {"edit": "shift", "degrees": degrees}
            variant = "degrees {:g} to {:g}".format(*degrees)
            cells.append(replace(cell, changes=json.dumps(changes, sort_keys=True), variant=variant))
    return cells


def with_strengths(cell: Cell) -> list[Cell]:
    """A cell with directions from each of the papers' ``STRENGTHS``."""
    per_image = {f"strengths {weak:g}, {strong:g}": (weak / 20_000, strong / 20_000) for weak, strong in STRENGTHS}
    return [replace(cell, variant=words, strengths=two) for words, two in per_image.items()]


def beyond_faces(rows=SEVEN + ORACLES, seeds=(0, 1, 2), bias=1 / 9, profile="quick") -> list[Cell]:
    """Cats and dogs, on which nothing is tuned: competitors have the settings that their search on faces chose."""
    same = {"dataset": "rendered-critters", "changes": lambda row: "{}" if row in UNTUNED else chosen(row)}
    return _every([CRITTERS], rows, seeds, profile, [bias], **same)


GRIDS = (fair_training, classification, search, bias_sweep, strengths, beyond_faces)
STUDIES = tuple(runner.Study(grid.__name__, grid, compute) for grid in GRIDS)
