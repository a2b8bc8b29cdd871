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
from torch.nn import functional as F

from diga_lib import latent
from diga_lib.action_units import DUAL, SINGLE, UNITS, data, editors, judge
from diga_lib.action_units.measures import agreement, leakage
from diga_lib.latent import checkpoints
from diga_lib.pages import plots
from diga_lib.studies import runner, store
from diga_lib.studies.editor_training import LINEAR, descend, disguised_films, linear_steps, trained

HELD_OUT = 15  # training subjects from this number on choose the editors' gains and the linear ones' strengths
NETWORKS = {DUAL: "dual", SINGLE: "single"}
ORACLES = ("oracle: the renderer", "oracle, painted by the generator", "dual branch, intensities read from pictures")
ESTIMATORS = ("estimator: real frames", "estimator: real and edited frames")
PER_UNIT = ("icc", "mae", "icc_strict", "leakage", "moved")
COLUMNS = (*PER_UNIT, "identity", "image_distance")
STEPPED = 32  # faces of which every unit is stepped by one


class Exam:
    """N pairs of frames of one film, no source twice, of people whom no editor has seen, and who judges edits.

    `judge` knows the generator's softness and reads units beside `neutral` (N, 3, R, R), the source at rest, as drawn;
    `strict` reads a picture alone, and has seen the renderer's only. `gallery` (N, E) is the judge's mean embedding of
    each face's subject in other light.
    """

    def __init__(self, frames: data.Sequences, generator, judge, strict, seed: int = 0, pairs: int = 240):
        self.generator, self.judge = generator, judge
        self.read_strictly = lambda images: strict.read(images)[list(UNITS)].to_numpy()
        rng = np.random.default_rng(seed)
        source = rng.choice(len(frames), pairs, replace=False)
        target = np.array([rng.choice(np.flatnonzero(frames.film == frames.film[row])) for row in source])
        self.source, self.target = frames.select(source), frames.select(target)
        self.neutral = data.redraw(self.source, np.zeros_like(self.source.intensities))
        self.codes, self.target_codes = generator.encode(frames.images[np.concatenate([source, target])]).split(pairs)
        some = frames.select(np.arange(0, len(frames), 10))
        embedded = judge.recognise(some.images)
        elsewhere = ((some.subject == frames.subject[row]) & (some.film != frames.film[row]) for row in source)
        means = (embedded[rows].mean(0) for rows in elsewhere)
        self.gallery = np.stack([mean / np.linalg.norm(mean) for mean in means])


def judged(images, given: Exam) -> pd.DataFrame:
    """Measure pictures (N, 3, R, R), uint8 or float, of an exam's targets: a row for each unit.

    icc and mae are between asked-for and obtained intensities, icc_strict is the strict reader's, identity the mean
    cosine to the subject's gallery, image_distance the mean difference of pixels to the renderer's picture, of 255.
    """
    asked = given.target.intensities
    icc, mae = agreement(asked, given.judge.read(images, given.neutral))
    strict, _ = agreement(asked, given.read_strictly(images))
    identity = float((given.judge.recognise(images) * given.gallery).sum(1).mean())
    pixels = torch.as_tensor(images).float() * (1 if isinstance(images, np.ndarray) else 255)
    distance = float((pixels - torch.from_numpy(given.target.images).float()).abs().mean())
    units = pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae, "icc_strict": strict})
    return units.assign(identity=identity, image_distance=distance)


def measure(edit: editors.Edit, given: Exam, steps: bool = True) -> pd.DataFrame:
    """Measure an editor, which is told the source's true intensities, as `judged` does, and by the seconds for a face.

    With `steps`, also when a unit is stepped by 1: moved, its mean change, and leakage, the others' mean absolute one.
    """
    true, asked = (torch.from_numpy(part.intensities) for part in (given.source, given.target))
    started = time.perf_counter()
    images = given.generator.decode(edit(given.codes, true, asked))
    seconds = (time.perf_counter() - started) / len(images)
    table = judged(images, given).assign(seconds=seconds)
    if not steps:
        return table
    codes, neutral, true = given.codes[:STEPPED], given.neutral[:STEPPED], true[:STEPPED]

    def read(target):
        return given.judge.read(given.generator.decode(edit(codes, true, target)), neutral)

    before, leaks, moves = read(true), [], []
    for unit in range(len(UNITS)):
        sign = torch.where(true[:, unit] < 2.5, 1.0, -1.0)  # towards the middle, where there is room
        stepped = true.clone()
        stepped[:, unit] += sign
        after = read(stepped)
        leaks.append(leakage(before, after, unit))
        moves.append(float(((after - before)[:, unit] * sign.numpy()).mean()))
    return table.assign(leakage=leaks, moved=moves)


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


