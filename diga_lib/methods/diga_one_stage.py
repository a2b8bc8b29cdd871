"""DiGA, trained in one stage: cross-entropy on counterfactual views, which must also agree with each other.

The paper's own two stages (representation by BYOL, then a head) are in `diga`.
"""

import numpy as np
import torch
import torch.nn.functional as F

from diga_lib.directions.clusters import fit_clusters
from diga_lib.directions.words import Named, pseudo_groups
from diga_lib.methods.erm import ERM
from diga_lib.methods.image_augmentation import augment
from diga_lib.methods.views import CounterfactualViews

EDITS = ("auto", "shift", "place", "flip")


class DiGAOneStage(ERM):
    """Train on faces edited along the spurious direction that was found.

    Parameters
    ----------
    generator : object with ``encode`` and ``decode``
    found : Direction or Named
        What `directions.spurious_direction` returned, which knows codes and targets only and whose two clusters inside
        each class are the sides of the spurious attribute; or what `words.name_spurious` returned, one or several
        attributes that an image-text model read, with a direction each.
    edit : {"auto", "flip", "shift", "place"}
        How the two views of a face are made. "shift": moved by +a and by -a' standard deviations, a and a' uniform
        in `degrees` (the paper). "place": the coordinate is replaced by two uniform draws between the clusters'
        outer ends, an intervention that leaves it independent of the target. "flip": once in either cluster. "auto":
        "flip" if the sides are known, from words or clear clusters, else "shift" without balance.
    degrees : (float, float)
        Lowest and highest degree of "shift".
    invariance : float
        Weight of the squared distance between the two views' logits.
    originals : float
        Share of first views that are the image itself rather than an edit.
    balance : bool
        Whether an epoch visits the pseudo groups (target x side along each direction) equally often.
    settings, **changes
        As for `ERM`.

    Attributes
    ----------
    upper : Tensor (N, D)
        After `fit`: how surely each training image lies on the upper side of each direction.
    gap : Tensor (D,)
        Distance of the two sides, in standard deviations.
    """

    def __init__(
        self,
        generator,
        found,
        edit="auto",
        degrees=(1.0, 3.0),
        invariance=0.5,
        originals=0.5,
        balance=True,
        settings=None,
        **changes,
    ):
        super().__init__(settings, **changes)
        if edit not in EDITS:
            raise ValueError(f"edit is {edit!r}; valid values: {', '.join(EDITS)}.")
        self.generator_network, self.found, self.edit, self.degrees = generator, found, edit, degrees
        self.invariance, self.originals, self.balance = invariance, originals, balance
        self.known = True

    def prepare(self, train):
        self.faces = CounterfactualViews(self.generator_network, directions_of(self.found), train.images)
        upper, gap, middle, self.known = sides(self.found, self.faces.coordinate.cpu().numpy(), train.target)
        self.upper, self.gap, self.middle = (a.float().to(self.device) for a in (upper, gap, middle))
        if self.flips:
            # Moving by the sides' distance, less what the face has already: its place inside a cluster is kept.
            corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * len(self.gap)).view(1, -1, len(self.gap))
            self.faces.offer((corners.to(self.device) - self.upper[:, None]) * self.gap)

    @property
    def flips(self):
        """Whether the two views of a face lie on opposite sides of each direction."""
        return self.edit == "flip" or (self.edit == "auto" and self.known)

    def sampler(self, train, generator):
        balance = self.balance and (self.known or self.edit != "auto")
        return balanced_order(train.target, self.upper, generator) if balance else super().sampler(train, generator)

    def views(self, x, y, index, step):
        first, second = self.opposite_sides(index) if self.flips else self.degrees_of_views(index)
        edited = torch.rand(len(x), generator=self.generator, device=x.device) >= self.originals
        paint = self.faces.option if self.flips else self.faces.shifted
        images = paint(torch.cat([index[edited], index]), torch.cat([first[edited], second]))
        one, other = images.split([int(edited.sum()), len(x)])
        x[edited] = one
        return augment(torch.cat([x, other]), self.settings.augment, self.generator), torch.cat([y, y])

    def degrees_of_views(self, index):
        """Return how far each of the two views of each face is moved, (B, D) twice, in standard deviations."""
        shape = (len(index), len(self.gap))
        if self.flips:
            return tuple(self.faces.options[index, side] for side in self.opposite_sides(index))
        if self.edit == "place":
            reach = self.gap.abs() / 2 + 1
            return tuple(
                self.faces.degrees_to(index, self.middle + reach * self.uniform(shape, -1, 1)) for _ in range(2)
            )
        return self.uniform(shape, *self.degrees), -self.uniform(shape, *self.degrees)

    def opposite_sides(self, index):
        """Draw which of its edits a face shows first, as a number in binary with a digit for each direction, (B,), twice."""
        digits = (self.uniform((len(index), len(self.gap)), 0, 1) < 0.5).long()
        first = (digits << torch.arange(len(self.gap) - 1, -1, -1, device=self.device)).sum(1)
        return first, 2 ** len(self.gap) - 1 - first

    def uniform(self, shape, low, high):
        """Draw numbers between low and high."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def loss(self, index, logits, y):
        loss = F.cross_entropy(logits, y)
        if self.invariance:
            first, second = logits.chunk(2)
            loss = loss + self.invariance * (first - second).square().mean()
        return loss


class PseudoGroups(ERM):
    """ERM that visits the pseudo groups (target x side along each direction) equally often, if known; no edits.

    Parameters
    ----------
    generator : object with ``encode``
    found : Direction or Named
    settings, **changes
        As for `ERM`.
    """

    def __init__(self, generator, found, settings=None, **changes):
        super().__init__(settings, **changes)
        self.generator_network, self.found = generator, found

    def prepare(self, train):
        codes = self.generator_network.encode(train.images)
        along = np.stack([d.coordinate(codes).cpu().numpy() for d in directions_of(self.found)], 1)
        self.upper, *_, self.known = sides(self.found, along, train.target)

    def sampler(self, train, generator):
        return balanced_order(train.target, self.upper, generator) if self.known else super().sampler(train, generator)


def directions_of(found):
    """Return the list of D directions of a Direction or of a Named."""
    return list(found.directions) if isinstance(found, Named) else [found]


def sides(found, coordinate, target):
    """Say on which side of each direction every training image lies, and how far apart the sides are.

    Parameters
    ----------
    found : Direction or Named
        The sides of a Direction are its clusters inside the classes; those of a Named were read by its words.
    coordinate, target : arrays (N, D) and (N,)

    Returns
    -------
    upper, gap, middle : Tensor (N, D), (D,) and (D,)
        Probability of the upper side; distance and middle of the two sides, in standard deviations.
    known : bool
        Whether to believe in the sides: words were read, or the clusters are clear.

    Raises
    ------
    ValueError
        If a Named belongs to other images, or has found no word.
    """
    if not isinstance(found, Named):
        clusters = fit_clusters(coordinate[:, 0], target)
        return (
            torch.from_numpy(clusters.probability)[:, None],
            torch.tensor([clusters.gap]),
            torch.tensor([clusters.offset.mean()]),
            clusters.clear,
        )
    if found.probability.shape != coordinate.shape or not coordinate.size:
        raise ValueError(
            f"The words were read on {len(found.probability)} images and {len(found.words)} of them count; "
            f"there must be at least one word, read on these {len(coordinate)} training images."
        )
    high = found.probability > 0.5
    means = np.array(
        [
            [[column[(target == k) & (side == j)].mean() for j in (0, 1)] for k in (0, 1)]
            for column, side in zip(coordinate.T, high.T)
        ]
    ).mean(1)  # (D, side), each class counts alike
    apart, middle = means[:, 1] - means[:, 0], means.mean(1)
    return torch.tensor(found.probability), torch.from_numpy(apart), torch.from_numpy(middle), True


def balanced_order(target, upper, generator):
    """Draw positions (N,), with replacement, such that the groups target x (upper (N, D) > 0.5) come equally often."""
    group = torch.from_numpy(pseudo_groups(target, upper.cpu().numpy()))
    weight = 1 / torch.bincount(group).clamp(min=1)[group]
    return torch.multinomial(weight.double(), len(target), replacement=True, generator=generator)
