"""The editors that are compared. Each turns codes with source intensities into codes with target intensities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diga_lib import directions
from diga_lib.action_units.model import MOST
from diga_lib.action_units.training import Films, joint_steps

__all__ = [
    "Edit",
    "Linear",
    "boundary_normals",
    "joint_steps",
    "no_edit",
    "project_out_others",
    "scaled_steps",
    "transfer",
]

PRESENT = 2  # a unit of this intensity or more counts as present, as in the literature on DISFA
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


def boundary_normals(films: Films, strength: float, most: int = 3000) -> Tensor:
    """Unit normals (12, D) of the boundaries between a unit's absence and presence, in InterFaceGAN's manner.

    Parameters
    ----------
    films : Films
    strength : float
        Regularisation of the boundaries, per frame.
    most : int
        Frames that the boundaries are fitted to.
    """
    codes, labels = films.codes.flatten(0, 1), films.labels.flatten(0, 1)
    some = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:most]
    present = (labels[some] >= PRESENT).int().numpy()
    return torch.stack([directions.boundary(codes[some], y, strength * len(some)).flatten() for y in present.T])


def scaled_steps(films: Films, normals: Tensor) -> Tensor:
    """Steps (12, levels, width) along normals (12, D), as long as real frames move along them for one intensity more."""
    steps = torch.empty_like(normals)
    for k, normal in enumerate(normals):
        along = films.codes.flatten(2) @ normal
        intensity = films.labels[..., k] - films.labels[..., k].mean(1, keepdim=True)
        steps[k] = (intensity * along).sum() / intensity.square().sum() * normal
    return steps.view(-1, *films.codes.shape[2:])


def project_out_others(normals: Tensor) -> Tensor:
    """Unit vectors (K, D), each the part of its row that is orthogonal to all other rows."""
    rows = []
    for k, normal in enumerate(normals):
        others = torch.cat([normals[:k], normals[k + 1 :]])
        basis, _ = torch.linalg.qr(others.T)
        rest = normal - basis @ (basis.T @ normal)
        rows.append(rest / rest.norm())
    return torch.stack(rows)


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
