"""The image–text model: captions that tell the truth, the loss, resumption, what ships, and a CLIP by name."""

import sys
import types
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from diga_lib import image_text
from diga_lib.data import faces
from diga_lib.image_text.open_clip import OpenClip
from diga_lib.latent import checkpoints
from diga_lib.studies import weights
from diga_lib.studies.weights import contrastive
from diga_lib.studies.weights.captions import NOUNS, PHRASES, caption, vocabulary

TINY = {"width": 16, "layers": 1, "heads": 2, "dimension": 16}


@pytest.fixture(scope="module")
def unseen():
    """Faces of a seed that nothing was trained on: images and attributes."""
    images, attributes, _ = faces.render(8, np.arange(400))
    return images, attributes


@pytest.fixture(scope="module")
def shipped():
    return image_text.load("rendered-faces-text", device="cpu")


def tiny():
    torch.manual_seed(0)
    return image_text.RenderedFacesText(vocabulary(PHRASES), **TINY).eval()


# ---- captions ---------------------------------------------------------------------------------------------


def test_captions_say_only_what_is_true():
    attributes = faces.parameters(3, np.arange(300))[1].to_dict("records")
    rng = np.random.default_rng(0)
    for row in attributes:
        text = f" {caption(row, rng)} ".replace(",", "")
        assert any(f" {noun} " in text for noun in (*NOUNS[None], *NOUNS[row["Male"]]))
        if not row["Male"]:  # words are searched whole, since "woman" has "man" in it
            assert not any(f" {noun} " in text for noun in NOUNS[1])
        for name, sides in PHRASES.items():
            own, other = sides[row[name]], sides[1 - row[name]]
            for phrase in other:
                # What is false of this attribute may only be there as a part of something true.
                parts = [f" {true} " for true in own if f" {phrase} " in f" {true} "]
                if " " not in phrase and name in ("Blond_Hair", "Pale_Skin", "Bald"):
                    parts += [f" {true} " for true in own]
                assert f" {phrase} " not in text or any(part in text for part in parts), (text, name)


def test_naming_an_attribute_does_not_depend_on_its_value():
    rng = np.random.default_rng(1)
    named = {}
    for value in (0, 1):
        row = dict.fromkeys((*PHRASES, "Male"), value)
        texts = [f" {caption(row, rng)} " for _ in range(3000)]
        named[value] = np.mean([any(f" {word} " in text for word in PHRASES["Young"][value]) for text in texts])
    assert abs(named[0] - named[1]) < 0.04 and named[0] > 0.05


def test_every_caption_and_prompt_can_be_read():
    model, rng = tiny(), np.random.default_rng(2)
    rows = faces.parameters(4, np.arange(200))[1].to_dict("records")
    prompts = [caption(row, rng) for row in rows] + [p for pair in image_text.PROMPTS.values() for p in pair]
    vectors = model.encode_text(prompts)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(prompts)), atol=1e-5)
    assert set(image_text.PROMPTS) == set(faces.ATTRIBUTES) - {"Attractive"}


# ---- the model's manners ----------------------------------------------------------------------------------


def test_padding_and_punctuation_change_nothing():
    model = tiny()
    alone = model.encode_text(["a smiling man"])
    beside = model.encode_text(["A smiling man.", "an old woman without a smile, wearing lipstick"])
    assert torch.allclose(alone[0], beside[0], atol=0.02)  # bf16


def test_word_order_counts():
    vectors = tiny().encode_text(["a man without glasses with hair", "a man with glasses without hair"])
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)


def test_prompt_embeddings_can_be_learned():
    model = tiny().requires_grad_(False)
    tokens = model.tokenize(["a face with smile"])
    learned = model.text.tokens(tokens).clone().requires_grad_()
    F.normalize(model.text.encode(learned, tokens == 0), dim=1)[0, 0].backward()
    assert learned.grad.abs().sum() > 0
    assert torch.allclose(model.text.encode(learned, tokens == 0), model.text(tokens), atol=1e-5)


