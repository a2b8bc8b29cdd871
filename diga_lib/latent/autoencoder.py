"""The generator: an encoder to W+ (levels x width) and a decoder whose level l is driven by the l-th code.

It plays the part of StyleGAN2 with its inversion encoder. Both halves start from the pool's principal components
(:class:`LinearBase`): level 0 holds those that vary most, the last level the finest. The networks add sharp edges,
small parts, and which code each part of the face answers to. An autoencoder, it inverts an image in one pass.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diga_lib import runtime

LEVELS, WIDTH = 5, 64


def _norm(channels: int, affine: bool) -> nn.GroupNorm:
    # Statistics of each image by itself: a picture must not depend on its batch.
    return nn.GroupNorm(8, channels, affine=affine)


def _down(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), _norm(outputs, True), nn.SiLU(inplace=True))


def _begin_at_zero(layer: nn.Module) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class LinearBase(nn.Module):
    """Principal components of a pool: codes of unit variance, and the picture that is linear in them.

    With fewer components than W+ has coordinates, the last coordinates are the networks' alone.
    """

    def __init__(self, resolution: int, components: int = LEVELS * WIDTH):
        super().__init__()
        size = 3 * resolution**2
        self.resolution, self.components = resolution, components
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(components, size))
        self.register_buffer("scale", torch.ones(components))

    @torch.no_grad()
    def fit(self, images: np.ndarray, most: int = 8000) -> None:
        """Find the components of the first `most` images, uint8 (N, 3, R, R)."""
        x = torch.from_numpy(np.array(images[:most])).float().flatten(1) / 255
        count = min(self.components, len(x) - 1)
        mean = x.mean(0)
        x -= mean
        values, vectors = torch.linalg.eigh(x @ x.T)  # fewer images than pixels: the small Gram matrix will do
        basis, _ = torch.linalg.qr(x.T @ vectors[:, -count:].flip(1))
        self.mean.copy_(mean)
        self.basis[:count].copy_(basis.T)
        self.scale[:count].copy_((x @ basis).std(0))

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, R, R) in [0, 1] to codes (N, levels, width)."""
        codes = ((images.flatten(1) - self.mean) @ self.basis.T).float().div(self.scale)
        return F.pad(codes, (0, LEVELS * WIDTH - self.components)).view(-1, LEVELS, WIDTH)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to images, not clipped."""
        flat = (codes.flatten(1)[:, : self.components] * self.scale) @ self.basis
        return (flat.float() + self.mean).view(-1, 3, self.resolution, self.resolution)


class Encoder(nn.Module):
    """Images (N, 3, R, R) in [0, 1] to what is added to the base's codes, (N, levels, width)."""

    def __init__(self, channels: int = 32, resolution: int = 64):
        super().__init__()
        c, fold = channels, resolution // 32
        self.fold = nn.PixelUnshuffle(fold)
        sizes = ((3 * fold * fold, c), (c, 2 * c, 2), (2 * c, 2 * c), (2 * c, 4 * c, 2), (4 * c, 4 * c))
        self.trunk = nn.Sequential(*(_down(*size) for size in sizes), nn.Conv2d(4 * c, 2 * c, 1), nn.Flatten())
        self.to_codes = nn.Linear(2 * c * 64, LEVELS * WIDTH)
        _begin_at_zero(self.to_codes)

    def forward(self, images: Tensor) -> Tensor:
        return self.to_codes(self.trunk(self.fold(images * 2 - 1))).float().view(-1, LEVELS, WIDTH)


