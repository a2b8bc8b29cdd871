"""What the pages say of the grid's results, on results made by hand."""

import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diga_lib.studies import store as results_store
from diga_lib.studies import tables
from diga_lib.studies.grids import ORACLES, PAIRS, PAPERS_SEVEN, SEVEN, Cell
from diga_lib.studies.store import METRICS, Result

FOUND = {
    "cosine": {"Male": 0.8, "Smiling": 0.1},
    "pseudo_groups": {"Male": 0.95},
    "gain": 0.1,
    "gap": 3.0,
    "share": [0.1, 0.9],
    "carries": {"Male": -0.7, "Young": 0.2},
}


def line(row, accuracy=0.8, worst=0.6, eo=0.2, pair=PAIRS[0], seed=0, **changes):
    cell = Cell(row, *pair, seed=seed)
    extra = {"cell": asdict(cell)} | ({"direction": FOUND} if row == "diga-one-stage" else {})
    values = {"accuracy": accuracy, "worst_group": worst, "equalized_odds": eo, "groups": {"y0s0": worst}}
    values |= {"seconds": 1.0, "peak_memory_mb": 1.0, "commit": "x", "versions": {}, "method": "M"}
    values |= {"version": cell.version, "extra": extra}
    return Result(**(cell.key | values | changes))


@pytest.fixture
def store(tmp_path):
    def make(*lines, name="classification"):
        for one in lines:
            results_store.append(tmp_path / f"{name}.jsonl", one)
        return tables.published(name, folder=tmp_path)

    return make


def test_no_results_is_an_empty_table_everywhere(tmp_path):
    frame = tables.published("classification", "bias_sweep", folder=tmp_path)
    assert frame.empty and tables.wins(frame).empty
    assert tables.gap_closed(frame).empty and tables.complete(frame) == []
    assert tables.best(frame, "accuracy", "Smiling/Male") == (None, set())


def test_rows_of_older_code_or_of_another_search_are_marked(store):
    frame = store(
        line("erm"), line("jtt", version=0), line("lff", extra={"cell": asdict(Cell("lff", changes='{"q": 0.1}'))})
    )
    assert frame["stale"].tolist() == [False, True, True]
    assert frame["pair"].tolist() == ["Smiling/Male"] * 3 and frame["row"].tolist() == ["erm", "jtt", "lff"]


def test_the_reported_table_is_complete_and_as_printed():
    frame = tables.reported()
    assert len(frame) == 63 and set(frame["row"]) == set(PAPERS_SEVEN)
    assert set(frame["pair"]) == set(map("/".join, PAIRS))
    diga = frame.set_index(["row", "pair"]).loc[("diga-paper", "Smiling/Male")]
    assert diga.tolist() == pytest.approx([0.884, 0.819, 0.074])
    assert tables.wins(frame.assign(seed=0), "diga-paper", PAPERS_SEVEN)["won"].sum() == 27, "the paper reports all 27"


def test_the_best_and_its_ties_by_the_interval_of_the_differences(store):
    erm, diga, jtt = [0.70, 0.72, 0.71], [0.80, 0.83, 0.81], [0.79, 0.84, 0.80]
    frame = store(
        *[
            line(row, value, seed=k)
            for row, values in {"erm": erm, "diga-one-stage": diga, "jtt": jtt}.items()
            for k, value in enumerate(values)
        ]
    )
    first, tied = tables.best(frame, "accuracy", "Smiling/Male")
    assert (first, tied) == ("diga-one-stage", {"diga-one-stage", "jtt"})
    assert stats.ttest_rel(diga, jtt).pvalue > 0.05 > stats.ttest_rel(diga, erm).pvalue
    # All EO are equal, so everybody is tied; and one seed alone ties nobody.
    assert tables.best(frame, "equalized_odds", "Smiling/Male")[1] == {"erm", "diga-one-stage", "jtt"}
    assert tables.best(frame[frame["seed"] == 0], "accuracy", "Smiling/Male")[1] == {"diga-one-stage"}


def test_wins_are_counted_over_complete_pairs_with_the_right_sign(store):
    rows = [line(row, 0.8, 0.6, 0.2) for row in SEVEN if row not in ("diga-one-stage", "jtt")]
    frame = store(
        *rows, line("diga-one-stage", 0.9, 0.7, 0.1), line("jtt", 0.85, 0.75, 0.15), line("erm", pair=PAIRS[1])
    )
    table = tables.wins(frame).set_index("metric")
    assert tables.complete(frame) == ["Smiling/Male"] and len(table) == 3
    assert table["won"].to_dict() == {"Acc": True, "Wst": False, "EO": True}
    assert table.loc["Wst", "best"] == "jtt"
    equal = tables.wins(store(line("diga-one-stage", 0.85, 0.75, 0.15)))
    assert not equal["won"].any() and equal.set_index("metric").loc["Acc", "tied"], "an equal mean is no win"
    assert table["lead"].to_dict() == pytest.approx({"Acc": 5, "Wst": -5, "EO": 5})


