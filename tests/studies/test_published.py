"""The published table: complete, well-formed, and saying what the pages say of it."""

import numpy as np
import pytest

from diga_lib.pages.parameters import SIZES
from diga_lib.studies import store
from diga_lib.studies.grids import FAIR


@pytest.fixture(scope="module")
def table():
    frame = store.kept(store.FOLDER / "fair_training.jsonl")
    return frame[(frame["target"] == "Smiling") & (frame["spurious"] == "Male") & (frame["profile"] == "full")]


def rows(table, name):
    return table[table["row"] == name]


# The rows that conclusions are drawn from have all seeds; the steps on the way may have fewer, and DiGA (paper)
# none yet: the page says so.
CONCLUSIVE = ("erm", "diga-one-stage", "pseudo-groups", "group-dro", "balanced")


@pytest.mark.parametrize("name", FAIR)
def test_every_row_was_run_on_the_profile_s_data(table, name):
    found = rows(table, name)
    least = SIZES["full"].seeds if name in CONCLUSIVE else 0 if name.startswith(("diga-paper", "erm-pretrained")) else 1
    assert found["seed"].is_unique and len(found) >= least
    assert np.isclose(found["bias"], 1 / 9).all()
    assert all(extra["n_train"] == SIZES["full"].n_train for extra in found["extra"])


def test_the_numbers_of_a_line_agree_with_each_other(table):
    for _, line in table.iterrows():
        g = line["groups"]
        assert line["worst_group"] == pytest.approx(min(g.values()))
        # The test set is balanced, so accuracy is the groups' mean.
        assert line["accuracy"] == pytest.approx(np.mean(list(g.values())), abs=1e-6)
        assert line["equalized_odds"] == pytest.approx(max(abs(g["y1s1"] - g["y1s0"]), abs(g["y0s1"] - g["y0s0"])))


def test_erm_shows_the_problem_and_diga_meets_the_bars(table):
    def mean(name, column):
        return rows(table, name)[column].mean()

    assert mean("erm", "equalized_odds") >= 0.15
    assert mean("diga-one-stage", "equalized_odds") <= 0.35 * mean("erm", "equalized_odds")
    assert mean("diga-one-stage", "worst_group") >= mean("erm", "worst_group") + 0.10
    assert mean("diga-one-stage", "accuracy") >= mean("erm", "accuracy")
    assert mean("balanced", "worst_group") >= mean("erm", "worst_group")
