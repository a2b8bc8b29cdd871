"""Who judges the edits: a network that reads action units, and one that recognises people.

They learned from rendered faces of a population of their own, which no editor sees (`judge_training.py`). They are
neither the network that looked on when the generator was trained nor of its architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


def _trunk(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Pictures (N, channels, 64, 64) to 2048 features.

    The last maps are flattened, not averaged: where a wrinkle lies tells which unit made it.
    """
    layers, before = [nn.PixelUnshuffle(2)], 4 * channels
    for stage, width in enumerate(widths):
        layers += [
            nn.Conv2d(before, width, 3, 2 if stage else 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(inplace=True),
            _Residual(width),
        ]
        before = width
    return nn.Sequential(*layers, nn.Conv2d(before, 32, 1), nn.BatchNorm2d(32), nn.SiLU(inplace=True), nn.Flatten())


class UnitReader(nn.Module):
    """Reads the twelve intensities from a picture, with the person's neutral face beside it.

    A coder of the Facial Action Coding System works so: how high a brow is *raised* shows only to somebody who knows
    where it rests. Without it, proportions of a face and its expression cannot be told apart.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96)):
        super().__init__()
        self.trunk = _trunk(6, widths)
        self.units = nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, len(UNITS)))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, neutral: Tensor) -> Tensor:
        """Images and neutral faces (N, 3, 64, 64) in [0, 1] to intensities (N, 12), in 0-5."""
        both = torch.cat([2 * images - 1, 4 * (images - neutral)], 1)
        return 5 * self.units(self.trunk(both.contiguous(memory_format=torch.channels_last))).float()


class Recogniser(nn.Module):
    """Pictures to embeddings that tell people apart, whatever their expression and light."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        self.trunk = _trunk(3, widths)
        self.embedding = nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, EMBEDDING))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 64, 64) in [0, 1] to embeddings (N, 64)."""
        return self.embedding(self.trunk(images * 2 - 1)).float()


@dataclass(frozen=True)
class Judges:
    """Both judges. Pictures are uint8, or float in [0, 1], of shape (N, 3, 64, 64)."""

    reader: UnitReader
    recogniser: Recogniser

    def read(self, images: np.ndarray | Tensor, neutral: np.ndarray | Tensor) -> np.ndarray:
        """Intensities (N, 12), about 0-5, of pictures whose people look like `neutral` (N, 3, 64, 64) at rest."""
        if len(images) != len(neutral):
            raise ValueError(
                f"There are {len(images)} pictures and {len(neutral)} neutral faces; valid is one for each."
            )
        return _batches(self.reader, images, neutral)

    def recognise(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Embeddings (N, 64) of length 1; the cosine of two says how alike the judge finds two people."""
        embedded = _batches(self.recogniser, images)
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


@torch.inference_mode()
def _batches(network: nn.Module, *pictures: np.ndarray | Tensor, size: int = 512) -> np.ndarray:
    on, seen = next(network.parameters()).device, []
    for start in range(0, len(pictures[0]), size):
        with runtime.autocast(on):
            seen.append(network(*(to_float(part[start : start + size], on) for part in pictures)))
    return torch.cat(seen).cpu().numpy()


def save(part: str, network: nn.Module, folder: Path = checkpoints.FOLDER) -> None:
    """Write the weights of the "reader" or the "recogniser" and register them."""
    checkpoints.save_state(NAMES[part], network.state_dict(), folder)


def load(folder: Path = checkpoints.FOLDER) -> Judges:
    """Load the shipped judges."""
    parts = {"reader": UnitReader(), "recogniser": Recogniser()}
    for part, network in parts.items():
        network.load_state_dict(checkpoints.load_state(NAMES[part], folder))
        network.to(runtime.device()).eval().requires_grad_(False)
    return Judges(**parts)
