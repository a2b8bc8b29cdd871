"""What the library asks of a generator, and a check that you can run on yours."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

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

    def ask(what: str, passed: bool, found) -> None:
        if not passed:
            raise ConformanceError(f"{type(generator).__name__}: {what} is asked, but found {found}.")
        rows.append({"asked": what, "found": str(found)})

    missing = [name for name in ("encode", "decode") if not callable(getattr(generator, name, None))]
    ask("methods encode and decode", not missing, f"no {' and no '.join(missing)}" if missing else "both")
    side = getattr(generator, "resolution", None)
    ask(
        "resolution, the side of its images in pixels",
        side == images.shape[2] == images.shape[3],
        f"{side} for images of {images.shape[3]}x{images.shape[2]}",
    )

    given = images[:8].copy()
    given.flags.writeable = False  # as a memory-mapped pool is
    codes = generator.encode(given)
    kind = f"{type(codes).__name__} {getattr(codes, 'dtype', '')} {tuple(getattr(codes, 'shape', ()))}"
    ask(
        "encode gives a float32 Tensor (N, levels, width)",
        isinstance(codes, Tensor) and codes.dtype == torch.float32 and codes.ndim == 3 and len(codes) == 8,
        kind,
    )
    ask(
        "codes are finite and without gradient",
        bool(codes.isfinite().all()) and not codes.requires_grad,
        f"{int((~codes.isfinite()).sum())} that are not finite, requires_grad {codes.requires_grad}",
    )
    differ = (codes[1:] != codes[:-1]).flatten(1).any(1)
    ask(
        "different images have different codes", bool(differ.all()), f"{int((~differ).sum())} neighbours that are alike"
    )

    scale = float(codes.std()) + 1e-12
    change = _largest(generator.encode(given), codes) / scale
    ask("encode gives the same codes again", change < 1e-3, f"a change of {change:.1e} standard deviations")
    alone = torch.cat([generator.encode(given[i : i + 1]) for i in range(8)])
    change = _largest(alone, codes) / scale
    ask(
        "a code does not depend on the other images of its batch",
        change < 0.05,
        f"a change of {change:.1e} standard deviations",
    )
    torch_codes = generator.encode(torch.from_numpy(images[:8].copy()).float() / 255)
    change = _largest(torch_codes, codes) / scale
    ask("encode takes float Tensors in [0, 1] too", change < 0.05, f"a change of {change:.1e} standard deviations")

    pictures = generator.decode(codes)
    kind = f"{type(pictures).__name__} {getattr(pictures, 'dtype', '')} {tuple(getattr(pictures, 'shape', ()))}"
    shape = (8, 3, images.shape[2], images.shape[3])
    ask(
        f"decode gives a float32 Tensor {shape}",
        isinstance(pictures, Tensor) and pictures.dtype == torch.float32 and tuple(pictures.shape) == shape,
        kind,
    )
    low, high = float(pictures.min()), float(pictures.max())
    ask(
        "pictures are finite and in [0, 1]",
        bool(pictures.isfinite().all()) and low >= 0 and high <= 1,
        f"{low:.3f} to {high:.3f}",
    )
    alone = torch.cat([generator.decode(codes[i : i + 1]) for i in range(8)])
    change = _largest(alone, pictures)
    ask("a picture does not depend on the other codes of its batch", change < 0.05, f"a change of {change:.1e}")

    original = torch.from_numpy(images[:8].copy()).float() / 255
    # The plainest decoder of all paints the mean of the images: a generator that is no better inverts nothing.
    mean = (original - torch.from_numpy(images.mean(0, dtype=np.float32) / 255)).square().mean()
    error = (pictures.cpu() - original).square().mean()
    ask(
        "decoded codes are nearer to their images than the mean image is",
        bool(error < mean),
        f"a squared error of {float(error):.4f} against {float(mean):.4f}",
    )
    along = codes[:1] + torch.linspace(0, 1, 5)[:, None, None].to(codes.device) * (codes[1:2] - codes[:1])
    steps = (generator.decode(along).diff(dim=0)).abs().amax((1, 2, 3))
    ask(
        "pictures change when the code moves",
        bool((steps > 0).all()),
        f"changes of {', '.join(f'{s:.3f}' for s in steps)}",
    )
    empty = generator.encode(images[:0])
    ask("no images have no codes", len(empty) == 0, f"{len(empty)} codes")
    return pd.DataFrame(rows)


def _largest(one: Tensor, other: Tensor) -> float:
    if tuple(one.shape) != tuple(other.shape):
        return float("inf")
    return float((one - other).abs().max())
