"""Action units: sequences of expressions, AUEditNet and the editors it is compared with, and their judge."""

from __future__ import annotations

from pathlib import Path

from diga_lib import runtime
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.model import AUEditNet, LabelDecoder
from diga_lib.latent import checkpoints

__all__ = ["EDITOR", "UNITS", "AUEditNet", "load"]

EDITOR = "action-unit-editor"  # name of the shipped weights


def load(name: str = EDITOR, device: str = "auto", folder: Path = checkpoints.FOLDER) -> tuple[AUEditNet, LabelDecoder]:
    """Load the shipped AUEditNet.

    Parameters
    ----------
    name : str
        Name of the weights in the table of :mod:`diga_lib.latent.checkpoints`.
    device : {"auto", "cpu", "cuda", "mps"}
    folder : path

    Returns
    -------
    AUEditNet, LabelDecoder
        The editor, called as ``editor(codes, source, target)``, and Psi_dec, which reads intensities from codes.

    Raises
    ------
    ValueError, FileNotFoundError
        If the weights are unknown, missing or damaged.
    """
    state, parts = checkpoints.load_state(name, folder), {"editor": AUEditNet(), "reader": LabelDecoder()}
    for part, network in parts.items():
        network.load_state_dict({key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")})
        network.to(runtime.device(device)).eval().requires_grad_(False)
    return parts["editor"], parts["reader"]
