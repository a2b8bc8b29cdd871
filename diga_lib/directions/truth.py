"""Scores against the truth: these functions alone read the spurious attribute, and nothing is trained on them."""

import numpy as np
import torch
from torch import Tensor

from diga_lib.directions.boundaries import Direction


def true_shifts(codes: Tensor, target: np.ndarray, spurious: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean shift of the spurious attribute within classes, and of the target within spurious values (unit vectors)."""

    def shift(of: np.ndarray, given: np.ndarray) -> Tensor:
        parts = [
            codes[(of == 1) & (given == k)].mean(0) - codes[(of == 0) & (given == k)].mean(0) for k in np.unique(given)
        ]
        total = torch.stack(parts).mean(0)
        return total / total.norm()

    y, s = np.asarray(target), np.asarray(spurious)
    return shift(s, y), shift(y, s)


def flip_rates(
    found: Direction, codes: Tensor, target, spurious, generator, target_probe, spurious_probe, degree: float
) -> dict[str, float]:
    """How often edits against a face's own spurious attribute change what two probes see in the decoded picture.

    Unseen faces have latents (N, levels, width), labels and attributes (N,), and are moved by `degree` standard
    deviations. The probes map float images (N, 3, R, R) in [0, 1] to 0/1 predictions (N,); train them on unbiased
    original images. The answer has "spurious", the share of faces that the spurious probe then puts on the other side,
    among those it reads rightly before the edit, and "target", the share on which the target probe changes its mind.
    """
    s = np.asarray(spurious)
    means = [float(found.coordinate(codes[s == k]).mean()) for k in (0, 1)]
    towards_one = 1.0 if means[1] > means[0] else -1.0
    sign = torch.from_numpy(np.where(s == 1, -towards_one, towards_one).astype(np.float32))
    before, after = generator.decode(codes), generator.decode(found.move(codes, sign * degree))
    right = spurious_probe(before) == s
    return {
        "spurious": float(np.mean(spurious_probe(after)[right] != s[right])),
        "target": float(np.mean(target_probe(after) != target_probe(before))),
    }
