"""How well edits do what was asked: agreement, error, leakage."""

import numpy as np


def icc31(*raters: np.ndarray) -> float:
    """Intraclass correlation ICC(3,1): consistency of two or more raters, each of whom rates the same N targets, (N,).

    It is 1 for perfect agreement up to an offset, about 0 for none; NaN where no rating differs from another.

    References
    ----------
    Shrout and Fleiss (1979), "Intraclass correlations: uses in assessing rater reliability", case 3: with the mean
    squares of targets (BMS) and of the residual (EMS), ``(BMS - EMS) / (BMS + (k - 1) EMS)`` for k raters.
    """
    shapes = [np.shape(rater) for rater in raters]
    if len(raters) < 2 or len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] < 2:
        raise ValueError(f"ratings have shapes {shapes}; valid are two or more lists of one length, 2 or more.")
    k, n, x = len(raters), len(raters[0]), np.stack(raters, 1).astype(float)
    centred = x - x.mean(0)  # the raters' own levels do not count
    between = k * np.square(centred.mean(1)).sum() / (n - 1)
    residual = np.square(centred - centred.mean(1, keepdims=True)).sum() / ((n - 1) * (k - 1))
    total = between + (k - 1) * residual
    return float((between - residual) / total) if total > 0 else float("nan")


def agreement(asked: np.ndarray, obtained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICC(3,1) and mean absolute error of each unit (12,), from intensities (N, 12)."""
    icc = [icc31(one, other) for one, other in zip(asked.T, obtained.T, strict=True)]
    return np.array(icc), np.abs(asked - obtained).mean(0)


def leakage(before: np.ndarray, after: np.ndarray, stepped: int) -> float:
    """Mean absolute change of the units that were not stepped, from intensities (N, 12) read before and after."""
    return float(np.abs(np.delete(after - before, stepped, axis=1)).mean())
