"""The generator and its W+ space: load a shipped one, or train one on other images."""

from __future__ import annotations

from diga_lib import runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator
from diga_lib.latent.perceptual import FACTORS, FactorNetwork

__all__ = ["FACTORS", "LEVELS", "WIDTH", "FactorNetwork", "Generator", "load", "load_factor_network"]


def load(name: str = "rendered-faces-64", device: str = "auto") -> Generator:
    """Load a shipped generator.

    Parameters
    ----------
    name : str
        Name of the weights, see :func:`diga_lib.latent.checkpoints.names`.
    device : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    Generator
        In evaluation mode, with ``encode`` and ``decode``.

    Raises
    ------
    ValueError, FileNotFoundError
        If the weights are unknown, missing or damaged; see :func:`diga_lib.latent.checkpoints.path`.
    """
    state = checkpoints.load_state(name)
    generator = Generator(resolution=int(state.pop("resolution")))
    generator.load_state_dict(state)
    return generator.to(runtime.device(device)).eval().requires_grad_(False)


def load_factor_network(name: str = "rendered-faces-factors", device: str = "auto") -> FactorNetwork:
    """Load the network that reads the renderer's factors (see :mod:`diga_lib.latent.perceptual`)."""
    state = checkpoints.load_state(name)
    network = FactorNetwork(len(state["mean"]))
    network.load_state_dict(state)
    return network.to(runtime.device(device)).eval().requires_grad_(False)