def _exam(frames: data.Sequences, seed: int, **options) -> Exam:
    return Exam(frames, latent.load(), judge.load(), latent.load_factor_network(), seed, **options)


@lru_cache
def _best(name: str) -> tuple[float, float]:
    """The strength and the gain that do best on the held-out subjects, when the other 15 have trained an editor."""
    frames, scores = data.load("train"), {}
    given = _exam(frames.select(frames.subject >= HELD_OUT), seed=99, pairs=150)
    for chosen in itertools.product((1e-2, 1.0) if name in LINEAR[:2] else (0.0,), (1.0, 1.2, 1.5, 2.0)):
        scores[chosen] = measure(editor_of(name, 0, chosen, HELD_OUT), given, steps=False)["icc"].mean()
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


def estimate(edited: bool, seed: int) -> pd.DataFrame:
    """Train a reader of codes on the 18 subjects and test it on the 9 others, the paper's last check: unit, icc, mae.

    With `edited`, each real picture is also given the labels of a random frame of any subject, and added.
    """
    generator, rng = latent.load(), np.random.default_rng(seed)
    frames, test = data.load("train"), data.load("test")
    codes, labels = generator.encode(frames.images), torch.from_numpy(frames.labels)
    if edited:
        source, asked = rng.permutation(len(frames)), rng.permutation(len(frames))
        painted = generator.decode(editor_of(DUAL, seed)(codes[source], labels[source], labels[asked]))
        codes, labels = torch.cat([codes, generator.encode(painted)]), torch.cat([labels, labels[asked]])
    torch.manual_seed(seed)
    estimator, rows_rng = editors.LabelDecoder(), torch.Generator().manual_seed(seed)

    def loss():
        rows = torch.randint(len(codes), (128,), generator=rows_rng)
        noisy = codes[rows] + 0.15 * torch.randn(codes[rows].shape, generator=rows_rng)
        return F.smooth_l1_loss(estimator(noisy), labels[rows])

    descend(estimator, loss, 600)
    icc, mae = agreement(test.intensities, estimator(generator.encode(test.images)).numpy())
    return pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae})


def cells(seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """Every editor, oracle and estimator with every seed."""
    return [Cell(name, seed) for seed in seeds for name in ("no edit", *LINEAR, *NETWORKS, *ORACLES, *ESTIMATORS)]


def compute(cell: Cell) -> Record:
    """Measure one cell; what has to be trained is trained first, and kept in the cache."""
    if cell.editor in ESTIMATORS:
        table = estimate(cell.editor == ESTIMATORS[1], cell.seed)
    else:
        given = _exam(data.load("test"), cell.seed)
        if cell.editor == ORACLES[0]:
            table = judged(given.target.images, given)
        elif cell.editor == ORACLES[1]:
            table = judged(given.generator.decode(given.target_codes), given)
        elif cell.editor == ORACLES[2]:
            edit, pictures = editor_of(DUAL, cell.seed), (given.source.images, given.target.images)
            codes = editors.transfer(edit, given.read_strictly, given.codes, *pictures)
            table = judged(given.generator.decode(codes), given)
        else:
            table = measure(editor_of(cell.editor, cell.seed), given)
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
    """Average over units, then a `plots.summary` over seeds, an editor a row."""
    per_seed = results.groupby(["editor", "seed"], sort=False)[list(columns)].mean()
    return plots.summary(per_seed.reset_index(), "editor", columns)


def ship(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """Write the weights of all editors of seed 0 (float16, one file); trainings are kept where the study keeps them."""
    linear = {editor: editor_of(editor, 0) for editor in LINEAR}
    state = {editor: edit.gain * edit.steps for editor, edit in linear.items()}
    networks = {part: editor_of(editor, 0) for editor, part in NETWORKS.items()} | {"reader": trained("reader", 0)}
    for part, network in networks.items():
        state |= {f"{part}.{key}": value for key, value in network.state_dict().items()}
    return [checkpoints.save_state(name, state, folder)]
