"""The network through whose eyes reconstructions are compared: it reads the renderer's factors from a picture.

A generator judged pixel by pixel lets small things go, and a smile is small. This network plays the part that LPIPS and
a face-recognition loss play in training an inversion encoder for StyleGAN2.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import runtime
from diga_lib.latent.autoencoder import mirrored_batches, to_float

UNITS = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")
CUES = ("male_shape", "age", "skin_tone", "nose_size", "makeup", "hair_length", "eye_opening")
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "No_Beard", "Mustache", "Bald", "Bangs")
FACTORS = (*UNITS, *CUES, "Eyeglasses", *HAIR[:4], "Wearing_Lipstick", *HAIR[4:], "Male", "Ethnicity")


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class FactorNetwork(nn.Module):
    """Images (N, 3, 64, 64) in [0, 1] to standardised factors (N, F), with the feature maps on the way.

    The last maps are pooled to 4 x 4, not to one: where something is matters for an action unit.
    """

    def __init__(self, factors: int = len(FACTORS)):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.PixelUnshuffle(2), _layer(12, 32, 1)),
                nn.Sequential(_layer(32, 64, 2), _layer(64, 64, 1)),
                nn.Sequential(_layer(64, 128, 2), _layer(128, 128, 1)),
            ]
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(inplace=True), nn.Linear(256, factors)
        )
        self.register_buffer("mean", torch.zeros(factors))
        self.register_buffer("scale", torch.ones(factors))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps, x = [], images * 2 - 1
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return self.head(x).float(), maps

    @torch.inference_mode()
    def read(self, images) -> pd.DataFrame:
        """Read the factors, in their own units (action units in 0-5), from images (N, 3, R, R)."""
        self.eval()
        device = self.mean.device
        with runtime.autocast(device):
            rows = runtime.in_batches(lambda x: self(to_float(x, device))[0] * self.scale + self.mean, images)
        return pd.DataFrame(rows.cpu().numpy(), columns=FACTORS)


def train_factor_network(
    images, attributes, factors, epochs: int = 8, seed: int = 0, names: Sequence[str] = FACTORS
) -> FactorNetwork:
    """Train a network to read columns of attributes and factors, DataFrames (N, ...), from uint8 images (N, 3, R, R).

    The network returned is in evaluation mode.
    """
    runtime.seed_everything(seed)
    device = runtime.device()
    table = pd.concat([attributes, factors], axis=1)[list(names)].to_numpy("float32")
    truth = torch.from_numpy(np.ascontiguousarray(table))
    network = FactorNetwork(len(names)).to(device)
    network.mean.copy_(truth.mean(0)), network.scale.copy_(truth.std(0))
    truth = ((truth - truth.mean(0)) / truth.std(0)).to(device)
    batch_size = 128
    steps = epochs * (len(images) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for rows, x in mirrored_batches(images, batch_size, rng, device, "factor network"):
            with runtime.autocast(device):
                read, _ = network(x)
            loss = F.smooth_l1_loss(read, truth[rows.to(device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()
