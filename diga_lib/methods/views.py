"""Counterfactual views: training images moved along a direction of W+ and decoded on the fly, in batches.

Nothing is written to disk and no image is edited one by one: the codes are made once, a batch of edits is one pass of
the decoder, and where a face has few possible edits each of them is painted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # directions import the image-text model, whose network is made of the methods' blocks
    from diga_lib.directions import Direction

MOST_KEPT = 2**30  # bytes of edits that are kept; more are painted again each time


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
        self.codes, self.shape = generator.encode(images), images.shape[1:]
        along = torch.stack([direction.coordinate(self.codes) for direction in self.directions], 1)
        self.coordinate = along[:, 0] if self.single else along

    def shifted(self, index: Tensor, degrees: Tensor) -> Tensor:
        """Images (B, 3, R, R), float32 in [0, 1], of the faces `index` moved by `degrees` (B, D), or (B,) for one."""
        codes = self.codes[index]
        for direction, degree in zip(self.directions, degrees.view(len(codes), -1).unbind(1)):
            codes = direction.move(codes, degree)
        return self.generator.decode(codes)

    def offer(self, degrees: Tensor) -> None:
        """Give each face K edits to choose from, by degrees (N, K, D): :meth:`option` paints each of them once."""
        self.options, edits = degrees, degrees.shape[:2].numel()
        few = edits * math.prod(self.shape) <= MOST_KEPT
        self.pictures = torch.empty(edits, *self.shape, dtype=torch.uint8, device=degrees.device) if few else None
        self.painted = torch.zeros(edits, dtype=torch.bool, device=degrees.device)

    def option(self, index: Tensor, choice: Tensor) -> Tensor:
        """Images (B, 3, R, R), float32 in [0, 1] in steps of 1 / 255, of the faces `index` in their edits `choice` (B,)."""
        if self.pictures is None:
            return (self.shifted(index, self.options[index, choice]) * 255).round() / 255
        wanted = index * self.options.shape[1] + choice
        missing = wanted[~self.painted[wanted]].unique()
        if len(missing):
            images = self.shifted(missing // self.options.shape[1], self.options.flatten(0, 1)[missing])
            self.pictures[missing] = (images * 255).round().to(torch.uint8)
            self.painted[missing] = True
        return self.pictures[wanted].float() / 255

    def degrees_to(self, index: Tensor, coordinates: Tensor) -> Tensor:
        """The degrees that bring the faces `index` to given coordinates, shaped as `degrees`: an intervention."""
        return coordinates - self.coordinate[index]
