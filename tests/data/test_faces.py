"""The renderer: the same face everywhere, labels that are true of the picture, and causes kept apart."""

import itertools

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency

from diga_lib.data import faces


@pytest.fixture(scope="module")
def population():
    return faces.render(31, range(600))


def test_a_face_does_not_depend_on_its_batch_order_or_threads(population):
    images, attributes, factors = population
    order = np.array([599, 3, 41, 3, 0, 77])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again, table, truth = faces.render(31, order)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(again, images[order])
    pd.testing.assert_frame_equal(table, attributes.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(truth, factors.iloc[order].reset_index(drop=True))


def test_seeds_and_numbers_draw_different_faces(population):
    other = faces.render(32, range(50))[0]
    same = [(a == b).all() for a, b in itertools.product(population[0][:50], other)]
    assert not any(same)


def test_any_resolution_shows_the_same_face(population):
    large = faces.render(31, range(40), resolution=128)[0]
    small = large.reshape(40, 3, 64, 2, 64, 2).mean((3, 5))
    for a, b in zip(small, population[0][:40], strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


# Pairs (target, spurious) of the papers' table, as drawn here.
PAIRS = [
    ("Smiling", "Male"),
    ("Smiling", "Young"),
    ("Big_Nose", "Male"),
    ("Heavy_Makeup", "Young"),
    ("Male", "Young"),
    ("Black_Hair", "Male"),
    ("Male", "Ethnicity"),
]


@pytest.mark.parametrize("target, spurious", PAIRS)
def test_target_and_spurious_attribute_are_drawn_independently(target, spurious):
    table = faces.parameters(32, range(4000))[1]
    p = chi2_contingency(pd.crosstab(table[target], table[spurious])).pvalue
    assert p > 1e-4


def test_every_attribute_has_both_values_often_enough(population):
    share = population[1].mean()
    assert (share > 0.02).all() and (share < 0.98).all()
    assert tuple(population[1].columns) == faces.ATTRIBUTES


def test_an_expression_can_be_given_to_another_subject(population):
    _, attributes, factors = population
    _, table, truth = faces.parameters(31, identities=[5] * 20, expressions=range(20))
    identity = [name for name in faces.ATTRIBUTES if name not in ("Smiling", "Mouth_Slightly_Open")]
    assert (table[identity] == attributes.loc[5, identity]).all().all()
    assert (table["Smiling"].to_numpy() == attributes["Smiling"][:20]).all()
    np.testing.assert_array_equal(truth[list(faces.ACTION_UNITS)], factors.loc[:19, list(faces.ACTION_UNITS)])


# Where FACS says a unit acts: rows of the 64-pixel picture (brows and lids, nose, mouth and chin).
REGION = {
    "AU1": (14, 28),
    "AU2": (14, 28),
    "AU4": (14, 30),
    "AU5": (20, 34),
    "AU6": (24, 44),
    "AU9": (20, 50),
    "AU12": (38, 58),
    "AU15": (42, 60),
    "AU17": (42, 62),
    "AU20": (38, 58),
    "AU25": (44, 56),
    "AU26": (44, 64),
}


@pytest.mark.parametrize("unit", faces.ACTION_UNITS)
def test_each_action_unit_is_visible_grows_and_acts_where_it_should(unit):
    levels = np.arange(6)
    differences, inside = [], []
    for face in (0, 1, 3, 9):
        units = pd.DataFrame(0.0, index=levels, columns=faces.ACTION_UNITS).assign(**{unit: levels})
        p, _, truth = faces.parameters(33, [face] * 6, units=units)
        np.testing.assert_allclose(truth[unit], levels, atol=1e-6)
        p["glasses"][:], p["bangs"][:] = 0, 0
        images = faces.draw(p).astype(float)
        change = np.abs(images - images[0]).max(1)  # (6, 64, 64)
        differences.append([(c > 12).sum() for c in change])
        top, bottom = REGION[unit]
        inside.append(change[5, top:bottom].sum() / change[5].sum())
    differences = np.mean(differences, 0)
    assert differences[5] >= 12 and differences[3] >= 4
    assert (np.diff(differences) >= 0).all()
    assert np.mean(inside) > 0.75


def test_eyes_lie_where_the_alignment_says():
    """An eye detector that knows nothing of the renderer finds them within two pixels of 128."""
    finder = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_eye.xml")
    images, table, _ = faces.render(34, range(120), resolution=256)
    found = []
    for image in images[(table["Eyeglasses"] == 0).to_numpy()]:
        gray = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        for x, y, w, h in finder.detectMultiScale(gray, 1.1, 8, minSize=(40, 40)):
            found.append(((x + w / 2) / 128 - 1, (y + h / 2) / 128 - 1))
    found = np.array(found)
    assert len(found) > 40
    middle = np.median(np.abs(found[:, 0])), np.median(found[:, 1])
    assert abs(middle[0] - faces.EYE_X) < 0.04 and abs(middle[1] - faces.EYE_Y) < 0.04


def test_bad_requests_say_what_is_valid():
    with pytest.raises(ValueError, match="0 or more"):
        faces.render(-1, [0])
    with pytest.raises(ValueError, match="AU99.*valid are AU1"):
        faces.parameters(0, [0], units=pd.DataFrame({"AU99": [1.0]}))
