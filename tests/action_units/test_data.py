"""The expression sequences: whose, how they move, and what may be redrawn."""

import numpy as np
import pytest

from diga_lib.action_units import data
from diga_lib.data import faces


@pytest.fixture(scope="module")
def frames():
    """Two films of the first test subject, drawn without the store."""
    rows = np.array([0, 40, 80, 100, 140])
    made = data._frames(rows, first=data.TRAIN_SUBJECTS)
    subject = np.full(5, data.TRAIN_SUBJECTS)
    return data.Sequences(made["images"], made["intensities"], subject, rows // data.FRAMES)


def test_trajectories_are_smooth_films_of_expressions_on_the_scale():
    course = np.concatenate([data.trajectories(100, [0, k]) for k in range(20)])
    assert course.min() >= 0 and course.max() <= 5 and course.dtype == np.float32
    jumps = np.abs(np.diff(data.trajectories(100, [0, 1]), axis=0))
    assert jumps.max() < 1.5  # of 5: no frame is without its neighbours
    assert 0.2 < (course >= 1).mean() < 0.7
    together = np.corrcoef(course.T)
    smile, brow = data.UNITS.index("AU12"), data.UNITS.index("AU1")
    assert together[smile, data.UNITS.index("AU6")] > 0.2 > abs(together[smile, brow])
    assert (data.trajectories(50, [3]) == data.trajectories(50, [3])).all()


def test_labels_are_the_whole_numbers_a_coder_writes(frames):
    assert set(np.unique(frames.labels)) <= set(range(6))
    assert np.abs(frames.labels - frames.intensities).max() <= 0.5


def test_frames_of_a_film_differ_by_the_face_alone(frames):
    first, second, other = (frames.images[k].astype(int) for k in (0, 1, 3))
    corner = np.s_[:, :8, :8]  # background
    assert (first[corner] == second[corner]).all() and (first != second).any()
    assert (first[corner] != other[corner]).any()


def test_the_oracle_draws_the_same_person_again(frames):
    assert (data.redraw(frames, frames.intensities) == frames.images).all()
    smiling = frames.intensities.copy()
    smiling[:, data.UNITS.index("AU12")] += 2
    again = data.redraw(frames, smiling)
    changed = (again != frames.images).any(1)
    assert changed[:, 32:].any((1, 2)).all() and not changed[:, :10].any()  # the mouth, not the top of the picture


def test_subjects_are_27_and_show_their_eyes():
    who = data.subjects()
    assert len(set(who)) == data.TRAIN_SUBJECTS + data.TEST_SUBJECTS == 27
    p, attributes, _ = faces.parameters(data.POPULATION, who)
    assert not (p["sunglasses"] * attributes["Eyeglasses"].to_numpy()).any()


def test_training_and_test_share_no_film():
    last = data._frames(np.array([data.TRAIN_SUBJECTS * data.SESSIONS * data.FRAMES - 1]), 0)
    first = data._frames(np.array([0]), data.TRAIN_SUBJECTS)
    assert (last["images"] != first["images"]).mean() > 0.5


def test_unknown_parts_are_named():
    with pytest.raises(ValueError, match="'train' and 'test'"):
        data.load("validation")
