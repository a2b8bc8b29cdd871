"""Edits of unseen subjects, measured against what was asked for; the raw results behind the page."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from diga_lib import runtime
from diga_lib.action_units import data
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.editors import Edit
from diga_lib.action_units.measures import agreement, leakage
from diga_lib.metrics import mean_and_interval

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results" / "action_units.jsonl"
PAIRS, STEPPED = 240, 32  # edits that are judged, and faces of which every unit is stepped by one
COLUMNS = ("icc", "mae", "icc_strict", "leakage", "moved", "identity", "image_distance")


@dataclass(frozen=True)
class Exam:
    """Unseen faces, what is asked for, and who judges.

    Attributes
    ----------
    source, target : Sequences
        Frames (N, ...) of the same films: the target frame is what the renderer itself draws when asked.
    neutral : uint8 array (N, 3, R, R)
        The same people in the same light with all units at 0, as the renderer draws them: what the judge compares with.
    codes, target_codes : Tensor (N, levels, width)
    gallery : array (N, E)
        The judge's mean embedding of each face's subject, in other light.
    """

    source: data.Sequences
    target: data.Sequences
    neutral: np.ndarray
    codes: Tensor
    target_codes: Tensor
    gallery: np.ndarray
    generator: object
    judge: object
    strict: object


def exam(frames: data.Sequences, generator, judge, strict, seed: int = 0, pairs: int = PAIRS) -> Exam:
    """Draw pairs of frames of one film, all different sources.

    Parameters
    ----------
    frames : Sequences
        Of subjects that no editor has seen.
    generator : object with ``encode`` and ``decode``
    judge : Judges
        Read units beside a neutral face, and recognise people; they know the generator's softness.
    strict : FactorNetwork
        Reads units from a picture alone, has seen pictures of the renderer only.
    seed, pairs : int
    """
    rng = np.random.default_rng(seed)
    source = rng.choice(len(frames), pairs, replace=False)
    target = np.array([rng.choice(np.flatnonzero(frames.film == frames.film[row])) for row in source])
    some = frames.select(np.arange(0, len(frames), 10))
    embedded = judge.recognise(some.images)
    galleries = {
        film: embedded[(some.subject == film // data.SESSIONS) & (some.film != film)].mean(0)
        for film in np.unique(frames.film)
    }
    gallery = np.stack([galleries[film] / np.linalg.norm(galleries[film]) for film in frames.film[source]])
    codes = generator.encode(frames.images[np.concatenate([source, target])])
    asked = frames.select(source), frames.select(target)
    neutral = data.redraw(asked[0], np.zeros_like(asked[0].intensities))
    return Exam(*asked, neutral, codes[:pairs], codes[pairs:], gallery, generator, judge, strict)


def measure(edit: Edit, given: Exam, steps: bool = True) -> pd.DataFrame:
    """Measure an editor.

    Parameters
    ----------
    edit : callable
        Codes, source and target intensities to codes. It is told the source's true intensities.
    given : Exam
    steps : bool
        Whether single units are stepped too, for leakage.

    Returns
    -------
    DataFrame
        A row for each unit: icc and mae between asked-for and obtained intensities, icc_strict the same by the
        strict reader, leakage (mean absolute change of the other units when this one is stepped by 1) and moved
        (mean change of the stepped unit itself), identity (mean cosine to the subject's gallery), image_distance
        (mean absolute difference of pixels to the renderer's picture, of 255), seconds to edit and paint a face.
    """
    true, asked = (torch.from_numpy(part.intensities) for part in (given.source, given.target))
    started = time.perf_counter()
    with torch.no_grad():
        images = given.generator.decode(edit(given.codes, true, asked))
    seconds = (time.perf_counter() - started) / len(images)
    table = judged(images, given)
    if steps:
        table = table.assign(**_steps(edit, given, true))
    return table.assign(seconds=seconds)


def judged(images, given: Exam) -> pd.DataFrame:
    """Measure pictures (N, 3, R, R), uint8 or float, that show or should show an exam's targets."""
    asked = given.target.intensities
    icc, mae = agreement(asked, given.judge.read(images, given.neutral))
    embedding = given.judge.recognise(images)
    strict, _ = agreement(asked, given.strict.read(images)[list(UNITS)].to_numpy())
    pixels = torch.as_tensor(images).float() * (1 if isinstance(images, np.ndarray) else 255)
    distance = (pixels - torch.from_numpy(given.target.images).float()).abs().mean()
    return pd.DataFrame(
        {
            "unit": UNITS,
            "icc": icc,
            "mae": mae,
            "icc_strict": strict,
            "identity": float((embedding * given.gallery).sum(1).mean()),
            "image_distance": float(distance),
        }
    )


def _steps(edit: Edit, given: Exam, true: Tensor) -> dict[str, list[float]]:
    codes, true = given.codes[:STEPPED], true[:STEPPED]
    read = lambda target: given.judge.read(given.generator.decode(edit(codes, true, target)), given.neutral[:STEPPED])
    leaks, moves = [], []
    with torch.no_grad():
        before = read(true)
        for unit in range(len(UNITS)):
            sign = torch.where(true[:, unit] < 2.5, 1.0, -1.0)  # towards the middle, where there is room
            stepped = true.clone()
            stepped[:, unit] += sign
            after = read(stepped)
            leaks.append(leakage(before, after, unit))
            moves.append(float(((after - before)[:, unit] * sign.numpy()).mean()))
    return {"leakage": leaks, "moved": moves}


def identity_scale(frames: data.Sequences, judge, seed: int = 0, pairs: int = 2000) -> dict[str, np.ndarray]:
    """Cosines of the judge's embeddings for pairs of frames: the same subject in other light, and two subjects."""
    rng = np.random.default_rng(seed)
    embedded = judge.recognise(frames.images)
    one, other = rng.integers(0, len(frames), (2, pairs))
    cosine = (embedded[one] * embedded[other]).sum(1)
    same = frames.subject[one] == frames.subject[other]
    return {"same": cosine[same & (frames.film[one] != frames.film[other])], "different": cosine[~same]}


# ------------------------------------------------------------------------------------------------------ on disk
def write(rows: pd.DataFrame, editor: str, seed: int, path: Path = RESULTS) -> None:
    """Add an editor's rows to the raw results, replacing what is there of the same editor and seed; whole or not at all."""
    kept = [line for line in _lines(path) if (line["editor"], line["seed"]) != (editor, seed)]
    stamp = {"commit": runtime.commit(), "versions": runtime.versions()}
    new = [{"editor": editor, "seed": seed} | row | stamp for row in rows.to_dict("records")]
    with runtime.atomic_write(path) as temporary:
        text = "".join(json.dumps(line, allow_nan=True) + "\n" for line in kept + new)
        Path(temporary).write_text(text.replace("NaN", "null"))


def read(path: Path = RESULTS) -> pd.DataFrame:
    """The raw results: a row for each editor, seed and unit."""
    return pd.DataFrame(_lines(path))


def done(editor: str, seed: int, path: Path = RESULTS) -> bool:
    """Whether an editor's results with this seed are there."""
    return any((line["editor"], line["seed"]) == (editor, seed) for line in _lines(path))


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


def summary(results: pd.DataFrame, columns=COLUMNS) -> pd.DataFrame:
    """Mean over units, then mean and 95 % interval over seeds, an editor a row in order of appearance.

    Returns
    -------
    DataFrame
        Columns (name, "mean") and (name, "interval"), as :func:`diga_lib.studies.store.formatted` takes them.
    """
    per_seed = results.groupby(["editor", "seed"], sort=False)[list(columns)].mean()
    rows = {}
    for editor in results["editor"].unique():
        parts = per_seed.loc[editor]
        rows[editor] = {}
        for name in columns:  # what was not measured (steps of the renderer itself) stays empty
            known = parts[name].dropna()
            values = mean_and_interval(known) if len(known) else (np.nan, np.nan)
            rows[editor] |= dict(zip([(name, "mean"), (name, "interval")], values))
    return pd.DataFrame(rows).T.rename_axis("editor")
