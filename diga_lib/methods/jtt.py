"""JTT (just train twice): train for a little, then again with the errors repeated."""

import torch

from diga_lib.methods.two_stages import TwoStages


class JTT(TwoStages):
    """Train a reference by ERM for few epochs, then a new network on a set that has each of its errors many times.

    The second network's epoch is as many images as the training set, drawn with replacement from the larger set, so
    that its budget is that of every other method.

    Parameters
    ----------
    settings : Settings, optional
        As for `ERM`.
    upweight : float
        How often an image that the reference gets wrong is in the set, at least 1; the other images are in it once.
    first_epochs, reference, **changes
        As for `TwoStages`.

    Attributes
    ----------
    multiplicity : torch.Tensor
        After `fit`: how often each training image is in the larger set, float32 (n,).

    Raises
    ------
    ValueError
        If a parameter is not in its range.

    References
    ----------
    Liu et al., Just train twice: improving group robustness without training group information, ICML 2021,
    algorithm 1; for CelebA the authors train the first network for 1 epoch and try 20, 50 and 100 repetitions.
    """

    def __init__(self, settings=None, upweight=20, first_epochs=1, reference=None, **changes):
        super().__init__(settings, first_epochs, reference, **changes)
        if not upweight >= 1:
            raise ValueError(f"upweight is {upweight!r}; it must be at least 1.")
        self.upweight = upweight

    def prepare(self, train):
        """Count each image once, and those that the reference gets wrong `upweight` times."""
        wrong = torch.from_numpy(self.trained_reference(train).predict(train.images) != train.target)
        self.multiplicity = torch.where(wrong, float(self.upweight), 1.0)

    def sampler(self, train, generator):
        """Draw an epoch from the larger set."""
        return self.draw(self.multiplicity, generator)