@pytest.mark.parametrize(
    "bad, sentence",
    [
        (["a face with tentacles"], "does not know 'tentacles'.*woman"),
        (["a man " * 40], "1 to 64 words"),
        ([""], "1 to 64 words"),
        ([], "1 to 64 words"),
        ("a man", "list of sentences"),
    ],
)
def test_bad_prompts(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny().encode_text(bad)


def test_images_in_all_their_forms():
    model = tiny()
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), np.uint8)
    images.setflags(write=False)
    vectors = model.encode_image(images)
    for same in (torch.from_numpy(images.copy()), images.astype(np.float32) / 255, images.astype(np.float64) / 255):
        assert torch.allclose(model.encode_image(same), vectors, atol=1e-3)
    assert torch.allclose(torch.cat([model.encode_image(two) for two in (images[:2], images[2:])]), vectors, atol=0.02)
    assert model.encode_image(np.repeat(np.repeat(images, 2, 2), 2, 3)).shape == vectors.shape
    for bad, sentence in [
        (images.astype(int), "must be uint8"),
        (images[0], "shape"),
        (images[:0], "no images"),
        (images.astype(np.float32), r"in \[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            model.encode_image(bad)


def test_probabilities_are_a_softmax_of_scaled_cosines():
    model = tiny()
    images, prompts = np.random.default_rng(1).random((3, 3, 64, 64), np.float32), ["a man", "a woman", "a face"]
    logits = model.scale.item() * model.encode_image(images).numpy() @ model.encode_text(prompts).numpy().T
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(images, prompts), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="'Attractive'; valid attributes: Smiling"):
        model.zero_shot(images, "Attractive")


# ---- training ---------------------------------------------------------------------------------------------


def test_info_nce_is_the_loop_over_pairs():
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(7, 5, generator=generator), torch.randn(7, 5, generator=generator)
    total = 0.0
    for i in range(7):

        def fit(a, b):
            return torch.exp(3.0 * torch.dot(image[a], text[b]) / image[a].norm() / text[b].norm())

        total -= torch.log(fit(i, i) / sum(fit(i, j) for j in range(7)))
        total -= torch.log(fit(i, i) / sum(fit(j, i) for j in range(7)))
    assert torch.allclose(contrastive.info_nce(image, text, torch.tensor(3.0)), total / 14, atol=1e-5)


@pytest.fixture(scope="module")
def few():
    images, attributes, _ = faces.render(5, np.arange(64))
    return images, attributes


SETTINGS = {"epochs": 3, "batch_size": 16}


class Stopped(Exception):
    """Raised in the middle of a run, as a power cut would."""


def test_a_stopped_run_ends_as_an_uninterrupted_one(few, tmp_path, monkeypatch):
    said = []

    def stopping(*told):
        said.append(caption(*told))
        if len(said) == 150:  # in the third epoch of 64 faces
            raise Stopped
        return said[-1]

    state = tmp_path / "state.safetensors"
    whole = contrastive.train(*few, **SETTINGS, **TINY)
    monkeypatch.setattr(contrastive, "caption", stopping)
    with pytest.raises(Stopped):
        contrastive.train(*few, state, **SETTINGS, **TINY)
    for other in ({"epochs": 4, "batch_size": 16}, {"epochs": 3, "batch_size": 8}):
        with pytest.raises(ValueError, match="state.safetensors belongs to a training with"):
            contrastive.train(*few, state, **other, **TINY)
    with pytest.raises(ValueError, match="belongs to a training with"):
        contrastive.train(few[0], few[1].iloc[::-1], state, **SETTINGS, **TINY)
    said.extend([""] * 150)
    resumed = contrastive.train(*few, state, **SETTINGS, **TINY)
    assert len(said) == 150 + 150 + 64, "one epoch was left"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_too_few_images(few):
    with pytest.raises(ValueError, match="64 images; at least one batch of 256"):
        contrastive.train(*few)


# ---- what ships -------------------------------------------------------------------------------------------

LEAST = {
    "Smiling": 0.85,
    "Male": 0.95,
    "Young": 0.80,
    "Eyeglasses": 0.95,
    "Black_Hair": 0.85,
    "Big_Nose": 0.80,
    "Heavy_Makeup": 0.80,
}


@pytest.mark.parametrize("attribute", LEAST)
def test_shipped_model_knows_unseen_faces(shipped, unseen, attribute):
    images, attributes = unseen
    predicted = shipped.zero_shot(images, attribute) > 0.5
    assert (predicted == attributes[attribute]).mean() >= LEAST[attribute] - 0.02  # 400 faces: one standard error


def test_shipped_model_names_the_more_fitting_of_many_captions(shipped, unseen):
    """Retrieval: a face's own caption against those of 49 other faces (chance: 2 %)."""
    images, attributes = unseen
    rng = np.random.default_rng(0)
    captions = [caption(row, rng) for row in attributes.head(50).to_dict("records")]
    cosines = shipped.encode_image(images[:50]) @ shipped.encode_text(captions).T
    assert (cosines.argsort(1, descending=True)[:, :5] == torch.arange(50)[:, None]).any(1).float().mean() > 0.4


def test_shipped_file_is_small_and_damage_is_found(shipped, tmp_path, monkeypatch):
    file = checkpoints.path("rendered-faces-text")
    assert file.stat().st_size < 8e6
    assert set(shipped.numbers) == set(vocabulary(PHRASES))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file.name).write_bytes(data)
    (tmp_path / checkpoints.TABLE).write_text((file.parent / checkpoints.TABLE).read_text())
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.path("rendered-faces-text", tmp_path)


