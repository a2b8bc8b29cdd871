"""Agreement against the textbook's example and an analysis of variance done the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diga_lib.action_units.measures import agreement, icc31, leakage

# Shrout and Fleiss (1979), table 2: six targets, each rated by four judges.
TEXTBOOK = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def by_anova(ratings):
    """ICC(3,1) from the residual of a two-way linear model, fitted by least squares."""
    targets, raters = ratings.shape
    rows = np.repeat(np.arange(targets), raters)
    columns = np.tile(np.arange(raters), targets)
    y = ratings.reshape(-1).astype(float)

    def rss(*factors):
        design = np.column_stack([np.ones(len(y)), *[np.eye(f.max() + 1)[f] for f in factors]])
        return np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum()

    full = rss(rows, columns)
    bms = (rss(columns) - full) / (targets - 1)
    ems = full / ((targets - 1) * (raters - 1))
    return (bms - ems) / (bms + (raters - 1) * ems)


def test_the_textbook_example():
    assert icc31(*TEXTBOOK.T) == pytest.approx(0.71, abs=0.005)  # as printed in table 4
    assert icc31(*TEXTBOOK.T) == pytest.approx(by_anova(TEXTBOOK))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 12), st.integers(0, 10_000))
def test_two_raters_against_the_analysis_of_variance(targets, seed):
    rng = np.random.default_rng(seed)
    ratings = rng.normal(size=(targets, 1)) + rng.uniform(0.1, 2) * rng.normal(size=(targets, 2)) + [0, 3]
    assert icc31(*ratings.T) == pytest.approx(by_anova(ratings))


def test_an_offset_does_not_count_and_a_scale_does():
    x = np.linspace(0, 5, 20)
    assert icc31(x, x + 2) == pytest.approx(1)
    assert icc31(x, 0.3 * x) < 0.7
    assert icc31(x, -x) < 0


def test_agreement_and_leakage_by_hand():
    asked = np.array([[0.0, 1], [2, 3], [4, 1]])
    icc, mae = agreement(asked, asked + [[0, 1], [0, 1], [0, 1]])
    assert icc == pytest.approx([1, 1]) and mae == pytest.approx([0, 1])
    before, after = np.zeros((2, 3)), np.array([[1.0, 0.2, 0], [1, 0, -0.4]])
    assert leakage(before, after, 0) == pytest.approx((0.2 + 0.4) / 4)


@pytest.mark.parametrize("lists", [(np.zeros(3), np.zeros(4)), (np.zeros(3),), (np.zeros(1), np.ones(1)), ()])
def test_ratings_that_cannot_be_compared_are_refused(lists):
    with pytest.raises(ValueError, match="two or more lists of one length"):
        icc31(*lists)


def test_ratings_without_any_difference_have_no_correlation():
    assert np.isnan(icc31(np.ones(4), np.ones(4)))
