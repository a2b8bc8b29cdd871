"""CVaR DRO: learn from the images that are hardest now."""

import torch
import torch.nn.functional as F

from diga_lib.methods.erm import ERM, require


def cvar(losses, alpha):
    """Average the worst `alpha` of the losses (m,): the maximum of <p, losses> over weights with p_i <= 1 / (alpha m).

    If ``alpha * m`` is not a whole number, the last image counts for what is left; at alpha = 1 it is the mean.
    """
    size = alpha * len(losses)
    share = (size - torch.arange(len(losses), device=losses.device)).clamp(0, 1)
    return losses.sort(descending=True).values @ share.to(losses.dtype) / size


class CVaRDRO(ERM):
    """Minimise the conditional value at risk: in each batch, the mean loss of the worst images.

    `alpha` is their share, above 0 and at most 1, where this is ERM; 0.1 is the default of the authors' code.

    References
    ----------
    Levy, Carmon, Duchi and Sidford, Large-scale methods for distributionally robust optimization, NeurIPS 2020.
    """

    def __init__(self, alpha=0.1, **changes):
        super().__init__(**changes)
        require(0 < alpha <= 1, "alpha", alpha, "above 0 and at most 1")
        self.alpha = alpha

    def loss(self, index, logits, y):
        return cvar(F.cross_entropy(logits, y, reduction="none"), self.alpha)
