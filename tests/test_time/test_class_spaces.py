"""The class spaces: what is drawn is what the label says, parts share no face, and shifts do what they say."""

import numpy as np
import pytest
import torch

from diga_lib.data import faces
from diga_lib.studies.weights.captions import WIDE_PHRASES, caption, facts, vocabulary
from diga_lib.test_time import SPACES, class_weights, stream
from diga_lib.test_time.class_spaces import EVERY, SEEDS, TEMPLATES
from diga_lib.test_time.shifts import SHIFTS, shift


def test_ten_spaces_with_prompts_that_the_models_can_read():
    assert len(SPACES) == 10 and len({s.kind for s in SPACES.values()}) >= 6
    for space in EVERY.values():
        assert 3 <= len(space.classes) == len(set(space.prompts.values())) <= 6
        words = " ".join(space.prompts.values()).replace("-", " ").replace(",", "").split()
        assert set(words) <= set(vocabulary(WIDE_PHRASES)), space.name


@pytest.mark.parametrize("name", ["hair colours", "eyewear", "people"])
def test_a_stream_is_balanced_shuffled_and_the_same_again(name):
    one, again = stream(name, 36), stream(name, 36)
    other = stream(name, 36, seed=1)
    assert np.array_equal(one.images, again.images) and np.array_equal(one.labels, again.labels)
    counts = np.bincount(one.labels)
    assert counts.max() - counts.min() <= 1 and len(counts) == len(one.space.classes)
    assert not np.array_equal(one.labels, other.labels)
    assert {image.tobytes() for image in one.images} == {image.tobytes() for image in other.images}
    assert not {i.tobytes() for i in one.images} & {i.tobytes() for i in stream(name, 36, "validation").images}
    assert len(one.take(slice(0, 5))) == 5


def test_pictures_show_their_class():
    """Seen in pixels: bald heads are not hair-coloured, backgrounds have their colour, dark skin is darker."""
    hair = stream("hair colours", 50, shifted=False)
    top = hair.images[:, :, 2:6, 26:38].mean((2, 3, 1))
    means = [top[hair.labels == k].mean() for k in range(5)]
    assert np.argmin(means) == 0 and np.argmax(means) in (2, 4), "black is darkest, blond or gray lightest"
    skin = stream("skin tones", 40, shifted=False)
    nose = skin.images[:, :, 34:40, 30:34].mean((1, 2, 3))
    means = [nose[skin.labels == k].mean() for k in range(4)]
    assert means == sorted(means, reverse=True)


def test_a_space_shows_one_subject():
    """Without what the class changes, all pictures of a space have the same identity."""
    one, many = (
        stream(name, 30, shifted=False).images[:, :, 32:36, 30:34].mean((2, 3)) for name in ("hair colours", "people")
    )
    assert one.std(0).mean() < 0.5 * many.std(0).mean()
    other = stream("hair colours", 30, shifted=False, subject=1)
    assert np.array_equal(other.labels, stream("hair colours", 30, shifted=False).labels)
    assert not {i.tobytes() for i in other.images} & {
        i.tobytes() for i in stream("hair colours", 30, shifted=False).images
    }


