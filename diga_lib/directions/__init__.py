"""Stage 1 of DiGA: find the spurious attribute in W+ from boundaries that are regularised differently.

Only latents and targets go in. The truth about the spurious attribute is read by :func:`true_shifts` and
:func:`flip_rates` alone, which score what was found.

Throughout, a *direction* is a vector in W+ (levels, width) along which faces are moved, and *degrees* are given in
standard deviations of the training latents along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from scipy.linalg import cho_factor, cho_solve
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from diga_lib.directions.clusters import Clusters, fit_clusters

COEFFICIENTS = tuple(np.round(np.arange(0.0, 1.55, 0.1), 1))
STRENGTHS = (1e-4, 1e-2, 1e-1, 1.0, 1e2)  # per training image
SCAN = 2000  # faces on which candidates are compared without a judge


@dataclass(frozen=True)
class Direction:
    """A direction in W+, and how to read where a face lies along it.

    Attributes
    ----------
    direction : Tensor (levels, width)
        Unit vector: the way faces are moved.
    reader : Tensor (levels, width)
        The coordinate of a code is ``<reader, code>``; scaled so that ``<reader, direction> = 1``. For the paper's
        plain direction it is the direction itself.
    scale : float
        One standard deviation of the training latents' coordinate: the unit of degrees.
    center : float
        The coordinate halfway between the two clusters (or the mean, if none were fitted).
    coefficient, strong, weak : float
        c and the two strengths that made it.
    scores : DataFrame
        What the choice of c was based on.
    """

    direction: Tensor
    reader: Tensor
    scale: float
    center: float = 0.0
    coefficient: float = float("nan")
    strong: float = float("nan")
    weak: float = float("nan")
    scores: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    def coordinate(self, codes: Tensor) -> Tensor:
        """Coordinate (N,) of codes (N, levels, width), in standard deviations from the center."""
        return (torch.einsum("nlw,lw->n", codes, self.reader) - self.center) / self.scale

    def move(self, codes: Tensor, degrees: Tensor | float) -> Tensor:
        """Move codes (N, levels, width) by so many standard deviations, (N,) or one for all."""
        degrees = torch.as_tensor(degrees, dtype=codes.dtype).expand(len(codes))
        return codes + degrees[:, None, None] * self.scale * self.direction

    def place(self, codes: Tensor, coordinates: Tensor) -> Tensor:
        """Move codes so that they come to lie at the given coordinates (N,): an intervention, not a shift."""
        return self.move(codes, coordinates - self.coordinate(codes))


# ---------------------------------------------------------------------------------------------- the paper's direction
def boundary(codes: Tensor, target: np.ndarray, strength: float) -> Tensor:
    """Unit normal of the regularised boundary between the two target classes.

    ``argmin_w  sum_i log(1 + exp(-y_i <w, z_i>)) + strength / 2 |w|^2``, pointing towards target 1.

    Parameters
    ----------
    codes : Tensor (N, levels, width)
    target : int array (N,), 0 or 1
    strength : float
        lambda > 0. It counts against a sum over N images, so its meaning depends on N and on the codes' scale.

    Returns
    -------
    Tensor (levels, width), float32

    Raises
    ------
    ValueError
        If the strength is not positive or one class is missing.

    References
    ----------
    DiGA (arXiv 2403.06606), section 3.2; derived in notebook 02_biased_directions.
    """
    if not strength > 0:
        raise ValueError(f"strength is {strength}; it must be above 0.")
    if len(np.unique(target)) != 2:
        raise ValueError(f"target holds only {np.unique(target).tolist()}; a boundary needs both 0 and 1.")
    model = LogisticRegression(C=1 / strength, max_iter=1000, tol=1e-3)
    model.fit(codes.flatten(1).numpy(), np.asarray(target))
    return _unit(torch.from_numpy(model.coef_[0].astype(np.float32))).view(codes.shape[1:])


def biased_directions(codes: Tensor, target: np.ndarray, strengths: Sequence[float]) -> list[Tensor]:
    """One :func:`boundary` per strength. Strong regularisation tends to the difference of the class means, which
    holds the spurious shift; weak regularisation to the discriminative direction."""
    return [boundary(codes, target, strength) for strength in strengths]


def combine(strong: Tensor, weak: Tensor, coefficient: float) -> Tensor:
    """``normalise(n_strong - c n_weak)``: what the biased boundary holds beyond the discriminative one."""
    return _unit(strong - coefficient * weak)


def paper_direction(codes: Tensor, direction: Tensor) -> Direction:
    """Wrap a unit vector; one degree is one standard deviation of the codes along it."""
    along = torch.einsum("nlw,lw->n", codes, direction)
    return Direction(direction, direction, float(along.std()), float(along.mean()))


def agreement(found: Direction, codes: Tensor, target: np.ndarray, generator, judge, degree: float = 3.0) -> float:
    """How often a judge still sees the target after the direction is added and subtracted.

    Parameters
    ----------
    found : Direction
    codes, target : (N, levels, width) and (N,)
        Training images; the paper uses 100 of them.
    generator : object with ``decode``
    judge : callable
        Float images (N, 3, R, R) to P(target = 1), (N,). DiGA uses an image-text model, see
        :meth:`diga_lib.image_text.ImageText.zero_shot`.
    degree : float
        How far to move, in standard deviations.

    Returns
    -------
    float
        In [0, 1]. Judgements are compared with the judge's own view of the unedited reconstruction's label.
    """
    kept = [
        (judge(generator.decode(found.move(codes, sign * degree))) > 0.5) == (np.asarray(target) == 1)
        for sign in (-1, 1)
    ]
    return float(np.mean(kept))


# ----------------------------------------------------------------------------------------------------- the choice
def spurious_direction(
    codes: Tensor,
    target: np.ndarray,
    generator=None,
    judge: Callable | None = None,
    strengths: Sequence[float] = STRENGTHS,
    coefficients: Sequence[float] = COEFFICIENTS,
    degree: float = 3.0,
    images: int = 100,
    refined: bool = True,
    seed: int = 0,
) -> Direction:
    """Find the direction of the spurious attribute: ``n_strong - c n_weak`` with the best c and strengths.

    With a judge the choice is the paper's: the combination after whose edits an image-text model still sees the
    target most often. Without one it is the combination that splits each class into the clearest two clusters, see
    :mod:`diga_lib.directions.clusters`.

    Parameters
    ----------
    codes, target : Tensor (N, levels, width) and int array (N,)
        Training latents and labels.
    generator : object with ``decode``, optional
        Needed with a judge.
    judge : callable, optional
        Float images (N, 3, R, R) to P(target = 1), array (N,); for example
        ``lambda images: image_text_model.zero_shot(images, "Smiling")``.
    strengths : sequence of float
        Candidates for both lambdas, *per training image* (lambda / N): the strong one is always the larger.
    coefficients : sequence of float
        Candidates for c.
    degree : float
        Standard deviations of the judge's edits.
    images : int
        How many training images the judge sees edited, each with both signs (100 in the paper).
    refined : bool
        Whether to :func:`sharpen` the result: to take the strongest boundary, refined, instead, if that finds clear
        clusters (`Clusters.clear`). Refining needs no c: what it keeps has no part of the target anyway.
    seed : int
        Chooses the judge's images.

    Returns
    -------
    Direction
        With ``scores``: a row per candidate (strong, weak, coefficient, agreement, gain, gap, share0, share1).

    Raises
    ------
    ValueError
        If there are fewer than two strengths, or a judge without a generator.
    """
    if len(set(strengths)) < 2:
        raise ValueError(f"strengths are {list(strengths)}; at least two different ones are needed.")
    if judge is not None and generator is None:
        raise ValueError("A judge looks at edited images, so it needs the generator that decodes them.")
    y = np.asarray(target)
    levels = sorted(strengths)
    normals = dict(zip(levels, biased_directions(codes, y, [s * len(codes) for s in levels])))
    some = np.random.default_rng(seed).choice(len(codes), min(images, len(codes)), replace=False)
    reader = _Reader(codes, y)
    scan = np.random.default_rng(seed).permutation(len(y))[:SCAN]
    rows = []
    for weak, strong in itertools.combinations(levels, 2):
        for c in coefficients:
            candidate = combine(normals[strong], normals[weak], float(c))
            clusters = fit_clusters(reader.coordinate(candidate)[scan], y[scan])
            row = {
                "strong": strong,
                "weak": weak,
                "coefficient": float(c),
                "agreement": np.nan,
                "gain": clusters.gain,
                "gap": abs(clusters.gap) / clusters.spread,
                "share0": clusters.share[0],
                "share1": clusters.share[1],
            }
            if judge is not None:
                row["agreement"] = agreement(
                    paper_direction(codes, candidate), codes[some], y[some], generator, judge, degree
                )
            rows.append(row)
    scores = pd.DataFrame(rows)
    best = scores.loc[scores["gain" if judge is None else "agreement"].idxmax()]
    found = paper_direction(codes, combine(normals[best.strong], normals[best.weak], best.coefficient))
    found = replace(found, coefficient=best.coefficient, strong=best.strong, weak=best.weak, scores=scores)
    return sharpen(codes, y, found) if refined else found


def sharpen(codes: Tensor, target: np.ndarray, plain: Direction) -> Direction:
    """Replace a combined direction by the refined strongest boundary, if that finds clear clusters."""
    start = boundary(codes, target, max(STRENGTHS) * len(codes))
    sharper, clusters = refine(codes, target, start)
    if not clusters.clear:
        return plain
    return replace(sharper, coefficient=plain.coefficient, strong=plain.strong, weak=plain.weak, scores=plain.scores)


class _Reader:
    """Fisher's reading direction for any shift, from one factorisation of the within-class covariance."""

    def __init__(self, codes: Tensor, target: np.ndarray):
        self.z = codes.flatten(1).double().numpy()
        self.factor = cho_factor(within_covariance(self.z, target))

    def reader(self, shift: np.ndarray) -> np.ndarray:
        reader = cho_solve(self.factor, shift)
        return reader / (reader @ shift)

    def coordinate(self, direction: Tensor) -> np.ndarray:
        return self.z @ self.reader(direction.flatten().double().numpy())


