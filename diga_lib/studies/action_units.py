"""Edits of people whom no editor has seen, measured against what was asked for: the numbers of page 09."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from diga_lib import latent
from diga_lib.action_units import DUAL, SINGLE, data, editors, judge
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.editors import LabelDecoder
from diga_lib.action_units.measures import agreement, leakage
from diga_lib.latent import checkpoints
from diga_lib.studies import runner, store
from diga_lib.studies.editor_training import LINEAR, descend, disguised_films, linear_steps, trained

HELD_OUT = 15  # training subjects from this number on choose the editors' gains and the linear ones' strengths
STRENGTHS, GAINS = (1e-2, 1.0), (1.0, 1.2, 1.5, 2.0)
NETWORKS = {DUAL: "dual", SINGLE: "single"}
ORACLES = ("oracle: the renderer", "oracle, painted by the generator", "dual branch, intensities read from pictures")
ESTIMATORS = {"estimator: real frames": 0.0, "estimator: real and edited frames": 1.0}  # edited for each real frame
PER_UNIT = ("icc", "mae", "icc_strict", "leakage", "moved")
COLUMNS = (*PER_UNIT, "identity", "image_distance")
PAIRS, STEPPED = 240, 32  # edits that are judged, and faces of which every unit is stepped by one


@dataclass(frozen=True)
class Exam:
    """N faces of people whom no editor has seen, what is asked for, and who judges."""

    source: data.Sequences
    target: data.Sequences  # frames of the same films: what the renderer itself draws when asked
    neutral: np.ndarray  # uint8 (N, 3, R, R): the source at rest, as drawn, beside which the judge reads
    codes: Tensor  # (N, levels, width)
    target_codes: Tensor
    gallery: np.ndarray  # (N, E): the judge's mean embedding of each face's subject, in other light
    generator: latent.Generator
    judge: judge.Judges  # they know the generator's softness
    strict: latent.FactorNetwork  # reads units from a picture alone, and has seen pictures of the renderer only


def exam(frames: data.Sequences, generator, judge, strict, seed: int = 0, pairs: int = PAIRS) -> Exam:
    """Draw pairs of frames of one film, all different sources, of subjects that no editor has seen."""
    rng = np.random.default_rng(seed)
    source = rng.choice(len(frames), pairs, replace=False)
    target = np.array([rng.choice(np.flatnonzero(frames.film == frames.film[row])) for row in source])
    some = frames.select(np.arange(0, len(frames), 10))
    embedded = judge.recognise(some.images)
    elsewhere = ((some.subject == frames.subject[row]) & (some.film != frames.film[row]) for row in source)
    gallery = np.stack([mean / np.linalg.norm(mean) for mean in (embedded[rows].mean(0) for rows in elsewhere)])
    codes = generator.encode(frames.images[np.concatenate([source, target])])
    asked = frames.select(source), frames.select(target)
    neutral = data.redraw(asked[0], np.zeros_like(asked[0].intensities))
    return Exam(*asked, neutral, codes[:pairs], codes[pairs:], gallery, generator, judge, strict)


@torch.no_grad()
def measure(edit: editors.Edit, given: Exam, steps: bool = True) -> pd.DataFrame:
    """Measure an editor, which is told the source's true intensities, as `judged` does, and by the seconds for a face.

    With `steps`, also by what happens when one unit is stepped by 1: leakage, the mean absolute change of the others,
    and moved, the mean change of the unit itself.
    """
    true, asked = (torch.from_numpy(part.intensities) for part in (given.source, given.target))
    started = time.perf_counter()
    images = given.generator.decode(edit(given.codes, true, asked))
    seconds = (time.perf_counter() - started) / len(images)
    table = judged(images, given).assign(seconds=seconds)
    return table.assign(**_steps(edit, given, true[:STEPPED])) if steps else table


def judged(images, given: Exam) -> pd.DataFrame:
    """Measure pictures (N, 3, R, R), uint8 or float, of an exam's targets: a row for each unit.

    icc and mae are between asked-for and obtained intensities, icc_strict is the strict reader's, identity the mean
    cosine to the subject's gallery, image_distance the mean difference of pixels to the renderer's picture, of 255.
    """
    asked = given.target.intensities
    icc, mae = agreement(asked, given.judge.read(images, given.neutral))
    strict, _ = agreement(asked, given.strict.read(images)[list(UNITS)].to_numpy())
    identity = float((given.judge.recognise(images) * given.gallery).sum(1).mean())
    pixels = torch.as_tensor(images).float() * (1 if isinstance(images, np.ndarray) else 255)
    distance = float((pixels - torch.from_numpy(given.target.images).float()).abs().mean())
    units = pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae, "icc_strict": strict})
    return units.assign(identity=identity, image_distance=distance)


def _steps(edit: editors.Edit, given: Exam, true: Tensor) -> dict[str, list[float]]:
    def read(target):
        edited = given.generator.decode(edit(given.codes[:STEPPED], true, target))
        return given.judge.read(edited, given.neutral[:STEPPED])

    before, leaks, moves = read(true), [], []
    for unit in range(len(UNITS)):
        sign = torch.where(true[:, unit] < 2.5, 1.0, -1.0)  # towards the middle, where there is room
        stepped = true.clone()
        stepped[:, unit] += sign
        after = read(stepped)
        leaks.append(leakage(before, after, unit))
        moves.append(float(((after - before)[:, unit] * sign.numpy()).mean()))
    return {"leakage": leaks, "moved": moves}


class Record(store.Record):
    """What was measured of an editor, oracle or estimator of one seed, by action unit; None if it was not."""

    KEY = ("editor", "seed")
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
class Cell(runner.Cell):
    """An editor, oracle or estimator of one seed."""

    record = Record
    editor: str
    seed: int


@lru_cache
def _best(name: str) -> tuple[float, float]:
    """The strength and the gain that do best on the held-out subjects, when the other 15 have trained an editor."""
    frames, scores = data.load("train"), {}
    given = _exam(frames.select(frames.subject >= HELD_OUT), seed=99, pairs=150)
    for chosen in itertools.product(STRENGTHS if name in LINEAR[:2] else (0.0,), GAINS):
        scores[chosen] = measure(editor_of(name, 0, chosen, HELD_OUT), given, steps=False)["icc"].mean()
    print(name, ", ".join(f"{key}: {score:.3f}" for key, score in scores.items()), flush=True)
    return max(scores, key=scores.get)


def editor_of(name: str, seed: int, chosen: tuple | None = None, subjects: int = data.TRAIN_SUBJECTS) -> editors.Edit:
    """An editor, by its name in the tables, of a seed and the first subjects; `chosen` are strength and gain."""
    if name == "no edit":
        return editors.no_edit
    strength, gain = chosen or _best(name)
    if name in NETWORKS:
        edit = trained(NETWORKS[name], seed, subjects)
    else:
        edit = editors.Linear(linear_steps(disguised_films(subjects), name, strength))
    edit.gain = torch.tensor(gain)
    return edit


def _exam(frames: data.Sequences, seed: int, **options) -> Exam:
    return exam(frames, latent.load(), judge.load(), latent.load_factor_network(), seed, **options)


def _pictures(cell: Cell, given: Exam):
    """What no editor can beat, and AUEditNet without labels: pictures of the exam's targets."""
    if cell.editor == ORACLES[0]:
        return given.target.images
    if cell.editor == ORACLES[1]:
        return given.generator.decode(given.target_codes)

    def read(images):
        return given.strict.read(images)[list(UNITS)].to_numpy()

    edit, pictures = editor_of(DUAL, cell.seed), (given.source.images, given.target.images)
    return given.generator.decode(editors.transfer(edit, read, given.codes, *pictures))


