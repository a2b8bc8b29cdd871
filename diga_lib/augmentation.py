"""Counterfactual views: training images moved along a direction of W+ and decoded on the fly, in batches.

Nothing is written to disk and no image is edited one by one: the codes are made once, and a batch of edits is one
pass of the decoder, a fraction of the classifier's own cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:  # directions import the image-text model, whose network is made of the methods' blocks
    from diga_lib.directions import Direction


class CounterfactualViews:
    """Edits of one set of images along one direction.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
    found : Direction
    images : uint8 array (N, 3, R, R)

    Attributes
    ----------
    codes : Tensor (N, levels, width)
    coordinate : Tensor (N,)
        Where each image lies along the direction, in standard deviations.
    """

    def __init__(self, generator, found: Direction, images):
        self.generator, self.found = generator, found
        self.codes = generator.encode(images)
        self.coordinate = found.coordinate(self.codes)

    def shifted(self, index: Tensor, degrees: Tensor) -> Tensor:
        """Images (B, 3, R, R), float32 in [0, 1], of the faces `index` moved by `degrees` (B,)."""
        return self.generator.decode(self.found.move(self.codes[index], degrees))

    def degrees_to(self, index: Tensor, coordinates: Tensor) -> Tensor:
        """The degrees (B,) that bring the faces `index` to given coordinates: an intervention, not a shift."""
        return coordinates - self.coordinate[index]
