"""Sliders: a link that needs no kernel, one picture for each place, words for each picture."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state
from PIL import Image

from diga_lib.directions import paper_direction
from diga_lib.pages import widgets


class Painter:
    """A stand-in for the generator: the first coordinate is the grey of an 8 x 8 picture."""

    def decode(self, codes):
        return codes[:, :1, :1, None].sigmoid().expand(-1, 3, 8, 8)


@pytest.fixture
def codes():
    return torch.randn(60, 2, 3, generator=torch.Generator().manual_seed(0))


def pictures(box):
    """Return the alternative text and the pixels of each place of the slider."""
    pattern = r'<img alt="(.*?)" src="data:image/webp;base64,(.*?)" .*>'
    found = [re.fullmatch(pattern, child.value) for child in box.children[1].children]
    return [(m[1], np.array(Image.open(io.BytesIO(base64.b64decode(m[2]))))) for m in found]


def test_the_link_between_slider_and_pictures_is_in_what_a_page_embeds():
    frames = np.stack([np.full((8, 8, 3), 60 * k, np.uint8) for k in range(4)])
    box = widgets.frames_slider(frames, "abcd", "letter", 'a "grey" square', start=1)
    slider, stack = box.children
    assert (slider.value, slider.index, stack.selected_index) == ("b", 1, 1)
    links = [state for state in dependency_state(box).values() if state["model_name"] == "LinkModel"]
    assert len(links) == 1
    ends = [links[0]["state"][end] for end in ("source", "target")]
    joined = {(model.removeprefix("IPY_MODEL_"), trait) for model, trait in ends}
    assert joined == {(slider.model_id, "index"), (stack.model_id, "selected_index")}
    for k, (alt, pixels) in enumerate(pictures(box)):
        assert alt == f"a &quot;grey&quot; square, letter {'abcd'[k]}"
        assert np.abs(pixels.astype(int) - 60 * k).max() <= 3


def test_the_degree_moves_each_face_by_standard_deviations(codes):
    found = paper_direction(codes, torch.eye(6)[0].view(2, 3))
    box = widgets.degree_slider(Painter(), found, codes[:3], degrees=(-2, 0, 2))
    assert box.children[0].options == ("-2", "+0", "+2")
    for degree, (alt, pixels) in zip((-2, 0, 2), pictures(box), strict=True):
        assert pixels.shape == (8, 24, 3) and alt == f"3 faces in a row, degree {degree:+d}"
        expected = 255 * torch.sigmoid(codes[:3, 0, 0] + degree * codes[:, 0, 0].std()).numpy()
        np.testing.assert_allclose(pixels[4, 4::8, 1], expected, atol=6)


def test_each_place_of_a_slider_of_normals_moves_along_its_own(codes):
    normals = [torch.eye(6)[k].view(2, 3) for k in (0, 3)]
    box = widgets.normals_slider(Painter(), codes[:2], codes, normals, ("0.001", "1"), "λ", (-2, 2))
    assert box.children[0].options == ("0.001", "1")
    for normal, (_, pixels) in zip(normals, pictures(box), strict=True):
        moved = paper_direction(codes, normal).move(codes[:2].repeat_interleave(2, 0), [-2, 2, -2, 2])
        np.testing.assert_allclose(pixels.astype(int), widgets.tile(Painter().decode(moved), 2), atol=6)


def test_tiles_are_in_reading_order():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 2, 2) / 255
    np.testing.assert_array_equal(widgets.tile(images, 3)[::2, ::2, 0], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"labels": "ab"}, "each frame needs its own label"),
        ({"labels": "aab"}, "each frame needs its own label"),
        ({"start": 3}, "start is 3; valid is a whole number from 0 to 2"),
        ({"frames": np.zeros((3, 8, 8, 3))}, "valid are uint8 arrays"),
    ],
)
def test_what_does_not_fit_is_refused(change, sentence):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    arguments = {"frames": frames, "labels": "abc", "description": "x", "alt": "squares"}
    with pytest.raises(ValueError, match=sentence):
        widgets.frames_slider(**arguments | change)


def test_images_that_do_not_fill_the_rows_are_refused():
    with pytest.raises(ValueError, match="5 images do not fill rows of 2"):
        widgets.tile(torch.zeros(5, 3, 2, 2), 2)
