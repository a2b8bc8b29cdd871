"""Any generator plugs in: what the library asks of one, a check to run on yours, and two that are not ours.

The library calls ``encode`` and ``decode`` and reads ``resolution``, nothing else. :class:`WPlusGenerator` describes
them, :func:`check_generator` tries them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
import onnxruntime
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from diga_lib import runtime
from diga_lib.latent.autoencoder import check_images, to_float


@runtime_checkable
class WPlusGenerator(Protocol):
    """What the library asks of a generator; `resolution` is height and width of its images in pixels."""

    resolution: int

    def encode(self, images: np.ndarray | Tensor, batch_size: int = 256) -> Tensor:
        """Codes (N, levels, width), float32 on the processor or an accelerator, of uint8 images (N, 3, R, R)."""

    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Images (N, 3, R, R), float32 in [0, 1], of codes (N, levels, width)."""


class ConformanceError(ValueError):
    """A generator does not do what the library asks of one."""


def check_generator(generator, images: np.ndarray) -> pd.DataFrame:
    """Try whether a generator does what the library asks of one, on 8 images or more, uint8 (N, 3, R, R), of its kind.

    There is a row for each check, with what is asked and what was found; the first that fails is a ConformanceError.
    """
    if len(images) < 8 or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"The images are {images.dtype} of shape {images.shape}: valid are at least 8, uint8.")
    rows = []
    for asked, passed, found in _checks(generator, images):
        if not passed:
            raise ConformanceError(f"{type(generator).__name__}: {asked} is asked, but found {found}.")
        rows.append({"asked": asked, "found": found})
    return pd.DataFrame(rows)


def _checks(generator, images: np.ndarray) -> Iterator[tuple[str, bool, str]]:
    """What is asked, whether it is so, and what was found; each check relies on those before it."""
    missing = [name for name in ("encode", "decode") if not callable(getattr(generator, name, None))]
    yield "methods encode and decode", not missing, f"no {' and no '.join(missing)}" if missing else "both"
    side, sides = getattr(generator, "resolution", None), images.shape[2:]
    found = f"{side} for images of {sides[1]}x{sides[0]}"
    yield "resolution, the side of its images in pixels", side == sides[0] == sides[1], found

    given = images[:8].copy()
    original = torch.from_numpy(given.copy()).float() / 255
    given.flags.writeable = False  # as a memory-mapped pool is
    codes = generator.encode(given)
    yield "encode gives a float32 Tensor (N, levels, width)", *_kind(codes, 8, None, None)
    found = f"{int((~codes.isfinite()).sum())} that are not finite, requires_grad {codes.requires_grad}"
    yield "codes are finite and without gradient", bool(codes.isfinite().all()) and not codes.requires_grad, found
    alike = int((codes[1:] == codes[:-1]).flatten(1).all(1).sum())
    yield "different images have different codes", not alike, f"{alike} neighbours that are alike"

    one_by_one = torch.cat([generator.encode(given[i : i + 1]) for i in range(8)])
    for asked, again, most in (
        ("encode gives the same codes again", generator.encode(given), 1e-3),
        ("a code does not depend on the other images of its batch", one_by_one, 0.05),
        ("encode takes float Tensors in [0, 1] too", generator.encode(original.clone()), 0.05),
    ):
        change = _largest(again, codes) / (float(codes.std()) + 1e-12)
        yield asked, change < most, f"a change of {change:.1e} standard deviations"

    pictures = generator.decode(codes)
    yield f"decode gives a float32 Tensor {(8, 3, *sides)}", *_kind(pictures, 8, 3, *sides)
    low, high = float(pictures.min()), float(pictures.max())
    good = bool(pictures.isfinite().all()) and low >= 0 and high <= 1
    yield "pictures are finite and in [0, 1]", good, f"{low:.3f} to {high:.3f}"
    change = _largest(torch.cat([generator.decode(codes[i : i + 1]) for i in range(8)]), pictures)
    yield "a picture does not depend on the other codes of its batch", change < 0.05, f"a change of {change:.1e}"

    # The plainest decoder of all paints the mean of the images: a generator that is no better inverts nothing.
    mean = float((original - torch.from_numpy(images.mean(0, dtype=np.float32) / 255)).square().mean())
    error = float((pictures.cpu() - original).square().mean())
    found = f"a squared error of {error:.4f} against {mean:.4f}"
    yield "decoded codes are nearer to their images than the mean image is", error < mean, found
    along = codes[:1] + torch.linspace(0, 1, 5)[:, None, None].to(codes.device) * (codes[1:2] - codes[:1])
    steps = generator.decode(along).diff(dim=0).abs().amax((1, 2, 3))
    found = f"changes of {', '.join(f'{s:.3f}' for s in steps)}"
    yield "pictures change when the code moves", bool((steps > 0).all()), found
    empty = len(generator.encode(images[:0]))
    yield "no images have no codes", empty == 0, f"{empty} codes"


