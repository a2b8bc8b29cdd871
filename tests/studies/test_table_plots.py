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
    none = frame.iloc[:0]
    for ax in (
        table_plots.by_pair(tables.means(none), "accuracy"),
        table_plots.rank_map(tables.agreement(none)),
        table_plots.gains(tables.agreement(none)),
        table_plots.closed(pd.DataFrame()),
        table_plots.found_and_gained(pd.DataFrame()),
    ):
        assert "yet" in ax.texts[0].get_text()
    axs = plt.subplots(1, 3)[1]
    table_plots.sweep(none, axs, SEVEN)
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
    lines = pd.DataFrame({"bias": [0.25] * 3 + [1.0] * 2, "accuracy": [*values, 0.8, 0.9]})
    table = table_plots.results_by_bias(lines, "accuracy")
    assert table["mean"].tolist() == pytest.approx([0.65, 0.85])
    assert table.loc[0.25, "interval"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values)) and np.isnan(
        table.loc[1.0, "interval"]
    )


def test_found_and_gained_labels_every_pair():
    table = pd.DataFrame(
        {"right pseudo groups": [0.9, 0.95], "gain": [1.0, 12.0]}, index=["Smiling/Male", "Male/Young"]
    )
    ax = table_plots.found_and_gained(table)
    assert {text.get_text() for text in ax.texts} == set(table.index)
