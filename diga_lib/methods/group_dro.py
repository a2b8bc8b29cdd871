"""GroupDRO, an oracle: it reads the spurious attribute of the training images."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from diga_lib.methods.erm import ERM, equally_often, require


class GroupDRO(ERM):
    """Minimise the loss of the worst group, with group-balanced batches and strong weight decay.

    The groups' weights q grow with their losses, ``q_g <- q_g exp(step_size * loss_g)``, and sum to 1. As in the
    authors' code, a group that never occurs keeps its share of q, with a loss of 0. `step_size` is above 0.

    References
    ----------
    Sagawa, Koh, Hashimoto and Liang, Distributionally robust neural networks for group shifts, ICLR 2020,
    algorithm 1; sampling as with ``--reweight_groups`` in the authors' code.
    """

    needs_spurious = True
    defaults = replace(ERM.defaults, weight_decay=0.5)

    def __init__(self, step_size=0.01, **changes):
        super().__init__(**changes)
        require(step_size > 0, "step_size", step_size, "above 0")
        self.step_size = step_size

    def prepare(self, train):
        self.group = torch.as_tensor(train.group, device=self.device)
        self.weights = torch.full((2 * train.n_spurious,), 1 / (2 * train.n_spurious), device=self.device)

    def sampler(self, train, rng):
        return equally_often(self.group, rng, torch.float32)  # the published runs drew in single precision

    def loss(self, index, logits, y):
        """Update the groups' weights and return the weighted sum of the groups' mean losses."""
        losses, group = F.cross_entropy(logits, y, reduction="none"), self.group[index]
        sums = losses.new_zeros(len(self.weights)).index_add(0, group, losses)
        counts = torch.bincount(group, minlength=len(self.weights))
        group_losses = sums / counts.clamp(min=1)  # 0 for a group that is not in the batch
        self.weights = self.weights * torch.exp(self.step_size * group_losses.detach())
        self.weights = self.weights / self.weights.sum()
        return self.weights @ group_losses
