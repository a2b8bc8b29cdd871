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
from diga_lib.action_units.editors import Edit, Linear
from diga_lib.action_units.measures import agreement
from diga_lib.action_units.model import LabelDecoder
from diga_lib.latent import checkpoints
from diga_lib.metrics import mean_and_interval
from diga_lib.studies import editor_training, store
from diga_lib.studies.edit_exam import Exam, exam, judged, measure
from diga_lib.studies.runner import Study

HELD_OUT = 15  # training subjects from this number on choose the editors' gains and the linear ones' strengths
STRENGTHS, GAINS = (1e-2, 1.0), (1.0, 1.2, 1.5, 2.0)
PARTS = {DUAL: "dual", SINGLE: "single"}
LINEAR = ("linear", "linear, others projected out", "linear, least squares")
ORACLES = ("oracle: the renderer", "oracle, painted by the generator", "dual branch, intensities read from pictures")
ESTIMATORS = {"estimator: real frames": 0.0, "estimator: real and edited frames": 1.0}  # edited for each real frame
PER_UNIT = ("icc", "mae", "icc_strict", "leakage", "moved")
COLUMNS = (*PER_UNIT, "identity", "image_distance")


class Record(store.Record):
    """One editor of one seed. What was not measured is None.

    Parameters
    ----------
    editor : str
        Its name in the tables, or what stands in its place: an oracle, an estimator.
    seed : int
        Of its training and of the exam's pairs.
    icc, mae, icc_strict, leakage, moved : dict of str to float
        By action unit, see `edit_exam.measure`.
    identity, image_distance, seconds : float
        As there.
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
    """An editor, oracle or estimator, and a seed."""

    editor: str
    seed: int
    version: ClassVar[int] = 1

    @property
    def key(self) -> dict:
        """The fields by which its record is found."""
        return asdict(self)


@lru_cache(maxsize=2)
def _exam(seed: int) -> Exam:
    return exam(data.load("test"), latent.load(), judge.load(), latent.load_factor_network(), seed)


@lru_cache(maxsize=1)
def _held_out() -> Exam:
    """What the editors' settings are chosen by: frames of three training subjects."""
    frames = data.load("train")
    frames = frames.select(frames.subject >= HELD_OUT)
    return exam(frames, latent.load(), judge.load(), latent.load_factor_network(), seed=99, pairs=150)


def _best(options: dict) -> object:
    """The key of the editor with the best mean ICC on the held-out subjects."""
    scores = {key: measure(edit, _held_out(), steps=False)["icc"].mean() for key, edit in options.items()}
    print(", ".join(f"{key}: {score:.3f}" for key, score in scores.items()), flush=True)
    return max(scores, key=scores.get)


def _with_gain(network, gain: float) -> Edit:
    network.gain.fill_(gain)
    return network


@lru_cache(maxsize=2)
def _gain(part: str) -> float:
    """The gain of a learned editor that does best on the held-out subjects, when the other 15 have trained it."""
    return _best({gain: _with_gain(editor_training.trained(part, 0, HELD_OUT), gain) for gain in GAINS})


@lru_cache(maxsize=3)
def _linear(name: str) -> Linear:
    """A linear editor, with the strength and the gain that do best on the held-out subjects."""

    def steps(films, strength):
        if name == "linear, least squares":
            return editor_training.joint_steps(films)
        normals = editor_training.boundary_normals(films, strength)
        normals = editor_training.project_out_others(normals) if "projected" in name else normals
        return editor_training.scaled_steps(films, normals)

    films = editor_training.disguised_films()
    inner = films.select(films.subject < HELD_OUT)
    tried = {strength: steps(inner, strength) for strength in (STRENGTHS if "squares" not in name else (0.0,))}
    strength, gain = _best({(s, gain): Linear(found, gain) for s, found in tried.items() for gain in GAINS})
    return Linear(steps(films, strength), gain)


def editor_of(name: str, seed: int) -> Edit:
    """An editor, by its name in the tables, as it was trained with a seed."""
    if name in LINEAR:
        return _linear(name)
    part = PARTS.get(name)
    return _with_gain(editor_training.trained(part, seed), _gain(part)) if part else editors.no_edit


def _pictures(oracle: str, given: Exam, seed: int):
    """What no editor can beat, and AUEditNet without labels: pictures of the exam's targets."""
    if oracle == ORACLES[0]:
        return given.target.images
    if oracle == ORACLES[1]:
        return given.generator.decode(given.target_codes)

    def read(images):
        return given.strict.read(images)[list(UNITS)].to_numpy()

    pictures = given.source.images, given.target.images
    return given.generator.decode(editors.transfer(editor_of(DUAL, seed), read, given.codes, *pictures))


