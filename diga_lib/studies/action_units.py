"""Edits of people whom no editor has seen, measured against what was asked for: the numbers of page 09."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from diga_lib import latent
from diga_lib.action_units import DUAL, SINGLE, data, editors, judge
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.measures import agreement
from diga_lib.action_units.model import LabelDecoder
from diga_lib.latent import checkpoints
from diga_lib.metrics import mean_and_interval
from diga_lib.studies import editor_training, store
from diga_lib.studies.edit_exam import Exam, exam, judged, measure
from diga_lib.studies.runner import Study

HELD_OUT = 15  # training subjects from this number on choose the editors' gains and the linear ones' strengths
STRENGTHS, GAINS = (1e-2, 1.0), (1.0, 1.2, 1.5, 2.0)
NETWORKS = {DUAL: "dual", SINGLE: "single"}
LINEAR = ("linear", "linear, others projected out", "linear, least squares")
ORACLES = ("oracle: the renderer", "oracle, painted by the generator", "dual branch, intensities read from pictures")
ESTIMATORS = {"estimator: real frames": 0.0, "estimator: real and edited frames": 1.0}  # edited for each real frame
PER_UNIT = ("icc", "mae", "icc_strict", "leakage", "moved")
COLUMNS = (*PER_UNIT, "identity", "image_distance")


class Record(store.Record):
    """What `edit_exam` measured of one editor of one seed (of its training and the exam's pairs); None if it was not.

    In the place of an editor may stand an oracle or an estimator. Dictionaries are by action unit.
    """

    editor: str
    seed: int
    icc: dict[str, float]
    mae: dict[str, float]
    icc_strict: dict[str, float] | None = None
    leakage: dict[str, float] | None = None
    moved: dict[str, float] | None = None
    identity: float | None = None
    image_distance: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Cell:
    """What a record is found by."""

    editor: str
    seed: int
    version: ClassVar[int] = 1
    key = property(asdict)


def _made(name: str, seed: int, strength: float, subjects: int = data.TRAIN_SUBJECTS) -> editors.Edit:
    """An editor, by its name in the tables, of the first training subjects."""
    if name in NETWORKS:
        return editor_training.trained(NETWORKS[name], seed, subjects)
    films = editor_training.disguised_films(subjects)
    if name == LINEAR[2]:
        return editors.Linear(editor_training.joint_steps(films))
    normals = editor_training.boundary_normals(films, strength)
    normals = editor_training.project_out_others(normals) if name == LINEAR[1] else normals
    return editors.Linear(editor_training.scaled_steps(films, normals))


@lru_cache
def _best(name: str) -> tuple[float, float]:
    """The strength and the gain that do best on the held-out subjects, when the other 15 have trained an editor."""
    frames, scores = data.load("train"), {}
    given = _exam(frames.select(frames.subject >= HELD_OUT), seed=99, pairs=150)
    for strength in STRENGTHS if name in LINEAR[:2] else (0.0,):
        edit = _made(name, 0, strength, HELD_OUT)
        for gain in GAINS:
            edit.gain = torch.tensor(gain)
            scores[strength, gain] = measure(edit, given, steps=False)["icc"].mean()
    print(name, ", ".join(f"{key}: {score:.3f}" for key, score in scores.items()), flush=True)
    return max(scores, key=scores.get)


def editor_of(name: str, seed: int) -> editors.Edit:
    """An editor, by its name in the tables, as it was trained with a seed."""
    if name == "no edit":
        return editors.no_edit
    strength, gain = _best(name)
    edit = _made(name, seed, strength)
    edit.gain = torch.tensor(gain)
    return edit


def _exam(frames: data.Sequences, seed: int, **options) -> Exam:
    return exam(frames, latent.load(), judge.load(), latent.load_factor_network(), seed, **options)


def _pictures(oracle: str, given: Exam, seed: int):
    """What no editor can beat, and AUEditNet without labels: pictures of the exam's targets."""
    if oracle == ORACLES[0]:
        return given.target.images
    codes = given.target_codes
    if oracle == ORACLES[2]:
        pictures = given.codes, given.source.images, given.target.images
        codes = editors.transfer(
            editor_of(DUAL, seed), lambda x: given.strict.read(x)[list(UNITS)].to_numpy(), *pictures
        )
    return given.generator.decode(codes)


def estimate(edited: float, seed: int, steps: int = 600) -> pd.DataFrame:
    """Train an estimator on the 18 subjects and test it on the 9 others, the paper's last check: unit, icc, mae.

    It is a small network that reads a face's code, which the generator's encoder finds in the picture. So many edited
    pictures for each real one are painted and encoded again; each gets the labels of a random frame of any subject.
    """
    generator, rng = latent.load(), np.random.default_rng(seed)
    frames, test = data.load("train"), data.load("test")
    codes, labels = generator.encode(frames.images), torch.from_numpy(frames.labels)
    if count := int(edited * len(frames)):
        source, asked = rng.permutation(len(frames))[:count], rng.permutation(len(frames))[:count]
        with torch.no_grad():
            painted = generator.decode(editor_of(DUAL, seed)(codes[source], labels[source], labels[asked]))
        codes, labels = torch.cat([codes, generator.encode(painted)]), torch.cat([labels, labels[asked]])
    torch.manual_seed(seed)
    estimator, rows_rng = LabelDecoder(), torch.Generator().manual_seed(seed)

    def loss():
        rows = torch.randint(len(codes), (128,), generator=rows_rng)
        noisy = codes[rows] + 0.15 * torch.randn(codes[rows].shape, generator=rows_rng)
        return F.smooth_l1_loss(estimator(noisy), labels[rows])

    estimator = editor_training.descend(estimator, loss, steps, "estimator")
    icc, mae = agreement(test.intensities, estimator(generator.encode(test.images)).numpy())
    return pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae})


