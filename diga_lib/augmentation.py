"""Counterfactual views: training images moved along a direction of W+ and decoded on the fly, in batches.

Nothing is written to disk and no image is edited one by one: the codes are made once, and a batch of edits is one
pass of the decoder, a fraction of the classifier's own cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # directions import the image-text model, whose network is made of the methods' blocks
    from diga_lib.directions import Direction


class CounterfactualViews:
    """Edits of one set of images along one or several directions.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
    found : Direction or sequence of Direction
        D of them.
    images : uint8 array (N, 3, R, R)

    Attributes
    ----------
    codes : Tensor (N, levels, width)
    coordinate : Tensor (N, D), or (N,) for a single direction
        Where each image lies along each direction, in standard deviations.
    """

    def __init__(self, generator, found: Direction | Sequence[Direction], images):
        self.generator, self.single = generator, not isinstance(found, Sequence)
        self.directions = [found] if self.single else list(found)
        self.codes = generator.encode(images)
        along = torch.stack([direction.coordinate(self.codes) for direction in self.directions], 1)
        self.coordinate = along[:, 0] if self.single else along

    def shifted(self, index: Tensor, degrees: Tensor) -> Tensor:
        """Images (B, 3, R, R), float32 in [0, 1], of the faces `index` moved by `degrees` (B, D), or (B,) for one."""
        codes = self.codes[index]
        for direction, degree in zip(self.directions, degrees.view(len(codes), -1).unbind(1)):
            codes = direction.move(codes, degree)
        return self.generator.decode(codes)

    def degrees_to(self, index: Tensor, coordinates: Tensor) -> Tensor:
        """The degrees that bring the faces `index` to given coordinates, shaped as `degrees`: an intervention."""
        return coordinates - self.coordinate[index]
