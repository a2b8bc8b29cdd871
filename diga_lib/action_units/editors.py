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

    One intensity more of unit k adds the k-th of the `steps` (12, levels, width); `gain` is a factor on all of them,
    chosen on held-out training subjects.
    """

    def __init__(self, steps: Tensor, gain: float = 1.0):
        self.steps, self.gain = steps, gain

    def __call__(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return codes + self.gain * torch.einsum("nk,klw->nlw", target - source, self.steps)


def transfer(edit: Edit, read: Callable[[np.ndarray], np.ndarray], codes: Tensor, images, target_images) -> Tensor:
    """Give the faces of images, with these codes, the expressions of the target images, with no label at all.

    Both are uint8 (N, 3, R, R); `read` maps images to intensities (N, 12), as a pretrained reader of action units does.
    """
    source, target = (torch.from_numpy(np.array(read(x), np.float32)).clamp(0, MOST) for x in (images, target_images))
    return edit(codes, source, target)
