"""Train the judges of page 09, in minutes, on people of their own, whom no editor knows, and on no edited picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import latent, runtime
from diga_lib.action_units.data import FRAMES, UNITS, VERSION, draw, trajectories
from diga_lib.action_units.judge import EMBEDDING, NAMES, Recogniser, UnitReader, head
from diga_lib.data import faces
from diga_lib.data.store import open_store
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import mirrored_batches

POPULATION = 28  # seed of the judges' people
PEOPLE, EACH, HELD_OUT = 1500, 16, 100  # people, pictures of each, people left out
READING, RECOGNISING = 4, 3  # epochs
BATCH, LR = 128, 3e-3


def pool(generator) -> dict[str, np.ndarray]:
    """The judges' images and neutral (without expression), uint8 (N, 3, 64, 64), intensities (N, 12) and person (N,).

    The generator paints every other image, as it does edited faces: else its softness would pass for an expression.
    """
    identity = {"name": "judges", "population": POPULATION, "resolution": 64, "each": EACH}
    identity |= {"version": VERSION, "faces": faces.VERSION}
    arrays = open_store(identity, PEOPLE * EACH, pictures, "drawing the judges' faces")
    images = np.array(arrays["images"])
    images[1::2] = (generator.decode(generator.encode(images[1::2])) * 255).round().byte().cpu().numpy()
    return arrays | {"images": images}


def pictures(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Draw some of the judges' pictures, by their numbers (n,)."""
    films, person = rows // FRAMES, rows // EACH
    courses = {film: trajectories(FRAMES, [POPULATION, int(film)]) for film in np.unique(films)}
    intensities = np.stack([courses[film][row % FRAMES] for film, row in zip(films, rows, strict=True)])
    images, neutral = (draw(person, units, rows, rows, POPULATION) for units in (intensities, 0 * intensities))
    return {"images": images, "neutral": neutral, "intensities": intensities, "person": person}


def train_reader(given: dict, file: Path | None = None) -> UnitReader:
    """Train the reader of action units on all of a `pool` but the held-out people; `file` keeps each finished epoch."""
    runtime.seed_everything(0)
    network, intensities = UnitReader(), torch.tensor(given["intensities"], device=runtime.device())
    scale = intensities.std(0)  # each unit counts the same, the faint ones too

    def loss(both: Tensor, rows: Tensor) -> Tensor:
        with runtime.autocast():
            read = network(*both.split(3, 1))
        return F.smooth_l1_loss(read / scale, intensities[rows] / scale, beta=0.5)

    learned = slice((PEOPLE - HELD_OUT) * EACH)
    both = np.concatenate([given["images"][learned], given["neutral"][learned]], 1)
    _cycle(network, loss, both, READING, file)
    return network.eval()


def train_recogniser(given: dict, file: Path | None = None) -> Recogniser:
    """Train the recogniser on all of a `pool`, and a head that reads intensities, so that it can discount them."""
    runtime.seed_everything(0)
    network, units, people = Recogniser(), head(len(UNITS)), nn.Linear(EMBEDDING, PEOPLE, bias=False)
    intensities, person = (torch.tensor(given[part], device=runtime.device()) for part in ("intensities", "person"))

    def loss(images: Tensor, rows: Tensor) -> Tensor:
        with runtime.autocast():
            maps = network.trunk(images * 2 - 1)
            read, embedding = units(maps).float(), network.embedding(maps).float()
        read = F.smooth_l1_loss(read, intensities[rows] / 5, beta=0.1)
        return read + 0.02 * cosface(embedding, people.weight, person[rows])

    lesson = nn.ModuleDict({"network": network, "units": units, "people": people})
    _cycle(lesson, loss, given["images"], RECOGNISING, file)
    return network.eval()


def cosface(embedding: Tensor, people: Tensor, person: Tensor) -> Tensor:
    """Cross-entropy of scaled cosines, the right one less a margin (CosFace)."""
    cosine = F.normalize(embedding) @ F.normalize(people).T
    return F.cross_entropy(20.0 * (cosine - 0.2 * F.one_hot(person, len(people))), person)


def _cycle(lesson: nn.Module, loss: Callable, images: np.ndarray, epochs: int, file: Path | None) -> None:
    """AdamW with one cycle of the learning rate, over images of any number of channels."""
    on, count = runtime.device(), len(images)
    optimizer = torch.optim.AdamW(lesson.to(on).parameters(), LR, weight_decay=0.02)
    settings = {"people": PEOPLE, "each": EACH, "count": count, "epochs": epochs, "batch": BATCH, "lr": LR}
    state = checkpoints.Resumable(file, lesson, optimizer, settings)
    step, steps = count // BATCH * len(state.history), count // BATCH * epochs
    for epoch in range(len(state.history), epochs):
        lesson.train()
        rng = torch.Generator().manual_seed(epoch)
        for rows, x in mirrored_batches(images, BATCH, rng, on, f"judge, epoch {epoch + 1}/{epochs}"):
            value = loss(x, rows)
            # A rise and a fall, of the step's number alone: going on needs nothing else.
            optimizer.param_groups[0]["lr"] = LR * min(1.0, (step + 1) / (0.3 * steps), 1.35 * (1 - step / steps))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            step += 1
        state.keep(epoch=epoch, loss=value.item())


def ship(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """Train a judge and write its weights."""
    train, given = train_reader if name == NAMES["reader"] else train_recogniser, pool(latent.load())
    return [checkpoints.save_state(name, train(given, work / "training.safetensors").state_dict(), folder)]
