"""Shipped weights: a name, its file, and the sha256 that the file must have before it is read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from diga_lib import runtime

FOLDER = Path(__file__).resolve().parent.parent / "weights"
TABLE = "checkpoints.json"


def _table(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / TABLE
    if not file.exists():
        return {}
    try:
        table = json.loads(file.read_text())
        if all(set(entry) == {"file", "sha256"} for entry in table.values()):
            return table
    except (ValueError, AttributeError, TypeError):
        pass  # as wrong as a table that lacks something
    raise ValueError(f"{file} is damaged: valid is an object of names, each with a file and its sha256. Restore it.")


def names(folder: Path = FOLDER) -> list[str]:
    """The names that :func:`path` knows."""
    return sorted(_table(folder))


def path(name: str, folder: Path = FOLDER) -> Path:
    """The verified file of some shipped weights.

    Raises
    ------
    ValueError
        If there are no weights of that name, or the file is not the one that was registered.
    FileNotFoundError
        If the file is missing.
    """
    entry = _table(folder).get(name)
    if entry is None:
        raise ValueError(f"There are no weights named {name!r}; valid names: {', '.join(names(folder)) or 'none yet'}.")
    file = folder / entry["file"]
    if not file.exists():
        raise FileNotFoundError(f"The weights {name!r} are missing: {file} does not exist. Restore it or retrain it.")
    found = runtime.sha256(file)
    if found != entry["sha256"]:
        raise ValueError(
            f"{file} is damaged: its sha256 is {found[:12]}…, not {entry['sha256'][:12]}…. Restore it or retrain it."
        )
    return file


def register(name: str, file: str | Path) -> None:
    """Enter a file that lies beside the table under a name, with its sha256."""
    file = Path(file)
    table = _table(file.parent) | {name: {"file": file.name, "sha256": runtime.sha256(file)}}
    with runtime.atomic_write(file.parent / TABLE) as temporary:
        Path(temporary).write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")


def load_state(name: str, folder: Path = FOLDER) -> dict[str, torch.Tensor]:
    """The verified tensors of a name, floating-point ones as float32."""
    state = load_file(path(name, folder))
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def save_state(name: str, state: dict[str, torch.Tensor], folder: Path = FOLDER, half: bool = True) -> Path:
    """Write tensors whole (as float16 by default, half the size) and register them."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    small = {key: value.half() if half and value.is_floating_point() else value for key, value in state.items()}
    with runtime.atomic_write(file) as temporary:
        save_file({key: value.contiguous() for key, value in small.items()}, str(temporary))
    register(name, file)
    return file
