"""DiGA as published: a representation that two edits of a face share (BYOL), then a linear head on it."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from diga_lib.methods.erm import ERM, Settings
from diga_lib.methods.image_augmentation import augment
from diga_lib.methods.networks import BACKBONES, Classifier
from diga_lib.methods.views import CounterfactualViews

STARTS = ("encoder", "random")


def _mlp(inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


class _EncoderBackbone(nn.Module):
    """The generator's encoder as a backbone: its codes, flattened, are the features."""

    def __init__(self, generator):
        super().__init__()
        self.base, self.encoder = copy.deepcopy(generator.base), copy.deepcopy(generator.encoder).requires_grad_(True)

    def forward(self, x):
        images = (x + 1) / 2
        return (self.base.encode(images) + self.encoder(images)).flatten(1)


class DiGA(ERM):
    """Two stages: BYOL on views G(z + a n) and G(z - a' n) without labels, then a linear head on the frozen encoder.

    Parameters
    ----------
    generator : object with ``encode``, ``decode`` and, for `start` "encoder", ``base`` and ``encoder``
    found : Direction
    degrees : (float, float)
        Lowest and highest degree of the views, in standard deviations.
    conflicting : bool
        Whether the head is trained on edits whose sign depends on the label (class 0 up, class 1 down), that is on
        faces made to go against the bias. The official code does so; the paper does not say it.
    head_degrees : (float, float)
        Degrees of those edits.
    start : {"encoder", "random"}
        What the backbone is before the first stage. On a small budget BYOL from random weights matches the views by
        easier things than a mouth; the generator's encoder already sees small parts.
    momentum : float
        Of the target network (0.99 in the official code).
    head_epochs : int
        Passes of the second stage over the features.

    References
    ----------
    Grill et al., Bootstrap your own latent, NeurIPS 2020; DiGA (arXiv 2403.06606), section 3.3.
    """

    defaults = Settings(epochs=4, augment="byol", lr=3e-4, weight_decay=0.0, schedule="constant")

    def __init__(
        self,
        generator,
        found,
        degrees=(1.0, 3.0),
        conflicting=True,
        head_degrees=(2.0, 4.0),
        start="encoder",
        momentum=0.99,
        head_epochs=60,
        settings=None,
        **changes,
    ):
        super().__init__(settings, **changes)
        if start not in STARTS:
            raise ValueError(f"start is {start!r}; valid values: {', '.join(STARTS)}.")
        self.generator_network, self.found, self.degrees = generator, found, degrees
        self.conflicting, self.head_degrees, self.start = conflicting, head_degrees, start
        self.momentum, self.head_epochs = momentum, head_epochs

    def build(self):
        if self.start == "encoder":
            backbone = _EncoderBackbone(self.generator_network)
            width = backbone.encoder.to_codes.out_features
        else:
            make, width = BACKBONES[self.settings.backbone]
            backbone = make()
        return Classifier(backbone, nn.Linear(width, 2)).to(memory_format=torch.channels_last)

    def fit(self, train, seed=0, validation=None, callbacks=()):
        """Train both stages; parameters as for `ERM.fit`. `history` has the BYOL loss of each epoch."""
        self.represent(train, seed)
        return self.fit_head(train, seed)

    def represent(self, train, seed=0):
        """First stage: train the encoder without labels."""
        self._check(train)
        torch.manual_seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.network = self.build().to(self.device)
        self.faces = CounterfactualViews(self.generator_network, self.found, train.images)
        width = self.network.head.in_features
        online = nn.Sequential(self.network.backbone, _mlp(width, 512, 128)).to(self.device)
        target, predictor = copy.deepcopy(online).requires_grad_(False), _mlp(128, 512, 128).to(self.device)
        parameters = [*online.parameters(), *predictor.parameters()]
        per_epoch = len(train) // self.settings.batch_size
        optimizer, schedule = self.optimizer(self.settings.epochs * per_epoch, parameters)
        order = torch.Generator().manual_seed(seed)
        self.history = []
        for epoch in range(self.settings.epochs):
            online.train(), predictor.train(), target.train()
            positions, total = torch.randperm(len(train), generator=order), 0.0
            for index in positions[: per_epoch * self.settings.batch_size].split(self.settings.batch_size):
                both = augment(self.pairs(index.to(self.device)), self.settings.augment, self.generator) * 2 - 1
                with self.autocast():
                    guess = predictor(online(both)).float()
                    with torch.no_grad():
                        goal = target(both).float()
                # Each view's prediction meets the other view's target.
                loss = 2 - 2 * F.cosine_similarity(guess, goal.roll(len(index), 0)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    for slow, fast in zip(target.parameters(), online.parameters()):
                        slow.lerp_(fast, 1 - self.momentum)
                total += loss.item()
            self.history.append({"epoch": epoch, "loss": total / per_epoch})
        return self

    def pairs(self, index):
        """Views of the faces `index` moved up, then the same faces moved down: (2B, 3, H, W)."""
        degrees = torch.cat([self._uniform(len(index), *self.degrees), -self._uniform(len(index), *self.degrees)])
        return self.faces.shifted(torch.cat([index, index]), degrees)

    def fit_head(self, train, seed=0):
        """Second stage: a linear head on the frozen encoder."""
        y = torch.from_numpy(train.target).to(self.device)
        if self.conflicting:
            everything = torch.arange(len(train), device=self.device)
            away = torch.where(y == 0, 1.0, -1.0) * self._uniform(len(train), *self.head_degrees)
            images = torch.cat([self.faces.shifted(rows, away[rows]) for rows in everything.split(256)])
            images = (images * 255).round().to(torch.uint8).cpu().numpy()
        else:
            images = train.images
        features = torch.from_numpy(self.features(images)).to(self.device)
        torch.manual_seed(seed)
        head = nn.Linear(features.shape[1], 2).to(self.device)
        optimizer = torch.optim.Adam(head.parameters(), 1e-3, weight_decay=1e-4)
        for _ in range(self.head_epochs):
            for rows in torch.randperm(len(y)).to(self.device).split(256):
                loss = F.cross_entropy(head(features[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.network.head = head
        return self

    def _uniform(self, count, low, high):
        return low + (high - low) * torch.rand(count, generator=self.generator, device=self.device)
