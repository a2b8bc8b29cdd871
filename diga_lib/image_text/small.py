"""The small contrastive model of drawn faces: frozen eyes, and a transformer that reads words."""

import re
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from diga_lib import runtime
from diga_lib.image_text.base import ImageText
from diga_lib.latent.perceptual import FactorNetwork

PAD = 0  # the token that is not there


class TextTower(nn.Module):
    """A convolution over neighbouring words, then a small transformer whose mean state stands for the sentence."""

    def __init__(self, words: int, context: int, width: int, layers: int, heads: int, dimension: int):
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        # Binds "without" to the word it is about; attention alone learns that very late on so little data.
        self.phrases = nn.Conv1d(width, width, 5, padding=2)
        self.positions = nn.Parameter(0.1 * torch.randn(context, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, dimension, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L), int64, padded with ``PAD``, to features (B, dimension)."""
        return self.encode(self.tokens(tokens), tokens == PAD)

    def encode(self, embeddings: Tensor, padding: Tensor) -> Tensor:
        """Map embeddings (B, L, width) of tokens, where `padding` (B, L) is False, to features (B, dimension)."""
        present = (~padding).unsqueeze(2)
        words = embeddings * present  # so that padding says nothing to its neighbours
        phrases = F.gelu(self.phrases(words.transpose(1, 2)).transpose(1, 2))
        x = words + phrases + self.positions[: words.shape[1]]
        states = self.transformer(x, src_key_padding_mask=padding) * present
        return self.head(states.sum(1) / present.sum(1))


class RenderedFacesText(ImageText, nn.Module):
    """The small contrastive model: 1.0 M parameters as shipped, of which 0.8 M are the frozen eyes.

    It knows these words, and images of `size` pixels a side, a multiple of 4. Width, layers and heads are those of the
    transformer that reads prompts of at most `context` words; images and prompts share a space of `dimension`. So many
    `stages` of the factor network's three are borrowed, 0 for all but its last layer; on top are `hidden` features.
    """

    def __init__(self, words, size=64, width=64, layers=2, heads=4, dimension=128, context=64, stages=0, hidden=256):
        super().__init__()
        self.config = {"words": list(words), "size": size, "width": width, "layers": layers, "heads": heads}
        self.config |= {"dimension": dimension, "context": context, "stages": stages, "hidden": hidden}
        self.size, self.context = size, context
        self.numbers = {word: number for number, word in enumerate(words, PAD + 1)}
        # The eyes are borrowed and frozen: which words go with what they see is learned.
        self.stages, eyes = stages, FactorNetwork()
        self.eyes = eyes.stages[:stages].requires_grad_(False) if stages else eyes.requires_grad_(False)
        seen = 16 * self.eyes[-1][-1][0].out_channels if stages else eyes.head[2].out_features
        top = [nn.Linear(seen, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()] if stages else []
        last = nn.Linear(hidden if stages else seen, dimension, bias=False)
        self.image = nn.Sequential(*top, last, nn.BatchNorm1d(dimension))
        self.text = TextTower(len(self.numbers) + 1, context, width, layers, heads, dimension)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def device(self) -> torch.device:
        return self.log_scale.device

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=100)  # as in CLIP

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Turn prompts into tokens (n, L), int64: a number for each word, then padding.

        Capitals and punctuation do not matter. A word that is not in the vocabulary is a ValueError.
        """
        sentences = [re.findall(r"\w+", prompt.lower()) for prompt in prompts]
        unknown = {word for sentence in sentences for word in sentence} - set(self.numbers)
        if unknown:
            known, unknown = (", ".join(sorted(words)) for words in (self.numbers, map(repr, unknown)))
            raise ValueError(f"This image–text model does not know {unknown}; it knows these words: {known}.")
        if not sentences or not all(1 <= len(sentence) <= self.context for sentence in sentences):
            raise ValueError(f"Prompts are one or more sentences of 1 to {self.context} words, not {prompts!r}.")
        numbers = [torch.tensor([self.numbers[word] for word in sentence]) for sentence in sentences]
        return nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=PAD).to(self.device)

    def see(self, x: Tensor) -> Tensor:
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

    def borrow(self, network: FactorNetwork) -> None:
        """Take over the weights of a trained `FactorNetwork`."""
        self.eyes.load_state_dict((network.stages[: self.stages] if self.stages else network).state_dict())

    def image_features(self, x: Tensor) -> Tensor:
        return self.image(self.see(x))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.eyes.eval()
        return self

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenize(prompts)
        lengths = (tokens != PAD).sum(1)
        order = lengths.argsort(stable=True)
        with runtime.autocast(self.device):  # prompts of like length together: half of the work would be padding
            parts = [self.text(tokens[rows, : lengths[rows].max()]) for rows in order.split(64)]
        return torch.cat(parts)[order.argsort()]

    def words(self, text: str) -> Tensor:
        """Return the embeddings (L, width) of the words of a text, such as where learned prompts begin."""
        return self.text.tokens(self.tokenize([text])[0]).detach()

    def text_with_context(self, prompts: Sequence[str], context: Tensor) -> Tensor:
        """Map n prompts that begin with learned words to features (n, dimension), with gradients.

        Those words are embeddings (m, width), for all prompts alike, or (n, m, width).
        """
        tokens = self.tokenize(prompts)
        context = context.expand(len(tokens), *context.shape[-2:])
        if context.shape[1] + tokens.shape[1] > self.context:
            words = f"learned context of {context.shape[1]} tokens and a prompt of {tokens.shape[1]}"
            raise ValueError(f"A {words} are longer than the {self.context} tokens that this model reads.")
        there = torch.zeros(context.shape[:2], dtype=torch.bool, device=tokens.device)
        embedded, padding = torch.cat([context, self.text.tokens(tokens)], 1), torch.cat([there, tokens == PAD], 1)
        with runtime.autocast(self.device), sdpa_kernel(SDPBackend.MATH):  # fastest to differentiate, for short texts
            return self.text.encode(embedded, padding).float()
