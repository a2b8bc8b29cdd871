"""Action units: sequences of expressions, AUEditNet and the editors it is compared with, and their judge."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from diga_lib import runtime
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.editors import Edit, Linear, no_edit
from diga_lib.action_units.model import AUEditNet, LabelDecoder, SingleBranch
from diga_lib.latent import checkpoints

__all__ = ["EDITOR", "UNITS", "AUEditNet", "load", "load_compared"]

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
    state = checkpoints.load_state(name, folder)
    return tuple(
        _filled(network, state, part, device) for part, network in (("dual", AUEditNet()), ("reader", LabelDecoder()))
    )


def load_compared(name: str = EDITOR, device: str = "auto", folder: Path = checkpoints.FOLDER) -> dict[str, Edit]:
    """Load all editors that were trained alike (seed 0), by the names they have in the results."""
    state = checkpoints.load_state(name, folder)
    compared = {"no edit": no_edit}
    for key in sorted(key for key in state if key.startswith("linear")):
        compared[key] = Linear(state[key].to(runtime.device(device)))
    single = _filled(SingleBranch(), state, "single", device)
    return compared | {"single branch": single, "dual branch (AUEditNet)": _filled(AUEditNet(), state, "dual", device)}


def save(
    dual: AUEditNet,
    reader: LabelDecoder,
    single: SingleBranch,
    linear: dict[str, Linear],
    name: str = EDITOR,
    folder: Path = checkpoints.FOLDER,
) -> Path:
    """Write the editors' weights (float16, one file) and register them; returns the file."""
    state = {key: editor.gain * editor.steps for key, editor in linear.items()}
    for part, network in (("dual", dual), ("reader", reader), ("single", single)):
        state |= {f"{part}.{key}": value for key, value in network.state_dict().items()}
    return checkpoints.save_state(name, state, folder)


def _filled(network: nn.Module, state: dict, part: str, device: str) -> nn.Module:
    network.load_state_dict(
        {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
    )
    return network.to(runtime.device(device)).eval().requires_grad_(False)
