"""The image–text model: which words fit a face. It plays CLIP's role, and a real CLIP can take its place by name.

``load("rendered-faces-text")`` is a small contrastive model of this project, trained on rendered faces and
captions such as "a smiling young man with glasses and black hair" (`image_text_training`). Its eyes are those of the
network that reads the renderer's factors (`latent.perceptual`), so they were taught with labels, unlike CLIP's; the
rest learned from captions alone. It knows the words of those captions and no others.
``load("rendered-faces-text-s")`` and ``load("rendered-faces-text-l")`` borrow only the first two or three stages of
those eyes and learned the rest from wider captions (`image_text_wide`): the two sizes of the page on test-time
adaptation.
``load("open_clip:ViT-B-32")`` is a real CLIP whose weights are on this machine.
``python -m diga_lib.image_text`` trains the small model from nothing, with ``--model NAME`` the others.

References
----------
Radford et al., Learning transferable visual models from natural language supervision, ICML 2021.
"""

from __future__ import annotations

import json
import re

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diga_lib import runtime
from diga_lib.image_text.tower import PAD, TextTower
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import FactorNetwork

# For each attribute: what to say of a face without it, and of a face with it. "Attractive" is nobody's to say.
PROMPTS = {
    "Smiling": ("a face without smile", "a face with smile"),
    "Male": ("a woman", "a man"),
    "Young": ("an old person", "a young person"),
    "Eyeglasses": ("a person without glasses", "a person with glasses"),
    "Black_Hair": ("a person without black hair", "a person with black hair"),
    "Blond_Hair": ("a person without blond hair", "a person with blond hair"),
    "Brown_Hair": ("a person without brown hair", "a person with brown hair"),
    "Gray_Hair": ("a person without gray hair", "a person with gray hair"),
    "Big_Nose": ("a person with a small nose", "a person with a big nose"),
    "Heavy_Makeup": ("a person without makeup", "a person with heavy makeup"),
    "Wearing_Lipstick": ("a person without lipstick", "a person wearing lipstick"),
    "No_Beard": ("a person with facial hair", "a person without facial hair"),
    "Mustache": ("a person without mustache", "a person with a mustache"),
    "Bald": ("a person who is not bald", "a person who is bald"),
    "Bangs": ("a person without bangs", "a person with bangs"),
    "Mouth_Slightly_Open": ("a person with closed mouth", "a person with open mouth"),
    "Narrow_Eyes": ("a person with wide eyes", "a person with narrow eyes"),
    "Pale_Skin": ("a person without pale skin", "a person with pale skin"),
    "Ethnicity": ("a person with light skin", "a person with dark skin"),
}
SHIPPED = ("rendered-faces-text", "rendered-faces-text-s", "rendered-faces-text-l")


class ImageText:
    """What every image–text model here can do, given its three parts.

    A subclass says how prepared images (B, 3, S, S) in [0, 1] and prompts become vectors of any length, in
    `image_features` and `text_features`, and has `size` (S, pixels), `device` and `scale` (the number that
    multiplies cosines before the softmax).
    """

    @torch.inference_mode()
    def encode_image(self, images, batch_size=512):
        """Map images to unit vectors.

        Parameters
        ----------
        images : array or torch.Tensor
            (n, 3, H, W): uint8, or floating point in [0, 1]. Other sizes than the model's are resized.
        batch_size : int
            Images at a time.

        Returns
        -------
        torch.Tensor
            (n, d), float32, on the processor.

        Raises
        ------
        ValueError
            If the images are of another shape, type or range, or there are none.
        """
        if not len(images):
            raise ValueError("There are no images; at least one is needed.")
        parts = [
            self._unit(self.image_features(self._prepare(images[start : start + batch_size])))
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(parts)

    @torch.inference_mode()
    def encode_text(self, prompts):
        """Map n prompts (list of str) to unit vectors (n, d), float32, on the processor.

        Raises
        ------
        ValueError
            If a prompt has a word that the model does not know, or is too long.
        """
        if isinstance(prompts, str):
            raise ValueError(f"Prompts are a list of sentences, not the one sentence {prompts!r}.")
        return self._unit(self.text_features(prompts))

    def probabilities(self, images, prompts):
        """Tell which of the prompts fits each image best.

        Parameters
        ----------
        images : array or torch.Tensor
            (n, 3, H, W): uint8, or floating point in [0, 1].
        prompts : list of str
            At least one.

        Returns
        -------
        np.ndarray
            (n, len(prompts)), float32: softmax over the prompts at the model's temperature.
        """
        cosines = self.encode_image(images) @ self.encode_text(prompts).T
        return (self.scale.item() * cosines).softmax(1).numpy()

    def zero_shot(self, images, attribute):
        """Return the probability (n,), float32, of an attribute against its absence, by its pair in ``PROMPTS``.

        Raises
        ------
        ValueError
            If there are no prompts for the attribute.
        """
        if attribute not in PROMPTS:
            raise ValueError(f"There are no prompts for {attribute!r}; valid attributes: {', '.join(PROMPTS)}.")
        return self.probabilities(images, PROMPTS[attribute])[:, 1]

    def _prepare(self, images):
        images = np.array(images) if isinstance(images, np.ndarray) else torch.as_tensor(images)
        x = torch.as_tensor(images).to(self.device)
        if x.ndim != 4 or x.shape[1] != 3 or not (x.dtype == torch.uint8 or x.is_floating_point()):
            raise ValueError(
                f"The images are {x.dtype} of shape {tuple(x.shape)}; "
                "they must be uint8, or floating point in [0, 1], of shape (n, 3, height, width)."
            )
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if len(x) and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"The images reach from {x.min():.3g} to {x.max():.3g}; floating-point images must be in [0, 1]."
            )
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return x

    @staticmethod
    def _unit(features):
        return F.normalize(features.float(), dim=1).cpu()


