"""Train the judges, on people of their own. A stopped training goes on after its last finished epoch.

The reader learns in about three minutes of one core, the recogniser in one and a half. Nothing of the editors' people, and no
edited picture, is used. The last of the judges' people are held out, and say how well the reader reads strangers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import runtime
from diga_lib.action_units.data import FRAMES, UNITS, VERSION, draw, trajectories
from diga_lib.action_units.judge import EMBEDDING, Judges, Recogniser, UnitReader
from diga_lib.action_units.measures import agreement
from diga_lib.data import faces
from diga_lib.data.store import open_store
from diga_lib.latent.autoencoder import to_float

POPULATION = 28  # seed of the judges' people
PEOPLE, EACH, HELD_OUT = 1500, 16, 100  # people, pictures of each, people who only test
READING, RECOGNISING = 4, 3  # epochs
BATCH, LR = 128, 3e-3


def pool(generator) -> dict[str, np.ndarray]:
    """The judges' pictures: 1,500 people, 16 pictures of each, in any light and expression.

    Every other picture is shown as the generator paints it, with its true intensities: edited faces come from a
    generator, and a judge that knows the renderer alone would take a generator's softness for an expression.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``

    Returns
    -------
    dict
        images and neutral uint8 (24000, 3, 64, 64), the same people in the same light, with an expression and with
        none, intensities float32 (24000, 12), person int64 (24000,).
    """
    identity = {"population": POPULATION, "resolution": 64, "each": EACH, "version": VERSION, "faces": faces.VERSION}
    arrays = open_store({"name": "judges-faces"} | identity, PEOPLE * EACH, _pictures, "drawing the judges' faces")
    resting = open_store({"name": "judges-neutral-faces"} | identity, PEOPLE * EACH, _neutral, "drawing them at rest")
    images = np.array(arrays["images"])
    images[1::2] = (generator.decode(generator.encode(images[1::2])) * 255).round().byte().cpu().numpy()
    return {
        "images": images,
        "neutral": resting["images"],
        "intensities": arrays["intensities"],
        "person": arrays["person"],
    }


def _pictures(rows: np.ndarray, resolution: int = 64) -> dict[str, np.ndarray]:
    films = rows // FRAMES
    courses = {film: trajectories(FRAMES, [POPULATION, int(film)]) for film in np.unique(films)}
    intensities = np.stack([courses[film][row % FRAMES] for film, row in zip(films, rows)])
    images = draw(rows // EACH, intensities, rows, rows, resolution, POPULATION)
    return {"images": images, "intensities": intensities, "person": rows // EACH}


def _neutral(rows: np.ndarray, resolution: int = 64) -> dict[str, np.ndarray]:
    return {"images": draw(rows // EACH, np.zeros((len(rows), len(UNITS))), rows, rows, resolution, POPULATION)}


def train_reader(
    given: dict[str, np.ndarray], file: Path | None = None, epochs: int = READING, seed: int = 0
) -> UnitReader:
    """Train the reader of action units on all but the held-out people.

    Parameters
    ----------
    given : dict
        What :func:`pool` returns.
    file : path, optional
        Where each finished epoch is kept.
    epochs, seed : int
    """
    runtime.seed_everything(seed)
    on, network = runtime.device(), UnitReader()
    intensities = torch.from_numpy(np.array(given["intensities"])).to(on)
    scale = intensities.std(0)  # each unit counts the same, the faint ones too

    def loss(rows: Tensor, flip: bool) -> Tensor:
        images, neutral = (_pick(given[part], rows, flip, on) for part in ("images", "neutral"))
        with runtime.autocast(on):
            read = network(images, neutral)
        return F.smooth_l1_loss(read / scale, intensities[rows] / scale, beta=0.5)

    return _cycle(network, network, loss, (PEOPLE - HELD_OUT) * EACH, epochs, seed, file, "the reader")


def train_recogniser(
    given: dict[str, np.ndarray], file: Path | None = None, epochs: int = RECOGNISING, seed: int = 0
) -> Recogniser:
    """Train the recogniser on all the judges' people; parameters as of :func:`train_reader`.

    It also reads the intensities, by a head that is thrown away: maps that know an expression can discount it.
    """
    runtime.seed_everything(seed)
    on, network = runtime.device(), Recogniser()
    lesson = nn.ModuleDict(
        {
            "network": network,
            "units": nn.Sequential(nn.Linear(2048, 128), nn.SiLU(), nn.Linear(128, len(UNITS))),
            "people": nn.Linear(EMBEDDING, PEOPLE, bias=False),
        }
    )
    intensities, person = (torch.from_numpy(np.array(given[part])).to(on) for part in ("intensities", "person"))

    def loss(rows: Tensor, flip: bool) -> Tensor:
        with runtime.autocast(on):
            maps = network.trunk(_pick(given["images"], rows, flip, on) * 2 - 1)
            units, embedding = lesson["units"](maps).float(), network.embedding(maps).float()
        read = F.smooth_l1_loss(units, intensities[rows] / 5, beta=0.1)
        return read + 0.02 * cosface(embedding, lesson["people"].weight, person[rows])

    return _cycle(network, lesson, loss, PEOPLE * EACH, epochs, seed, file, "the recogniser")


def cosface(embedding: Tensor, people: Tensor, person: Tensor, scale: float = 20.0, margin: float = 0.2) -> Tensor:
    """Cross-entropy of scaled cosines, the right one less a margin (CosFace)."""
    cosine = F.normalize(embedding) @ F.normalize(people).T
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(person, len(people))), person)


def limits(reader: UnitReader, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ICC (12,) of the reader on the held-out people, as the renderer draws them and as the generator paints them."""
    judges, start = Judges(reader, None), (PEOPLE - HELD_OUT) * EACH
    read = judges.read(given["images"][start:], given["neutral"][start:])
    true = np.array(given["intensities"][start:])
    return {"drawn": agreement(true[::2], read[::2])[0], "painted": agreement(true[1::2], read[1::2])[0]}


