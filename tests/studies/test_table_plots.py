"""Pictures of the large tables: they show what the tables hold, and say so when there is nothing."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diga_lib.studies import table_plots, tables
from diga_lib.studies.grids import SEVEN, TABLE


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def frame():
    """The reported table, as if it were ours with one seed, and balanced ERM without any error."""
    reported = tables.reported().replace({"row": {"diga-paper": "diga-one-stage"}})
    oracle = reported[reported["row"] == "erm"].assign(
        row="balanced", accuracy=1.0, worst_group=1.0, equalized_odds=0.0
    )
    return pd.concat([reported, oracle]).assign(seed=0, bias=1 / 9, stale=False)


def test_every_row_of_the_table_has_a_style_of_its_own():
    assert set(table_plots.STYLES) == set(TABLE)
    assert len({(str(colour), marker) for colour, marker in table_plots.STYLES.values()}) == len(TABLE)
    assert tables.label("cvar-dro") == "CVaR DRO" and tables.label("erm") == "ERM"


def test_nothing_to_show_is_said(frame):
    axs = plt.subplots(1, 3)[1]
    table_plots.sweep(frame.iloc[:0], axs, SEVEN)
    assert all("yet" in ax.texts[0].get_text() for ax in axs)


def test_markers_lie_at_the_means(frame):
    ax = table_plots.by_pair(tables.means(frame), "worst_group")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {tables.label(row) for row in (*SEVEN, "balanced")}
    assert lines["DiGA, one stage (ours)"].get_xdata()[0] == pytest.approx(0.819)
    assert [text.get_text() for text in ax.get_yticklabels()] == tables.ORDER


def test_agreement_with_itself_is_one_and_gains_lie_on_the_line(frame):
    agree = tables.agreement(frame)
    ax = table_plots.rank_map(agree)
    assert {text.get_text() for text in ax.texts} == {"1.00"}
    points = np.concatenate([np.asarray(c.get_offsets()) for c in table_plots.gains(agree).collections])
    assert len(points) == 27 and points[:, 0] == pytest.approx(points[:, 1])


def test_bars_are_cut_but_their_numbers_are_not():
    shares = pd.DataFrame({"diga-one-stage": [0.5, 7.0]}, index=["Smiling/Male", "Male/Young"])
    ax = table_plots.closed(shares, bar=0.8)
    assert [bar.get_height() for bar in ax.patches] == [0.5, 1.5]
    assert [text.get_text() for text in ax.texts] == ["0.50", "7.00"]


def test_a_sweep_has_intervals_from_three_seeds_on():
    values = [0.6, 0.7, 0.65]
    lines = pd.DataFrame({"row": "erm", "bias": [1.0] * 2 + [0.25] * 3, "accuracy": [0.8, 0.9, *values]})
    axs = plt.subplots(1, 3)[1]
    table_plots.sweep(lines.assign(worst_group=0.5, equalized_odds=0.1), axs, ("erm",))
    ((line, _, (bars,)),) = (container.lines for container in axs[0].containers)
    assert line.get_ydata() == pytest.approx([0.65, 0.85])
    halves = [(high - low) / 2 for (_, low), (_, high) in bars.get_segments()]
    assert halves == pytest.approx([stats.t.ppf(0.975, 2) * stats.sem(values), 0])


def test_found_and_gained_labels_every_pair():
    table = pd.DataFrame(
        {"right pseudo groups": [0.9, 0.95], "gain": [1.0, 12.0]}, index=["Smiling/Male", "Male/Young"]
    )
    ax = table_plots.found_and_gained(table)
    assert {text.get_text() for text in ax.texts} == set(table.index)
