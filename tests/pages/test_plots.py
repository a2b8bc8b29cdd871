"""What the pictures show is what went in: read back from the artists that were drawn."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib.data import LabelledImages
from diga_lib.metrics import group_metrics
from diga_lib.pages import plots

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_global():
    """Plot functions leave matplotlib's settings as they are."""
    before = matplotlib.rcParams.copy()
    yield
    assert matplotlib.rcParams == before
    plt.close("all")


@pytest.fixture
def faces():
    return RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


def part(n=200, values=2):
    images = np.zeros((n, 3, 16, 16), np.uint8)
    return LabelledImages(images, RNG.integers(0, 2, n), RNG.integers(0, values, n), np.arange(n), values)


def test_pixels_of_bytes_floats_and_tensors_are_the_same(faces):
    as_float = faces / np.float32(255)
    for images in (faces, as_float, torch.from_numpy(as_float)):
        pixels = plots.as_pixels(images)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, faces.transpose(0, 2, 3, 1))
    assert plots.as_pixels(np.array([-1.0, 2.0]).reshape(2, 1, 1).repeat(3, 0).reshape(2, 3, 1, 1)).max() == 255


def test_a_grid_puts_each_face_under_its_labels(faces):
    ax = plots.face_grid([faces[:3], torch.from_numpy(faces[3:] / np.float32(255))], ["a", "b"], ["x", "y", "z"])
    sheet = ax.images[0].get_array()
    for row, y in enumerate(ax.get_yticks()):
        for column, x in enumerate(ax.get_xticks()):
            corner = sheet[int(y) - 16 :, int(x) - 16 :][:32, :32]
            assert np.array_equal(corner, faces[3 * row + column].transpose(1, 2, 0))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize("labels", [{"row_labels": ["a"]}, {"column_labels": ["a"]}])
def test_labels_that_do_not_fit_are_refused(faces, labels):
    with pytest.raises(ValueError, match=f"{next(iter(labels))} has 1 words"):
        plots.face_grid([faces[:3], faces[3:]], **labels)


def test_a_contact_sheet_shows_all_and_leaves_the_rest_white(faces):
    sheet = plots.contact_sheet(faces, columns=4).images[0].get_array()
    assert sheet.shape == (2 * 33 - 1, 4 * 33 - 1, 3)  # four are as wide as the page: nothing is added beside them
    assert np.array_equal(sheet[33:, 33:65], faces[5].transpose(1, 2, 0))
    assert (sheet[33:, 66:] == 255).all()


def test_a_difference_is_grey_where_nothing_changed(faces):
    assert np.allclose(plots.difference(faces, faces), 0.5)
    darker = np.zeros_like(faces)
    assert np.allclose(plots.difference(darker, faces), 0.5 + faces / 255 / 2)
    assert plots.difference(darker, faces, 100)[faces > 10].min() == 1


def test_the_ends_of_a_direction_are_named_the_right_way_round():
    less, more = plots.ends("Hat")
    assert "less Hat" in less and "more Hat" in more
    assert ["more Hat" in end for end in plots.ends("Hat", flipped=True)] == [True, False]


def test_groups_are_named_in_the_order_of_their_numbers():
    assert plots.group_words("A", "B") == ["not A, not B", "not A, B", "A, not B", "A, B"]
    assert plots.group_words("A", "B&C")[5] == "A, not B, C"  # g = 4 y + 2 b + c


@pytest.mark.parametrize("values", [2, 4])
def test_group_counts_are_those_of_a_cross_table(values):
    data = part(values=values)
    expected = pd.crosstab(data.target, data.spurious).to_numpy().ravel().tolist()
    ax = plots.group_counts(data, "Smiling", "Male")
    assert [int(text.get_text().replace(",", "")) for text in ax.texts] == expected


def test_group_accuracies_are_drawn_as_high_as_they_are():
    data = part()
    one, other = (group_metrics(data.target, RNG.integers(0, 2, len(data)), data.spurious) for _ in range(2))
    ax = plots.group_accuracies({"one": one, "other": other}, "Smiling", "Male")
    for bars, metrics in zip(ax.containers, (one, other), strict=True):
        assert [bar.get_height() for bar in bars] == pytest.approx(list(metrics.groups.values()))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "other"]


def test_angles_use_the_given_axes_and_mark_the_target_by_its_colour():
    table = pd.DataFrame({"Male": [80.0, 40.0], "Smiling": [70.0, 60.0]}, index=pd.Index([1e-3, 1e2], name="λ"))
    _, ax = plt.subplots()
    assert plots.angles(table, "Smiling", ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    for line, name, colour in zip(ax.lines[:2], table, (plots.SPURIOUS, plots.TARGET), strict=True):
        assert np.array_equal(line.get_ydata(), table[name]) and line.get_color() == colour
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "λ" and ax.yaxis_inverted()


def test_a_boundary_is_drawn_at_a_right_angle_to_its_normal():
    normal = np.array([0.6, 0.8])
    ax = plots.plane(RNG.normal(size=(50, 2)), RNG.integers(0, 2, 50), {"n": normal})
    line = next(line for line in ax.lines if len(line.get_xdata()))
    assert np.diff(line.get_xydata(), axis=0)[0] @ normal == pytest.approx(0, abs=1e-9)
    assert len(ax.collections) == 2


def test_changed_words_keep_their_order_and_sign():
    table = pd.DataFrame({"attribute": ["Male", "Bangs", "Young"], "change": [0.8, -0.3, 0.1]})
    ax = plots.changed_words(table, most=2)
    assert [bar.get_width() for bar in ax.patches] == [0.8, -0.3]
    assert ax.yaxis_inverted()  # the largest on top


def test_a_map_of_strengths_shows_the_best_coefficient_of_each_pair():
    scores = pd.DataFrame(
        {
            "strong": [1, 1, 9, 9],
            "weak": [0.1, 0.1, 0.1, 1],
            "coefficient": [0.2, 0.4, 0.3, 0.5],
            "agreement": [0.6, 0.7, 0.9, 0.8],
        }
    )
    words = [text.get_text() for text in plots.strength_map(scores, "agreement").texts]
    assert [word for word in words if word] == ["0.90\nc = 0.3", "0.80\nc = 0.5", "0.70\nc = 0.4"]


def test_intervals_are_as_wide_as_in_the_summary():
    runs = pd.DataFrame(
        {"row": ["ERM"] * 3 + ["DiGA"], "accuracy": [0.7, 0.8, 0.9, 0.85], "worst_group": 0.5, "equalized_odds": 0.1}
    )
    table = plots.summary(runs)
    ax = plots.intervals(table, "accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ERM", "DiGA"]
    (low, high), single = (path.vertices[:, 0] for path in ax.containers[0][2][0].get_paths())
    assert (high - low) / 2 == pytest.approx(table["accuracy", "interval"].iloc[0])
    assert np.ptp(single) == 0  # one run has no interval


def test_before_and_after_are_two_dots_on_one_line():
    table = pd.DataFrame({"before": [0.5, 0.7], "after": [0.6, 0.4]}, index=["AU1", "AU12"])
    ax = plots.before_after(table)
    dots = [c for c in ax.collections if len(c.get_offsets()) == 2 and c.get_label() in table.columns]
    for dot, column in zip(dots, table, strict=True):
        assert np.allclose(dot.get_offsets(), np.c_[table[column], [0, 1]])
    assert len(dots) == 2
