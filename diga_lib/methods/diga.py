"""DiGA (paper): a representation that two edits of a face share (BYOL), then a linear head on it."""

import copy
import time

import torch
import torch.nn.functional as F
from torch import nn

from diga_lib import runtime
from diga_lib.methods.erm import ERM, Settings, as_tensor
from diga_lib.methods.image_augmentation import augment
from diga_lib.methods.networks import Classifier
from diga_lib.methods.views import CounterfactualViews


def _mlp(inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


class DiGA(ERM):
    """The paper's second stage: BYOL on views G(z + a n) and G(z - a' n), without labels; then a linear head.

    As in the official code, each view of a pair is moved by one of `degrees`, up or down, drawn anew for each image
    and epoch; batch normalisation sees the two views apart; the loss is summed over both orders; the head is trained
    with Adam (rate 1e-3, weight decay 1e-6, batches of 128) on the frozen backbone, on edits *against* the label:
    class 0 moved to where class 1 lies, class 1 the other way. Edits are painted once a degree and kept as bytes.

    It departs from the official code where 64 pixels and two cores ask for it. The backbone is small and begins with
    weights that have read drawn faces (``backbone="pretrained"``; whether the official ResNet-18 begins with ImageNet's
    is not known), so that BYOL needs a few epochs of some thousand faces, not 135 of 20,000. A degree is one standard
    deviation of the codes along the direction, not one unit of length, and the tables' search found smaller ones to be
    better. `found` lies in all levels of W+: ours are no copies of one vector, and their mean holds nothing. Colour
    jitter has no hue and is always on. Of the head's images there are `head_draws` draws of degree, crop and flip, and
    each of `head_epochs` takes one for each image, so that the frozen backbone sees them only once.

    Parameters
    ----------
    generator, found : object with ``encode`` and ``decode``, Direction
        The paper's direction is that of `directions.spurious_direction` with a scorer.
    degrees, head_degrees : sequence of float
        Degrees of the views and of the head's images, in standard deviations; without the latter the head is trained
        on the images themselves.
    **changes
        Of the first stage, as for `ERM`. `history` has the stage, "byol" or "head", and the head's validated accuracy.

    References
    ----------
    Grill et al., Bootstrap your own latent, NeurIPS 2020; DiGA (arXiv 2403.06606), section 3.3.
    """

    momentum, residual = 0.99, True  # of the target network; whether edits keep what the inversion lost of their image
    defaults = Settings(6, 64, 3e-4, weight_decay=0.0, schedule="constant", augment="byol", backbone="pretrained")

    def __init__(
        self,
        generator,
        found,
        degrees=(3.0, 4.0, 5.0),
        head_degrees=(4.0, 5.0, 6.0),
        head_epochs=300,
        head_draws=4,
        **changes,
    ):
        super().__init__(**changes)
        self.generator, self.found, self.degrees, self.head_degrees = generator, found, degrees, head_degrees
        self.head_epochs, self.head_draws = head_epochs, head_draws

    def fit(self, train, seed=0, callbacks=(), validation=None):
        """Train both stages; parameters as for `ERM.fit`.

        With a validation set, the head is that of the epoch with the best accuracy on it (where it is biased like
        training, that rewards a head that takes the shortcut), else that of the last.
        """
        self.represent(train, seed, callbacks)
        return self.fit_head(train, seed, callbacks, validation)

    def represent(self, train, seed=0, callbacks=()):
        """First stage: train the backbone without labels."""
        self.check(train)
        runtime.seed_everything(seed)
        self.rng, order = torch.Generator(self.device).manual_seed(seed), torch.Generator().manual_seed(seed)
        self.network = self.build().to(self.device)
        self.offer(train)
        online = Classifier(self.network.backbone, _mlp(self.network.head.in_features, 512, 128)).to(self.device)
        target, predictor = copy.deepcopy(online).requires_grad_(False), _mlp(128, 512, 128).to(self.device)
        batch_size = min(self.settings.batch_size, len(train))
        steps = len(train) // batch_size
        parameters = [*online.parameters(), *predictor.parameters()]
        optimizer, schedule = self.optimizer(self.settings.epochs * steps, parameters)
        self.history = []
        for epoch in range(self.settings.epochs):
            start, total = time.perf_counter(), 0.0
            for network in (online, target, predictor):
                network.train()
            for index in torch.randperm(len(train), generator=order)[: steps * batch_size].split(batch_size):
                views = [augment(view, self.settings.augment, self.rng) for view in self.pair(index.to(self.device))]
                with self.autocast():
                    guesses = [predictor(online(view)).float() for view in views]
                    with torch.no_grad():
                        goals = [target(view).float() for view in reversed(views)]
                # Each view's prediction meets the other view's target.
                pairs = zip(guesses, goals, strict=True)
                loss = sum(2 - 2 * F.cosine_similarity(guess, goal).mean() for guess, goal in pairs)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                        slow.lerp_(fast, 1 - self.momentum)
                total += loss.item()
            record = {"stage": "byol", "epoch": epoch, "loss": total / steps, "seconds": time.perf_counter() - start}
            self._tell(record, callbacks)
        self.slow = target
        return self

    def offer(self, train):
        """Make the edits of the training images, to be painted when they are first needed."""
        self.faces = CounterfactualViews(self.generator, self.found.directions, train.images, self.residual)
        degrees = sorted({*self.degrees, *self.head_degrees})
        self.offered = torch.tensor(degrees + [-degree for degree in degrees], device=self.device)
        self.faces.offer(self.offered.expand(len(train), -1)[..., None])

    def edits(self, index, sign, degrees):
        """Move the faces `index` (B,) by one of `degrees`, drawn for each, up where sign (B,) is 1, else down."""
        draw = torch.randint(len(degrees), (len(index),), generator=self.rng, device=self.device)
        wanted = sign * torch.tensor(degrees, device=self.device)[draw]
        return self.faces.option(index, (self.offered == wanted[:, None]).int().argmax(1))

    def pair(self, index):
        """Draw two views of the faces `index` (B,): moved up, and moved down, (B, 3, H, W) each."""
        sign = torch.ones(len(index), device=self.device)
        return [self.edits(index, s, self.degrees) for s in (sign, -sign)]

    def fit_head(self, train, seed=0, callbacks=(), validation=None):
        """Second stage: train a linear head on the frozen backbone."""
        images, y = as_tensor(train.images, self.device), as_tensor(train.target, self.device).long()
        self.rng = torch.Generator(self.device).manual_seed(seed)
        features = torch.stack([self.head_features(images, y) for _ in range(self.head_draws)])
        torch.manual_seed(seed)
        self.network.head = head = nn.Linear(features.shape[2], 2).to(self.device)
        seen = None if validation is None else torch.from_numpy(self.features(validation.images)).to(self.device)
        optimizer, best = torch.optim.Adam(head.parameters(), 1e-3, weight_decay=1e-6), (-1.0, None)
        for epoch in range(self.head_epochs):
            start, total = time.perf_counter(), 0.0
            drawn = torch.randint(len(features), (len(y),), generator=self.rng, device=self.device)
            for rows in torch.randperm(len(y), generator=self.rng, device=self.device).split(128):
                loss = F.cross_entropy(head(features[drawn[rows], rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            record = {"stage": "head", "epoch": epoch, "loss": total / len(y), "seconds": time.perf_counter() - start}
            if validation is not None:
                record["accuracy"] = float((head(seen).argmax(1).cpu().numpy() == validation.target).mean())
                if record["accuracy"] > best[0]:
                    best = record["accuracy"], copy.deepcopy(head.state_dict())
            self._tell(record, callbacks)
        if validation is not None:
            head.load_state_dict(best[1])
        return self

    @torch.no_grad()
    def head_features(self, images, y):
        """Return the features (N, D) of one draw of the head's images: degree, crop and flip."""
        self.network.eval()
        along, parts = self.faces.coordinate[:, 0], []
        away = 1.0 if along[y == 0].mean() < along[y == 1].mean() else -1.0  # moves class 0 to where class 1 lies
        for index in torch.arange(len(y), device=self.device).split(256):
            if self.head_degrees:
                x = self.edits(index, away * (1.0 - 2.0 * y[index]), self.head_degrees)
            else:
                x = images[index].float() / 255
            with self.autocast():
                parts.append(self.network.features(augment(x, "crop", self.rng)).float())
        return torch.cat(parts)