class StyledBlock(nn.Module):
    """Two convolutions whose normalised maps are scaled and shifted by the level's code.

    A few channels come from the code through one linear map: aligned images have the same part of the face at the same
    place, so this is learned much faster than by modulation alone.
    """

    def __init__(self, inputs: int, outputs: int, side: int, placed: int, up: bool):
        super().__init__()
        self.up, self.shape = up, (placed, side, side)
        self.place = nn.Linear(WIDTH, placed * side * side)
        self.first = nn.Conv2d(inputs, outputs * (4 if up else 1), 3, 1, 1)
        self.second = nn.Conv2d(outputs + placed, outputs, 3, 1, 1)
        self.norms = nn.ModuleList(_norm(outputs, False) for _ in range(2))
        self.style = nn.Linear(WIDTH, 4 * outputs)
        nn.init.normal_(self.style.weight, 0, 0.05)
        nn.init.zeros_(self.style.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale1, shift1, scale2, shift2 = self.style(code)[:, :, None, None].chunk(4, 1)
        x = self.first(x)
        if self.up:
            x = F.pixel_shuffle(x, 2)
        x = F.silu(self.norms[0](x) * (1 + scale1) + shift1)
        placed = self.place(code).view(-1, *self.shape).to(x.dtype)
        y = self.second(torch.cat([x, placed], 1))
        return x + F.silu(self.norms[1](y) * (1 + scale2) + shift2)


class Decoder(nn.Module):
    """Codes (N, levels, width) to what is added to the base's images, (N, 3, R, R)."""

    def __init__(self, channels: int = 32, resolution: int = 64):
        super().__init__()
        c, fold = channels, resolution // 32
        self.start = nn.Linear(WIDTH, 4 * c * 16)
        inputs, outputs = (4 * c, 4 * c, 4 * c, 2 * c, c), (4 * c, 4 * c, 2 * c, c, c)
        shapes = zip(inputs, outputs, (4, 8, 16, 32, 32), (32, 32, 8, 4, 4), (0, 1, 1, 1, 0), strict=True)
        self.blocks = nn.ModuleList(StyledBlock(*shape) for shape in shapes)
        self.to_image = nn.Conv2d(c, 3 * fold * fold, 3, 1, 1)
        _begin_at_zero(self.to_image)
        self.unfold = nn.PixelShuffle(fold)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.start(codes[:, 0]).view(-1, self.blocks[0].first.in_channels, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        for level, block in enumerate(self.blocks):
            x = block(x, codes[:, level])
        return self.unfold(self.to_image(x))


class Generator(nn.Module):
    """Encoder and decoder with the interface that the rest of the library uses; called, it paints codes.

    The `resolution` of the square images is a multiple of 32 pixels, the width `channels` of both networks one of 8;
    both halves start from so many principal `components`, at most levels x width.
    """

    def __init__(self, resolution: int = 64, channels: int = 32, components: int = LEVELS * WIDTH):
        super().__init__()
        for name, value, step in ("resolution", resolution, 32), ("channels", channels, 8):
            if value % step or value < step:
                raise ValueError(f"{name} is {value}; the generator needs a multiple of {step}.")
        if not 1 <= components <= LEVELS * WIDTH:
            raise ValueError(f"components is {components}; the generator takes from 1 to {LEVELS * WIDTH}.")
        self.resolution = resolution
        self.base = LinearBase(resolution, components)
        self.encoder, self.decoder = Encoder(channels, resolution), Decoder(channels, resolution)
        self.to(memory_format=torch.channels_last)

    def codes_of(self, images: Tensor) -> Tensor:
        """Codes (N, levels, width), with gradient, of float images (N, 3, R, R) in [0, 1]."""
        return self.base.encode(images) + self.encoder(images)

    def images_of(self, codes: Tensor) -> Tensor:
        """Images (N, 3, R, R), with gradient and not clipped, of codes (N, levels, width)."""
        picture = self.base.decode(codes) + self.decoder(codes).float()
        return picture.contiguous(memory_format=torch.channels_last)

    def forward(self, codes: Tensor) -> Tensor:
        return self.images_of(codes).clamp(0, 1)

    @torch.no_grad()
    def encode(self, images: np.ndarray | Tensor, batch_size: int = 256) -> Tensor:
        """Invert images (N, 3, R, R), uint8 or float in [0, 1], to float32 codes (N, levels, width)."""
        check_images(images, self.resolution)
        if not len(images):
            return torch.empty(0, LEVELS, WIDTH)
        return self._run(lambda x: self.codes_of(to_float(x, self.base.mean.device)), images, batch_size)

    @torch.no_grad()
    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Paint images (N, 3, R, R), float32 in [0, 1], from codes (N, levels, width)."""
        if codes.ndim != 3 or tuple(codes.shape[1:]) != (LEVELS, WIDTH):
            raise ValueError(f"codes have shape {tuple(codes.shape)}; this generator takes (N, {LEVELS}, {WIDTH}).")
        if not len(codes):
            return torch.empty(0, 3, self.resolution, self.resolution)
        return self._run(self, codes.to(self.base.mean.device), batch_size)

    def _run(self, step, rows, size):
        self.eval()
        with runtime.autocast(self.base.mean.device):
            return runtime.in_batches(step, rows, size=size)


def check_images(images: np.ndarray | Tensor, side: int) -> None:
    """Raise a ValueError unless images are (N, 3, side, side)."""
    if tuple(images.shape[1:]) != (3, side, side):
        raise ValueError(f"images have shape {tuple(images.shape)}; this generator takes (N, 3, {side}, {side}).")


def to_float(images: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Images as float32 in [0, 1], channels last, on a device."""
    images = torch.as_tensor(np.array(images) if isinstance(images, np.ndarray) else images, device=device)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return images.contiguous(memory_format=torch.channels_last)


def mirrored_batches(images: np.ndarray, size: int, rng: torch.Generator, device: torch.device, doing: str):
    """Rows and images (as of :func:`to_float`) of an epoch's whole batches in random order, half of them mirrored."""
    order = torch.randperm(len(images), generator=rng)[: len(images) // size * size]
    for rows in runtime.progress(order.split(size), doing):
        x = to_float(images[rows.numpy()], device)
        mirrored = torch.rand((), generator=rng) < 0.5
        yield rows, x.flip(3).contiguous(memory_format=torch.channels_last) if mirrored else x
