"""Train the editors of action units on 18 subjects, each of whom is shown in many disguises.

Eighteen people are few. So every film of a subject is also shown a little bent and recoloured: proportions, skin tone
and light change, the expression stays. One disguise holds for all frames of a film, so pairs of frames still show one
person with two expressions. Every editor that is compared learns from the same disguised films.

Disguises must stay small. The generator knows faces that are placed and lit alike; one that is bent as far as people
differ is encoded badly, and what is learned of its expression does not hold for anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import latent, runtime
from diga_lib.action_units import data
from diga_lib.action_units.model import AUEditNet, LabelDecoder, SingleBranch
from diga_lib.data.store import open_store
from diga_lib.latent import checkpoints

LOOKS, SHOWN = 48, 16  # disguises of a film, frames shown in each
DISGUISE = 2  # changes when the same look is made otherwise
STEPS, BATCH, LR = 1000, 64, 2e-3
READING_STEPS = 2500
# Weights of the losses: those of the dual branch with the best ICC when it is trained on 12 of the 18 subjects and asked
# for the expressions of the other 6, three times round. READ makes up for mildness: with .1 an edited stranger moves
# too little, with 1.5 a face overdoes it.
LATENT, NEUTRAL, SAME, READ = 1.0, 0.1, 0.5, 0.7
BETWEEN = 0.5  # of the way to somebody else: the farthest that a pair of frames is moved
FLOOR = 0.05  # of the mean variance within films: the least that a direction is taken to vary by


@dataclass(frozen=True)
class Films:
    """Codes of disguised films.

    Parameters
    ----------
    codes : float32 Tensor (F, S, levels, width)
        F disguised films of S frames.
    labels : float32 Tensor (F, S, 12)
        Whole numbers 0-5.
    subject : int array (F,)
    """

    codes: Tensor
    labels: Tensor
    subject: np.ndarray

    def select(self, keep: np.ndarray) -> Films:
        """Some of the films."""
        return Films(self.codes[keep], self.labels[keep], self.subject[keep])

    @cached_property
    def people(self) -> Tensor:
        """The mean code (F, levels, width) of each film."""
        return self.codes.mean(1)

    def aside(self, count: int, random: torch.Generator) -> Tensor:
        """Draw moves (count, levels, width) up to the whole way from one person to another."""
        here, there = self.people[torch.randint(len(self.people), (2, count), generator=random)]
        return torch.rand(count, 1, 1, generator=random) * (there - here)

    def pairs(
        self, count: int, random: torch.Generator, between: float = BETWEEN
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw pairs of frames of one film: source codes, target codes, source labels, target labels.

        Both frames of a pair are moved alike, up to the part `between` of the way from one person to another.
        """
        film = torch.randint(len(self.codes), (count,), generator=random)
        one, other = torch.randint(self.codes.shape[1], (2, count), generator=random)
        aside = between * self.aside(count, random)
        return (
            self.codes[film, one] + aside,
            self.codes[film, other] + aside,
            self.labels[film, one],
            self.labels[film, other],
        )


class FilmMetric:
    """Squared distance of codes, in units of how codes differ *within* films.

    While a face moves, skin and light stay. A plain distance in W+ hardly notices a code that is a little darker; this
    one does, since no film has two frames that differ so.
    """

    def __init__(self, films: Films):
        centred = (films.codes - films.codes.mean(1, keepdim=True)).flatten(2).flatten(0, 1).double()
        variance, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        self.whiten = (directions / (variance + FLOOR * variance.mean()).sqrt()).float()

    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """Mean over faces and directions (a scalar) of the squared distance of codes (N, levels, width)."""
        return ((one - other).flatten(1) @ self.whiten).square().mean()


def disguise(images: Tensor, random: torch.Generator) -> Tensor:
    """Give all frames of a film one other look: mirrored or not, bent, stretched, recoloured.

    Parameters
    ----------
    images : Tensor (N, 3, R, R)
        In [0, 1].
    random : torch.Generator
    """
    uniform = lambda low, high: low + (high - low) * torch.rand((), generator=random)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    side = images.shape[-1]
    if uniform(0, 1) < 0.5:
        images = images.flip(3)
    bend = F.interpolate(
        0.01 * normal(1, 2, 5, 5) + 0.003 * normal(1, 2, 1, 1), (side, side), mode="bicubic", align_corners=True
    )
    line = torch.linspace(-1, 1, side) * (1 - 1 / side)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) * (1 + 0.01 * normal(2)) + bend[0].permute(
        1, 2, 0
    )
    grid = grid.expand(len(images), -1, -1, -1)
    bent = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(1e-3, 1)
    light = bent ** (2 ** uniform(-0.3, 0.3))
    return (light * (1 + 0.07 * normal(3, 1, 1)) * uniform(0.94, 1.06)).clamp(0, 1)


