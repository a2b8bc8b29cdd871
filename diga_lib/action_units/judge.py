"""Who judges the edits: networks that read action units and recognise people, trained on faces that nobody edits.

They learn from rendered faces of a population of their own, which no editor sees. They are neither the network that
looked on when the generator was trained nor of its architecture.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import runtime
from diga_lib.action_units.data import FRAMES, UNITS, VERSION, draw, trajectories
from diga_lib.data import faces
from diga_lib.data.store import open_store
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import to_float

POPULATION = 28  # seed of the judges' people
PEOPLE, EACH = 1500, 16
EMBEDDING = 64
NAMES = {"reader": "action-unit-judge", "recogniser": "face-recogniser"}


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.SiLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


class Judge(nn.Module):
    """A small residual network with two heads: the twelve intensities, and an embedding that tells people apart.

    The last maps are flattened, not averaged: where a wrinkle lies tells which unit made it.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        layers, before = [nn.PixelUnshuffle(2)], 12
        for width in widths:
            stride = 1 if before == 12 else 2
            layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(inplace=True),
                       _Residual(width)]  # fmt: skip
            before = width
        self.trunk = nn.Sequential(*layers, nn.Conv2d(before, 32, 1), nn.BatchNorm2d(32), nn.SiLU(inplace=True), nn.Flatten())
        self.units = nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, len(UNITS)))
        self.embedding = nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, EMBEDDING))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, 64, 64) in [0, 1] to intensities divided by 5, (N, 12), and embeddings (N, 64)."""
        maps = self.trunk(images * 2 - 1)
        return self.units(maps).float(), self.embedding(maps).float()

    @torch.inference_mode()
    def look(self, images: np.ndarray | Tensor, batch_size: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """Intensities (N, 12) in 0-5 and unit embeddings (N, 64) of uint8 or float images (N, 3, 64, 64)."""
        self.eval()
        on, seen = next(self.parameters()).device, []
        for start in range(0, len(images), batch_size):
            with runtime.autocast(on):
                units, embedding = self(to_float(images[start : start + batch_size], on))
            seen.append((5 * units, F.normalize(embedding)))
        return tuple(torch.cat(part).cpu().numpy() for part in zip(*seen))


def pool(resolution: int = 64) -> dict[str, np.ndarray]:
    """The judge's training images: 1,500 people, 16 pictures of each, in any light and expression.

    Returns
    -------
    dict
        images uint8 (24000, 3, R, R), intensities float32 (24000, 12), person int64 (24000,).
    """
    identity = {"name": "judges-faces", "population": POPULATION, "resolution": resolution, "each": EACH,
                "version": VERSION, "faces": faces.VERSION}  # fmt: skip
    return open_store(identity, PEOPLE * EACH, _pictures, "drawing the judge's faces")


def _pictures(rows: np.ndarray, resolution: int = 64) -> dict[str, np.ndarray]:
    films = rows // FRAMES
    courses = {film: trajectories(FRAMES, [POPULATION, int(film)]) for film in np.unique(films)}
    intensities = np.stack([courses[film][row % FRAMES] for film, row in zip(films, rows)])
    images = draw(rows // EACH, intensities, rows, rows, resolution, POPULATION)
    return {"images": images, "intensities": intensities, "person": rows // EACH}


def train(generator, epochs: tuple[int, int] = (3, 0), seed: int = 0) -> Judges:
    """Train the judges from nothing: one network for both tasks; a copy of it may go on with the intensities alone.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
        Every other picture is shown as the generator paints it, with its true intensities: edited faces come from a
        generator, and a judge that knows the renderer alone would take a generator's softness for an expression.
    epochs : two ints
        Of both tasks together, and of the intensities alone. The shipped judges are one network: (3, 0).
    seed : int
    """
    runtime.seed_everything(seed)
    arrays = pool()
    images = np.array(arrays["images"])
    images[1::2] = (generator.decode(generator.encode(images[1::2])) * 255).round().byte().cpu().numpy()
    intensities, person = torch.tensor(arrays["intensities"] / 5), torch.tensor(arrays["person"])
    recogniser = Judge()
    _cycle(recogniser, images, intensities, person, epochs[0], seed)
    reader = copy.deepcopy(recogniser)
    if epochs[1]:
        _cycle(reader, images, intensities, None, epochs[1], seed + 1)
    return Judges(reader.eval(), recogniser.eval())


def _cycle(judge: Judge, images, intensities, person, epochs: int, seed: int, batch_size: int = 128, lr: float = 3e-3) -> None:
    """AdamW with one cycle of the learning rate; without `person` the embedding is not trained."""
    device = runtime.device()
    judge.to(device).train()
    people = nn.Parameter(F.normalize(torch.randn(PEOPLE, EMBEDDING, device=device)))
    optimizer = torch.optim.AdamW([*judge.parameters(), people], lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=len(images) // batch_size * epochs)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=shuffle)[: len(images) // batch_size * batch_size]
        for rows in runtime.progress(order.split(batch_size), "training the judges"):
            x = to_float(images[rows.numpy()], device)
            if torch.rand((), generator=shuffle) < 0.5:
                x = x.flip(3).contiguous(memory_format=torch.channels_last)
            with runtime.autocast(device):
                units, embedding = judge(x)
            loss = F.smooth_l1_loss(units, intensities[rows].to(device), beta=0.1)
            if person is not None:
                loss = loss + 0.02 * cosface(embedding, people, person[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def cosface(embedding: Tensor, people: Tensor, person: Tensor, scale: float = 20.0, margin: float = 0.2) -> Tensor:
    """Cross-entropy of scaled cosines, the right one less a margin (CosFace)."""
    cosine = F.normalize(embedding) @ F.normalize(people).T
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(person, len(people))), person)


@dataclass(frozen=True)
class Judges:
    """Both judges behind one question: what do you see?"""

    reader: Judge
    recogniser: Judge

    def look(self, images: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Intensities (N, 12) in 0-5 and unit embeddings (N, 64) of uint8 or float images (N, 3, 64, 64)."""
        return self.reader.look(images)[0], self.recogniser.look(images)[1]


def save(judges: Judges, folder: Path = checkpoints.FOLDER) -> None:
    """Write the judges' weights and register them."""
    for part, name in NAMES.items():
        checkpoints.save_state(name, getattr(judges, part).state_dict(), folder)


def load(folder: Path = checkpoints.FOLDER) -> Judges:
    """Load the shipped judges."""
    parts = {part: Judge() for part in NAMES}
    for part, judge in parts.items():
        judge.load_state_dict(checkpoints.load_state(NAMES[part], folder))
        judge.to(runtime.device()).eval().requires_grad_(False)
    return Judges(**parts)