def estimate(edited: float, seed: int, steps: int = 600) -> pd.DataFrame:
    """Train a reader of codes on the 18 subjects and test it on the 9 others, the paper's last check: unit, icc, mae.

    So many `edited` pictures for each real one are added, each with the labels of a random frame of any subject.
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

    estimator = descend(estimator, loss, steps, "estimator")
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
        given, oracle = _exam(data.load("test"), cell.seed), cell.editor in ORACLES
        table = judged(_pictures(cell, given), given) if oracle else measure(editor_of(cell.editor, cell.seed), given)
    table = table.set_index("unit")
    fields = {name: table[name].to_dict() if name in PER_UNIT else float(table[name].iloc[0]) for name in table}
    return Record(version=cell.version, **cell.key, **fields)


STUDY = runner.Study("action_units", cells, compute)


def read(path: Path = STUDY.path) -> pd.DataFrame:
    """The results: a row for each editor, seed and unit."""
    kept = store.kept(path, Record)
    for name in PER_UNIT:
        kept[name] = [[each.get(unit) for unit in UNITS] for each in kept[name].map(lambda x: x or {})]
    rows = kept.assign(unit=[UNITS] * len(kept)).explode(["unit", *PER_UNIT], ignore_index=True)
    return rows[["editor", "seed", "unit", *COLUMNS]].astype(dict.fromkeys(COLUMNS, float))


def summary(results: pd.DataFrame, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Average over units, then a `store.summary` over seeds, an editor a row."""
    per_seed = results.groupby(["editor", "seed"], sort=False)[list(columns)].mean()
    return store.summary(per_seed.reset_index(), "editor", columns)


def ship(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """Write the weights of all editors of seed 0 (float16, one file); trainings are kept where the study keeps them."""
    linear = {editor: editor_of(editor, 0) for editor in LINEAR}
    state = {editor: edit.gain * edit.steps for editor, edit in linear.items()}
    networks = {part: editor_of(editor, 0) for editor, part in NETWORKS.items()}
    for part, network in (networks | {"reader": trained("reader", 0)}).items():
        state |= {f"{part}.{key}": value for key, value in network.state_dict().items()}
    return [checkpoints.save_state(name, state, folder)]
