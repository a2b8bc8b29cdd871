"""What several runs need is computed once: kept on disk under a description of what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diga_lib import runtime
from diga_lib.directions import Direction


def once(description: dict | None, name: str, compute: Callable[[], Any]) -> Any:
    """Return what `compute` returns: from disk if it is there and whole, and put there otherwise.

    Of several processes that ask for the same thing, one computes it and the others wait.

    Parameters
    ----------
    description : dict or None
        Everything that the value depends on, in JSON's types; None: nothing is kept.
    name : str
        Which part of it.
    compute : callable
        Without arguments; returns a Tensor, a dict of Tensors or a Direction.
    """
    if description is None:
        return compute()
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:20]
    file = runtime.cache_folder("shared") / f"{name}-{digest}.safetensors"
    with FileLock(f"{file}.lock"):
        found = _read(file) if file.exists() else None
        if found is None:
            tensors, words = found = _pack(compute())
            with runtime.atomic_write(file) as temporary:
                save_file(tensors, temporary, metadata={"words": json.dumps(words), "sha256": _digest(*found)})
        return _unpack(*found)


def _read(file: Path) -> tuple[dict, dict] | None:
    """The tensors and words of a file; None if it is not what was written."""
    try:
        with safe_open(file, "pt") as opened:
            meta = opened.metadata() or {}
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
        words = json.loads(meta["words"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return (tensors, words) if meta.get("sha256") == _digest(tensors, words) else None


def _digest(tensors: dict, words: dict) -> str:
    """SHA-256 of tensors, with their names, kinds and shapes, and of words."""
    sha = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _pack(value: Any) -> tuple[dict, dict]:
    """Split a Tensor, a dict of them, or a Direction of tensors, numbers and tables, into tensors and JSON."""
    if isinstance(value, torch.Tensor):
        return {"value": value.clone()}, {}
    if isinstance(value, dict):
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in value.items()}, {}
    tensors, words = {}, {}
    for part in dataclasses.fields(value):
        item = getattr(value, part.name)
        if isinstance(item, torch.Tensor):
            tensors[part.name] = item.clone()  # two names of one tensor cannot be stored
        elif isinstance(item, pd.DataFrame):
            words[part.name] = {"table": item.to_json(orient="table", index=False, double_precision=15)}
        elif item is None or isinstance(item, (str, int, float, np.number)):
            words[part.name] = {"value": item.item() if isinstance(item, np.number) else item}
        else:
            kind = type(item).__name__
            raise TypeError(f"{part.name} of a {type(value).__name__} is a {kind}, which cannot be kept.")
    return tensors, words


def _unpack(tensors: dict, words: dict) -> Any:
    if not words:
        return tensors.get("value", tensors)
    read = {name: _table(word["table"]) if "table" in word else word["value"] for name, word in words.items()}
    return Direction(**tensors, **read)


def _table(text: str) -> pd.DataFrame:
    table = pd.read_json(io.StringIO(text), orient="table")
    return table if len(table.columns) else pd.DataFrame()  # pandas reads an empty one with other indices
