"""The exam of page 09's editors: pairs of frames of people whom no editor has seen, and who judges the edits."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from diga_lib import latent
from diga_lib.action_units import data
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.editors import Edit
from diga_lib.action_units.judge import Judges
from diga_lib.action_units.measures import agreement, leakage

PAIRS, STEPPED = 240, 32  # edits that are judged, and faces of which every unit is stepped by one


@dataclass(frozen=True)
class Exam:
    """N faces of people whom no editor has seen, what is asked for, and who judges."""

    source: data.Sequences
    target: data.Sequences  # frames of the same films: what the renderer itself draws when asked
    neutral: (
        np.ndarray
    )  # uint8 (N, 3, R, R): the source at rest, as the renderer draws it, beside which the judge reads
    codes: Tensor  # (N, levels, width)
    target_codes: Tensor
    gallery: np.ndarray  # (N, E): the judge's mean embedding of each face's subject, in other light
    generator: latent.Generator
    judge: Judges  # they know the generator's softness
    strict: latent.FactorNetwork  # reads units from a picture alone, and has seen pictures of the renderer only


def exam(frames: data.Sequences, generator, judge, strict, seed: int = 0, pairs: int = PAIRS) -> Exam:
    """Draw pairs of frames of one film, all different sources, of subjects that no editor has seen."""
    rng = np.random.default_rng(seed)
    source = rng.choice(len(frames), pairs, replace=False)
    target = np.array([rng.choice(np.flatnonzero(frames.film == frames.film[row])) for row in source])
    some = frames.select(np.arange(0, len(frames), 10))
    embedded, gallery = judge.recognise(some.images), []
    for row in source:
        elsewhere = (some.subject == frames.subject[row]) & (some.film != frames.film[row])
        mean = embedded[elsewhere].mean(0)
        gallery.append(mean / np.linalg.norm(mean))
    codes = generator.encode(frames.images[np.concatenate([source, target])])
    asked = frames.select(source), frames.select(target)
    neutral = data.redraw(asked[0], np.zeros_like(asked[0].intensities))
    return Exam(*asked, neutral, codes[:pairs], codes[pairs:], np.stack(gallery), generator, judge, strict)


@torch.no_grad()
def measure(edit: Edit, given: Exam, steps: bool = True) -> pd.DataFrame:
    """Measure an editor, which is told the source's true intensities: the columns of `judged`, and three more.

    seconds to edit and paint a face and, with `steps`, what happens when one unit is stepped by 1: leakage, the mean
    absolute change of the others, and moved, the mean change of the unit itself.
    """
    true, asked = (torch.from_numpy(part.intensities) for part in (given.source, given.target))
    started = time.perf_counter()
    images = given.generator.decode(edit(given.codes, true, asked))
    seconds = (time.perf_counter() - started) / len(images)
    table = judged(images, given).assign(seconds=seconds)
    return table.assign(**_steps(edit, given, true[:STEPPED])) if steps else table


def judged(images, given: Exam) -> pd.DataFrame:
    """Measure pictures (N, 3, R, R), uint8 or float, that show or should show an exam's targets.

    A row for each unit: icc and mae between asked-for and obtained intensities, icc_strict the same by the strict
    reader, identity (mean cosine to the subject's gallery) and image_distance (mean absolute difference of pixels to
    the renderer's picture, of 255).
    """
    asked = given.target.intensities
    icc, mae = agreement(asked, given.judge.read(images, given.neutral))
    strict, _ = agreement(asked, given.strict.read(images)[list(UNITS)].to_numpy())
    identity = float((given.judge.recognise(images) * given.gallery).sum(1).mean())
    pixels = torch.as_tensor(images).float() * (1 if isinstance(images, np.ndarray) else 255)
    distance = float((pixels - torch.from_numpy(given.target.images).float()).abs().mean())
    units = pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae, "icc_strict": strict})
    return units.assign(identity=identity, image_distance=distance)


def _steps(edit: Edit, given: Exam, true: Tensor) -> dict[str, list[float]]:
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


def identity_scale(frames: data.Sequences, judge, seed: int = 0, pairs: int = 2000) -> dict[str, np.ndarray]:
    """Cosines of the judge's embeddings for pairs of frames: the same subject in other light, and two subjects."""
    rng, embedded = np.random.default_rng(seed), judge.recognise(frames.images)
    one, other = rng.integers(0, len(frames), (2, pairs))
    cosine = (embedded[one] * embedded[other]).sum(1)
    same = frames.subject[one] == frames.subject[other]
    return {"same": cosine[same & (frames.film[one] != frames.film[other])], "different": cosine[~same]}
