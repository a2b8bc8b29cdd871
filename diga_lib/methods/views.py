"""Counterfactual views: training images moved along directions of W+ and decoded in batches.

Nothing is written to disk and no image is edited one by one: the codes are made once, a batch of edits is one pass of
the decoder, and where a face has few possible edits each of them is painted once.
"""

import math

import torch

MOST_KEPT = 2**32  # bytes of edits that are kept; more are painted again each time


class CounterfactualViews:
    """Edits of images, uint8 (N, 3, R, R), along D directions, by a generator with ``encode`` and ``decode``.

    With `residual`, an edit is given back what the inversion lost of its image: ``images - decode(codes)``. The `codes`
    are (N, levels, width), and `coordinate` (N, D) is where each image lies along each direction, in standard
    deviations.
    """

    def __init__(self, generator, directions, images, residual=False):
        self.generator, self.directions, self.shape = generator, list(directions), images.shape[1:]
        self.codes, self.lost = generator.encode(images), None
        if residual:
            self.lost = torch.empty(images.shape, dtype=torch.half, device=self.codes.device)
            for rows in torch.arange(len(images)).split(256):
                image = torch.from_numpy(images[rows.numpy()]).to(self.codes.device) / 255
                self.lost[rows] = (image - generator.decode(self.codes[rows])).half()
        self.coordinate = torch.stack([direction.coordinate(self.codes) for direction in self.directions], 1)

    def shifted(self, index, degrees):
        """Return images (B, 3, R, R), float32 in [0, 1], of the faces `index` (B,) moved by `degrees` (B, D)."""
        codes = self.codes[index]
        for direction, degree in zip(self.directions, degrees.unbind(1), strict=True):
            codes = direction.move(codes, degree)
        edited = self.generator.decode(codes)
        return edited if self.lost is None else (edited + self.lost[index]).clamp(0, 1)

    def offer(self, degrees):
        """Give each face K edits to choose from, by degrees (N, K, D): `option` paints each of them once."""
        self.options, edits = degrees, degrees.shape[:2].numel()
        few = edits * math.prod(self.shape) <= MOST_KEPT
        self.pictures = torch.empty(edits, *self.shape, dtype=torch.uint8, device=degrees.device) if few else None
        self.painted = torch.zeros(edits, dtype=torch.bool, device=degrees.device)

    def option(self, index, choice):
        """Return the edits `choice` (B,) of the faces `index` (B,), in [0, 1] in steps of 1 / 255, (B, 3, R, R)."""
        if self.pictures is None:
            return (self.shifted(index, self.options[index, choice]) * 255).round() / 255
        wanted = index * self.options.shape[1] + choice
        missing = wanted[~self.painted[wanted]].unique()
        if len(missing):
            images = self.shifted(missing // self.options.shape[1], self.options.flatten(0, 1)[missing])
            self.pictures[missing] = (images * 255).round().to(torch.uint8)
            self.painted[missing] = True
        return self.pictures[wanted].float() / 255
