"""How good and how fair a classifier is: group accuracies by fairlearn, and their mean over several seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, equalized_odds_difference
from scipy import stats
from sklearn.metrics import accuracy_score


@dataclass(frozen=True)
class GroupMetrics:
    """What the papers' tables say of one classifier on one test set; all values are shares in [0, 1].

    `accuracy` is the share of all images that are right (Acc), `worst_group` the lowest accuracy of a group (Wst),
    `equalized_odds` the largest difference, over the two targets, between the accuracies of two spurious values (EO),
    and `groups` the accuracy of each group: "y1s0" has target 1 and spurious value 0.
    """

    accuracy: float
    worst_group: float
    equalized_odds: float
    groups: dict[str, float]


def group_metrics(y_true, y_pred, spurious):
    """Compute accuracy, worst-group accuracy and equalized odds as :class:`GroupMetrics`.

    With two spurious values, ``EO = max(|acc11 - acc10|, |acc01 - acc00|)``, where ``acc_ys`` is the accuracy
    of target y and spurious value s; with more, each difference is the largest minus the smallest.

    Parameters
    ----------
    y_true, y_pred, spurious : array_like of int or bool, shape (n,)
        Targets and predictions, 0 or 1, and spurious values 0 ... K - 1; two attributes at once are numbered by their
        product. Other values or lengths, and a group without an image, are a ValueError.

    References
    ----------
    Hardt, Price and Srebro, Equality of opportunity in supervised learning, NeurIPS 2016.
    """
    y_true, y_pred, spurious = (np.asarray(a) for a in (y_true, y_pred, spurious))
    if not y_true.shape == y_pred.shape == spurious.shape == (y_true.size,):
        shapes = f"{y_true.shape}, {y_pred.shape} and {spurious.shape}"
        raise ValueError(f"Targets, predictions and spurious values have shapes {shapes}; they must be of one length.")
    if not (np.isin(y_true, (0, 1)).all() and np.isin(y_pred, (0, 1)).all()):
        raise ValueError("Targets and predictions must be 0 or 1.")
    if not np.isin(spurious, np.arange(spurious.size)).all():
        raise ValueError(f"Spurious values are {np.unique(spurious)[:5].tolist()}; they must be whole numbers from 0.")
    y_true, y_pred, spurious = (a.astype(np.int64) for a in (y_true, y_pred, spurious))
    present = set(zip(y_true.tolist(), spurious.tolist(), strict=True))
    values = range(max(2, spurious.max(initial=0) + 1))
    if empty := [f"y{y}s{s}" for y in (0, 1) for s in values if (y, s) not in present]:
        raise ValueError(f"No image is in group {', '.join(empty)}; every group must have at least one.")
    both = pd.DataFrame({"target": y_true, "spurious": spurious})
    frame = MetricFrame(metrics=accuracy_score, y_true=y_true, y_pred=y_pred, sensitive_features=both)
    return GroupMetrics(
        accuracy=float(frame.overall),
        worst_group=float(frame.group_min()),
        equalized_odds=float(equalized_odds_difference(y_true, y_pred, sensitive_features=spurious)),
        groups={f"y{y}s{s}": float(value) for (y, s), value in frame.by_group.sort_index().items()},
    )


def mean_and_interval(values):
    """Compute the mean of finite values (n,), one for each seed, and the half width of its 95 % t interval.

    With a single value the half width is unknown (NaN).
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"A mean needs a list of at least one finite number, not {values.tolist()}.")
    if values.size == 1:
        return float(values[0]), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, values.size - 1) * stats.sem(values))
