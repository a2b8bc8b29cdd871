"""Train AUEditNet and the editors it is compared with on 18 subjects, each of whom is shown in many disguises.

Eighteen people are few, so every film is also shown a little bent and recoloured, all its frames alike. Disguises stay
small: the generator encodes a face badly that is bent as far as people differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import directions, latent, runtime
from diga_lib.action_units import data
from diga_lib.action_units.editors import AUEditNet, LabelDecoder, SingleBranch
from diga_lib.latent import checkpoints
from diga_lib.studies.setting import once

LOOKS, SHOWN = 48, 16  # disguises of a film, frames shown in each
DISGUISE = 2  # changes when the same look is made otherwise
STEPS, READING_STEPS, BATCH, LR = 1000, 2500, 64, 2e-3  # steps of an editor and of the reader
# Weights of the losses: with these the dual branch has the best ICC on 6 subjects when 12 train it, three times round.
# READ makes up for mildness: with .1 an edited stranger moves too little, with 1.5 a face overdoes it.
LATENT, NEUTRAL, SAME, READ = 1.0, 0.1, 0.5, 0.7
BETWEEN = 0.5  # of the way to somebody else: the farthest that a pair of frames is moved
FLOOR = 0.05  # of the mean variance within films: the least that a direction is taken to vary by
LINEAR = ("linear", "linear, others projected out", "linear, least squares")


@dataclass(frozen=True)
class Films:
    """Codes (F, S, levels, width) and labels (F, S, 12), whole numbers 0-5, float32, of F films of S frames each."""

    codes: Tensor
    labels: Tensor

    @cached_property
    def people(self) -> Tensor:
        """The mean code (F, levels, width) of each film."""
        return self.codes.mean(1)

    def within(self) -> tuple[Tensor, Tensor]:
        """How frames differ from their film's mean: codes (F S, D) and labels (F S, 12), float64."""
        parts = (self.codes.flatten(2), self.labels)
        return tuple((part - part.mean(1, keepdim=True)).flatten(0, 1).double() for part in parts)

    def aside(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw moves (count, levels, width) up to the whole way from one person to another."""
        here, there = self.people[torch.randint(len(self.people), (2, count), generator=rng)]
        return torch.rand(count, 1, 1, generator=rng) * (there - here)

    def pairs(self, count: int, rng: torch.Generator, between: float = BETWEEN) -> tuple[Tensor, ...]:
        """Draw pairs of frames of one film, moved alike up to `between` of an `aside`: two codes and their labels."""
        film = torch.randint(len(self.codes), (count,), generator=rng)
        one, other = torch.randint(self.codes.shape[1], (2, count), generator=rng)
        aside = between * self.aside(count, rng)
        codes = (self.codes[film, one] + aside, self.codes[film, other] + aside)
        return *codes, self.labels[film, one], self.labels[film, other]


def disguise(images: Tensor, rng: torch.Generator) -> Tensor:
    """Give all frames of a film, (N, 3, R, R) in [0, 1], another look: mirrored or not, bent, stretched, recoloured."""
    uniform, normal = partial(torch.rand, (), generator=rng), partial(torch.randn, generator=rng)
    side = images.shape[-1]
    if uniform() < 0.5:
        images = images.flip(3)
    coarse = 0.01 * normal(1, 2, 5, 5) + 0.003 * normal(1, 2, 1, 1)
    bend = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    line = torch.linspace(-1, 1, side) * (1 - 1 / side)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) * (1 + 0.01 * normal(2)) + bend
    grid = grid.expand(len(images), -1, -1, -1)
    bent = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(1e-3, 1)
    light = bent ** (2 ** (0.6 * uniform() - 0.3))
    return (light * (1 + 0.07 * normal(3, 1, 1)) * (0.94 + 0.12 * uniform())).clamp(0, 1)


@lru_cache(maxsize=2)
def disguised_films(subjects: int = data.TRAIN_SUBJECTS) -> Films:
    """Films of the first training subjects in ``LOOKS`` disguises each; their codes are made once and kept on disk."""
    films, generator = data.load("train"), latent.load()
    count = data.TRAIN_SUBJECTS * data.SESSIONS * LOOKS
    draws = (np.random.default_rng([data.POPULATION, 1, row]) for row in range(count))
    shown = np.stack([draw.choice(data.FRAMES, SHOWN, replace=False) for draw in draws])
    shown += np.arange(count)[:, None] // LOOKS * data.FRAMES

    def codes():
        found = []
        for row, frames in enumerate(runtime.progress(shown, "disguising films")):
            images = torch.from_numpy(films.images[frames]).float() / 255
            found.append(generator.encode(disguise(images, torch.Generator().manual_seed(row))).cpu().half())
        return torch.stack(found)

    made = {"looks": LOOKS, "shown": SHOWN, "disguise": DISGUISE, "population": data.POPULATION, "data": data.VERSION}
    made["encoder"] = runtime.sha256(checkpoints.path("rendered-faces-64-encoder"))
    some = slice(subjects * data.SESSIONS * LOOKS)
    return Films(once(made, "disguised-films", codes)[some].float(), torch.from_numpy(films.labels[shown[some]]))


def film_metric(films: Films) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean squared distance (a scalar) of codes (N, levels, width), in units of how codes differ *within* films."""
    centred, _ = films.within()
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    whiten = (axes / (variance + FLOOR * variance.mean()).sqrt()).float()
    return lambda one, other: ((one - other).flatten(1) @ whiten).square().mean()


def linear_steps(films: Films, name: str, strength: float = 0.0) -> Tensor:
    """Steps (12, levels, width) of a linear editor, by its name: what one intensity more of each unit adds to a code.

    All but least squares go along the normals of boundaries between a unit's absence and presence, as in InterFaceGAN,
    as far as real frames move along them for one intensity. `strength` is the regularisation per frame.
    """
    if name == LINEAR[2]:
        w, y = films.within()
        steps = torch.linalg.solve(y.T @ y + 1e-6 * torch.eye(y.shape[1], dtype=torch.double), y.T @ w).float()
        return steps.view(-1, *films.codes.shape[2:])
    codes, labels = films.codes.flatten(0, 1), films.labels.flatten(0, 1)
    some = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:3000]
    present = (labels[some] >= 2).int().numpy()  # as in the literature on DISFA, a unit is present from 2 on
    normals = torch.stack([directions.boundary(codes[some], y, strength * len(some)).flatten() for y in present.T])
    steps, centred = [], films.labels - films.labels.mean(1, keepdim=True)
    for k, intensity in enumerate(centred.unbind(2)):
        normal = normals[k]
        if name == LINEAR[1]:
            basis, _ = torch.linalg.qr(torch.cat([normals[:k], normals[k + 1 :]]).T)
            rest = normal - basis @ (basis.T @ normal)
            normal = rest / rest.norm()
        along = films.codes.flatten(2) @ normal
        steps.append((intensity * along).sum() / intensity.square().sum() * normal)
    return torch.stack(steps).view(-1, *films.codes.shape[2:])


