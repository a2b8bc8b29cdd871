"""The generator and its W+ space: load a shipped one, or train one on other images."""

import os
from pathlib import Path

import torch

from diga_lib import runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator
from diga_lib.latent.perceptual import FactorNetwork

__all__ = ["LEVELS", "WIDTH", "Generator", "load", "load_factor_network", "load_file", "save", "save_file"]

PARTS = ("base", "encoder", "decoder")  # one file each, small enough for a repository
FORMAT = "diga-generator-1"


def save(generator: Generator, name: str, folder: Path = checkpoints.FOLDER) -> list[Path]:
    """Write a generator's weights (float16, one file a part) and register them; returns the files."""
    states = {part: getattr(generator, part).state_dict() for part in PARTS}
    states["base"]["resolution"] = torch.tensor(generator.resolution)
    return [checkpoints.save_state(f"{name}-{part}", state, folder) for part, state in states.items()]


def load(name: str = "rendered-faces-64", device: str = "auto", folder: Path = checkpoints.FOLDER) -> Generator:
    """Load a shipped generator, with ``encode`` and ``decode``; errors as of :mod:`diga_lib.latent.checkpoints`."""
    states = {part: checkpoints.load_state(f"{name}-{part}", folder) for part in PARTS}
    resolution = int(states["base"].pop("resolution"))
    return _generator({f"{part}.{key}": v for part in PARTS for key, v in states[part].items()}, resolution, device)


def save_file(generator: Generator, file: str | os.PathLike) -> Path:
    """Write a generator's weights (float16) into one file of your own, whose name must end in .safetensors."""
    if Path(file).suffix != ".safetensors":
        raise ValueError(f"The generator's file is {Path(file).name!r}: valid is a name that ends in .safetensors.")
    metadata = {"format": FORMAT, "resolution": str(generator.resolution)}
    return checkpoints.write(file, checkpoints.cast(generator.state_dict(), torch.float16), metadata)


def load_file(file: str | os.PathLike, device: str = "auto") -> Generator:
    """Read a generator that :func:`save_file` wrote, as :func:`load` a shipped one; errors name the file."""
    state, metadata = checkpoints.read(file)
    if metadata.get("format") != FORMAT or not metadata.get("resolution", "").isdigit():
        raise ValueError(
            f"{file} holds other weights than a generator's: valid is a file that `python -m diga_lib.latent` wrote."
        )
    return _generator(checkpoints.cast(state), int(metadata["resolution"]), device)


def _generator(state: dict[str, torch.Tensor], resolution: int, device: str) -> Generator:
    generator = Generator(resolution, len(state["decoder.to_image.weight"][0]), len(state["base.scale"]))
    generator.load_state_dict(state)
    return generator.to(runtime.device(device)).eval().requires_grad_(False)


def load_factor_network(name: str = "rendered-faces-factors", folder: Path = checkpoints.FOLDER) -> FactorNetwork:
    """Load the network that reads the renderer's factors (see :mod:`diga_lib.latent.perceptual`)."""
    state = checkpoints.load_state(name, folder)
    network = FactorNetwork(len(state["mean"]))
    network.load_state_dict(state)
    return network.to(runtime.device()).eval().requires_grad_(False)
