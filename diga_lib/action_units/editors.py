"""Editors of expressions, AUEditNet first: codes with source intensities in, codes with target intensities out.

AUEditNet has one editing module per W+ level, which takes a face's own expression away and puts another on.
The paper gives equation 2 and the parts; the inside of the editing module is our reconstruction. One thing differs:
every module changes the code of its own level only, but it *looks at* all levels. In this generator no single level
tells where the mouth is and what colour the skin has, and both decide what a smile changes.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib.action_units.data import UNITS
from diga_lib.latent.autoencoder import LEVELS, WIDTH

MOST = 5.0  # the highest intensity that a coder writes down: labels are divided by it
CODE, EMBEDDING = LEVELS * WIDTH, 48


class LabelEncoder(nn.Module):
    """Psi_enc: intensities (N, labels) to an embedding for each level, (N, levels, width).

    Neither its linear part nor the curved one has an offset, so all zeros, the neutral face, embed to zero; and both
    go on smoothly below 0 and above 5, where no label of the training has been.
    """

    width = EMBEDDING

    def __init__(self, labels: int = len(UNITS)):
        super().__init__()
        self.straight = nn.Linear(labels, LEVELS * self.width, bias=False)
        self.into, self.out = nn.Linear(labels, 64), nn.Linear(64, LEVELS * self.width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, intensities: Tensor) -> Tensor:
        y = intensities / MOST
        curved = F.softplus(self.into(y)) - F.softplus(self.into.bias)
        return (self.straight(y) + self.out(curved)).view(-1, LEVELS, self.width)


class EditingModule(nn.Module):
    """M_j: what a label's embedding changes in the code of one level, given the face.

    ``U e + V (R e * g(W))``: a part that is the same for everyone, and one whose strength a gate g sets from the
    face's own codes. Zero for a zero embedding.
    """

    def __init__(self, rank: int = 96):
        super().__init__()
        self.common = nn.Linear(EMBEDDING, WIDTH, bias=False)
        self.asked, self.own = nn.Linear(EMBEDDING, rank, bias=False), nn.Linear(rank, WIDTH, bias=False)
        self.gate = nn.Sequential(nn.Linear(CODE, 128), nn.Tanh(), nn.Dropout(0.1), nn.Linear(128, rank), nn.Tanh())

    def forward(self, flat: Tensor, embedding: Tensor) -> Tensor:
        return self.common(embedding) + self.own(self.asked(embedding) * self.gate(flat))


class LabelDecoder(nn.Module):
    """Psi_dec: codes (N, levels, width) back to intensities (N, 12)."""

    def __init__(self, hidden: int = 256):
        super().__init__()
        self.straight = nn.Linear(CODE, len(UNITS))
        first = [nn.Linear(CODE, hidden), nn.SiLU(), nn.Dropout(0.2)]
        second = [nn.Linear(hidden, hidden), nn.SiLU(), nn.Dropout(0.2)]
        self.curved = nn.Sequential(*first, *second, nn.Linear(hidden, len(UNITS)))

    def forward(self, codes: Tensor) -> Tensor:
        flat = codes.flatten(1)
        return MOST * (self.straight(flat) + self.curved(flat))


class _Editor(nn.Module):
    """Label encoder and one editing module a level: what some labels change in codes.

    Strangers move less than the people who trained an editor, so afterwards each gets a factor on its changes, `gain`,
    chosen on held-out training subjects.
    """

    def __init__(self, labels: int):
        super().__init__()
        self.encoder = LabelEncoder(labels)
        self.modules_of_levels = nn.ModuleList(EditingModule() for _ in range(LEVELS))
        self.register_buffer("gain", torch.ones(()))

    @torch.no_grad()
    def start_from(self, steps: Tensor) -> None:
        """Begin as a linear editor: one label more adds ``steps`` (labels, levels, width) to every face's code."""
        labels, straight = len(steps), self.encoder.straight.weight
        straight.zero_()
        straight.view(LEVELS, self.encoder.width, labels)[:, :labels] = torch.eye(labels)
        for level, module in enumerate(self.modules_of_levels):
            module.common.weight.zero_()
            module.common.weight[:, :labels] = MOST * steps[:, level].T
            module.own.weight.mul_(0.1)  # the faces' own part begins small
            module.asked.weight[:, :labels].normal_(0, 1)

    def change(self, codes: Tensor, labels: Tensor) -> Tensor:
        """What labels (N, L) put into codes (N, levels, width)."""
        embedding, flat = self.encoder(labels), codes.flatten(1)
        changes = [module(flat, embedding[:, j]) for j, module in enumerate(self.modules_of_levels)]
        return self.gain * torch.stack(changes, 1)


class AUEditNet(_Editor):
    """The two branches, which share their editing modules: AUEditNet (arXiv 2404.05063), equation 2.

    ``W_N = W_src - dW_src`` and ``W_tar = W_N + dW_tar``, with ``dW^j = M_j(W, Psi_enc(y)^j)`` on every level j, as
    derived in notebook 09_action_units.
    """

    def __init__(self):
        super().__init__(len(UNITS))

    def neutral(self, codes: Tensor, source: Tensor) -> Tensor:
        """The source branch: codes (N, levels, width) with the source's intensities (N, 12) taken away."""
        return codes - self.change(codes, source)

    def forward(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Both branches: codes with the target's intensities (N, 12) in the place of the source's."""
        neutral = self.neutral(codes, source)
        return neutral + self.change(neutral, target)


class SingleBranch(_Editor):
    """AUEditNet without the neutral face between: one branch gets both labels and goes straight to the target."""

    def __init__(self):
        super().__init__(2 * len(UNITS))

    def forward(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Codes with the target's intensities (N, 12) in the place of the source's."""
        return codes + self.change(codes, torch.cat([source, target], 1))


Edit = Callable[[Tensor, Tensor, Tensor], Tensor]  # codes, source (N, 12), target (N, 12) to codes


def no_edit(codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The face as it is."""
    return codes


class Linear:
    """A direction for each unit, the same for every face: ``W + gain * sum_k (y_tar - y_src)_k d_k``.

    One intensity more of unit k adds the k-th of the `steps` (12, levels, width), times the gain.
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