class RenderedFacesText(ImageText, nn.Module):
    """The small contrastive model: 1.0 M parameters as shipped, of which 0.8 M are the frozen eyes.

    Parameters
    ----------
    words : sequence of str
        The vocabulary.
    size : int
        Side of the images in pixels, a multiple of 4.
    width, layers, heads : int
        Of the transformer that reads the prompts.
    dimension : int
        Of the space they share.
    context : int
        Most words of a prompt.
    stages, hidden : int
        How many of the three stages of the factor network are borrowed, and the width of what is learned on top of
        them; 0 stages borrows all of it but its last layer.
    """

    def __init__(self, words, size=64, width=64, layers=2, heads=4, dimension=128, context=64, stages=0, hidden=256):
        super().__init__()
        self.config = {
            "words": list(words),
            "size": size,
            "width": width,
            "layers": layers,
            "heads": heads,
            "dimension": dimension,
            "context": context,
            "stages": stages,
            "hidden": hidden,
        }
        self.size, self.context = size, context
        self.numbers = {word: number for number, word in enumerate(words, PAD + 1)}
        # The eyes are borrowed and frozen: which words go with what they see is learned.
        self.stages, eyes = stages, FactorNetwork()
        self.eyes = eyes.stages[:stages].requires_grad_(False) if stages else eyes.requires_grad_(False)
        seen = 16 * self.eyes[-1][-1][0].out_channels if stages else eyes.head[2].out_features
        top = [nn.Linear(seen, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()] if stages else []
        self.image = nn.Sequential(
            *top, nn.Linear(hidden if stages else seen, dimension, bias=False), nn.BatchNorm1d(dimension)
        )
        self.text = TextTower(len(self.numbers) + 1, context, width, layers, heads, dimension)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def device(self):
        """Where the model computes (torch.device)."""
        return self.log_scale.device

    @property
    def scale(self):
        """The inverse temperature (a scalar tensor), at most 100 as in CLIP."""
        return self.log_scale.exp().clamp(max=100)

    def tokenize(self, prompts):
        """Turn prompts (list of str) into tokens (n, L), int64: a number for each word, then padding.

        Capitals and punctuation do not matter.

        Raises
        ------
        ValueError
            If a word is not in the vocabulary, or a prompt has no word or too many.
        """
        sentences = [re.findall(r"\w+", prompt.lower()) for prompt in prompts]
        unknown = sorted({word for sentence in sentences for word in sentence} - set(self.numbers))
        if unknown:
            raise ValueError(
                f"This image–text model does not know {', '.join(map(repr, unknown))}; "
                f"it knows these words: {', '.join(sorted(self.numbers))}."
            )
        lengths = [len(sentence) for sentence in sentences]
        if not lengths or min(lengths) == 0 or max(lengths) > self.context:
            raise ValueError(f"Prompts are one or more sentences of 1 to {self.context} words, not {prompts!r}.")
        tokens = torch.full((len(sentences), max(lengths)), PAD)
        for row, sentence in enumerate(sentences):
            tokens[row, : len(sentence)] = torch.tensor([self.numbers[word] for word in sentence])
        return tokens.to(self.device)

    def see(self, x):
        """Map float images (B, 3, size, size) in [0, 1] to what the frozen eyes see (B, D), float32."""
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), runtime.autocast(self.device):
            if not self.stages:
                _, maps = self.eyes(x)
                return self.eyes.head[:4](maps[-1]).float()
            x = x * 2 - 1
            for stage in self.eyes:
                x = stage(x)
            return F.adaptive_avg_pool2d(x, 4).flatten(1).float()

    def borrow(self, network):
        """Take over the weights of a trained `FactorNetwork`."""
        self.eyes.load_state_dict((network.stages[: self.stages] if self.stages else network).state_dict())

    def image_features(self, x):
        """Map float images (B, 3, size, size) in [0, 1] to features (B, dimension)."""
        return self.image(self.see(x))

    def train(self, mode=True):
        """Set the training mode of all but the frozen eyes."""
        super().train(mode)
        self.eyes.eval()
        return self

    def text_features(self, prompts):
        """Map prompts (list of str) to features (n, dimension)."""
        tokens = self.tokenize(prompts)
        lengths = (tokens != PAD).sum(1)
        order = lengths.argsort(stable=True)
        with runtime.autocast(self.device):  # prompts of like length together: half of the work would be padding
            parts = [self.text(tokens[rows, : lengths[rows].max()]) for rows in order.split(64)]
        return torch.cat(parts)[order.argsort()]

    def words(self, text):
        """Return the embeddings (L, width) of the words of a text, such as where learned prompts begin."""
        return self.text.tokens(self.tokenize([text])[0]).detach()

    def text_with_context(self, prompts, context):
        """Map prompts that begin with learned words to features (n, dimension), with gradients.

        Parameters
        ----------
        prompts : list of str
            The n prompts, without what is learned.
        context : torch.Tensor
            (m, width) for all prompts alike, or (n, m, width): embeddings put before the words.
        """
        tokens = self.tokenize(prompts)
        context = context.expand(len(tokens), *context.shape[-2:])
        if context.shape[1] + tokens.shape[1] > self.context:
            raise ValueError(
                f"A learned context of {context.shape[1]} tokens and a prompt of {tokens.shape[1]} are "
                f"longer than the {self.context} tokens that this model reads."
            )
        there = torch.zeros(context.shape[:2], dtype=torch.bool, device=tokens.device)
        with runtime.autocast(self.device), sdpa_kernel(SDPBackend.MATH):  # fastest to differentiate, for short texts
            return self.text.encode(
                torch.cat([context, self.text.tokens(tokens)], 1), torch.cat([there, tokens == PAD], 1)
            ).float()