@pytest.mark.parametrize(
    "name, wrong, sentence",
    [
        ("hats", {}, "valid are expressions"),
        ("poses", {"part": "train"}, "valid are test, validation, shots"),
        ("poses", {"n": 2}, "3 to 1500"),
    ],
)
def test_bad_streams(name, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        stream(name, **wrong)


# ---- facts and captions -----------------------------------------------------------------------------------


def test_captions_say_only_facts_and_know_every_word():
    drawn = faces.parameters(5, np.arange(300))
    table = facts(*drawn)
    assert set(table) == {*WIDE_PHRASES, "Male"}
    rng = np.random.default_rng(0)
    for row in table.to_dict("records"):
        text = f" {caption(row, rng, WIDE_PHRASES)} ".replace(",", "")
        assert set(text.replace("-", " ").split()) <= set(vocabulary(WIDE_PHRASES))
        for colour, word in enumerate(("black", "brown", "blond", "red", "gray")):
            if f" {word} hair " in text:
                assert row["Hair_Colour"] == colour
        for value, sides in enumerate(WIDE_PHRASES["Turn"]):
            if any(f" {side} " in text for side in sides):
                assert row["Turn"] == value


def test_facts_agree_with_what_is_drawn():
    p, attributes, factors = faces.parameters(6, np.arange(500))
    table = facts(p, attributes, factors)
    assert (table["Smiling"] == attributes["Smiling"]).all()
    assert (table["Turn"][p["yaw"] > 0.5] == 2).all() and (table["Turn"][p["yaw"] < -0.5] == 0).all()
    assert (table["Hair_Colour"][attributes["Bald"] == 1] == -1).all()
    assert (table["Lenses"][p["glasses"] == 0] == -1).all()
    young, old = p["age"][table["Age"] == 0], p["age"][table["Age"] == 2]
    assert young.max() < old.min()


# ---- shifts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures():
    return faces.render(3, np.arange(6))[0]


@pytest.mark.parametrize("kind", SHIFTS)
def test_every_shift_keeps_shape_and_type_and_repeats_itself(kind, pictures):
    found = shift(pictures, kind, 0.9, seed=2)
    assert found.shape == pictures.shape and found.dtype == np.uint8
    assert np.array_equal(found, shift(pictures, kind, 0.9, seed=2))
    assert np.array_equal(found, pictures) == (kind == "none")


def test_shifts_do_what_they_say(pictures):
    x = pictures.astype(float)
    assert shift(pictures, "low light", 0.6).mean() < 0.5 * x.mean()
    warm = shift(pictures, "colour cast", 0.7).astype(float)
    np.testing.assert_allclose(warm[:, 0], x[:, 0], atol=1)
    np.testing.assert_allclose(warm[:, 2], 0.3 * x[:, 2], atol=1)
    np.testing.assert_allclose(shift(pictures, "fog", 0.5), 0.5 * x + 0.5 * 0.8 * 255, atol=1)
    noisy = shift(np.full((8, 3, 64, 64), 128, np.uint8), "noise", 0.1)
    assert abs(noisy.std() / 255 - 0.1) < 0.003
    lines = shift(pictures, "sketch", 1.0)
    assert (lines[:, 0] == lines[:, 1]).all() and (
        shift(np.full((1, 3, 9, 9), 90, np.uint8), "sketch", 1.0) == 255
    ).all()
    small = shift(pictures, "small", 64.0)
    assert small.std((2, 3)).max() < 0.5 * x.std((2, 3)).max()
    dot = np.zeros((1, 3, 21, 21), np.uint8)
    dot[:, :, 10, 10] = 255
    blurred = shift(dot, "blur", 1.5)[0, 0] / 255
    assert abs(blurred[10, 10] - 1 / (2 * np.pi * 1.5**2)) < 0.005


def test_bad_shifts(pictures):
    with pytest.raises(ValueError, match="valid are none, sketch"):
        shift(pictures, "rain", 0.5)
    for kind, strength in [("fog", 1.5), ("noise", 0), ("blur", -1.0)]:
        with pytest.raises(ValueError, match="must be above 0"):
            shift(pictures, kind, strength)


def test_class_weights_average_the_templates():
    class Model:
        def encode_text(self, texts):
            vectors = torch.tensor([[len(t), t.count("photo"), 1.0] for t in texts])
            return torch.nn.functional.normalize(vectors, dim=1)

    found = class_weights(Model(), ["a man", "an old man"])
    for row, prompt in zip(found, ["a man", "an old man"], strict=True):
        mean = Model().encode_text([t.format(prompt) for t in TEMPLATES]).mean(0)
        torch.testing.assert_close(row, mean / mean.norm())
    assert set(SEEDS) == {"test", "validation", "shots"}
