"""Alignment against its definition, PIL's own resampling, and rendered faces, whose eyes are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diga_lib.data import faces
from diga_lib.data.photos import align

coordinate = st.floats(-500, 500)
points = st.tuples(coordinate, coordinate, coordinate, coordinate).map(lambda p: np.array(p).reshape(2, 2))


@given(points.filter(lambda p: np.hypot(*(p[1] - p[0])) > 1), points)
def test_similarity_maps_the_points_and_keeps_shapes(source, target):
    matrix = align.similarity(source, target)
    np.testing.assert_allclose(source @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-6)
    scale = np.hypot(*(target[1] - target[0])) / np.hypot(*(source[1] - source[0]))
    square = matrix[:, :2] @ matrix[:, :2].T
    np.testing.assert_allclose(square, scale**2 * np.eye(2), atol=1e-6 * (1 + scale**2))
    assert np.linalg.det(matrix[:, :2]) >= -1e-9  # no mirror image


def test_coinciding_eyes_are_refused():
    with pytest.raises(ValueError, match="lie on one point"):
        align.similarity(np.ones((2, 2)), align.target_eyes(64))


def test_target_is_where_the_renderer_draws_eyes():
    np.testing.assert_allclose(align.target_eyes(64), [[22.4, 28.16], [41.6, 28.16]])


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_upright_eyes_amount_to_pils_box_filter(factor):
    noise = np.random.default_rng(0).integers(0, 256, (64 * factor, 64 * factor, 3), np.uint8)
    photo = Image.fromarray(noise)
    aligned = align.align(photo, align.target_eyes(64 * factor), 64)
    expected = np.asarray(photo.resize((64, 64), Image.Resampling.BOX)).transpose(2, 0, 1)
    assert np.abs(aligned.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    "angle, scale, shift", [(0, 4, (30, 10)), (15, 3, (90, 20)), (-20, 6, (50, 160)), (5, 0.8, (9, 3))]
)
def test_dots_on_the_eyes_land_on_the_targets(angle, scale, shift):
    turn = np.deg2rad(angle)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    eyes = align.target_eyes(64) @ rotation.T + shift
    y, x = np.mgrid[:500, :500] + 0.5
    spots = sum(np.exp(-((x - ex) ** 2 + (y - ey) ** 2) / (2 * (1.5 * scale) ** 2)) for ex, ey in eyes)
    photo = Image.fromarray(np.repeat((255 * spots)[..., None], 3, 2).clip(0, 255).astype(np.uint8))
    image = align.align(photo, eyes, 64)[0].astype(float)
    for half, (tx, ty) in zip((slice(0, 32), slice(32, 64)), align.target_eyes(64), strict=True):
        weight = image[:, half] / image[:, half].sum()
        x, y = np.arange(64)[half] + 0.5, np.arange(64) + 0.5
        assert abs((weight.sum(0) * x).sum() - tx) < 0.15 and abs((weight.sum(1) * y).sum() - ty) < 0.15


def test_fine_stripes_become_gray_instead_of_aliasing():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    aligned = align.align(Image.fromarray(stripes), align.target_eyes(640), 64)
    assert aligned.min() > 120 and aligned.max() < 135


def test_beyond_the_border_the_outermost_pixels_repeat():
    photo = Image.new("RGB", (64, 64), (10, 200, 30))
    aligned = align.align(photo, align.target_eyes(64) + [30, -20], 64)
    assert (aligned == np.array([10, 200, 30])[:, None, None]).all()


def test_eyes_far_outside_are_refused():
    with pytest.raises(ValueError, match="outside the picture"):
        align.align(Image.new("RGB", (64, 64)), align.target_eyes(64) + 1000, 64)


def test_eyes_of_rendered_faces_are_found_where_they_were_drawn():
    found, images = [], faces.render(905, range(16), resolution=256)[0]
    for image in images:
        try:
            found.append(align.find_eyes(Image.fromarray(image.transpose(1, 2, 0))))
        except align.NoFaceFound:
            continue  # dark glasses and closed eyes
    assert len(found) >= 10
    # Faces are drawn shifted and turned a little, 2 % of the picture or so; the median is not.
    assert np.abs(np.median(found, axis=0) - align.target_eyes(256)).max() < 0.025 * 256
    assert np.abs(np.array(found) - align.target_eyes(256)).max() < 0.07 * 256


def test_no_face_is_said():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8))
    with pytest.raises(align.NoFaceFound, match="no face is found"):
        align.find_eyes(noise)


def test_a_large_photograph_is_first_made_smaller():
    y, x = np.mgrid[:1920, :1920] / 1920 * 255
    photo = Image.fromarray(np.rint(np.stack([x, y, x], 2)).astype(np.uint8))
    aligned = align.align(photo, align.target_eyes(1920), 64)
    ramp = (np.arange(64) + 0.5) / 64 * 255
    assert np.abs(aligned[0] - ramp)[:, 1:-1].max() < 1.5 and np.abs(aligned[1].T - ramp)[:, 1:-1].max() < 1.5
