"""Counterfactual views: training images moved along a direction of W+ and decoded on the fly, in batches.

Nothing is written to disk and no image is edited one by one: the codes are made once, and a batch of edits is one
pass of the decoder, a fraction of the classifier's own cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diga_lib.directions import Direction


class CounterfactualViews:
    """Edits of one set of images along one direction.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
    found : Direction
    codes : Tensor (N, levels, width)
        The images' codes, from ``generator.encode``.
    generator_rng : torch.Generator
        Source of the random degrees.
    """

    def __init__(self, generator, found: Direction, codes: Tensor, rng: torch.Generator):
        self.generator, self.found, self.codes, self.rng = generator, found, codes, rng
        self.coordinate = found.coordinate(codes)

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """Random numbers (count,) in [low, high]."""
        return low + (high - low) * torch.rand(count, generator=self.rng, device=self.rng.device)

    def shifted(self, index: Tensor, degrees: Tensor) -> Tensor:
        """Images (B, 3, R, R) of the faces `index` moved by `degrees` (B,) standard deviations."""
        return self.generator.decode(self.found.move(self.codes[index], degrees))

    def placed(self, index: Tensor, coordinates: Tensor) -> Tensor:
        """Images of the faces `index` with their coordinate replaced by `coordinates` (B,)."""
        return self.generator.decode(self.found.move(self.codes[index], coordinates - self.coordinate[index]))
