"""JTT (just train twice): train for a little, then again with the errors repeated."""

import torch

from diga_lib.methods.erm import require_whole
from diga_lib.methods.two_stages import TwoStages


class JTT(TwoStages):
    """Train a reference by ERM for few epochs, then a new network on a set that has each of its errors many times.

    An epoch is as many images as the training set, drawn with replacement from the larger set, so that the budget is
    that of every other method. The original puts lambda copies of each error beside the set (`upweight` is 1 + lambda)
    and visits all ``n + lambda * errors`` images in an epoch, which is several times as many steps. After `fit`,
    `multiplicity` (n,) says how often each training image is in the larger set: `upweight` times, at least 1, if the
    reference gets it wrong, else once.

    References
    ----------
    Liu et al., Just train twice: improving group robustness without training group information, ICML 2021,
    algorithm 1; for CelebA the authors train the first network for 1 epoch and try a lambda of 20, 50 and 100.
    """

    def __init__(self, upweight=20, **changes):
        super().__init__(**changes)
        require_whole("upweight", upweight)
        self.upweight = upweight

    def prepare(self, train):
        wrong = torch.from_numpy(self.trained_reference(train).predict(train.images) != train.target)
        self.multiplicity = torch.where(wrong, float(self.upweight), 1.0).double()

    def sampler(self, train, rng):
        return torch.multinomial(self.multiplicity, len(train), replacement=True, generator=rng)