def _kind(value, *shape: int | None) -> tuple[bool, str]:
    """Whether a value is a float32 Tensor of a shape (None: any side), and what it is."""
    found = tuple(getattr(value, "shape", ()))
    fits = len(found) == len(shape) and all(want in (None, side) for want, side in zip(shape, found, strict=True))
    good = isinstance(value, Tensor) and value.dtype == torch.float32 and fits
    return good, f"{type(value).__name__} {getattr(value, 'dtype', '')} {found}"


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


class PCAGenerator:
    """Levels x width principal components as a generator: the simplest example of one, made in seconds.

    Codes are the components' coordinates in standard deviations, the first level those that vary most.
    """

    def __init__(self, levels: int = 4, width: int = 32):
        self.levels, self.width = levels, width

    def fit(self, images: np.ndarray) -> Self:
        """Find the components of images, uint8 (N, 3, R, R), of which there must be more than components."""
        count = self.levels * self.width
        if len(images) <= count:
            said = f"{len(images)} images do not have {self.levels} x {self.width} components"
            raise ValueError(f"{said}: valid are more than {count} images, or fewer levels or a smaller width.")
        self.resolution = images.shape[2]
        self.pca = PCA(count, whiten=True, svd_solver="randomized", random_state=0)
        self.pca.fit(_rows(images))
        return self

    def encode(self, images, batch_size: int = 256) -> Tensor:
        check_images(images, self.resolution)
        codes = self.pca.transform(_rows(images)) if len(images) else np.empty((0, self.levels * self.width))
        return torch.from_numpy(codes.astype(np.float32)).view(-1, self.levels, self.width)

    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        flat = self.pca.inverse_transform(codes.detach().cpu().flatten(1).numpy()).astype(np.float32)
        return torch.from_numpy(flat).clamp(0, 1).view(-1, 3, self.resolution, self.resolution)


def _rows(images) -> np.ndarray:
    return to_float(images).contiguous().flatten(1).numpy()


class PairGenerator:
    """Two networks as a generator: float32 arrays, images (N, 3, R, R) in [0, 1] to codes (N, levels, width), and back.

    The images have sides of `resolution` pixels, and are clipped to [0, 1].
    """

    def __init__(self, encoder: Callable, decoder: Callable, resolution: int):
        self._encoder, self._decoder, self.resolution = encoder, decoder, resolution

    @classmethod
    def from_onnx(cls, encoder: str | os.PathLike, decoder: str | os.PathLike, sha256: Sequence[str] | None = None):
        """Two ONNX files with one input, one output and a free first axis each, and hashes (hexadecimal) of the two.

        They are graphs of known operations, which onnxruntime computes and which run no code of their author.
        """
        files = [Path(file).expanduser() for file in (encoder, decoder)]
        if sha256 is not None and (isinstance(sha256, str) or len(sha256) != len(files)):
            raise ValueError(f"sha256 is {sha256!r}: valid are two hashes, one of each file.")
        for file, expected in zip(files, sha256 or (None, None), strict=True):
            if not file.is_file():
                raise FileNotFoundError(f"There is no file {file}.")
            if sha256 is not None and (found := runtime.sha256(file)) != expected:
                raise ValueError(f"{file} is not the file that is meant: its sha256 is {found}, not {expected}.")
        (encoder, shape), (decoder, _) = (_onnx_network(file) for file in files)
        if len(shape) != 4 or not isinstance(shape[-1], int):
            raise ValueError(f"{files[0]} takes {shape}: valid is an encoder of images (N, 3, R, R) whose R is fixed.")
        return cls(encoder, decoder, shape[-1])

    @torch.no_grad()
    def encode(self, images, batch_size: int = 256) -> Tensor:
        check_images(images, self.resolution)
        probe = 0 if len(images) else 1  # an empty set still has a shape of codes
        images = torch.zeros(1, 3, self.resolution, self.resolution) if probe else images
        return runtime.in_batches(lambda x: _run(self._encoder, to_float(x)), images, size=batch_size)[probe:]

    @torch.no_grad()
    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        if not len(codes):
            return torch.empty(0, 3, self.resolution, self.resolution)
        return runtime.in_batches(lambda x: _run(self._decoder, x.cpu().float()), codes, size=batch_size).clamp(0, 1)


def _run(network: Callable, x: Tensor) -> Tensor:
    return torch.from_numpy(network(x.contiguous().numpy())).float()


def _onnx_network(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], list]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's errors share no class of their own
        raise ValueError(f"{file} is not an ONNX network ({' '.join(str(fault).split())[:200]}).") from fault
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{file} has {len(inputs)} inputs and {len(outputs)} outputs: valid is one of each.")
    return lambda x: session.run(None, {inputs[0].name: x})[0], inputs[0].shape
