"""Action units: sequences of expressions, AUEditNet and the editors it is compared with, and their judge."""

from torch import nn

from diga_lib import runtime
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.editors import AUEditNet, Edit, LabelDecoder, Linear, SingleBranch, no_edit
from diga_lib.latent import checkpoints

__all__ = ["EDITOR", "UNITS", "AUEditNet", "load", "load_compared"]

EDITOR = "action-unit-editor"  # name of the shipped weights: all editors that were trained with seed 0
DUAL, SINGLE = "dual branch (AUEditNet)", "single branch"  # their names in tables


def load() -> tuple[AUEditNet, LabelDecoder]:
    """Load the shipped AUEditNet, and Psi_dec, which reads intensities from codes."""
    state = checkpoints.load_state(EDITOR)
    return _filled(AUEditNet(), state, "dual"), _filled(LabelDecoder(), state, "reader")


def load_compared() -> dict[str, Edit]:
    """Load all editors that were trained alike, by the names they have in the results."""
    state = checkpoints.load_state(EDITOR)
    linear = {key: Linear(state[key].to(runtime.device())) for key in sorted(state) if key.startswith("linear")}
    branches = {SINGLE: _filled(SingleBranch(), state, "single"), DUAL: _filled(AUEditNet(), state, "dual")}
    return {"no edit": no_edit} | linear | branches


def _filled(network: nn.Module, state: dict, part: str) -> nn.Module:
    network.load_state_dict({k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")})
    return network.to(runtime.device()).eval().requires_grad_(False)
