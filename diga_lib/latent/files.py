"""A generator of one's own in one file: weights, what they are, and a hash that tells whether they are whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as read_tensors
from safetensors.torch import save_file as write_tensors

from diga_lib import runtime
from diga_lib.latent.autoencoder import Generator

FORMAT = "diga-generator-1"


def save_file(generator: Generator, file: str | os.PathLike) -> Path:
    """Write a generator's weights (float16) into one file, whole or not at all.

    Parameters
    ----------
    generator : Generator
    file : path
        Ends in ".safetensors".

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    file = Path(file)
    if file.suffix != ".safetensors":
        raise ValueError(f"The generator's file is {file.name!r}: valid is a name that ends in .safetensors.")
    state = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    metadata = {"format": FORMAT, "resolution": str(generator.resolution), "sha256": digest(state)}
    with runtime.atomic_write(file) as temporary:
        write_tensors(state, str(temporary), metadata=metadata)
    return file


def load_file(file: str | os.PathLike, device: str = "auto") -> Generator:
    """Read a generator that :func:`save_file` wrote.

    Parameters
    ----------
    file : path
    device : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    Generator
        In evaluation mode.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is damaged, or it holds something else; the sentence names it.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: valid is one that `python -m diga_lib.latent` wrote.")
    try:
        with safe_open(str(file), "pt") as opened:
            metadata = opened.metadata() or {}
        state = read_tensors(str(file))
    except SafetensorError as fault:
        raise ValueError(f"{file} is damaged or not a safetensors file ({fault}): train the generator again.") from None
    if metadata.get("format") != FORMAT or not metadata.get("resolution", "").isdigit():
        raise ValueError(
            f"{file} holds other weights than a generator's: valid is a file that `python -m diga_lib.latent` wrote."
        )
    if metadata.get("sha256") != digest(state):
        raise ValueError(
            f"{file} is damaged: its weights do not have the hash it was written with. Train the generator again."
        )
    shape = len(state["decoder.to_image.weight"][0]), len(state["base.scale"])  # channels, components
    generator = Generator(int(metadata["resolution"]), *shape)
    generator.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    return generator.to(runtime.device(device)).eval().requires_grad_(False)


def digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256, in hexadecimal, of the names, types, shapes and bytes of tensors on the processor."""
    sha = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
