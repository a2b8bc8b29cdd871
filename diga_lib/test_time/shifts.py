"""What happens to the pictures between training and test: seven distribution shifts, all of plain image arithmetic."""

import numpy as np
import torch
import torch.nn.functional as F


def _sketch(x, strength, rng):
    """Pencil lines: dark where brightness changes, and this much of the colours gone."""
    grey = x.mean(1, keepdim=True)
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    lines = 1 - (3 * gradient.norm(dim=1, keepdim=True)).clamp(max=1)
    return x.lerp(lines.expand_as(x), strength)


def _low_light(x, strength, rng):
    """This share of the light is missing, and the sensor's noise stays."""
    return x ** (1 + strength) * (1 - strength) + 0.03 * strength * torch.randn(x.shape, generator=rng)


def _blur(x, strength, rng):
    """A Gaussian of so many pixels' standard deviation."""
    reach = max(1, int(3 * strength + 0.5))
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * strength**2))
    bell = (bell / bell.sum()).expand(3, 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), bell, groups=3)
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), bell.transpose(2, 3), groups=3)


def _small(x, strength, rng):
    """Each side shrunk by this factor, and enlarged again."""
    less = F.interpolate(x, [max(2, round(side / strength)) for side in x.shape[2:]], mode="area")
    return F.interpolate(less, x.shape[2:], mode="bilinear")


# What each does with float images (n, 3, H, W), a strength and random numbers; and its greatest strength.
SHIFTS = {
    "none": (lambda x, strength, rng: x, np.inf),
    "sketch": (_sketch, 1),
    "low light": (_low_light, 1),
    "blur": (_blur, np.inf),
    "noise": (lambda x, strength, rng: x + strength * torch.randn(x.shape, generator=rng), np.inf),
    "colour cast": (lambda x, s, rng: x * torch.tensor([1.0, 1 - 0.45 * s, 1 - s])[:, None, None], 1),  # a warm lamp
    "small": (_small, np.inf),
    "fog": (lambda x, strength, rng: x.lerp(torch.full_like(x, 0.8), strength), 1),
}


def shift(images, kind, strength, seed=0):
    """Shift images, uint8 (n, 3, H, W), in one of the ways of ``SHIFTS``.

    The strength, above 0, is a share for "sketch", "low light", "colour cast" and "fog", pixels for "blur", a standard
    deviation (of colours in [0, 1]) for "noise", and a factor for "small". The seed is that of whatever is random;
    an image is not changed alike in another selection of images.
    """
    if kind not in SHIFTS:
        raise ValueError(f"There is no shift {kind!r}; valid are {', '.join(SHIFTS)}.")
    change, most = SHIFTS[kind]
    if not 0 < strength <= most:
        raise ValueError(f"The strength of {kind!r} is {strength!r}; it must be above 0 and at most {most}.")
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.from_numpy(np.array(images[at : at + 256])).float() / 255 for at in range(0, len(images), 256)]
    parts = [change(part, strength, rng).clamp(0, 1) * 255 + 0.5 for part in parts]
    return torch.cat(parts).to(torch.uint8).numpy() if parts else np.array(images)
