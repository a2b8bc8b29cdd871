"""Files of tensors: shipped weights, a generator of one's own, and the state of a training that can be stopped.

All are safetensors, written whole or not at all, and read only after a SHA-256 has been compared: that of the table
for what ships, else the one that the file was written with. A file that is wrong is a ``ValueError`` that names it,
one that is not there a ``FileNotFoundError``.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diga_lib import runtime

FOLDER = Path(__file__).resolve().parent.parent / "weights"
TABLE = "checkpoints.json"
AGAIN = "Restore it or train it again."


def write(file: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors, and texts that describe them, into one file with their hash."""
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with runtime.atomic_write(file) as temporary:
        save_file(state, str(temporary), metadata=dict(metadata or {}) | {"sha256": digest(state)})
    return Path(file)


def read(file: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and texts of a file of :func:`write`."""
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    tensors, metadata = _opened(file)
    if "sha256" not in metadata:
        raise ValueError(f"{file} carries no hash: valid is a file that this library wrote.")
    if metadata["sha256"] != digest(tensors):
        raise ValueError(f"{file} is damaged: its tensors do not have the hash that they were written with. {AGAIN}")
    return tensors, metadata


def _opened(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(file), "pt") as opened:
            metadata = opened.metadata() or {}
        return load_file(str(file)), metadata
    except SafetensorError as fault:
        raise ValueError(f"{file} is damaged or not a safetensors file ({fault}). {AGAIN}") from fault


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of the names, types, shapes and bytes of tensors on the processor."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def cast(tensors: Mapping[str, Tensor], kind: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Floating-point tensors in another type; the others as they are."""
    return {name: value.to(kind) if value.is_floating_point() else value for name, value in tensors.items()}


def _table(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / TABLE
    if not file.exists():
        return {}
    try:
        table = json.loads(file.read_text())
        if all(set(entry) == {"file", "sha256"} and len(entry["sha256"]) == 64 for entry in table.values()):
            return table
    except (ValueError, AttributeError, TypeError):
        pass  # as damaged as one whose entries are wrong
    raise ValueError(f"{file} is damaged: valid is an object of names, each with a file and its sha256. Restore it.")


def names(folder: Path = FOLDER) -> list[str]:
    """The names of the shipped weights."""
    return sorted(_table(folder))


def path(name: str, folder: Path = FOLDER) -> Path:
    """The verified file of some shipped weights."""
    table = _table(folder)
    if name not in table:
        raise ValueError(f"There are no weights named {name!r}; valid names: {', '.join(sorted(table)) or 'none yet'}.")
    file, expected = folder / table[name]["file"], table[name]["sha256"]
    if not file.is_file():
        raise FileNotFoundError(f"The weights {name!r} are missing: there is no file {file}. {AGAIN}")
    if (found := runtime.sha256(file)) != expected:
        raise ValueError(f"{file} is damaged: its sha256 is {found[:12]}…, not {expected[:12]}…. {AGAIN}")
    return file


def load(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors (floating-point ones as float32) and texts of shipped weights."""
    tensors, metadata = _opened(path(name, folder))
    return cast(tensors), metadata


def load_state(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The tensors of :func:`load` alone."""
    return load(name, folder)[0]


def register(name: str, file: str | os.PathLike) -> None:
    """Enter a file that lies beside the table under a name, with its sha256."""
    file = Path(file)
    table = _table(file.parent) | {name: {"file": file.name, "sha256": runtime.sha256(file)}}
    with runtime.atomic_write(file.parent / TABLE) as temporary:
        temporary.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")


def save_state(name: str, state: Mapping[str, Tensor], folder: Path = FOLDER) -> Path:
    """Write tensors (float16) under a name into a folder of shipped weights."""
    file = write(folder / f"{name}.safetensors", cast(state, torch.float16))
    register(name, file)
    return file


class Resumable:
    """The state of a training that can be stopped at any time and goes on after its last finished epoch.

    Made before the first epoch, it puts network and optimiser back to where a stopped training left them in `file`, if
    there is one; `history` has a record of each finished epoch. An epoch's random draws must follow from the seed and
    its number alone. A file of a training with other `settings` (in the types of JSON) is a ValueError; of a damaged
    one a warning tells, and the training begins again.
    """

    def __init__(self, file, network: nn.Module, optimizer: torch.optim.Optimizer, settings: dict):
        self.file, self.network, self.optimizer = file and Path(file), network, optimizer
        self.settings, self.history = json.loads(json.dumps(settings)), []
        if self.file and self.file.exists():
            self._resume()

    def keep(self, **record) -> None:
        """Write down that one more epoch is finished, with a record of it in the types of JSON."""
        self.history.append(record)
        if self.file is None:
            return
        state = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        write(self.file, state, {"settings": json.dumps(self.settings), "history": json.dumps(self.history)})

    def _resume(self) -> None:
        try:
            state, text = read(self.file)
        except ValueError as fault:
            warnings.warn(f"{fault} The training begins again.", stacklevel=3)
            return
        kept = json.loads(text.get("settings", "null"))
        if kept != self.settings:
            said = f"{self.file} belongs to a training with {kept}, not {self.settings}"
            raise ValueError(f"{said}: remove it or choose another.")
        self.network.load_state_dict({name[8:]: v for name, v in state.items() if name.startswith("weights.")})
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in state if name.startswith("optimizer.")]:
            _, number, moment = name.split(".")
            value, parameter = state[name], parameters[int(number)].detach()
            if moment != "step" and value.shape == parameter.shape:
                # A fused optimiser walks through memory, so its averages must lie there as the weights do.
                value = torch.empty_like(parameter).copy_(value)
            moments.setdefault(int(number), {})[moment] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.history = json.loads(text["history"])
