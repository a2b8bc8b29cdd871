"""What every method trains: a small network for 64 x 64 images, ResNet-18 for large ones, or a pretrained one."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from diga_lib.latent import load_factor_network


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:  # averages over the window of the stride, so it drops no pixel
            average, across = nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(average, across, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def _layer(inputs, outputs, stride):
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def small():
    """Build the 0.5 M-parameter backbone for images of about 64 pixels: float (N, 3, H, W), H and W even, to (N, 128).

    The maps are pooled to 4 x 4, not to one: faces are aligned, so where something is counts, and a smile of a
    few pixels is learned in hundreds of steps instead of thousands.
    """
    return nn.Sequential(
        nn.PixelUnshuffle(2),  # folds each 2 x 2 patch into channels: no layer runs at the full resolution
        *_layer(12, 32, 1),
        *_layer(32, 64, 2),
        *_layer(64, 64, 1),
        *_layer(64, 128, 2),
        *_layer(128, 128, 1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(2048, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(inplace=True),
    )


def resnet18():
    """Build the ResNet-18 backbone (random weights) for images of about 224 pixels: float (N, 3, H, W) to (N, 512).

    References
    ----------
    He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016. The shortcuts average
    before they are projected (variant D of He et al., Bag of tricks, CVPR 2019).
    """
    blocks = []
    for inputs, outputs in itertools.pairwise([64, 64, 128, 256, 512]):
        blocks += [ResidualBlock(inputs, outputs, 1 if inputs == outputs else 2), ResidualBlock(outputs, outputs)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def pretrained():
    """Build the shipped `latent.load_factor_network` without its last layer, to train on: (N, 3, H, W) to (N, 256).

    What it has seen is neither biased nor any of the images here; it is fair among networks that start from it.
    """
    network = load_factor_network()
    layers = [module for module in network.stages.modules() if not list(module.children())]
    with torch.no_grad():
        layers[1].weight *= 2  # it was trained on images in [-1, 1]
    return nn.Sequential(*layers, *network.head[:4]).requires_grad_(True)


BACKBONES = {"small": (small, 128), "resnet18": (resnet18, 512), "pretrained": (pretrained, 256)}


class Classifier(nn.Module):
    """A backbone, from float images (N, 3, H, W) in [-0.5, 0.5] to features (N, D), and a head, from these to logits.

    Images in [0, 1] are normalised here and nowhere else.
    """

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def features(self, x):
        """Return the features (N, D) of float images (N, 3, H, W) in [0, 1]."""
        return self.backbone(x - 0.5)  # the backbone's first normalisation sets the scale

    def forward(self, x):
        """Return the logits (N, classes) of float images (N, 3, H, W) in [0, 1]."""
        return self.head(self.features(x))


def classifier(name="small"):
    """Build an untrained `Classifier` of two classes, in channels-last order, with one of ``BACKBONES``."""
    if name not in BACKBONES:
        raise ValueError(f"There is no backbone {name!r}; valid names: {', '.join(BACKBONES)}.")
    build, width = BACKBONES[name]
    return Classifier(build(), nn.Linear(width, 2)).to(memory_format=torch.channels_last)