def test_written_models_are_read_back(tmp_path):
    model = tiny()
    image_text.write(model, tmp_path / "model.safetensors")
    again = image_text.read(tmp_path / "model.safetensors")
    assert again.config == model.config
    assert torch.equal(again.encode_text(["a man"]), model.encode_text(["a man"]))


# ---- a CLIP by name ---------------------------------------------------------------------------------------


class FakeClip(torch.nn.Module):
    """Behaves as an open_clip model does: reads normalised 8 x 8 images, and tokens."""

    def __init__(self):
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
        self.eyes = torch.nn.Linear(3 * 64, 4)
        self.words = torch.nn.Embedding(300, 4)
        self.seen = None

    def encode_image(self, x):
        self.seen = x
        return self.eyes(x.flatten(1))

    def encode_text(self, tokens):
        return self.words(tokens).mean(1)


@pytest.fixture
def open_clip(monkeypatch):
    """A module that answers as open_clip does, and fails if it is asked to fetch anything."""

    def create_model(name, pretrained="openai"):
        assert pretrained is None, "would be downloaded"
        return FakeClip()

    fake = types.SimpleNamespace(
        get_model_config=lambda name: {"Tiny": {"text_cfg": {}}, "Mail": {"text_cfg": {"hf_tokenizer_name": "x"}}}.get(
            name
        ),
        create_model=create_model,
        get_tokenizer=lambda name: lambda texts: torch.tensor([[len(t)] for t in texts]),
        get_model_preprocess_cfg=lambda model: {"size": (8, 8), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)},
    )
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    return fake


def test_a_clip_with_weights_at_a_path(open_clip, tmp_path):
    torch.manual_seed(1)
    save_file(FakeClip().state_dict(), tmp_path / "clip.safetensors")
    torch.manual_seed(1)
    reference = FakeClip()
    model = image_text.load(f"open_clip:Tiny:{tmp_path / 'clip.safetensors'}", "cpu")
    images = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
    prompts = ["a face with smile", "a face without smile"]
    x = torch.from_numpy(images) - torch.tensor([0.5, 0.4, 0.3])[:, None, None]
    x /= torch.tensor([0.2, 0.25, 0.5])[:, None, None]
    a = F.normalize(reference.encode_image(x), dim=1)
    b = F.normalize(reference.encode_text(torch.tensor([[len(p)] for p in prompts])), dim=1)
    expected = (reference.logit_scale.exp() * a @ b.T).softmax(1)
    np.testing.assert_allclose(model.probabilities(images, prompts), expected.detach(), atol=0.05)  # bf16
    torch.testing.assert_close(model.model.seen, x)
    assert model.zero_shot(np.zeros((2, 3, 20, 20), np.uint8), "Smiling").shape == (2,)


def test_names_that_are_not_there(open_clip, monkeypatch):
    with pytest.raises(ValueError, match="valid are 'rendered-faces-text', .* and 'open_clip:ViT-B-32:PATH'"):
        image_text.load("clip")
    for name in ("Nothing", "Mail"):
        with pytest.raises(ValueError, match=f"no model '{name}'"):
            image_text.load(f"open_clip:{name}")
    with pytest.raises(FileNotFoundError, match="at 'nowhere.safetensors'; valid is 'open_clip:Tiny:PATH'"):
        image_text.load("open_clip:Tiny:nowhere.safetensors")
    with pytest.raises(ValueError, match="only with the models that ship"):
        OpenClip(FakeClip(), None, 8, (0.5,) * 3, (0.5,) * 3).words("a man")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(FileNotFoundError, match="needs the package open_clip_torch"):
        image_text.load("open_clip:Tiny")


# ---- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rendered-faces-text", "rendered-faces-text-s"])
def test_the_command_trains_and_writes(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(weights.SIZES, name, (32, weights.SIZES[name][1]))
    monkeypatch.setattr(contrastive, "train", partial(contrastive.train, **SETTINGS))
    weights.main([name, "--output", str(tmp_path)])
    assert "Wrote" in capsys.readouterr().out
    made, (file,) = checkpoints.load_state(name, tmp_path), tmp_path.glob("*.safetensors")
    shipped = checkpoints.load_state(name)
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in shipped.items()}
    assert image_text.read(file).encode_text(["a man with a beard"]).shape == (1, 128)