def train_reader(films: Films, seed: int = 0) -> LabelDecoder:
    """Train Psi_dec to read intensities from codes, which are moved towards somebody else and noisy.

    What differs between people must not count as an expression, or editors would change people to please the reader.
    """
    torch.manual_seed(seed)
    reader, rng = LabelDecoder(), torch.Generator().manual_seed(seed + 1)

    def loss():
        one, other, y_one, y_other = films.pairs(BATCH, rng, between=0)
        codes = torch.cat([one, other]) + films.aside(2 * BATCH, rng)
        noisy = codes + 0.1 * torch.randn(codes.shape, generator=rng)
        return F.smooth_l1_loss(reader(noisy), torch.cat([y_one, y_other]))

    torch.manual_seed(seed)  # of dropout
    return descend(reader, loss, READING_STEPS)


def train_editor(kind: type, films: Films, reader: LabelDecoder, seed: int = 0) -> AUEditNet | SingleBranch:
    """Train an editor of one of the two kinds, starting from the best linear one, with the help of a frozen Psi_dec.

    The target's code is met, a face edited to its own labels stays, and the reader reads from edited codes what was
    asked for. With two branches, two frames of a film also give one neutral code, which reads as zeros.
    """
    torch.manual_seed(seed)
    editor, rng, apart = kind(), torch.Generator().manual_seed(seed + 1), film_metric(films)
    linear, dual = linear_steps(films, LINEAR[2]), kind is AUEditNet
    editor.start_from(linear if dual else torch.cat([-linear, linear]))

    def loss():
        source, target, y_source, y_target = films.pairs(BATCH, rng)
        y_free = y_target.roll(1, 0)  # another film's expression, of which there is no picture to compare with
        asked, shown, right, alike = torch.cat([y_target, y_source, y_free]), [], [], 0.0
        if dual:
            both = editor.neutral(torch.cat([source, target]), torch.cat([y_source, y_target]))
            neutral, neutral_too = both.chunk(2)
            made = neutral.repeat(3, 1, 1) + editor.change(neutral.repeat(3, 1, 1), asked)
            shown, right, alike = [neutral], [torch.zeros_like(y_target)], apart(neutral, neutral_too)
        else:
            made = editor(source.repeat(3, 1, 1), y_source.repeat(3, 1), asked)
        edited, same, free = made.chunk(3)
        shown, right = [edited, free, *shown], [y_target, y_free, *right]
        read = F.smooth_l1_loss(reader(torch.cat(shown)), torch.cat(right))
        total = LATENT * apart(edited, target) + NEUTRAL * alike + SAME * apart(same, source)
        return total + len(shown) * READ * read

    torch.manual_seed(seed)  # of dropout
    return descend(editor, loss, STEPS)


def descend(network: nn.Module, loss: Callable[[], Tensor], steps: int) -> nn.Module:
    """Train with AdamW and one cycle of the learning rate; what is random comes from torch's global generator."""
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    network.train()
    for _ in runtime.progress(range(steps), type(network).__name__):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def trained(part: str, seed: int, subjects: int = data.TRAIN_SUBJECTS) -> nn.Module:
    """The "reader", "dual" or "single" network of a seed and the first training subjects, trained once and kept."""
    network = {"reader": LabelDecoder, "dual": AUEditNet, "single": SingleBranch}[part]()
    decisive = (LOOKS, SHOWN, DISGUISE, STEPS, BATCH, LR, READING_STEPS, LATENT, NEUTRAL, SAME, READ, BETWEEN, FLOOR)

    def parameters():
        films, reader = disguised_films(subjects), None if part == "reader" else trained("reader", seed, subjects)
        made = train_editor(type(network), films, reader, seed) if reader else train_reader(films, seed)
        return nn.utils.parameters_to_vector(made.parameters())

    kept = once({"of": decisive, "seed": seed, "subjects": subjects}, f"action-units-{part}", parameters)
    nn.utils.vector_to_parameters(kept, network.parameters())
    return network.eval().requires_grad_(False)
