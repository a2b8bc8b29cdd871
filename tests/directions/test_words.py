"""Naming the spurious attribute, on codes that are the words themselves."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib import directions
from diga_lib.data import LabelledImages
from diga_lib.directions import words
from diga_lib.image_text import PROMPTS
from diga_lib.methods import DiGAOneStage, PseudoGroups
from diga_lib.studies.setting import Setting

WORDS = list(PROMPTS)
SIDE = 8


class Patches:
    """Images whose pixels are the codes: pixel k is how strongly word k shows. Exact in both directions."""

    levels, width = 1, len(WORDS)

    def encode(self, images):
        return torch.as_tensor(np.asarray(images)).float().flatten(2)[:, :1, : self.width] / 255

    def decode(self, codes):
        images = torch.full((len(codes), 3, SIDE * SIDE), 0.5)
        images[:, :, : self.width] = codes[:, :1].clamp(0, 1)
        return images.view(-1, 3, SIDE, SIDE)


class Reader:
    """An image-text model that reads the pixels: the cosine with a word's second prompt grows with its pixel."""

    scale = torch.tensor(20.0)

    def encode_image(self, images):
        x = torch.as_tensor(np.asarray(images)).float()
        x = (x / 255 if x.max() > 1 else x).flatten(2)[:, 0, : len(WORDS)] - 0.5
        return torch.cat([-x, x], 1)

    def encode_text(self, prompts):
        places = {pair[k]: word + k * len(WORDS) for word, pair in enumerate(PROMPTS.values()) for k in (0, 1)}
        return torch.eye(2 * len(WORDS))[[places[prompt] for prompt in prompts]]

    def zero_shot(self, images, attribute):
        return words.read_words(images, self)[attribute].to_numpy()


def population(n=1500, spurious=("Male",), bias=1 / 9, seed=0):
    """Smiling is the target; each spurious word agrees with it as often as its bias says; the rest is noise."""
    rng = np.random.default_rng(seed)
    shows = rng.random((n, len(WORDS))) < 0.5
    y = shows[:, WORDS.index("Smiling")].copy()
    for word, rare in zip(spurious, np.broadcast_to(bias, len(spurious)), strict=True):
        shows[:, WORDS.index(word)] = np.where(rng.random(n) < 1 / (1 + rare), y, ~y)
    codes = 0.5 + 0.18 * (2 * shows - 1) + 0.06 * rng.normal(size=shows.shape)
    images = Patches().decode(torch.tensor(codes, dtype=torch.float32)[:, None])
    images = (images * 255).round().to(torch.uint8).numpy()
    truth = np.stack([shows[:, WORDS.index(word)] for word in spurious], 1).astype(int)
    return LabelledImages(images, y.astype(np.int64), None, np.arange(n)), truth


def found(train, **more):
    return words.name_spurious(
        Patches().encode(train.images), train.target, train.images, Patches(), Reader(), "Smiling", **more
    )


def test_reads_the_same_as_the_model_itself():
    train, _ = population(50)
    read = words.read_words(train.images, Reader())
    cosines = Reader().encode_image(train.images)
    for k, word in enumerate(WORDS):
        logits = 20 * torch.stack([cosines[:, k], cosines[:, len(WORDS) + k]], 1)
        np.testing.assert_allclose(read[word], logits.softmax(1)[:, 1], rtol=1e-5)


def test_association_is_the_chance_of_the_right_order():
    p, y, w = np.array([0.1, 0.6, 0.4, 0.9]), np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 3.0, 1.0])
    pairs = [(w[i] * w[j], p[j] > p[i]) for i in (0, 1) for j in (2, 3)]
    share = sum(weight for weight, right in pairs if right) / sum(weight for weight, _ in pairs)
    assert words.association(p, y, w) == pytest.approx(2 * share - 1)


