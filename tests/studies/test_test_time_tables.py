"""What the page says of raw results, on small results whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diga_lib.studies import test_time as tables


def frame():
    """Two orders, two sets and three methods; TDA is right on more of the same images, TPT saw every second one."""
    rows = []
    right = {"zero-shot": "110010", "TPT": "111", "TDA": "110111"}
    for method, correct in right.items():
        for dataset in ("poses", "makeup"):
            for order in (0, 1):
                c = correct[::-1] if order else correct
                rows.append(
                    {
                        "model": "m",
                        "method": method,
                        "variant": "",
                        "dataset": dataset,
                        "order": order,
                        "n": len(c),
                        "every": 6 // len(c),
                        "accuracy": np.mean([int(k) for k in c]),
                        "correct": c,
                        "seconds_per_image": 0.1,
                        "peak_memory_mb": 50.0,
                        "extra": {"processor_seconds_per_image": 1.0 if method == "TPT" else 0.01},
                    }
                )
    rows.append(rows[-1] | {"variant": "positive only", "accuracy": 0.5, "correct": ""})
    return pd.DataFrame(rows)


def test_accuracy_table():
    table, interval = tables.accuracy_table(frame(), "m")
    assert table.index.tolist() == ["zero-shot", "TPT", "TDA"] and set(table) == {"poses", "makeup", "mean"}
    assert table["mean"].tolist() == pytest.approx([50, 100, 500 / 6])
    assert interval.to_numpy() == pytest.approx(0), "both orders are alike"


def test_gains_pair_the_orders():
    rows = frame()
    first = (rows["order"] == 0) & (rows["variant"] == "")
    rows.loc[first, "accuracy"] -= 0.1  # a harder subject, for all methods alike
    gain, interval = tables.gains(rows, "m")
    assert gain.to_dict() == pytest.approx({"poses": 100 / 3, "makeup": 100 / 3, "mean": 100 / 3})
    assert interval.to_numpy() == pytest.approx(0)
    rows.loc[first & (rows["method"] == "TDA"), "accuracy"] -= 0.1
    gain, interval = tables.gains(rows, "m")
    assert gain["mean"] == pytest.approx(100 / 3 - 5)
    assert interval["mean"] == pytest.approx(stats.t.ppf(0.975, 1) * 10 / 2), "standard deviation 10 / √2, over √2"


def test_the_same_images_for_all():
    same = tables.same_images(frame())
    assert set(same["n"]) == {3} and set(same["every"]) == {2} and "positive only" not in set(same["variant"])
    poses = same[same["dataset"] == "poses"].set_index(["order", "method"])["accuracy"]
    assert poses[0].to_dict() == pytest.approx({"zero-shot": 2 / 3, "TPT": 1, "TDA": 2 / 3})  # places 0, 2 and 4
    assert poses[1].to_dict() == pytest.approx({"zero-shot": 1 / 3, "TPT": 1, "TDA": 1})


def test_hits():
    hit = tables.hits(frame())
    assert len(hit) == 2 * 2 * (6 + 3 + 6) and hit["right"].sum() == 4 * (3 + 3 + 5)
    assert set(hit.loc[hit["method"] == "TPT", "place"]) == {0, 2, 4}


def test_costs():
    assert tables.costs(frame(), "m")["processor"].to_dict() == pytest.approx({"zero-shot": 10, "TPT": 1000, "TDA": 10})