def within_covariance(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Covariance (D, D) of rows z (N, D) around their class means, with a small ridge."""
    centred = z.copy()
    for k in np.unique(target):
        centred[target == k] -= z[target == k].mean(0)
    return centred.T @ centred / len(z) + 1e-3 * np.eye(z.shape[1])


def refine(codes: Tensor, target: np.ndarray, start: Tensor, rounds: int = 8) -> tuple[Direction, Clusters]:
    """Sharpen a direction by the clusters it makes inside each class.

    Alternates two steps of expectation-maximisation for Gaussian clusters of one shape: read which cluster each face
    lies in, along ``covariance^-1 direction`` (Fisher's reading direction, which is not the direction faces move
    along); then take the difference of the clusters' means *within each class*, in which the target has no part.

    Parameters
    ----------
    codes, target : (N, levels, width) and (N,)
    start : Tensor (levels, width)
        Where to begin: the strongest boundary, or the paper's combined direction.
    rounds : int

    Returns
    -------
    Direction, Clusters
        A degree is then one standard deviation inside a cluster, and coordinate 0 lies between the clusters.
    """
    shape = codes.shape[1:]
    y, reading = np.asarray(target), _Reader(codes, np.asarray(target))
    z, shift = reading.z, start.flatten().double().numpy()
    for _ in range(rounds):
        clusters = fit_clusters(z @ reading.reader(shift), y)
        q = clusters.probability
        parts = [np.cov(np.c_[q[y == k], z[y == k]].T, bias=True)[0, 1:] * (y == k).mean() for k in (0, 1)]
        shift = np.sum(parts, axis=0)
        shift /= np.linalg.norm(shift)
    reader = reading.reader(shift)
    clusters = fit_clusters(z @ reader, y)
    as_tensor = lambda v: torch.from_numpy(v.astype(np.float32)).view(shape)
    found = Direction(as_tensor(shift), as_tensor(reader), clusters.spread, float(clusters.offset.mean()))
    return found, clusters


# ------------------------------------------------------------------------------------------------ scores with truth
def true_shifts(codes: Tensor, target: np.ndarray, spurious: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean shift of the spurious attribute within classes, and of the target within spurious values (unit vectors).

    For scoring only: it reads the spurious attribute.
    """

    def shift(of: np.ndarray, given: np.ndarray) -> Tensor:
        parts = [
            codes[(of == 1) & (given == k)].mean(0) - codes[(of == 0) & (given == k)].mean(0) for k in np.unique(given)
        ]
        return _unit(torch.stack(parts).mean(0))

    return shift(np.asarray(spurious), np.asarray(target)), shift(np.asarray(target), np.asarray(spurious))


def flip_rates(
    found: Direction,
    codes: Tensor,
    target: np.ndarray,
    spurious: np.ndarray,
    generator,
    target_probe,
    spurious_probe,
    degree: float,
) -> dict[str, float]:
    """How often edits against a face's own spurious attribute change what two probes see in the decoded picture.

    For scoring only: it reads the spurious attribute.

    Parameters
    ----------
    found, codes, target, spurious, generator
        Direction, latents (N, levels, width), labels (N,) and attributes (N,) of unseen faces, and what decodes.
    target_probe, spurious_probe : callables
        Float images (N, 3, R, R) in [0, 1] to 0/1 predictions (N,). Train them on unbiased original images.
    degree : float
        Standard deviations moved.

    Returns
    -------
    dict
        "spurious": share of faces the spurious probe then puts on the other side, among those it reads rightly
        before the edit; "target": share on which the target probe changes its mind.
    """
    s = np.asarray(spurious)
    means = [float(found.coordinate(codes[s == k]).mean()) for k in (0, 1)]
    towards_one = 1.0 if means[1] > means[0] else -1.0
    sign = torch.from_numpy(np.where(s == 1, -towards_one, towards_one).astype(np.float32))
    before, after = generator.decode(codes), generator.decode(found.move(codes, sign * degree))
    right = spurious_probe(before) == s
    return {
        "spurious": float(np.mean(spurious_probe(after)[right] != s[right])),
        "target": float(np.mean(target_probe(after) != target_probe(before))),
    }


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of two directions (levels, width)."""
    return float((one * other).sum() / one.norm() / other.norm())


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()