def _pick(images: np.ndarray, rows: Tensor, flip: bool, on: torch.device) -> Tensor:
    x = to_float(images[rows.numpy()], on)
    return x.flip(3).contiguous(memory_format=torch.channels_last) if flip else x


def _cycle(
    network: nn.Module,
    lesson: nn.Module,
    loss: Callable[[Tensor, bool], Tensor],
    count: int,
    epochs: int,
    seed: int,
    file: Path | None,
    name: str,
) -> nn.Module:
    """AdamW with one cycle of the learning rate; `lesson` is the network and all else that learns with it."""
    lesson.to(runtime.device())
    optimizer = torch.optim.AdamW(lesson.parameters(), LR, weight_decay=0.02)
    per_epoch = count // BATCH
    # A rise and a fall, of the step's number alone: going on needs nothing else.
    height = lambda step: min(1.0, (step + 1) / (0.3 * per_epoch * epochs), 1.35 * (1 - step / (per_epoch * epochs)))
    for epoch in range(_resume(file, lesson, optimizer), epochs):
        lesson.train()
        random = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(count, generator=random)[: per_epoch * BATCH]
        for number, rows in enumerate(runtime.progress(order.split(BATCH), f"{name}, epoch {epoch + 1}/{epochs}")):
            value = loss(rows, bool(torch.rand((), generator=random) < 0.5))
            optimizer.param_groups[0]["lr"] = LR * height(epoch * per_epoch + number)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        _keep(file, lesson, optimizer, epoch + 1)
    return network.eval()


def _keep(file: Path | None, lesson: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    if file is None:
        return
    state = {f"weights.{name}": value for name, value in lesson.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"adam.{number}.{name}": value for name, value in moments.items()}
    with runtime.atomic_write(file) as temporary:
        save_file(
            {name: value.cpu().contiguous() for name, value in state.items()}, str(temporary), {"epochs": str(epochs)}
        )


def _resume(file: Path | None, lesson: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put everything back to where the last finished epoch left it; returns how many are finished."""
    if file is None or not file.exists():
        return 0
    with safe_open(str(file), "pt") as opened:
        epochs = int(opened.metadata()["epochs"])
    state, adam = load_file(str(file)), optimizer.state_dict()
    lesson.load_state_dict({name[8:]: value for name, value in state.items() if name.startswith("weights.")})
    for name, value in state.items():
        if name.startswith("adam."):
            _, number, moment = name.split(".")
            adam["state"].setdefault(int(number), {})[moment] = value
    optimizer.load_state_dict(adam)
    return epochs
