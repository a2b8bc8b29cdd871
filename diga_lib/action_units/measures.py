"""How well edits do what was asked: agreement, error, leakage, identity."""

from __future__ import annotations

import numpy as np


def icc31(one: np.ndarray, other: np.ndarray) -> float:
    """Intraclass correlation ICC(3,1): consistency of two raters, each of whom rates every target once.

    Parameters
    ----------
    one, other : arrays (N,)
        Ratings, such as intensities asked for and obtained.

    Returns
    -------
    float
        1 for perfect agreement up to an offset, about 0 for none.

    Raises
    ------
    ValueError
        If there are fewer than two targets, or different numbers of them.

    References
    ----------
    Shrout and Fleiss (1979), "Intraclass correlations: uses in assessing rater reliability", case 3: with the mean
    squares of targets (BMS) and of the residual (EMS), ``(BMS - EMS) / (BMS + (k - 1) EMS)`` and k = 2 raters.
    """
    if np.shape(one) != np.shape(other) or np.ndim(one) != 1 or len(one) < 2:
        raise ValueError(
            f"ratings have shapes {np.shape(one)} and {np.shape(other)}; valid are two lists of one length, 2 or more."
        )
    return icc3(np.stack([one, other], 1))


def icc3(ratings: np.ndarray) -> float:
    """ICC(3,1) of a table (targets, raters); see :func:`icc31`."""
    x = np.asarray(ratings, float)
    targets, raters = x.shape
    centred = x - x.mean(0)  # the raters' own levels do not count
    between = raters * np.square(centred.mean(1)).sum() / (targets - 1)
    residual = np.square(centred - centred.mean(1, keepdims=True)).sum() / ((targets - 1) * (raters - 1))
    total = between + (raters - 1) * residual
    return float((between - residual) / total) if total > 0 else float("nan")


def agreement(asked: np.ndarray, obtained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICC(3,1) and mean absolute error of each unit (12,), from intensities (N, 12)."""
    icc = np.array([icc31(asked[:, k], obtained[:, k]) for k in range(asked.shape[1])])
    return icc, np.abs(asked - obtained).mean(0)


def leakage(before: np.ndarray, after: np.ndarray, stepped: int) -> float:
    """Mean absolute change of the units that were not stepped, from intensities (N, 12) read before and after."""
    others = np.delete(np.arange(before.shape[1]), stepped)
    return float(np.abs(after - before)[:, others].mean())