@pytest.mark.parametrize("spurious", [("Male",), ("Young",), ("Black_Hair",)])
def test_names_the_one_word_that_goes_along_with_the_target(spurious):
    train, truth = population(6000, spurious)
    named = found(train)
    assert named.words == spurious
    assert ((named.probability[:, 0] > 0.5) == truth[:, 0]).mean() > 0.99
    axis = torch.zeros(1, len(WORDS))
    axis[0, WORDS.index(spurious[0])] = 1
    assert directions.cosine(named.directions[0].direction, axis) > 0.99  # and nothing of the target


def test_names_two_words_that_are_independent_inside_the_classes():
    train, truth = population(4000, spurious=("Male", "Young"))
    named = found(train)
    assert set(named.words) == {"Male", "Young"}
    columns = [("Male", "Young").index(word) for word in named.words]
    assert ((named.probability > 0.5) == truth[:, columns]).mean() > 0.99


@pytest.mark.parametrize("order", [("Male", "Young"), ("Young", "Male")])
def test_diga_takes_words_in_whichever_order_they_were_found(order):
    train, _ = population(3000, order, (1 / 9, 1 / 5))
    named = found(train)
    assert named.words == order
    codes = Patches().encode(train.images)
    sides = named.sides(np.stack([d.coordinate(codes) for d in named.directions], 1), train.target)
    np.testing.assert_array_equal(sides.upper, named.probability)
    assert sides.known and (abs(sides.gap) > 1).all()


def without(train, word, among, keep=0):
    """The same images, but of those in the mask only the first few show the word."""
    images = train.images.copy().reshape(len(train.images), 3, -1)
    gone = among & (images[:, 0, WORDS.index(word)] > 127)
    gone[np.flatnonzero(gone)[:keep]] = False
    images[gone, :, WORDS.index(word)] = 80
    return LabelledImages(images.reshape(train.images.shape), train.target, None, train.index)


@pytest.mark.parametrize("keep", [0, words.FEWEST - 1])
def test_a_word_that_a_whole_class_lacks_is_no_candidate(keep):
    train, _ = population(3000, ("Young", "Male"), (1 / 30, 1 / 5))
    assert found(train).words[0] == "Young"
    named = found(without(train, "Young", train.target == 0, keep))
    assert named.words == ("Male",) and "Young" not in set(named.table["attribute"])
    assert all(d.scale > 0 and d.direction.isfinite().all() for d in named.directions)


def test_a_part_of_the_target_is_no_shortcut():
    train, _ = population(4000, ("Wearing_Lipstick", "Male"), (1 / 19, 1 / 5))
    assert found(train, degree=8.0).words[0] == "Wearing_Lipstick"
    images = train.images.copy().reshape(len(train.images), 3, -1)
    lip, smile = (WORDS.index(word) for word in ("Wearing_Lipstick", "Smiling"))
    images[:, :, smile] = (
        127.5 + 0.3 * (images[:, :, smile] - 127.5) + 0.6 * (images[:, :, lip] - 127.5)
    )  # more than half the smile
    named = found(LabelledImages(images.reshape(train.images.shape), train.target, None, train.index), degree=8.0)
    assert named.words == ("Male",)
    line = named.table.set_index("attribute").loc["Wearing_Lipstick"]
    assert not line["passes"] and line["target"] > words.PART * line["change"] and abs(line["association"]) > 0.8


def test_a_word_that_the_target_decides_is_no_shortcut():
    """In one class every face that shows the word is a doubtful reading, though there are many of them."""
    train, truth = population(4000, ("Heavy_Makeup", "Male"), (1 / 9, 1 / 5))
    assert found(train).words[0] == "Heavy_Makeup"
    images = train.images.copy().reshape(len(train.images), 3, -1)
    images[(train.target == 0) & (truth[:, 0] == 1), :, WORDS.index("Heavy_Makeup")] = 133
    named = found(LabelledImages(images.reshape(train.images.shape), train.target, None, train.index))
    line = named.table.set_index("attribute").loc["Heavy_Makeup"]
    assert named.words == ("Male",) and not line["passes"] and line["certainty"] < words.ALIKE


