"""Group metrics against hand computation, fairlearn and scipy."""

import math

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diga_lib.metrics import group_metrics, mean_and_interval

# 4 images a group; right: y0s0 4, y0s1 3, y1s0 1, y1s1 2.
TRUE = np.repeat([0, 0, 1, 1], 4)
SPURIOUS = np.repeat([0, 1, 0, 1], 4)
PREDICTED = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0])


def test_by_hand():
    found = group_metrics(TRUE, PREDICTED, SPURIOUS)
    assert found.groups == {"y0s0": 1.0, "y0s1": 0.75, "y1s0": 0.25, "y1s1": 0.5}
    assert (found.accuracy, found.worst_group, found.equalized_odds) == (10 / 16, 0.25, 0.25)


def test_booleans_and_whole_floats_are_numbers():
    expected = group_metrics(TRUE, PREDICTED, SPURIOUS)
    for kind in (bool, float, np.int8):
        assert group_metrics(TRUE.astype(kind), PREDICTED.astype(kind), SPURIOUS.astype(kind)) == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_definition_on_random_predictions(values, seed):
    random = np.random.default_rng(seed)
    y = np.concatenate([np.repeat([0, 1], values), random.integers(0, 2, 50)])
    s = np.concatenate([np.tile(np.arange(values), 2), random.integers(0, values, 50)])
    p = random.integers(0, 2, len(y))
    found = group_metrics(y, p, s)
    table = np.array([[(p == y)[(y == a) & (s == b)].mean() for b in range(values)] for a in (0, 1)])
    assert found.accuracy == pytest.approx((p == y).mean())
    assert found.worst_group == pytest.approx(table.min())
    assert found.equalized_odds == pytest.approx(np.ptp(table, axis=1).max())
    assert found.equalized_odds == pytest.approx(equalized_odds_difference(y, p, sensitive_features=s))
    assert list(found.groups.values()) == pytest.approx(table.flatten().tolist())


@pytest.mark.parametrize("rows, group", [(slice(4, None), "y0s0"), (slice(0, 12), "y1s1")])
def test_an_empty_group_is_named(rows, group):
    with pytest.raises(ValueError, match=f"No image is in group {group};"):
        group_metrics(TRUE[rows], PREDICTED[rows], SPURIOUS[rows])


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="must be of one length"):
        group_metrics(TRUE, PREDICTED[:-1], SPURIOUS)
    with pytest.raises(ValueError, match="must be 0 or 1"):
        group_metrics(TRUE + 1, PREDICTED, SPURIOUS)
    for words in (np.where(SPURIOUS == 1, "man", "woman"), 2 * SPURIOUS - 1, SPURIOUS / 2):
        with pytest.raises(ValueError, match="they must be whole numbers from 0"):
            group_metrics(TRUE, PREDICTED, words)
    for words in (np.where(TRUE == 1, "smile", "none"), 2 * TRUE - 1):
        with pytest.raises(ValueError, match="must be 0 or 1"):
            group_metrics(words, words, SPURIOUS)
    with pytest.raises(ValueError, match="No image is in group y0s0, y0s1, y1s0, y1s1;"):
        group_metrics([], [], [])


def test_interval_by_scipy_and_by_the_printed_t_table():
    values = [0.80, 0.84, 0.85]
    mean, half = mean_and_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))
    assert half == pytest.approx(4.303 * np.std(values, ddof=1) / math.sqrt(3), rel=1e-3)


def test_interval_of_one_value_is_unknown_and_of_none_an_error():
    mean, half = mean_and_interval([0.5])
    assert mean == 0.5 and math.isnan(half)
    for bad in ([], [0.5, math.nan]):
        with pytest.raises(ValueError, match="at least one finite number"):
            mean_and_interval(bad)
