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
        codes = self.generator_network.encode(train.images)
        self.counterfactual = CounterfactualViews(self.generator_network, self.found, codes, self.generator)
        coordinate = self.counterfactual.coordinate.cpu().numpy()
        self.clusters = fit_clusters(coordinate, train.target)
        self.upper = torch.from_numpy(self.clusters.probability).float().to(self.device)

    def sampler(self, train, generator):
        if not self.balance:
            return super().sampler(train, generator)
        group = 2 * torch.from_numpy(train.target) + (self.upper.cpu() > 0.5)
        weight = 1 / torch.bincount(group, minlength=4).clamp(min=1)[group]
        return torch.multinomial(weight.double(), len(train), replacement=True, generator=generator)

    def views(self, x, y, index, step):
        first, second = self.edits(index)
        if self.originals:
            keep = torch.rand(len(x), generator=self.generator, device=x.device) < self.originals
            first = torch.where(keep[:, None, None, None], x, first)
        both = torch.cat([first, second])
        return augment(both, self.settings.augment, self.generator), torch.cat([y, y])

    def edits(self, index):
        """Return two edited images of each face, (B, 3, H, W) each."""
        c, count = self.counterfactual, len(index)
        if self.edit == "shift":
            low, high = self.degrees
            return c.shifted(index, c.uniform(count, low, high)), c.shifted(index, -c.uniform(count, low, high))
        if self.edit == "place":
            reach = self.clusters.gap / 2 + 1
            return tuple(c.placed(index, c.uniform(count, -reach, reach)) for _ in range(2))
        # Moving by the clusters' distance, less what the face has already: its place inside a cluster is kept.
        upper, gap = self.upper[index], self.clusters.gap
        side = (torch.rand(count, generator=self.generator, device=index.device) < 0.5).float()
        return c.shifted(index, (side - upper) * gap), c.shifted(index, (1 - side - upper) * gap)

    def loss(self, index, logits, y):
        loss = F.cross_entropy(logits, y)
        if self.invariance:
            first, second = logits.chunk(2)
            loss = loss + self.invariance * (first - second).square().mean()
        return loss
