"""Empirical risk minimisation, and the training loop that every other method changes in one place."""

import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import NotFittedError

from diga_lib import runtime
from diga_lib.methods.image_augmentation import STRENGTHS, augment
from diga_lib.methods.networks import BACKBONES, classifier

SCHEDULES = ("one-cycle", "constant")


def require(condition, name, value, rule):
    """Raise a ValueError that names a parameter, its value and what it must be, if the condition does not hold."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {rule}.")


def require_whole(name, value, least=1):
    """Raise a ValueError if a parameter is not a whole number of at least `least`."""
    require(isinstance(value, int) and value >= least, name, value, f"a whole number of at least {least}")


@dataclass(frozen=True)
class Settings:
    """What the training loop needs to know; the same for every method that is compared."""

    epochs: int = 8  #: passes over the training set
    batch_size: int = 128  #: images per step; an epoch's last, incomplete batch is left out
    lr: float = 3e-3  #: peak learning rate, and decoupled weight decay, of AdamW
    weight_decay: float = 0.05
    schedule: str = "one-cycle"  #: course of the learning rate; or "constant"
    augment: str = "light"  #: one of `image_augmentation.STRENGTHS`
    backbone: str = "small"  #: one of `networks.BACKBONES`
    device: str = "auto"  #: "cpu", "cuda", "mps", or the accelerator if there is one
    precision: str = "auto"  #: of products: "fp32", "bf16", or bfloat16 where the hardware has it

    def __post_init__(self):
        require_whole("epochs", self.epochs)
        require_whole("batch_size", self.batch_size, 2)
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        choices = {"schedule": SCHEDULES, "augment": STRENGTHS, "backbone": BACKBONES, "precision": runtime.PRECISIONS}
        for name, valid in choices.items():
            require(getattr(self, name) in valid, name, getattr(self, name), f"one of {', '.join(valid)}")
        runtime.device(self.device)  # raises if the machine has no such device


class ERM:
    """Minimise the mean cross-entropy; the base of all methods.

    A method overrides the one step in which it differs: `prepare` (once, before training), `build` (the network),
    `sampler` (which images an epoch visits), `views` (what the network is shown) or `loss`. Beside its own parameters
    it takes `settings`, by default the class's `defaults`, and single ones that differ, such as ``epochs=20``; what is
    not in its range is a ValueError.

    Attributes
    ----------
    network, history : Classifier, list of dict
        After `fit`; of each epoch the history has its number, loss and seconds.
    rng : torch.Generator
        During `fit`, on the device: all random numbers of `prepare`, `views` and `loss` come from it.
    """

    needs_spurious = False  # true for the oracles, which read the spurious attribute
    defaults = Settings()

    def __init__(self, settings=None, **changes):
        valid = [field.name for field in fields(Settings)]
        for name in changes:
            if name not in valid:
                raise ValueError(f"{type(self).__name__} has no setting {name!r}; valid settings: {', '.join(valid)}.")
        self.settings = replace(settings or self.defaults, **changes)
        self.network = None

    @property
    def device(self):
        return runtime.device(self.settings.device)

    def autocast(self):
        return runtime.autocast(self.device, self.settings.precision)

    # ---- the steps that a method may override ----

    def prepare(self, train):
        """Look at the training set once, after the network is built and before the first step."""

    def build(self):
        """Return the untrained network."""
        return classifier(self.settings.backbone)

    def sampler(self, train, rng):
        """Choose one epoch's images: positions in the training set, int64. `rng` is a generator on the processor."""
        return torch.randperm(len(train), generator=rng)

    def views(self, x, y, index):
        """Make what the network is shown, images (V, 3, H, W) in [0, 1] and their targets (V,), V a multiple of B.

        Given are a batch of images x (B, 3, H, W) in [0, 1], their targets y and positions `index` in the training set.
        """
        return augment(x, self.settings.augment, self.rng), y

    def loss(self, index, logits, y):
        """Compute the loss of a batch, a scalar, from its positions `index` (B,), logits (V, 2) and targets (V,)."""
        return F.cross_entropy(logits, y)

    # ---- the loop ----

    def fit(self, train, seed=0, callbacks=()):
        """Train on `LabelledImages`, uint8 (n, 3, H, W) with targets 0 or 1, and return itself.

        The seed is that of initialisation, order and augmentation: it gives the same network on the same machine. After
        each epoch every callback is called as ``callback(method, record)``, with the epoch's line of `history`.
        """
        self.check(train)
        runtime.seed_everything(seed)
        settings, device = self.settings, self.device
        order = torch.Generator().manual_seed(seed)
        self.rng = torch.Generator(device).manual_seed(seed)
        images, target = as_tensor(train.images, device), as_tensor(train.target, device).long()
        self.network = self.build().to(device)
        self.prepare(train)
        batch_size = min(settings.batch_size, len(train))
        visited = len(train) // batch_size * batch_size
        optimizer, schedule = self.optimizer(settings.epochs * visited // batch_size)
        self.history = []
        for epoch in range(settings.epochs):
            start, total = time.perf_counter(), 0.0
            self.network.train()
            for index in self.sampler(train, order).to(device)[:visited].split(batch_size):
                x, y = self.views(images[index].float() / 255, target[index], index)
                with self.autocast():
                    logits = self.network(x)
                loss = self.loss(index, logits.float(), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
            mean, seconds = float(total) * batch_size / visited, time.perf_counter() - start
            self._tell({"epoch": epoch, "loss": mean, "seconds": seconds}, callbacks)
        return self

    def _tell(self, record, callbacks):
        self.history.append(record)
        for callback in callbacks:
            callback(self, record)

    def optimizer(self, steps, parameters=None):
        """Return AdamW over the network's (or other) parameters and its schedule over so many steps."""
        parameters, rate = parameters or self.network.parameters(), self.settings.lr
        optimizer = torch.optim.AdamW(parameters, rate, weight_decay=self.settings.weight_decay, fused=True)
        if self.settings.schedule == "constant":
            return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)

    def check(self, train):
        """Raise a ValueError if the method cannot be trained on this set."""
        name, targets = type(self).__name__, np.unique(train.target).tolist()
        if self.needs_spurious and train.spurious is None:
            raise ValueError(f"{name} is an oracle that reads the spurious attribute, and this training set has none.")
        if len(train) < 2 or not set(targets) <= {0, 1}:
            have = f"{len(train)} images with targets {targets}"
            raise ValueError(f"The training set has {have}; it needs at least 2 with targets 0 and 1.")

    # ---- what a trained method says ----

    def scores(self, images):
        """Return the probability of target 1, float32 (n,), for images uint8 (n, 3, H, W)."""
        return self._run(lambda x: self.network(x).float().softmax(1)[:, 1], images)

    def predict(self, images):
        """Return the predicted targets, int64 (n,), for images uint8 (n, 3, H, W)."""
        return (self.scores(images) > 0.5).astype(np.int64)

    def logits(self, images):
        """Return the logits, float32 (n, 2), for images uint8 (n, 3, H, W)."""
        return self._run(lambda x: self.network(x).float(), images)

    def features(self, images):
        """Return the backbone's features, float32 (n, D), for images uint8 (n, 3, H, W)."""
        return self._run(lambda x: self.network.features(x).float(), images)

    @torch.inference_mode()
    def _run(self, function, images):
        if self.network is None:
            raise NotFittedError(f"This {type(self).__name__} has not been trained; call fit first.")
        if not len(images):
            return np.empty(0, np.float32)
        images = np.asarray(images)
        right = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] == 3
        require(right, "The array of images", (images.dtype, images.shape), "uint8 of shape (n, 3, height, width)")
        self.network.eval()
        with self.autocast():
            outputs = runtime.in_batches(lambda x: function(as_tensor(x, self.device).float() / 255).cpu(), images)
        return outputs.numpy()


def as_tensor(array, device):
    """Put a numpy array on a device, copying one that may not be written to (torch warns about those)."""
    array = np.asarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def equally_often(group, rng, dtype=torch.float64):
    """Draw an epoch of positions (n,), with replacement, in which all groups (n,) that occur come equally often.

    `rng` is a torch.Generator on the processor; the probabilities are added up in `dtype`.
    """
    group = torch.as_tensor(group).cpu()
    weight = 1 / torch.bincount(group).clamp(min=1)[group]
    return torch.multinomial(weight.to(dtype), len(group), replacement=True, generator=rng)
