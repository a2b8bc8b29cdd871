"""Name the spurious attribute: ask an image-text model which word explains what was found.

DiGA's own use of an image-text model is to choose c. The same model can do more: of all the attribute words it knows,
one changes most along the direction that was found *and* goes along with the target in the training set. Reading that
word on every training image gives pseudo groups where the latents alone show no clusters, as for an attribute that is
many small cues. No group label is used, but the model has learned from captions that speak of the spurious attribute
too, so this is more help than the latents alone give: tables show both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from diga_lib.directions import Direction, _Reader, _unit, spurious_direction
from diga_lib.image_text import PROMPTS

MOST = 2  # words
LEAST = 0.6  # of the first word's score, that a second one must reach once the first is balanced
FEWEST = 10  # images of a pseudo group: from fewer its place cannot be told, and each would be shown too often


@dataclass(frozen=True)
class Named:
    """The spurious attributes that were named.

    Attributes
    ----------
    words : tuple of str
        Attribute names, the most telling first; empty if none goes along with the target.
    probability : array (N, words)
        How surely each training image shows each word.
    directions : tuple of Direction
        One for each word: the shift in W+ between the images that show it and those that don't, within classes.
    table : DataFrame
        A row per candidate: change (along the combined direction, in [-1, 1]), association (with the target, in
        [-1, 1]), score (size of change x square of association), largest first.
    """

    words: tuple[str, ...]
    probability: np.ndarray
    directions: tuple[Direction, ...]
    table: pd.DataFrame


def read_words(images, model) -> pd.DataFrame:
    """Read every attribute word of ``PROMPTS`` on images, which are encoded once.

    Parameters
    ----------
    images : array or Tensor (N, 3, H, W)
        uint8, or floating point in [0, 1].
    model : ImageText

    Returns
    -------
    DataFrame (N, words)
        Zero-shot probabilities in [0, 1].
    """
    seen, scale = model.encode_image(images), float(model.scale)
    return pd.DataFrame({word: (scale * seen @ model.encode_text(list(pair)).T).softmax(1)[:, 1].numpy()
                         for word, pair in PROMPTS.items()})


def changed_words(found: Direction, codes: Tensor, generator, model, degree: float = 3.0) -> pd.DataFrame:
    """Name a direction: how far each attribute word of an image-text model moves from -degree to +degree.

    Parameters
    ----------
    found : Direction
    codes : Tensor (N, levels, width)
        Of the images that are edited.
    generator : object with ``decode``
    model : ImageText
    degree : float
        Standard deviations moved to either side.

    Returns
    -------
    DataFrame
        Columns attribute, change (mean difference of zero-shot probabilities, in [-1, 1]), largest first.
    """
    low, high = (read_words(generator.decode(found.move(codes, sign * degree)), model).mean() for sign in (-1, 1))
    table = (high - low).rename_axis("attribute").reset_index(name="change")
    return table.sort_values("change", key=np.abs, ascending=False, ignore_index=True)


def association(probability: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """How far a word goes along with the target: ``2 AUC - 1``, in [-1, 1]; 0 if it tells nothing."""
    return 2 * roc_auc_score(target, probability, sample_weight=weight) - 1


def word_direction(codes: Tensor, target: np.ndarray, probability: np.ndarray) -> Direction:
    """The shift in W+ that goes with a word inside the target classes, in which the target has no part.

    Parameters
    ----------
    codes, target : (N, levels, width) and (N,)
    probability : array (N,)
        Of the word, in [0, 1].

    Returns
    -------
    Direction
        One degree is one standard deviation among images of one class and one side; 0 lies between the sides.
    """
    y, q = np.asarray(target), np.asarray(probability, np.float64)
    reading = _Reader(codes, 2 * y + (q > 0.5))
    shift = sum((y == k).mean() * np.cov(np.c_[q[y == k], reading.z[y == k]].T, bias=True)[0, 1:] for k in (0, 1))
    shift /= np.linalg.norm(shift)
    reader = reading.reader(shift)
    along, side = reading.z @ reader, (q > 0.5).astype(int)
    means = np.array([[along[(y == k) & (side == j)].mean() for j in (0, 1)] for k in (0, 1)])
    as_tensor = lambda v: torch.from_numpy(v.astype(np.float32)).view(codes.shape[1:])  # noqa: E731
    return Direction(as_tensor(shift), as_tensor(reader), float((along - means[y, side]).std()), float(means.mean()))


def name_spurious(codes: Tensor, target: np.ndarray, images, generator, model, name: str, plain: Direction | None = None,
                  degree: float = 3.0, seen: int = 200, seed: int = 0) -> Named:
    """Name the spurious attributes of a training set, and find where they lie in W+.

    The first word is the one with the largest score: how much it changes along the combined direction, times the square
    of how well it goes along with the target. Then the images are weighted so that this word no longer goes along with
    the target; a second word counts if its score is still at least ``LEAST`` of the first's. A word is a candidate only
    if every pseudo group that it would make has ``FEWEST`` images: hardly a woman has a beard, so where Male is the target
    a beard cannot be told from it, and where Male is the first word the women with beards would be three misread faces.

    Parameters
    ----------
    codes, target, images : (N, levels, width), (N,) and uint8 (N, 3, H, W)
        The training set.
    generator : object with ``decode``
    model : ImageText
    name : str
        The target's attribute name, which is no candidate.
    plain : Direction, optional
        A combined direction that the image-text model has already chosen; else it is found here.
    degree : float
        Standard deviations of the edits in which words are read.
    seen : int
        How many training images are edited.
    seed : int
        Chooses them.

    Returns
    -------
    Named
    """
    y = np.asarray(target)
    if plain is None:
        plain = spurious_direction(codes, y, generator, lambda x: model.zero_shot(x, name), refined=False)
    some = np.random.default_rng(seed).choice(len(codes), min(seen, len(codes)), replace=False)
    read = read_words(images, model)
    changed = changed_words(plain, codes[some], generator, model, degree)
    groups = lambda chosen: pseudo_groups(y, read[chosen].to_numpy())  # noqa: E731
    enough = lambda chosen: np.bincount(groups(chosen), minlength=2 ** (1 + len(chosen))).min() >= FEWEST  # noqa: E731
    table = changed[[word != name and enough([word]) for word in changed["attribute"]]].reset_index(drop=True)
    table["association"] = [association(read[word], y) for word in table["attribute"]]
    table["score"] = _score(table["change"], table["association"])
    words, weight, first = [], np.ones(len(y)), 0.0
    for _ in range(MOST):
        left = table[[word not in words and enough([*words, word]) for word in table["attribute"]]]
        now = _score(left["change"], [association(read[word], y, weight) for word in left["attribute"]])
        if not len(now) or now.max() < LEAST * first:
            break
        words.append(left["attribute"].iloc[int(np.argmax(now))])
        first = max(first, now.max())
        group = groups(words)
        weight = 1 / np.bincount(group)[group]
    probability = read[words].to_numpy().copy()  # torch reads no view whose columns run backwards
    found = tuple(word_direction(codes, y, p) for p in probability.T)
    return Named(tuple(words), probability, found, table.sort_values("score", ascending=False, ignore_index=True))


def pseudo_groups(target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Number the groups (N,) of target (N,) and sides (N, words): bit 0 is the target, then a bit for each word."""
    sides = np.c_[np.asarray(target), np.asarray(probability) > 0.5].astype(int)
    return sides @ (2 ** np.arange(sides.shape[1]))


def _score(change, association) -> np.ndarray:
    return np.abs(np.asarray(change)) * np.square(np.asarray(association))
