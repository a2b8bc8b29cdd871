"""Name the spurious attribute: ask an image-text model which word goes along with the target and is no part of it.

A word that goes along with the target may be a shortcut or a part of it, and the generator tells which: it moves faces
along the word, and the model says whether the target changes, too. The word that is left gives pseudo groups. No group
label is used, but the model has learned from captions that speak of the spurious attribute too.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from torch import Tensor

from diga_lib.directions.boundaries import Direction, as_tensor, shift_within
from diga_lib.directions.clusters import FisherReader, Sides, labels, pseudo_groups
from diga_lib.image_text import PROMPTS

# Set on a population that no table uses, between the words that are right and those that are not.
MOST = 2  # words
TOLD = 0.2  # association from which a word goes along with the target
LEAST = 0.82  # of the first word's association, for a second once the first is balanced; wrong ones reach 0.80
FEWEST = 10  # images of a pseudo group: from fewer its place cannot be told, and each would be shown too often
CERTAIN = 0.9  # probability of a certain reading; 1 less that for the other side
ALIKE = 0.3  # certainty; a word that the target decides has below 0.2, the right ones above 0.4
MOVES = 0.3  # change of its own reading; a word that the generator cannot move has below 0.22, the right ones above 0.5
PART = 0.45  # of that change; the target's reading follows its parts by more than half, the right ones by at most 0.35


@dataclass(frozen=True)
class Named:
    """The spurious attributes that were named: the most telling first, none if none goes along with the target.

    The table has a row per candidate: attribute, association (with the target; largest in size first), certainty,
    change and target (how far its own and the target's reading change along its direction), and whether it passes.
    """

    words: tuple[str, ...]
    probability: np.ndarray  #: (N, words), how surely each training image shows each word
    directions: tuple[Direction, ...]  #: within classes, between the images that show a word and those that don't
    table: pd.DataFrame

    def sides(self, coordinate: np.ndarray, target: np.ndarray) -> Sides:
        """Say on which side the training images lie, with coordinates (N, words) and targets (N,): as the words say."""
        if self.probability.shape != coordinate.shape or not coordinate.size:
            have = f"{len(self.words)} words were read on {len(self.probability)} images"
            raise ValueError(f"{have}; there must be at least one, read on these {len(coordinate)} training images.")
        words = zip(coordinate.T, self.probability.T, strict=True)
        means = np.array([_means_of_sides(along, target, q > 0.5) for along, q in words]).mean(1)  # (word, side)
        return Sides(self.probability, means[:, 1] - means[:, 0], means.mean(1), True)


def _means_of_sides(along: np.ndarray, target: np.ndarray, high: np.ndarray) -> list[list[float]]:
    return [[along[(target == k) & (high == j)].mean() for j in (0, 1)] for k in (0, 1)]


def read_words(images, model) -> pd.DataFrame:
    """Zero-shot probabilities (N, words) of every word of ``PROMPTS`` on images (N, 3, H, W), encoded once."""
    seen, scale = model.encode_image(images), float(model.scale)
    read = {w: (scale * seen @ model.encode_text(list(pair)).T).softmax(1)[:, 1].numpy() for w, pair in PROMPTS.items()}
    return pd.DataFrame(read)


def changed_words(found: Direction, codes: Tensor, generator, model, degree: float = 3.0) -> pd.DataFrame:
    """Name a direction: how far each word of an image-text model moves where codes move from -degree to +degree.

    The answer has columns attribute and change (mean difference of zero-shot probabilities, in [-1, 1]), largest first.
    """
    low, high = (read_words(generator.decode(found.move(codes, sign * degree)), model).mean() for sign in (-1, 1))
    table = (high - low).rename_axis("attribute").reset_index(name="change")
    return table.sort_values("change", key=np.abs, ascending=False, ignore_index=True)


def association(probability: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """How far a word goes along with the target: ``2 AUC - 1``, in [-1, 1]; 0 if it tells nothing."""
    return 2 * roc_auc_score(target, probability, sample_weight=weight) - 1


def word_direction(codes: Tensor, target: np.ndarray, probability: np.ndarray) -> Direction:
    """Find the shift in W+ that goes with a word, shown with `probability` (N,), inside the target classes.

    One degree is one standard deviation among images of one class and one side; 0 lies between the sides.
    """
    y, q = labels(target), np.asarray(probability, np.float64)
    side, reading = (q > 0.5).astype(int), FisherReader(codes, 2 * y + (q > 0.5))
    shift = shift_within(reading.z, y, q)
    reader = reading.reader(shift)
    along, shape = reading.z @ reader, codes.shape[1:]
    means = np.array(_means_of_sides(along, y, side))
    scale = float((along - means[y, side]).std())
    return Direction(as_tensor(shift, shape), as_tensor(reader, shape), scale, float(means.mean()))


def certainty(target: np.ndarray, probability: np.ndarray) -> float:
    """Whether both sides of a word are really there in both classes, or in one of them only misread.

    Of a side's readings (N,) a share is certain (``CERTAIN``); the answer, in [0, 1], is the smaller of the classes'
    shares divided by the larger, for the side where that is less.
    """
    probability = np.asarray(probability)
    group, certain = pseudo_groups(target, probability[:, None]), np.abs(probability - 0.5) > CERTAIN - 0.5
    shares = np.array([certain[group == k].mean() if (group == k).any() else 0.0 for k in range(4)]).reshape(2, 2)
    return float((shares.min(1) / np.maximum(shares.max(1), 1e-9)).min())


def name_spurious(
    codes: Tensor, target, images, generator, model, name: str, degree: float = 3.0, seen: int = 200
) -> Named:
    """Name the spurious attributes of a training set, and find where they lie in W+.

    Of the words that pass these tests, the first is the one that goes along with the target most:

    - **It is there**, in each of the four pseudo groups that it makes: at least ``FEWEST`` images, with a `certainty`
      of at least ``ALIKE``. Hardly a man wears make-up, so where Male is the target, make-up cannot be told from it.
    - **It can be moved**: along its own direction, from -`degree` to +`degree`, its reading changes by ``MOVES``.
    - **It is no part of the target**: the target's reading changes by less than ``PART`` of that. Lipstick is a part of
      make-up; age is none of a smile.

    Once the images are weighted so that this word no longer goes along with the target, a second one counts if it still
    does, at least ``LEAST`` times as much as the first did.

    Parameters
    ----------
    codes, target, images : Tensor (N, levels, width), array (N,), uint8 array (N, 3, H, W)
        The training set.
    generator, model, name : object with ``decode``, ImageText, str
        The name is the target's, a word of ``PROMPTS``; it is no candidate.
    degree, seen : float, int
        So many training images, drawn at random, are edited by so many standard deviations to read words in them.
    """
    if name not in PROMPTS:
        raise ValueError(f"The image-text model is not asked for {name!r}; valid names: {', '.join(PROMPTS)}.")
    y, read = labels(target), read_words(images, model)
    some = codes[np.random.default_rng(0).choice(len(codes), min(seen, len(codes)), replace=False)]

    def groups(chosen):
        return pseudo_groups(y, read[chosen].to_numpy())

    def enough(chosen):
        return np.bincount(groups(chosen), minlength=2 ** (1 + len(chosen))).min() >= FEWEST

    lines, found = [], {}
    for word in read.columns.drop(name):
        along = association(read[word], y)
        if abs(along) >= TOLD and enough([word]):
            found[word] = word_direction(codes, y, read[word].to_numpy())
            changes = changed_words(found[word], some, generator, model, degree).set_index("attribute")["change"]
            lines.append((word, along, certainty(y, read[word]), changes[word], changes[name]))
    table = pd.DataFrame(lines, columns=["attribute", "association", "certainty", "change", "target"])
    free = table["target"].abs() < PART * table["change"]
    table["passes"] = (table["certainty"] >= ALIKE) & (table["change"] >= MOVES) & free
    table = table.sort_values("association", key=np.abs, ascending=False, ignore_index=True)
    chosen, weight, least = [], np.ones(len(y)), TOLD
    while len(chosen) < MOST:
        left = [word for word in table["attribute"][table["passes"]] if word not in chosen and enough([*chosen, word])]
        along = [abs(association(read[word], y, weight)) for word in left]
        if not left or max(along) < least:
            break
        chosen.append(left[int(np.argmax(along))])
        least = max(least, LEAST * max(along))
        group = groups(chosen)
        weight = 1 / np.bincount(group)[group]
    probability = read[chosen].to_numpy().copy()  # torch reads no view whose columns run backwards
    return Named(tuple(chosen), probability, tuple(found[word] for word in chosen), table)
