"""Train a generator: reconstruct the pool, seen pixel by pixel and through the factor network's eyes."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diga_lib import runtime
from diga_lib.latent.autoencoder import Generator, mirrored_batches
from diga_lib.latent.checkpoints import Resumable, digest
from diga_lib.latent.perceptual import FactorNetwork

# Weights of the terms beside the absolute error of the pixels.
GRADIENT, FEATURES, FACTORS = 1.0, 0.2, 0.1
POPULATION = 7  # seed of the drawn images that generators learn from: no training set, test set or search has it
UNITS_COUNT = 3.0  # an action unit is worth three other factors: its pixels are few


def reconstruction_loss(images: Tensor, again: Tensor, perceptual: FactorNetwork, units: int = 12) -> Tensor:
    """Absolute error of pixels and of their differences, distance of feature maps and of factors read: a scalar.

    Originals and reconstructions are (N, 3, R, R), in [0, 1].
    """
    loss = F.l1_loss(again, images)
    for axis in (2, 3):
        loss = loss + GRADIENT * F.l1_loss(again.diff(dim=axis), images.diff(dim=axis))
    half = slice(0, (len(images) + 1) // 2)  # every other image is judged closely: nearly as good, a fifth faster
    with torch.no_grad():
        factors, maps = perceptual(images[half])
    factors_again, maps_again = perceptual(again[half])
    for one, other in zip(maps, maps_again, strict=True):
        loss = loss + FEATURES / len(maps) * F.l1_loss(other.float(), one.float())
    weight = torch.ones(factors.shape[1], device=images.device)
    weight[:units] = UNITS_COUNT
    return loss + FACTORS * (weight * (factors_again - factors).abs()).mean()


class Training:
    """A training run on images, uint8 (N, 3, R, R), that can be stopped and goes on after its last finished epoch.

    The frozen `perceptual`, a `FactorNetwork` whose first `units` factors are action units, judges reconstructions. The
    state is kept in `folder`, if one is given. The learning rate warms up to `lr` and falls to zero by a cosine;
    `shape` are channels and components of the :class:`Generator`.
    """

    def __init__(self, images, perceptual, folder=None, epochs=4, batch_size=64, lr=1e-3, seed=0, units=12, **shape):
        if len(images) < batch_size:
            raise ValueError(f"There are {len(images)} images to train a generator on; at least {batch_size} is valid.")
        self.images, self.units, self.lr = images, units, lr
        self.epochs, self.batch_size, self.seed, self.device = epochs, batch_size, seed, runtime.device()
        self.perceptual = perceptual.to(self.device).eval().requires_grad_(False)
        runtime.seed_everything(seed)
        self.generator = Generator(images.shape[2], **shape).to(self.device)
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr, weight_decay=0.01, betas=(0.9, 0.99))
        settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "units": units, **shape}
        settings["images"] = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
        settings["perceptual"] = digest({name: value.cpu() for name, value in perceptual.state_dict().items()})
        file = folder and Path(folder) / "training.safetensors"
        self.state = Resumable(file, self.generator, self.optimizer, settings)
        if not self.state.history:
            self.generator.base.fit(images)

    def run(self) -> Generator:
        """Train to the last epoch and return the generator."""
        for epoch in range(len(self.state.history), self.epochs):
            self.state.keep(epoch=epoch, loss=self._epoch(epoch))
        return self.generator.eval()

    def _epoch(self, epoch: int) -> float:
        self.generator.train()
        rng = torch.Generator().manual_seed(self.seed * 1000 + epoch)
        steps, total, doing = len(self.images) // self.batch_size, 0.0, f"generator, epoch {epoch + 1}/{self.epochs}"
        for step, (_, x) in enumerate(mirrored_batches(self.images, self.batch_size, rng, self.device, doing)):
            with runtime.autocast(self.device):
                again = self.generator.images_of(self.generator.codes_of(x))
                loss = reconstruction_loss(x, again.float(), self.perceptual, self.units)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * _schedule(epoch * steps + step, self.epochs * steps)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
        return total / steps


def _schedule(step: int, steps: int) -> float:
    """Learning rate as a share of the highest: of the step alone, so that going on needs nothing but its number."""
    return min(1, (step + 1) / (0.05 * steps)) * 0.5 * (1 + float(torch.cos(torch.tensor(step / steps * torch.pi))))
