"""Stage 1 of DiGA: find the spurious attribute in W+ from boundaries that are regularised differently.

Only latents and targets go in. The truth about the spurious attribute is read by :func:`true_shifts` and
:func:`flip_rates` alone, which score what was found.

Throughout, a *direction* is a vector in W+ (levels, width) along which faces are moved, and *degrees* are given in
standard deviations of the training latents along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch import Tensor

COEFFICIENTS = tuple(np.round(np.arange(0.0, 1.55, 0.1), 1))


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
    kept = [(judge(generator.decode(found.move(codes, sign * degree))) > 0.5) == (np.asarray(target) == 1) for sign in (-1, 1)]
    return float(np.mean(kept))


# ---------------------------------------------------------------------------------- clusters inside each class
@dataclass(frozen=True)
class Clusters:
    """Two clusters inside each target class along one coordinate, as a fitted mixture.

    The spurious attribute splits *each* class into a large and a small cluster, in opposite proportions. The gap and
    the spread are shared by both classes; each class has its own offset, which takes up what the target itself adds.

    Attributes
    ----------
    probability : array (N,)
        Posterior of the upper cluster.
    share : array (2,)
        Share of the upper cluster in class 0 and class 1.
    gap, spread : float
        Distance of the two clusters, and standard deviation inside one.
    offset : array (2,)
        Middle between the two clusters in each class.
    gain : float
        Log-likelihood per image over one Gaussian per class of shared spread.
    """

    probability: np.ndarray
    share: np.ndarray
    gap: float
    spread: float
    offset: np.ndarray
    gain: float


def fit_clusters(coordinate: np.ndarray, target: np.ndarray, steps: int = 200, tolerance: float = 1e-7) -> Clusters:
    """Fit :class:`Clusters` to coordinates (N,) by expectation-maximisation.

    The upper cluster starts as the majority of the class that lies higher.
    """
    t, y = np.asarray(coordinate, np.float64), np.asarray(target)
    means = np.array([t[y == k].mean() for k in (0, 1)])
    single = np.sqrt(np.mean((t - means[y]) ** 2))
    top = int(means[1] > means[0])
    share = np.where(np.arange(2) == top, 0.8, 0.2)
    gap = 2.0 * single
    offset, spread = means - gap * (share - 0.5), 0.7 * single
    last = -np.inf
    for _ in range(steps):
        upper = _log_normal(t, offset[y] + gap / 2, spread) + np.log(share[y])
        lower = _log_normal(t, offset[y] - gap / 2, spread) + np.log1p(-share[y])
        q = expit(upper - lower)
        likelihood = np.logaddexp(upper, lower).mean()
        if likelihood - last < tolerance:
            break
        last = likelihood
        share = np.array([np.clip(q[y == k].mean(), 0.02, 0.98) for k in (0, 1)])
        # Given q, offsets and gap are a least-squares problem: t = offset_y + gap (q - 1/2).
        centred_t, centred_q = t.copy(), q.copy()
        for k in (0, 1):
            centred_t[y == k] -= t[y == k].mean()
            centred_q[y == k] -= q[y == k].mean()
        variance_q = np.mean(q * (1 - q)) + np.mean(centred_q**2)
        gap = np.mean(centred_t * centred_q) / variance_q
        offset = np.array([t[y == k].mean() - gap * (q[y == k].mean() - 0.5) for k in (0, 1)])
        residual = q * (t - offset[y] - gap / 2) ** 2 + (1 - q) * (t - offset[y] + gap / 2) ** 2
        spread = np.sqrt(residual.mean())
    one = _log_normal(t, means[y], single).mean()
    return Clusters(q, share, float(gap), float(spread), offset, float(likelihood - one))


def refine(codes: Tensor, target: np.ndarray, start: Tensor, rounds: int = 8) -> tuple[Direction, Clusters]:
    """Sharpen a direction by the clusters it makes inside each class.

    Alternates two steps of expectation-maximisation for Gaussian clusters of one shape: read which cluster each face
    lies in, along ``covariance^-1 direction`` (Fisher's reading direction, which is not the direction faces move
    along); then take the difference of the clusters' means *within each class*, in which the target has no part.

    Parameters
    ----------
    codes, target : (N, levels, width) and (N,)
    start : Tensor (levels, width)
        The paper's combined direction.
    rounds : int

    Returns
    -------
    Direction, Clusters
        A degree is then one standard deviation inside a cluster, and coordinate 0 lies between the clusters.
    """
    shape = codes.shape[1:]
    z, y = codes.flatten(1).double().numpy(), np.asarray(target)
    shift = start.flatten().double().numpy()
    centred = z.copy()
    for k in (0, 1):
        centred[y == k] -= z[y == k].mean(0)
    within = centred.T @ centred / len(z) + 1e-3 * np.eye(z.shape[1])
    for _ in range(rounds):
        reader = np.linalg.solve(within, shift)
        reader /= reader @ shift
        clusters = fit_clusters(z @ reader, y)
        q = clusters.probability
        parts = [np.cov(np.c_[q[y == k], z[y == k]].T, bias=True)[0, 1:] * (y == k).mean() for k in (0, 1)]
        shift = np.sum(parts, axis=0)
        shift /= np.linalg.norm(shift)
    reader = np.linalg.solve(within, shift)
    reader /= reader @ shift
    clusters = fit_clusters(z @ reader, y)
    as_tensor = lambda v: torch.from_numpy(v.astype(np.float32)).view(shape)  # noqa: E731
    found = Direction(as_tensor(shift), as_tensor(reader), clusters.spread, float(clusters.offset.mean()))
    return found, clusters


# ------------------------------------------------------------------------------------------------ scores with truth
def true_shifts(codes: Tensor, target: np.ndarray, spurious: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean shift of the spurious attribute within classes, and of the target within spurious values (unit vectors).

    For scoring only: it reads the spurious attribute.
    """
    def shift(of: np.ndarray, given: np.ndarray) -> Tensor:
        parts = [codes[(of == 1) & (given == k)].mean(0) - codes[(of == 0) & (given == k)].mean(0) for k in np.unique(given)]
        return _unit(torch.stack(parts).mean(0))

    return shift(np.asarray(spurious), np.asarray(target)), shift(np.asarray(target), np.asarray(spurious))


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of two directions (levels, width)."""
    return float((one * other).sum() / one.norm() / other.norm())


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def _log_normal(t: np.ndarray, mean, spread: float) -> np.ndarray:
    return -0.5 * ((t - mean) / spread) ** 2 - np.log(spread) - 0.9189385332046727
