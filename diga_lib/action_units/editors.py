"""What an editor is: codes with source intensities in, codes with target intensities out. AUEditNet is in `model`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diga_lib.action_units.model import MOST

Edit = Callable[[Tensor, Tensor, Tensor], Tensor]  # codes, source (N, 12), target (N, 12) to codes


def no_edit(codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The face as it is."""
    return codes


class Linear:
    """A direction for each unit, the same for every face: ``W + gain * sum_k (y_tar - y_src)_k d_k``.

    Parameters
    ----------
    steps : Tensor (12, levels, width)
        What one intensity more of each unit adds to a code.
    gain : float
        Factor on all steps, chosen on held-out training subjects.
    """

    def __init__(self, steps: Tensor, gain: float = 1.0):
        self.steps, self.gain = steps, gain

    def __call__(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return codes + self.gain * torch.einsum("nk,klw->nlw", target - source, self.steps)


def transfer(edit: Edit, read: Callable[[np.ndarray], np.ndarray], codes: Tensor, images, target_images) -> Tensor:
    """Give faces the expressions of other pictures, with no label at all.

    Parameters
    ----------
    edit : callable
        An editor.
    read : callable
        Images to intensities (N, 12), such as a pretrained reader of action units.
    codes : Tensor (N, levels, width)
        Of `images`, the faces that are edited.
    images, target_images : uint8 arrays (N, 3, R, R)
        The faces, and the pictures whose expressions they get.
    """
    source, target = (torch.from_numpy(np.array(read(x), np.float32)).clamp(0, MOST) for x in (images, target_images))
    return edit(codes, source, target)
