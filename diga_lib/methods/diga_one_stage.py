"""DiGA, one stage (ours): cross-entropy on counterfactual views, over pseudo groups that are met equally often."""

import torch
import torch.nn.functional as F

from diga_lib.directions.clusters import pseudo_groups
from diga_lib.methods.erm import ERM, equally_often, require
from diga_lib.methods.image_augmentation import augment
from diga_lib.methods.views import CounterfactualViews

EDITS = ("flip", "shift", "place")


class PseudoGroups(ERM):
    """ERM that samples the pseudo groups (target x side of each direction) equally often, if they are known; no edits.

    `found` is a `Direction`, whose two clusters inside each class are the sides of the spurious attribute, or `Named`
    attributes, which an image-text model read; the generator has ``encode``. After `fit`, `upper` (N, D) says how
    surely each training image lies on the upper side of each direction, and `gap` (D,) how far the sides are apart in
    standard deviations. Where there are no sides to believe in, this is ERM.
    """

    def __init__(self, generator, found, **changes):
        super().__init__(**changes)
        self.generator, self.found = generator, found

    def prepare(self, train):
        self.faces = CounterfactualViews(self.generator, self.found.directions, train.images)
        sides = self.found.sides(self.faces.coordinate.cpu().numpy(), train.target)
        self.known, self.group = sides.known, pseudo_groups(train.target, sides.upper)
        self.upper, self.gap, self.middle = (
            torch.as_tensor(part, dtype=torch.float32, device=self.device)
            for part in (sides.upper, sides.gap, sides.middle)
        )

    def sampler(self, train, rng):
        return equally_often(self.group, rng) if self.known else super().sampler(train, rng)


class DiGAOneStage(PseudoGroups):
    """Train on faces edited along the spurious direction that was found, whose two views must agree.

    Where the sides of the direction are not known, edits that flip them would follow noise: then this is ERM.

    Parameters
    ----------
    generator, found
        As for `PseudoGroups`, with ``decode``.
    edit, degrees : {"flip", "shift", "place"}, (float, float)
        How the two views of a face are made. "flip": once on either side of each direction. "shift": moved by +a and
        by -a' standard deviations, a and a' uniform in `degrees` (the paper). "place": the coordinate is replaced by
        two uniform draws between the sides' outer ends, an intervention that leaves it independent of the target.
    invariance, originals : float
        Weight of the squared distance between the two views' logits, and the share of first views that are the image
        itself rather than an edit.
    balance : bool
        Whether an epoch samples the pseudo groups equally often.
    """

    def __init__(
        self, generator, found, edit="flip", degrees=(1.0, 3.0), invariance=0.5, originals=0.5, balance=True, **changes
    ):
        super().__init__(generator, found, **changes)
        require(edit in EDITS, "edit", edit, f"one of {', '.join(EDITS)}")
        self.edit, self.degrees = edit, degrees
        self.invariance, self.originals, self.balance, self.acts = invariance, originals, balance, True

    def prepare(self, train):
        super().prepare(train)
        self.acts = self.known or self.edit != "flip"
        self.flips = self.known and self.edit == "flip"
        if self.flips:
            # Moving by the sides' distance, less what the face has already: its place inside a side is kept.
            corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * len(self.gap)).view(1, -1, len(self.gap))
            self.faces.offer((corners.to(self.device) - self.upper[:, None]) * self.gap)

    def sampler(self, train, rng):
        return equally_often(self.group, rng) if self.balance and self.acts else ERM.sampler(self, train, rng)

    def views(self, x, y, index):
        if not self.acts:
            return super().views(x, y, index)
        first, second = self.opposite_sides(index) if self.flips else self.degrees_of_views(index)
        edited = torch.rand(len(x), generator=self.rng, device=x.device) >= self.originals
        paint = self.faces.option if self.flips else self.faces.shifted
        images = paint(torch.cat([index[edited], index]), torch.cat([first[edited], second]))
        one, other = images.split([int(edited.sum()), len(x)])
        x[edited] = one
        return augment(torch.cat([x, other]), self.settings.augment, self.rng), torch.cat([y, y])

    def degrees_of_views(self, index):
        """Return how far each of the two views of the faces `index` is moved, (B, D) twice, in standard deviations."""
        if self.flips:
            return tuple(self.faces.options[index, side] for side in self.opposite_sides(index))
        shape = (len(index), len(self.gap))
        if self.edit == "place":
            goals = [self.middle + (self.gap.abs() / 2 + 1) * self.uniform(shape, -1, 1) for _ in range(2)]
            return tuple(goal - self.faces.coordinate[index] for goal in goals)
        return self.uniform(shape, *self.degrees), -self.uniform(shape, *self.degrees)

    def opposite_sides(self, index):
        """Draw one edit of each face and take the one on the other side of each direction, too, (B,) twice."""
        # An edit is a number in binary with a digit for each direction.
        digits = (self.uniform((len(index), len(self.gap)), 0, 1) < 0.5).long()
        first = (digits << torch.arange(len(self.gap) - 1, -1, -1, device=self.device)).sum(1)
        return first, 2 ** len(self.gap) - 1 - first

    def uniform(self, shape, low, high):
        """Draw numbers between low and high."""
        return low + (high - low) * torch.rand(shape, generator=self.rng, device=self.device)

    def loss(self, index, logits, y):
        loss = F.cross_entropy(logits, y)
        if self.acts:
            first, second = logits.chunk(2)
            loss = loss + self.invariance * (first - second).square().mean()
        return loss
