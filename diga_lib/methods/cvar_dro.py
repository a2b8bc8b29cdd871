"""CVaR DRO: learn from the images that are hardest now."""

import torch
import torch.nn.functional as F

from diga_lib.methods.erm import ERM


def cvar(losses, alpha):
    """Average the worst `alpha` of the losses: the maximum of <p, losses> over weights p with p_i <= 1 / (alpha m).

    Parameters
    ----------
    losses : torch.Tensor
        One loss for each of m images, (m,).
    alpha : float
        Share of the images, above 0 and at most 1 (the mean). If ``alpha * m`` is no whole number, the last image
        counts for what is left.

    Returns
    -------
    torch.Tensor
        A scalar.
    """
    size = alpha * len(losses)
    share = (size - torch.arange(len(losses), device=losses.device)).clamp(0, 1)
    return losses.sort(descending=True).values @ share.to(losses.dtype) / size


class CVaRDRO(ERM):
    """Minimise the conditional value at risk: in each batch, the mean loss of the worst images.

    Parameters
    ----------
    settings : Settings, optional
        As for `ERM`.
    alpha : float
        Share of a batch that counts, above 0 and at most 1; at 1 this is ERM.
    **changes
        As for `ERM`.

    Raises
    ------
    ValueError
        If `alpha` is not in that range.

    References
    ----------
    Levy, Carmon, Duchi and Sidford, Large-scale methods for distributionally robust optimization, NeurIPS 2020;
    0.1 is the default of the authors' code.
    """

    def __init__(self, settings=None, alpha=0.1, **changes):
        super().__init__(settings, **changes)
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha!r}; it must be above 0 and at most 1.")
        self.alpha = alpha

    def loss(self, index, logits, y):
        """Return the mean of the worst `alpha` of the batch's cross-entropies."""
        return cvar(F.cross_entropy(logits, y, reduction="none"), self.alpha)
