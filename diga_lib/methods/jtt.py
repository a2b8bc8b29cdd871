"""JTT (just train twice): train for a little, then again with the errors repeated."""

import torch

from diga_lib.methods.erm import require_whole
from diga_lib.methods.two_stages import TwoStages


class JTT(TwoStages):
    """Train a reference by ERM for few epochs, then a new network on a set with copies of each of its errors.

    As in the original, `upweight` copies of each error stand beside the set itself, so an error is there
    ``1 + upweight`` times, and an epoch visits all ``n + upweight * errors`` of them. That is more steps than other
    methods make in as many epochs.

    Parameters
    ----------
    upweight : int
        Copies of an image that the reference gets wrong (lambda), at least 1.
    first_epochs, reference, settings, **changes
        As for `TwoStages`.

    Attributes
    ----------
    multiplicity : torch.Tensor
        After `fit`: how often an epoch visits each training image, int64 (n,).

    References
    ----------
    Liu et al., Just train twice: improving group robustness without training group information, ICML 2021,
    algorithm 1; for CelebA the authors train the first network for 1 epoch and try 20, 50 and 100 copies.
    """

    def __init__(self, settings=None, upweight=20, first_epochs=1, reference=None, **changes):
        super().__init__(settings, first_epochs, reference, **changes)
        require_whole("upweight", upweight)
        self.upweight = upweight

    def prepare(self, train):
        wrong = torch.from_numpy(self.trained_reference(train).predict(train.images) != train.target)
        self.multiplicity = 1 + self.upweight * wrong.long()

    def epoch_size(self, train):
        return int(self.multiplicity.sum())

    def sampler(self, train, rng):
        larger = torch.arange(len(train)).repeat_interleave(self.multiplicity)
        return larger[torch.randperm(len(larger), generator=rng)]