def test_the_share_of_the_gap_closed(store):
    frame = store(
        line("erm", worst=0.5, eo=0.3),
        line("diga-one-stage", worst=0.8, eo=0.2),
        line("balanced", worst=0.9, eo=0.1),
        line("diga-one-stage", pair=PAIRS[1]),
    )
    assert tables.gap_closed(frame).to_dict() == pytest.approx({"Smiling/Male": 0.75})
    assert tables.gap_closed(frame, metric="equalized_odds").to_dict() == pytest.approx({"Smiling/Male": 0.5})


def test_only_seeds_that_all_rows_have_are_compared(store):
    """A second seed of one row alone, as lucky as it may be, changes nothing."""
    rows = [*SEVEN, "balanced"]
    alike = store(*[line(row, 0.8 + 0.01 * k, 0.5 + 0.01 * k) for k, row in enumerate(rows)])
    won, share = tables.wins(alike), tables.gap_closed(alike)
    more = store(line("erm", 0.99, 0.99, 0.01, seed=1))
    assert len(more) == len(alike) + 1 and len(won) == 3
    pd.testing.assert_frame_equal(tables.wins(more), won)
    pd.testing.assert_series_equal(tables.gap_closed(more), share)
    assert tables.best(more, "accuracy", "Smiling/Male", rows) == tables.best(alike, "accuracy", "Smiling/Male", rows)
    assert tables.best(more[(more["row"] != "erm") | (more["seed"] == 1)], "accuracy", "Smiling/Male")[0] is None


def test_the_tolerance_is_the_prediction_interval_of_pooled_seeds(store):
    rng = np.random.default_rng(0)
    lines = [
        line("erm", *(0.7 + 0.05 * rng.normal(size=3)).clip(0, 1), pair, seed) for pair in PAIRS for seed in range(3)
    ]
    frame = store(*lines)
    variance = frame.groupby("pair")["worst_group"].var(ddof=1).mean()
    expected = stats.t.ppf(0.975, 18) * np.sqrt(2 * variance)
    assert tables.tolerance(frame, "erm", "worst_group", 500) == pytest.approx(expected)
    # About one in twenty pairs of draws differs by more.
    a, b = rng.normal(0, np.sqrt(variance), (2, 4000))
    assert 0.01 < np.mean(np.abs(a - b) > expected) < 0.06
    alone = frame[frame["seed"] == 0]
    assert 0.02 < tables.tolerance(alone, "erm", "worst_group", 500) < 0.12, "one seed: what 500 images allow"


def test_means_are_in_the_papers_order(store):
    frame = store(
        line("diga-one-stage", pair=PAIRS[1]),
        *[line(row) for row in reversed((*SEVEN, *ORACLES))],
        line("erm", 0.6, seed=1),
    )
    table = tables.means(frame)
    assert list(table.index) == [("Smiling/Male", row) for row in (*SEVEN, *ORACLES)] + [
        ("Smiling/Young", "diga-one-stage")
    ]
    assert table.loc[("Smiling/Male", "erm"), "accuracy"] == pytest.approx(0.7)
    assert list(table.columns) == list(METRICS) and isinstance(table, pd.DataFrame)


def test_tables_as_text_say_what_is_best_old_or_missing(store):
    three = [line("erm", value, seed=k) for k, value in enumerate((0.7, 0.74, 0.72))]
    two = [line("jtt", value, seed=k) for k, value in enumerate((0.6, 0.62))]
    other = line("erm", 0.8, pair=PAIRS[4])
    frame = store(*three, *two, line("diga-one-stage", 0.9, version=0), line("balanced", 0.95), other)
    styled = tables.styled(frame, "accuracy", "Accuracy")
    half = 100 * stats.t.ppf(0.975, 2) * np.std([0.7, 0.74, 0.72], ddof=1) / np.sqrt(3)
    text = {"erm": f"72.0<br><small>± {half:.1f}</small>", "jtt": "61.0", "diga-one-stage": "90.0†", "balanced": "95.0"}
    assert styled.data["Smiling/Male"].to_dict() == text and list(styled.data) == ["Smiling/Male", "Male/Young"]
    assert styled.data["Male/Young"].to_dict() == dict.fromkeys(text, "–") | {"erm": "80.0"}
    bold = re.findall(r"row(\d+)_col(\d+)", re.search(r"([^}>]*) {\s+font-weight: bold", styled.to_html())[1])
    assert set(bold) == {(str(list(text).index("diga-one-stage")), "0"), ("0", "1")}, "oracles do not compete"