def cells(seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """Every editor, oracle and estimator with every seed."""
    return [Cell(name, seed) for seed in seeds for name in ("no edit", *LINEAR, *NETWORKS, *ORACLES, *ESTIMATORS)]


def compute(cell: Cell) -> Record:
    """Measure one cell; what has to be trained is trained first, and kept in the cache."""
    if cell.editor in ESTIMATORS:
        table = estimate(ESTIMATORS[cell.editor], cell.seed)
    else:
        given = _exam(data.load("test"), cell.seed)
        if cell.editor in ORACLES:
            table = judged(_pictures(cell.editor, given, cell.seed), given)
        else:
            table = measure(editor_of(cell.editor, cell.seed), given)
    table = table.set_index("unit")
    fields = {name: table[name].to_dict() if name in PER_UNIT else float(table[name].iloc[0]) for name in table}
    return Record(version=cell.version, **cell.key, **fields)


STUDY = Study("action_units", cells, compute, Record)


def read(path: Path = STUDY.path) -> pd.DataFrame:
    """The results: a row for each editor, seed and unit."""
    kept = store.latest(store.read(path, Record), ("editor", "seed"))
    for name in PER_UNIT:
        kept[name] = [[each.get(unit) for unit in UNITS] for each in kept[name].map(lambda x: x or {})]
    rows = kept.assign(unit=[UNITS] * len(kept)).explode(["unit", *PER_UNIT], ignore_index=True)
    return rows[["editor", "seed", "unit", *COLUMNS]].astype(dict.fromkeys(COLUMNS, float))


def summary(results: pd.DataFrame, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Mean over units, then mean and 95 % interval over seeds, an editor a row, as `store.formatted` takes them."""

    def interval(values):
        return np.nan if values.isna().all() else mean_and_interval(values.dropna())[1]

    per_seed = results.groupby(["editor", "seed"], sort=False)[list(columns)].mean()
    return per_seed.groupby("editor", sort=False).agg(["mean", interval])


def ship(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """Write the weights of all editors of seed 0 (float16, one file); trainings are kept where the study keeps them."""
    linear = {editor: editor_of(editor, 0) for editor in LINEAR}
    state = {editor: edit.gain * edit.steps for editor, edit in linear.items()}
    networks = {part: editor_of(editor, 0) for editor, part in NETWORKS.items()}
    for part, network in (networks | {"reader": editor_training.trained("reader", 0)}).items():
        state |= {f"{part}.{key}": value for key, value in network.state_dict().items()}
    return [checkpoints.save_state(name, state, folder)]
