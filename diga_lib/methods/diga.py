"""DiGA, trained in one stage: cross-entropy on counterfactual views, which must also agree with each other.

The paper's own two stages (representation by BYOL, then a head) are in `byol`.
"""

import torch
import torch.nn.functional as F

from diga_lib.augmentation import CounterfactualViews
from diga_lib.clusters import fit_clusters
from diga_lib.methods.erm import ERM
from diga_lib.methods.image_augmentation import augment

EDITS = ("shift", "place", "flip")


class DiGA(ERM):
    """Train on faces edited along the spurious direction that was found.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
    found : Direction
        What `directions.spurious_direction` returned. It knows codes and targets only.
    edit : {"flip", "shift", "place"}
        How the two views of a face are made. "shift": moved by +a and by -a' standard deviations, a and a' uniform
        in `degrees` (the paper). "place": the coordinate is replaced by two uniform draws between the clusters'
        outer ends, an intervention that leaves it independent of the target. "flip": once in either cluster.
    degrees : (float, float)
        Lowest and highest degree of "shift".
    invariance : float
        Weight of the squared distance between the two views' logits.
    originals : float
        Share of first views that are the image itself rather than an edit.
    balance : bool
        Whether an epoch visits the four pseudo groups (target x cluster along the direction) equally often.
    settings, **changes
        As for `ERM`.
    """

    def __init__(self, generator, found, edit="flip", degrees=(1.0, 3.0), invariance=0.5, originals=0.5,
                 balance=True, settings=None, **changes):
        super().__init__(settings, **changes)
        if edit not in EDITS:
            raise ValueError(f"edit is {edit!r}; valid values: {', '.join(EDITS)}.")
        self.generator_network, self.found, self.edit, self.degrees = generator, found, edit, degrees
        self.invariance, self.originals, self.balance = invariance, originals, balance

    def prepare(self, train):
        self.faces = CounterfactualViews(self.generator_network, self.found, train.images)
        self.clusters = fit_clusters(self.faces.coordinate.cpu().numpy(), train.target)
        self.upper = torch.from_numpy(self.clusters.probability).float().to(self.device)

    def sampler(self, train, generator):
        return balanced_order(train.target, self.upper, generator) if self.balance else super().sampler(train, generator)

    def views(self, x, y, index, step):
        first, second = self.degrees_of_views(index)
        edited = torch.rand(len(x), generator=self.generator, device=x.device) >= self.originals
        images = self.faces.shifted(torch.cat([index[edited], index]), torch.cat([first[edited], second]))
        one, other = images.split([int(edited.sum()), len(x)])
        x[edited] = one
        return augment(torch.cat([x, other]), self.settings.augment, self.generator), torch.cat([y, y])

    def degrees_of_views(self, index):
        """Return how far each of the two views of each face is moved, (B,) twice, in standard deviations."""
        count, gap = len(index), self.clusters.gap
        if self.edit == "shift":
            return self.uniform(count, *self.degrees), -self.uniform(count, *self.degrees)
        if self.edit == "place":
            reach, middle = gap / 2 + 1, torch.from_numpy(self.clusters.offset).float().mean()
            return tuple(self.faces.degrees_to(index, middle + self.uniform(count, -reach, reach)) for _ in range(2))
        # Moving by the clusters' distance, less what the face has already: its place inside a cluster is kept.
        side = (self.uniform(count, 0, 1) < 0.5).float()
        return (side - self.upper[index]) * gap, (1 - side - self.upper[index]) * gap

    def uniform(self, count, low, high):
        """Draw (count,) numbers between low and high."""
        return low + (high - low) * torch.rand(count, generator=self.generator, device=self.device)

    def loss(self, index, logits, y):
        loss = F.cross_entropy(logits, y)
        if self.invariance:
            first, second = logits.chunk(2)
            loss = loss + self.invariance * (first - second).square().mean()
        return loss


class PseudoGroups(ERM):
    """ERM that visits the four pseudo groups (target x cluster along a direction) equally often; no edits.

    Parameters
    ----------
    generator : object with ``encode``
    found : Direction
    settings, **changes
        As for `ERM`.
    """

    def __init__(self, generator, found, settings=None, **changes):
        super().__init__(settings, **changes)
        self.generator_network, self.found = generator, found

    def prepare(self, train):
        coordinate = self.found.coordinate(self.generator_network.encode(train.images)).cpu().numpy()
        self.upper = torch.from_numpy(fit_clusters(coordinate, train.target).probability)

    def sampler(self, train, generator):
        return balanced_order(train.target, self.upper, generator)


def balanced_order(target, upper, generator):
    """Draw positions (N,), with replacement, such that the groups target x (upper > 0.5) come equally often."""
    group = 2 * torch.from_numpy(target) + (upper.cpu() > 0.5)
    weight = 1 / torch.bincount(group, minlength=4).clamp(min=1)[group]
    return torch.multinomial(weight.double(), len(target), replacement=True, generator=generator)