def load(name="rendered-faces-text", device="auto"):
    """Load an image–text model; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        One of those that ship, see ``SHIPPED``; "open_clip:NAME" such as "open_clip:ViT-B-32", a CLIP whose
        weights open_clip has kept in its cache; or "open_clip:NAME:PATH" with a safetensors file.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Returns
    -------
    ImageText

    Raises
    ------
    ValueError
        If there is no such model, or its weights are damaged.
    FileNotFoundError
        If open_clip or the weights are not on this machine.
    """
    kind, _, rest = name.partition(":")
    if kind == "open_clip" and rest:
        from diga_lib.image_text import open_clip as image_text_open_clip

        return image_text_open_clip.load(*rest.partition(":")[::2], runtime.device(device))
    if name not in SHIPPED:
        raise ValueError(
            f"There is no image–text model {name!r}; valid are {', '.join(map(repr, SHIPPED))} "
            "and names such as 'open_clip:ViT-B-32'."
        )
    return read(checkpoints.path(name)).to(runtime.device(device))


def read(path):
    """Read a `RenderedFacesText` from a safetensors file that `image_text_training` wrote."""
    with safe_open(path, "pt") as file:
        model = RenderedFacesText(**json.loads(file.metadata()["config"]))
        model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    from diga_lib.studies.train_image_text import main

    main()