def disguised_films(generator_name: str = "rendered-faces-64") -> Films:
    """Codes of the training subjects' films in ``LOOKS`` disguises each; made once and kept on disk."""
    weights = runtime.sha256(checkpoints.path(f"{generator_name}-encoder"))
    identity = {
        "name": "disguised-films",
        "resolution": 64,
        "encoder": weights,
        "looks": LOOKS,
        "shown": SHOWN,
        "population": data.POPULATION,
        "version": data.VERSION,
        "disguise": DISGUISE,
    }
    count = data.TRAIN_SUBJECTS * data.SESSIONS * LOOKS
    arrays = open_store(identity, count, _Disguises(generator_name), "disguising films", jobs=1)
    codes, labels = (torch.from_numpy(np.array(arrays[name])).float() for name in ("codes", "labels"))
    return Films(codes, labels, np.arange(count) // (LOOKS * data.SESSIONS))


class _Disguises:
    """Makes rows of the store: row ``film * LOOKS + look``."""

    def __init__(self, generator_name: str):
        self.name, self.generator, self.films = generator_name, None, None

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        if self.generator is None:
            self.generator, self.films = latent.load(self.name), data.load("train")
        codes, labels = [], []
        for row in rows:
            chosen = np.random.default_rng([data.POPULATION, 1, int(row)]).choice(data.FRAMES, SHOWN, replace=False)
            frames = self.films.select(row // LOOKS * data.FRAMES + chosen)
            look = disguise(torch.from_numpy(frames.images).float() / 255, torch.Generator().manual_seed(int(row)))
            codes.append(self.generator.encode(look).cpu().numpy().astype(np.float16))
            labels.append(frames.labels.astype(np.float16))
        return {"codes": np.stack(codes), "labels": np.stack(labels)}


def settings() -> str:
    """All that decides a training, as a name: one with other settings must not be taken for it."""
    decisive = (LOOKS, SHOWN, DISGUISE, STEPS, BATCH, LR, READING_STEPS, LATENT, NEUTRAL, SAME, READ, BETWEEN, FLOOR)
    return "-".join(f"{value:g}" for value in decisive)


def joint_steps(films: Films) -> Tensor:
    """The best linear editor of all: least squares of the change of codes on the change of all twelve labels."""
    y = (films.labels - films.labels.mean(1, keepdim=True)).flatten(0, 1).double()
    w = (films.codes - films.codes.mean(1, keepdim=True)).flatten(2).flatten(0, 1).double()
    steps = torch.linalg.solve(y.T @ y + 1e-6 * torch.eye(y.shape[1], dtype=torch.double), y.T @ w)
    return steps.float().view(-1, *films.codes.shape[2:])


def train_reader(films: Films, seed: int = 0, steps: int = READING_STEPS) -> LabelDecoder:
    """Train Psi_dec: read the intensities from codes.

    Codes are moved part of the way to somebody else, with other skin in other light, and noise is added: what differs
    between people must not count as an expression, or editors would change people to please the reader.
    """
    torch.manual_seed(seed)
    reader, random = LabelDecoder(), torch.Generator().manual_seed(seed + 1)

    def loss(step):
        one, other, y_one, y_other = films.pairs(BATCH, random, between=0)
        codes = torch.cat([one, other]) + films.aside(2 * BATCH, random)
        return F.smooth_l1_loss(
            reader(codes + 0.1 * torch.randn(codes.shape, generator=random)), torch.cat([y_one, y_other])
        )

    return _descend(reader, loss, steps, seed, "reading codes")


def train_dual(films: Films, reader: LabelDecoder, seed: int = 0, steps: int = STEPS) -> AUEditNet:
    """Train AUEditNet, starting from the best linear editor.

    The losses: the target's code is met; two frames of a film give the same neutral code; a face edited to its own
    labels stays; and what a frozen Psi_dec reads from edited codes is what was asked for, zeros in the neutral ones.

    Parameters
    ----------
    films : Films
    reader : LabelDecoder
        Trained on the same films.
    seed, steps : int

    Returns
    -------
    AUEditNet
        In evaluation mode.
    """
    torch.manual_seed(seed)
    editor, random = AUEditNet(), torch.Generator().manual_seed(seed + 1)
    editor.start_from(joint_steps(films))
    reader, apart = reader.eval().requires_grad_(False), FilmMetric(films)

    def loss(step):
        source, target, y_source, y_target = films.pairs(BATCH, random)
        neutral, neutral_too = editor.neutral(torch.cat([source, target]), torch.cat([y_source, y_target])).chunk(2)
        y_free = y_target.roll(1, 0)  # another film's expression, of which there is no picture to compare with
        edited, same, free = (
            neutral.repeat(3, 1, 1) + editor.change(neutral.repeat(3, 1, 1), torch.cat([y_target, y_source, y_free]))
        ).chunk(3)
        read = reader(torch.cat([edited, free, neutral]))
        asked = torch.cat([y_target, y_free, torch.zeros_like(y_target)])
        return (
            LATENT * apart(edited, target)
            + NEUTRAL * apart(neutral, neutral_too)
            + SAME * apart(same, source)
            + 3 * READ * F.smooth_l1_loss(read, asked)
        )

    return _descend(editor, loss, steps, seed, "AUEditNet")


def train_single(films: Films, reader: LabelDecoder, seed: int = 0, steps: int = STEPS) -> SingleBranch:
    """Train the single-branch editor with the losses that apply to it, as :func:`train_dual` otherwise."""
    torch.manual_seed(seed)
    editor, random = SingleBranch(), torch.Generator().manual_seed(seed + 1)
    steps_of_units = joint_steps(films)
    editor.start_from(torch.cat([-steps_of_units, steps_of_units]))
    reader, apart = reader.eval().requires_grad_(False), FilmMetric(films)

    def loss(step):
        source, target, y_source, y_target = films.pairs(BATCH, random)
        y_free = y_target.roll(1, 0)
        edited, same, free = editor(
            source.repeat(3, 1, 1), y_source.repeat(3, 1), torch.cat([y_target, y_source, y_free])
        ).chunk(3)
        read = reader(torch.cat([edited, free]))
        return (
            LATENT * apart(edited, target)
            + SAME * apart(same, source)
            + 2 * READ * F.smooth_l1_loss(read, torch.cat([y_target, y_free]))
        )

    return _descend(editor, loss, steps, seed, "single branch")


def _descend(network: nn.Module, loss: Callable[[int], Tensor], steps: int, seed: int, name: str):
    """AdamW with one cycle of the learning rate."""
    torch.manual_seed(seed)  # of dropout
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    network.train()
    for step in runtime.progress(range(steps), name):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)
