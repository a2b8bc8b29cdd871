"""What happens to the pictures between training and test: seven distribution shifts, all of plain image arithmetic."""

import numpy as np
import torch
import torch.nn.functional as F


def _sketch(x, strength, generator):
    """Pencil lines: dark where brightness changes, and this much of the colours gone."""
    grey = x.mean(1, keepdim=True)
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    lines = 1 - (3 * gradient.norm(dim=1, keepdim=True)).clamp(max=1)
    return x.lerp(lines.expand_as(x), strength)


def _low_light(x, strength, generator):
    """This share of the light is missing, and the sensor's noise stays."""
    return x ** (1 + strength) * (1 - strength) + 0.03 * strength * _normal(x, generator)


def _blur(x, strength, generator):
    """A Gaussian of so many pixels' standard deviation."""
    reach = max(1, int(3 * strength + 0.5))
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * strength**2))
    bell = (bell / bell.sum()).expand(3, 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), bell, groups=3)
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), bell.transpose(2, 3), groups=3)


def _noise(x, strength, generator):
    """Gaussian noise of this standard deviation in each pixel and colour."""
    return x + strength * _normal(x, generator)


def _colour_cast(x, strength, generator):
    """The light of a lamp: blue and some green are lost."""
    return x * torch.tensor([1.0, 1 - 0.45 * strength, 1 - strength])[:, None, None]


def _small(x, strength, generator):
    """Each side shrunk by this factor, and enlarged again."""
    size = x.shape[2:]
    x = F.interpolate(x, [max(2, round(side / strength)) for side in size], mode="area")
    return F.interpolate(x, size, mode="bilinear")


def _fog(x, strength, generator):
    """This share of the picture is a light grey."""
    return x.lerp(torch.full_like(x, 0.8), strength)


def _normal(x, generator):
    return torch.randn(x.shape, generator=generator)


SHIFTS = {
    "none": lambda x, strength, generator: x,
    "sketch": _sketch,
    "low light": _low_light,
    "blur": _blur,
    "noise": _noise,
    "colour cast": _colour_cast,
    "small": _small,
    "fog": _fog,
}


def shift(images, kind, strength, seed=0):
    """Shift images.

    Parameters
    ----------
    images : np.ndarray
        uint8 (n, 3, H, W).
    kind : str
        One of ``SHIFTS``.
    strength : float
        Above 0: a share for "sketch", "low light", "colour cast" and "fog", pixels for "blur", a standard deviation
        (of colours in [0, 1]) for "noise", a factor for "small".
    seed : int
        Of whatever is random; image i is not the same in another selection of images.

    Returns
    -------
    np.ndarray
        uint8 (n, 3, H, W).

    Raises
    ------
    ValueError
        If there is no such shift, or the strength is not valid.
    """
    if kind not in SHIFTS:
        raise ValueError(f"There is no shift {kind!r}; valid are {', '.join(SHIFTS)}.")
    most = 1 if kind in ("sketch", "low light", "colour cast", "fog") else np.inf
    if not 0 < strength <= most:
        raise ValueError(
            f"The strength of {kind!r} is {strength!r}; it must be above 0" + (" and at most 1." if most == 1 else ".")
        )
    generator = torch.Generator().manual_seed(seed)
    parts = [
        SHIFTS[kind](torch.from_numpy(np.array(images[start : start + 256])).float() / 255, strength, generator)
        for start in range(0, len(images), 256)
    ]
    return (torch.cat(parts).clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
