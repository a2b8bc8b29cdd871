"""The generator and its W+ space: load a shipped one, or train one on other images."""

from __future__ import annotations

from pathlib import Path

import torch

from diga_lib import runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator
from diga_lib.latent.files import load_file, save_file
from diga_lib.latent.perceptual import FACTORS, FactorNetwork

__all__ = [
    "FACTORS",
    "LEVELS",
    "WIDTH",
    "FactorNetwork",
    "Generator",
    "load",
    "load_factor_network",
    "load_file",
    "save",
    "save_file",
]

PARTS = ("base", "encoder", "decoder")  # one file each, small enough for a repository


def save(generator: Generator, name: str, folder: Path = checkpoints.FOLDER) -> list[Path]:
    """Write a generator's weights (float16, one file a part) and register them; returns the files."""
    resolution = {"resolution": torch.tensor(generator.resolution)}
    states = [generator.base.state_dict() | resolution, generator.encoder.state_dict(), generator.decoder.state_dict()]
    return [checkpoints.save_state(f"{name}-{part}", state, folder) for part, state in zip(PARTS, states)]


def load(name: str = "rendered-faces-64", device: str = "auto", folder: Path = checkpoints.FOLDER) -> Generator:
    """Load a shipped generator.

    Parameters
    ----------
    name : str
        Name of the weights: the files ``name-base``, ``name-encoder`` and ``name-decoder`` of
        :func:`diga_lib.latent.checkpoints.names`.
    device : {"auto", "cpu", "cuda", "mps"}
    folder : path
        Where the weights and their table lie.

    Returns
    -------
    Generator
        In evaluation mode, with ``encode`` and ``decode``.

    Raises
    ------
    ValueError, FileNotFoundError
        If the weights are unknown, missing or damaged; see :func:`diga_lib.latent.checkpoints.path`.
    """
    base, encoder, decoder = (checkpoints.load_state(f"{name}-{part}", folder) for part in PARTS)
    generator = Generator(int(base.pop("resolution")), len(decoder["to_image.weight"][0]), len(base["scale"]))
    generator.base.load_state_dict(base)
    generator.encoder.load_state_dict(encoder)
    generator.decoder.load_state_dict(decoder)
    return generator.to(runtime.device(device)).eval().requires_grad_(False)


def load_factor_network(
    name: str = "rendered-faces-factors", device: str = "auto", folder: Path = checkpoints.FOLDER
) -> FactorNetwork:
    """Load the network that reads the renderer's factors (see :mod:`diga_lib.latent.perceptual`)."""
    state = checkpoints.load_state(name, folder)
    network = FactorNetwork(len(state["mean"]))
    network.load_state_dict(state)
    return network.to(runtime.device(device)).eval().requires_grad_(False)
