"""The paper's combination: two boundaries, regularised strongly and weakly, isolate the spurious attribute.

Throughout, a *direction* is a vector in W+ (levels, width) along which faces are moved, and *degrees* are given in
standard deviations of the training latents along it. Codes are (N, levels, width), targets (N,) of 0 and 1.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from diga_lib.directions.clusters import Clusters, FisherReader, Sides, fit_clusters, labels

COEFFICIENTS = tuple(np.round(np.arange(0.0, 1.55, 0.1), 1))  # candidates for c; the paper's begin at 0.5
STRENGTHS = (1e-4, 1e-2, 1e-1, 1.0, 1e2)  # candidates for both lambdas, per training image: lambda / N
PAPER_STRENGTHS = (1e-4, 1e4)
HELD_OUT = 0.0125  # gain in images left out: an attribute's clusters mostly have .015 to .07, others up to .0115
SCAN = 2000  # images on which candidates are compared without a scorer


@dataclass(frozen=True)
class Direction:
    """A direction in W+, and how to read where a face lies along it.

    A code's coordinate is ``<reader, code>``, where ``<reader, direction> = 1``; the paper's plain direction is its own
    reader. The scale, one degree, is the standard deviation of the training latents' coordinate; the center lies
    halfway between the two clusters, or at the mean if none were fitted.
    """

    direction: Tensor  #: (levels, width), the unit vector along which faces are moved
    reader: Tensor
    scale: float
    center: float = 0.0
    coefficient: float = float("nan")  #: c and the two strengths of the combination; NaN if it is none
    strong: float = float("nan")
    weak: float = float("nan")
    scores: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)  #: what the choice of c was based on

    @property
    def directions(self) -> list[Self]:
        """Itself, as several words have several directions."""
        return [self]

    def coordinate(self, codes: Tensor) -> Tensor:
        """Coordinate (N,) of codes, in standard deviations from the center."""
        return (torch.einsum("nlw,lw->n", codes, self.reader) - self.center) / self.scale

    def move(self, codes: Tensor, degrees: Tensor | float) -> Tensor:
        """Move codes by so many standard deviations, (N,) or one for all."""
        degrees = torch.as_tensor(degrees, dtype=codes.dtype).expand(len(codes))
        return codes + degrees[:, None, None] * self.scale * self.direction

    def place(self, codes: Tensor, coordinates: Tensor) -> Tensor:
        """Move codes so that they come to lie at the given coordinates (N,): an intervention, not a shift."""
        return self.move(codes, coordinates - self.coordinate(codes))

    def sides(self, coordinate: np.ndarray, target: np.ndarray) -> Sides:
        """Read on which side images with coordinates (N, 1) and targets (N,) lie, by clusters inside the classes."""
        found = fit_clusters(coordinate[:, 0], target)
        return Sides(found.probability[:, None], np.array([found.gap]), np.array([found.offset.mean()]), found.clear)


def boundary(codes: Tensor, target: np.ndarray, strength: float) -> Tensor:
    """Unit normal (levels, width) of the regularised boundary between the two target classes, towards target 1.

    It is ``argmin_w  sum_i log(1 + exp(-y_i <w, z_i>)) + strength / 2 |w|^2`` (DiGA, arXiv 2403.06606, section 3.2;
    derived in notebook 02_biased_directions). The strength, lambda > 0, counts against a sum over N images, so its
    meaning depends on N and on the codes' scale.
    """
    if not strength > 0:
        raise ValueError(f"strength is {strength}; it must be above 0.")
    model = LogisticRegression(C=1 / strength, max_iter=1000, tol=1e-3)
    model.fit(codes.flatten(1).numpy(), labels(target))
    normal = torch.from_numpy(model.coef_[0].astype(np.float32)).view(codes.shape[1:])
    return normal / normal.norm()


def biased_directions(codes: Tensor, target: np.ndarray, strengths: Sequence[float]) -> list[Tensor]:
    """One `boundary` per strength: a strong one tends to the difference of the class means, which holds the spurious
    shift, a weak one to the discriminative direction."""
    return [boundary(codes, target, strength) for strength in strengths]


def combine(strong: Tensor, weak: Tensor, coefficient: float) -> Tensor:
    """``normalise(n_strong - c n_weak)``: what the biased boundary holds beyond the discriminative one."""
    rest = strong - coefficient * weak
    return rest / rest.norm()


def paper_direction(codes: Tensor, direction: Tensor) -> Direction:
    """Wrap a unit vector; one degree is one standard deviation of the codes along it."""
    along = torch.einsum("nlw,lw->n", codes, direction)
    return Direction(direction, direction, float(along.std()), float(along.mean()))


def agreement(found: Direction, codes: Tensor, target: np.ndarray, generator, scorer, degree: float = 5.0) -> float:
    """Share, in [0, 1], of images moved by `degree` up and down, on which a scorer says what the target's *label* says.

    How it saw the image before the edit does not count. Generator and scorer are as for `spurious_direction`.
    """
    y = np.asarray(target) == 1
    return float(np.mean([(scorer(generator.decode(found.move(codes, sign * degree))) > 0.5) == y for sign in (-1, 1)]))


def spurious_direction(
    codes: Tensor,
    target: np.ndarray,
    generator=None,
    scorer: Callable | None = None,
    strengths: Sequence[float] | None = None,
    coefficients: Sequence[float] | None = None,
    degree: float = 5.0,
    images: int = 100,
    refined: bool | None = None,
) -> Direction:
    """Find the direction of the spurious attribute: ``n_strong - c n_weak`` with the best c and strengths.

    With a scorer this is the paper's: of its c, that after whose edits an image-text model still sees the target most
    often. Without one it is ours: the combination that splits each class into the clearest two clusters, sharpened.

    Parameters
    ----------
    codes, target : Tensor (N, levels, width), array (N,) of 0 and 1
        Training latents and labels.
    generator, scorer : object with ``decode``, callable; both optional
        The scorer maps float images (N, 3, R, R) in [0, 1] to P(target = 1), array (N,), as an image-text model says.
    strengths, coefficients : sequence of float, optional
        Candidates for both lambdas, counted as in `boundary` (the strong one is the larger), and for c. By default
        those of the official code with a scorer, 1e-4 and 1e4 and 0.5 to 1.5; else ``STRENGTHS`` times N and 0 to 1.5.
    degree, images : float, int
        The scorer sees so many training images, drawn at random, moved by so many standard deviations both ways.
    refined : bool, optional
        Whether to `sharpen` the result; by default without a scorer.

    Returns
    -------
    Direction
        With ``scores``: a row per candidate (strong, weak, coefficient, agreement, gain, gap, share0, share1).
    """
    y = labels(target)
    ours = scorer is None
    if strengths is None:
        strengths = [s * len(y) for s in STRENGTHS] if ours else PAPER_STRENGTHS
    if coefficients is None:
        coefficients = [c for c in COEFFICIENTS if ours or c >= 0.5]
    levels = sorted(strengths)
    if len(set(levels)) < 2:
        raise ValueError(f"strengths are {levels}; at least two different ones are needed.")
    if scorer is not None and generator is None:
        raise ValueError("A scorer looks at edited images, so it needs the generator that decodes them.")
    normals = dict(zip(levels, biased_directions(codes, y, levels), strict=True))
    some = np.random.default_rng(0).choice(len(codes), min(images, len(codes)), replace=False)
    reading, scan = FisherReader(codes, y), np.random.default_rng(0).permutation(len(y))[:SCAN]
    rows = []
    for (weak, strong), c in itertools.product(itertools.combinations(levels, 2), map(float, coefficients)):
        candidate = combine(normals[strong], normals[weak], c)
        along = reading.z @ reading.reader(candidate.flatten().double().numpy())
        clusters = fit_clusters(along[scan], y[scan])
        row = {"strong": strong, "weak": weak, "coefficient": c, "agreement": np.nan, "gain": clusters.gain}
        row |= {"gap": abs(clusters.gap) / clusters.spread, "share0": clusters.share[0], "share1": clusters.share[1]}
        if not ours:
            moved = paper_direction(codes, candidate)
            row["agreement"] = agreement(moved, codes[some], y[some], generator, scorer, degree)
        rows.append(row)
    scores = pd.DataFrame(rows)
    best = scores.loc[scores["gain" if ours else "agreement"].idxmax()]
    found = paper_direction(codes, combine(normals[best.strong], normals[best.weak], best.coefficient))
    found = replace(found, coefficient=best.coefficient, strong=best.strong, weak=best.weak, scores=scores)
    return sharpen(codes, y, found) if (ours if refined is None else refined) else found


def sharpen(codes: Tensor, target: np.ndarray, plain: Direction) -> Direction:
    """Take a combination, refined, in its place, if its clusters look like an attribute's.

    They must be clear, and show in images that had no part in refining it (`held_out_gain`): in so many dimensions,
    some direction always splits the images it was fitted to. No group label is used.
    """
    sharper, clusters = refine(codes, target, plain.direction)
    return sharper if clusters.clear and held_out_gain(codes, target, plain.direction) >= HELD_OUT else plain


def held_out_gain(codes: Tensor, target: np.ndarray, start: Tensor) -> float:
    """What two clusters a class gain in images left out along `start`, refined on the others: the mean of five folds.

    The start itself has seen all images, but only their targets: a combination that is refitted to a part of a small
    set may lose the attribute on the way.
    """
    y, gains = labels(target), []
    for seen, unseen in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y):
        found, _ = refine(codes[seen], y[seen], start)
        gains.append(fit_clusters(found.coordinate(codes[unseen]).numpy(), y[unseen]).gain)
    return float(np.mean(gains))


def refine(codes: Tensor, target: np.ndarray, start: Tensor) -> tuple[Direction, Clusters]:
    """Sharpen a direction, `start` (levels, width), by the clusters it makes inside each class.

    Alternates two steps of expectation-maximisation: read which cluster each face lies in, along
    ``covariance^-1 direction`` (Fisher's); then take the difference of the clusters' means *within each class*, less
    what of it moves the target's reading. Without the last, a smile that is weak or strong inside its class makes
    clusters, too. A degree is one standard deviation inside a cluster, and 0 lies between the two.
    """
    y = labels(target)
    reading, shift = FisherReader(codes, y), start.flatten().double().numpy()
    for _ in range(8):
        upper = fit_clusters(reading.z @ reading.reader(shift), y).probability
        shift, along = shift_within(reading.z, y, upper), target_shift(reading.z, y, upper)
        shift -= (reading.reader(along) @ shift) * along
        shift /= np.linalg.norm(shift)
    reader = reading.reader(shift)
    clusters = fit_clusters(reading.z @ reader, y)
    shape = codes.shape[1:]
    found = Direction(as_tensor(shift, shape), as_tensor(reader, shape), clusters.spread, float(clusters.offset.mean()))
    return found, clusters


def target_shift(z: np.ndarray, target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Shift (D,) of rows z (N, D) from class 0 to 1 inside a cluster with probability (N,), of both the mean."""
    classes = [side * (target == k) for side in (probability, 1 - probability) for k in (0, 1)]
    low0, high0, low1, high1 = (weight @ z / weight.sum() for weight in classes)
    return (high0 - low0 + high1 - low1) / 2


def shift_within(z: np.ndarray, target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Unit vector (D,) along which rows z (N, D) move with a probability (N,) inside the target classes."""
    parts = [np.cov(np.c_[probability[target == k], z[target == k]].T, bias=True)[0, 1:] for k in (0, 1)]
    shift = sum((target == k).mean() * part for k, part in enumerate(parts))
    return shift / np.linalg.norm(shift)


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of two directions (levels, width)."""
    return float((one * other).sum() / one.norm() / other.norm())


def as_tensor(vector: np.ndarray, shape) -> Tensor:
    """A vector (D,) as float32 of a direction's shape."""
    return torch.from_numpy(vector.astype(np.float32)).view(shape)