def test_a_word_that_the_generator_cannot_move_is_not_taken():
    train, _ = population(4000, ("Bald", "Male"), (1 / 19, 1 / 5))
    assert found(train).words[0] == "Bald"

    class Stiff(Patches):
        def decode(self, codes):
            codes = codes.clone()
            codes[..., WORDS.index("Bald")] = 0.3
            return super().decode(codes)

    codes = Patches().encode(train.images)
    named = words.name_spurious(codes, train.target, train.images, Stiff(), Reader(), "Smiling")
    assert named.words == ("Male",)
    assert named.table.set_index("attribute").loc["Bald", "change"] == pytest.approx(0, abs=1e-6)


def test_without_a_shortcut_no_word_is_named():
    train, _ = population(3000, ("Male",), 1.0)
    named = found(train)
    assert named.words == () and named.directions == () and named.probability.shape == (3000, 0)


def test_where_no_word_is_named_the_latents_decide(monkeypatch):
    nothing = words.Named((), np.zeros((3, 0)), (), pd.DataFrame())
    monkeypatch.setattr(words, "name_spurious", lambda *given: nothing)
    split = SimpleNamespace(train=SimpleNamespace(target=None, images=None), target="Smiling")
    setting = Setting(SimpleNamespace(name="folder"), split, None, None, "quick")
    vars(setting).update(codes=None, reader=None, refined="what the latents tell")
    assert setting.named == "what the latents tell"


def test_an_unknown_target_is_one_sentence():
    train, _ = population(100)
    with pytest.raises(ValueError, match="not asked for 'Dog'; valid names: Smiling, Male, "):
        words.name_spurious(Patches().encode(train.images), train.target, train.images, Patches(), Reader(), "Dog")


def test_certainty_by_hand():
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    p = np.array([0.02, 0.05, 0.95, 0.6, 0.01, 0.3, 0.99, 0.97])
    # shown: one of two is certain in class 0, two of two in class 1; not shown: two of two, one of two
    assert words.certainty(y, p) == pytest.approx(0.5)
    assert words.certainty(y, np.where(y == 1, 0.99, 0.01)) == 0


def test_a_second_word_that_leaves_a_group_empty_is_not_taken():
    train, truth = population(4000, ("Male", "Young"))
    assert len(found(train).words) == 2
    assert len(found(without(train, "Young", (truth[:, 0] == 0) & (train.target == 1))).words) == 1


def test_pseudo_groups_are_numbered_in_bits():
    groups = words.pseudo_groups(np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.7], [0.8, 0.8]]))
    assert groups.tolist() == [2, 3, 4, 7]


def test_diga_moves_along_every_word_and_visits_the_pseudo_groups_alike():
    train, truth = population(4000, spurious=("Male", "Young"))
    named = found(train)
    model = DiGAOneStage(Patches(), named, epochs=1, augment="none", precision="fp32").fit(train)
    assert model.upper.shape == (4000, 2)
    index = torch.arange(4000)
    first, second = model.degrees_of_views(index)
    codes = model.faces.codes
    for _k, word in enumerate(named.words):
        pixel = WORDS.index(word)
        one, other = (model.faces.shifted(index, d)[:, 0].flatten(1)[:, pixel] > 0.5 for d in (first, second))
        assert (one != other).float().mean() > 0.99
    kept = model.faces.shifted(index, first)[:, 0].flatten(1)[:, WORDS.index("Smiling")]
    assert (kept - codes[:, 0, WORDS.index("Smiling")]).abs().max() < 0.05
    drawn = PseudoGroups(Patches(), named, epochs=1).fit(train).sampler(train, torch.Generator().manual_seed(0)).numpy()
    share = np.bincount(words.pseudo_groups(train.target, named.probability)[drawn], minlength=8) / len(drawn)
    np.testing.assert_allclose(share, 1 / 8, atol=0.03)


def test_words_of_other_images_are_refused():
    train, _ = population(900)
    with pytest.raises(ValueError, match="read on these 100 training images"):
        PseudoGroups(Patches(), found(train), epochs=1).fit(population(100)[0])
