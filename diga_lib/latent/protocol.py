"""What the library asks of a generator, and a check that you can run on yours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor


@runtime_checkable
class WPlusGenerator(Protocol):
    """What the library asks of a generator.

    Attributes
    ----------
    resolution : int
        Height and width of its images in pixels.
    """

    resolution: int

    def encode(self, images: np.ndarray | Tensor, batch_size: int = 256) -> Tensor:
        """Codes (N, levels, width), float32 on the processor or an accelerator, of uint8 images (N, 3, R, R)."""

    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Images (N, 3, R, R), float32 in [0, 1], of codes (N, levels, width)."""


class ConformanceError(ValueError):
    """A generator does not do what the library asks of one."""


def check_generator(generator, images: np.ndarray) -> pd.DataFrame:
    """Try whether a generator does what the library asks of one.

    Parameters
    ----------
    generator : object with ``encode``, ``decode`` and ``resolution``
    images : ndarray of uint8, shape (N, 3, R, R)
        At least 8 images of the kind that it was made for.

    Returns
    -------
    DataFrame
        A row for each check that was passed, and what was found.

    Raises
    ------
    ConformanceError
        At the first check that fails, with what was found and what is asked.
    """
    if len(images) < 8 or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"The images are {images.dtype} of shape {images.shape}: valid are at least 8, uint8, (N, 3, R, R)."
        )
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
    good = _is_float32(codes) and codes.ndim == 3 and len(codes) == 8
    yield "encode gives a float32 Tensor (N, levels, width)", good, _kind(codes)
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

    pictures, shape = generator.decode(codes), (8, 3, *sides)
    good = _is_float32(pictures) and tuple(pictures.shape) == shape
    yield f"decode gives a float32 Tensor {shape}", good, _kind(pictures)
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


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ()))}"


def _largest(one: Tensor, other: Tensor) -> float:
    if tuple(one.shape) != tuple(other.shape):
        return float("inf")
    return float((one - other).abs().max())
