"""Who judges the edits: a network that reads action units, and one that recognises people.

They learned from faces that no editor sees (`studies.judge_training`), and took no part in training the generator.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import runtime
from diga_lib.action_units.data import UNITS
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import to_float

EMBEDDING = 64
NAMES = {"reader": "action-unit-judge", "recogniser": "face-recogniser"}


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU(inplace=True)]


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


def _trunk(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Pictures (N, channels, 64, 64) to 2048 features.

    The last maps are flattened, not averaged: where a wrinkle lies tells which unit made it.
    """
    layers, before = [nn.PixelUnshuffle(2)], 4 * channels
    for stage, width in enumerate(widths):
        layers += [*_convolution(before, width, 2 if stage else 1), _Residual(width)]
        before = width
    return nn.Sequential(*layers, nn.Conv2d(before, 32, 1), nn.BatchNorm2d(32), nn.SiLU(inplace=True), nn.Flatten())


def head(outputs: int) -> nn.Sequential:
    """From a trunk's 2048 features to so many numbers."""
    return nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, outputs))


class UnitReader(nn.Module):
    """Reads the twelve intensities from a picture, with the person's neutral face beside it, as human coders do."""

    def __init__(self):
        super().__init__()
        self.trunk, self.units = _trunk(6, (24, 48, 96)), head(len(UNITS))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, neutral: Tensor) -> Tensor:
        """Images and neutral faces (N, 3, 64, 64) in [0, 1] to intensities (N, 12), in 0-5."""
        both = torch.cat([2 * images - 1, 4 * (images - neutral)], 1)
        return 5 * self.units(self.trunk(both.contiguous(memory_format=torch.channels_last))).float()


class Recogniser(nn.Module):
    """Pictures to embeddings that tell people apart, whatever their expression and light."""

    def __init__(self):
        super().__init__()
        self.trunk, self.embedding = _trunk(3, (16, 32, 64)), head(EMBEDDING)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 64, 64) in [0, 1] to embeddings (N, 64)."""
        return self.embedding(self.trunk(images * 2 - 1)).float()


@dataclass(frozen=True)
class Judges:
    """Both judges. Pictures are uint8, or float in [0, 1], of shape (N, 3, 64, 64)."""

    reader: UnitReader
    recogniser: Recogniser | None

    def read(self, images: np.ndarray | Tensor, neutral: np.ndarray | Tensor) -> np.ndarray:
        """Intensities (N, 12), about 0-5, of pictures whose people look like `neutral` (N, 3, 64, 64) at rest."""
        if len(images) != len(neutral):
            raise ValueError(f"There are {len(images)} pictures and {len(neutral)} neutral faces; valid is one each.")
        return _seen_by(self.reader, images, neutral)

    def recognise(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Embeddings (N, 64) of length 1; the cosine of two says how alike the judge finds two people."""
        embedded = _seen_by(self.recogniser, images)
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


@torch.inference_mode()
def _seen_by(network: nn.Module, *pictures: np.ndarray | Tensor) -> np.ndarray:
    on = next(network.parameters()).device
    with runtime.autocast(on):
        return runtime.in_batches(lambda *x: network(*(to_float(part, on) for part in x)), *pictures).cpu().numpy()


def load() -> Judges:
    """Load the shipped judges."""
    parts = {"reader": UnitReader(), "recogniser": Recogniser()}
    for part, network in parts.items():
        network.load_state_dict(checkpoints.load_state(NAMES[part]))
        network.to(runtime.device()).eval().requires_grad_(False)
    return Judges(**parts)