def estimate(editor: Edit, generator, share: float, seed: int, steps: int = 600) -> pd.DataFrame:
    """Train an estimator on the 18 subjects and test it on the 9 others: the paper's last check.

    The estimator is a small network that reads a face's code, which the generator's encoder finds in the picture.
    Edited faces are painted and encoded again, so they come to it as pictures do.

    Parameters
    ----------
    editor : callable
        Trained on the same 18 subjects.
    generator : object with ``encode`` and ``decode``
    share : float
        Edited pictures for each real one: each frame gets the labels of a random frame of any subject.
    seed, steps : int

    Returns
    -------
    DataFrame
        unit, icc and mae on the test subjects' real frames.
    """
    frames, test, rng = data.load("train"), data.load("test"), np.random.default_rng(seed)
    codes, labels = generator.encode(frames.images), torch.from_numpy(frames.labels)
    if count := int(share * len(frames)):
        source, asked = rng.permutation(len(frames))[:count], rng.permutation(len(frames))[:count]
        with torch.no_grad():
            edited = generator.decode(editor(codes[source], labels[source], labels[asked]))
        codes, labels = torch.cat([codes, generator.encode(edited)]), torch.cat([labels, labels[asked]])
    torch.manual_seed(seed)
    estimator, rows_rng = LabelDecoder(), torch.Generator().manual_seed(seed)

    def loss():
        rows = torch.randint(len(codes), (128,), generator=rows_rng)
        noisy = codes[rows] + 0.15 * torch.randn(codes[rows].shape, generator=rows_rng)
        return F.smooth_l1_loss(estimator(noisy), labels[rows])

    estimator = editor_training.descend(estimator, loss, steps, "estimator")
    icc, mae = agreement(test.intensities, estimator(generator.encode(test.images)).numpy())
    return pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae})


# ------------------------------------------------------------------------------------------------- the study
def cells(seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """Every editor, oracle and estimator with every seed."""
    return [Cell(name, seed) for seed in seeds for name in ("no edit", *LINEAR, *PARTS, *ORACLES, *ESTIMATORS)]


@torch.no_grad()
def _table(cell: Cell) -> pd.DataFrame:
    given = _exam(cell.seed)
    if cell.editor in ORACLES:
        return judged(_pictures(cell.editor, given, cell.seed), given)
    return measure(editor_of(cell.editor, cell.seed), given)


def compute(cell: Cell) -> Record:
    """Measure one cell; what has to be trained is trained first, and kept in the cache."""
    if cell.editor in ESTIMATORS:
        table = estimate(editor_of(DUAL, cell.seed), latent.load(), ESTIMATORS[cell.editor], cell.seed)
    else:
        table = _table(cell)
    table = table.set_index("unit")
    fields = {name: table[name].to_dict() if name in PER_UNIT else float(table[name].iloc[0]) for name in table}
    return Record(version=cell.version, **cell.key, **fields)


STUDY = Study("action_units", cells, compute, Record)


def read(path: Path = STUDY.path) -> pd.DataFrame:
    """The results: a row for each editor, seed and unit."""
    kept = store.latest(store.read(path, Record), ("editor", "seed"))
    rows = [
        {"editor": row.editor, "seed": row.seed, "unit": unit, "identity": row.identity}
        | {name: getattr(row, name)[unit] if isinstance(getattr(row, name), dict) else None for name in PER_UNIT}
        | {"image_distance": row.image_distance}
        for row in kept.itertuples()
        for unit in UNITS
    ]
    return pd.DataFrame(rows)


def summary(results: pd.DataFrame, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Mean over units, then mean and 95 % interval over seeds, an editor a row, as `store.formatted` takes them."""
    per_seed = results.groupby(["editor", "seed"], sort=False)[list(columns)].mean()
    rows = {}
    for editor, parts in per_seed.groupby("editor", sort=False):
        known = {name: parts[name].dropna() for name in columns}  # what was not measured stays empty
        pairs = {name: mean_and_interval(x) if len(x) else (np.nan, np.nan) for name, x in known.items()}
        rows[editor] = {(name, part): pairs[name][k] for name in columns for k, part in enumerate(("mean", "interval"))}
    return pd.DataFrame(rows).T.rename_axis("editor")


def ship(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """Write the weights of all editors of seed 0 (float16, one file); trainings are kept where the study keeps them."""
    state = {linear: _linear(linear).gain * _linear(linear).steps for linear in LINEAR}
    networks = {part: editor_of(editor, 0) for editor, part in PARTS.items()}
    for part, network in (networks | {"reader": editor_training.trained("reader", 0)}).items():
        state |= {f"{part}.{key}": value for key, value in network.state_dict().items()}
    return [checkpoints.save_state(name, state, folder)]
