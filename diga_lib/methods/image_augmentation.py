"""Random crops, flips and colours for a whole batch of images at once, on the device the images are on."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of PIL's and torchvision's grey


@dataclass(frozen=True)
class Strength:
    """How far an augmentation may go."""

    scale: float = 1.0  #: smallest share of the image's area that a crop keeps, in (0, 1]
    flip: float = 0.0  #: probabilities of a mirrored and of a grey image
    grey: float = 0.0
    brightness: float = 0.0  #: of these three, a factor is drawn uniformly from [1 - value, 1 + value]
    contrast: float = 0.0
    saturation: float = 0.0


STRENGTHS = {
    "none": Strength(),
    "crop": Strength(scale=0.9, flip=0.5),  # what the head of the paper's DiGA is trained with
    "light": Strength(scale=0.9, flip=0.5, brightness=0.1, contrast=0.1, saturation=0.1),  # suits supervised training
    "byol": Strength(scale=0.8, flip=0.5, grey=0.2, brightness=0.4, contrast=0.4, saturation=0.4),
}


def crop_and_flip(x, scale, centre, flipped):
    """Cut a square window out of each float image (N, 3, H, W) and stretch it to the whole, mirrored where asked.

    The scale (N,), in (0, 1], is the side of the window as a share of the image's; the centre (N, 2) is its place as
    (x, y), in [-1, 1]: -1 touches the left or top edge, 1 the opposite one; flipped (N,) says which are mirrored.
    """
    height, width = x.shape[2:]
    middle = centre * (1 - scale[:, None])

    def line(size):  # pixel centres in grid_sample's coordinates; affine_grid does the same ten times slower
        return (torch.arange(size, device=x.device, dtype=x.dtype) * 2 + 1) / size - 1

    columns = torch.where(flipped, -scale, scale)[:, None] * line(width) + middle[:, :1]
    rows = scale[:, None] * line(height) + middle[:, 1:]
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def recolour(x, brightness, contrast, saturation):
    """Change brightness, then contrast around the mean grey, then saturation, of images (N, 3, H, W) in [0, 1].

    The factors are (N,); 1 changes nothing, saturation 0 gives a grey image. It is one linear map per image, clipped
    once at the end.
    """
    luma = x.new_tensor(LUMA)
    mean = x.mean((2, 3)) @ luma
    saturate = saturation[:, None, None] * torch.eye(3, device=x.device, dtype=x.dtype)
    saturate = saturate + (1 - saturation)[:, None, None] * luma.expand(3, 3)
    matrix = (brightness * contrast)[:, None, None] * saturate
    offset = ((1 - contrast) * brightness * mean)[:, None, None]
    return torch.baddbmm(offset.expand(-1, 3, 1), matrix, x.flatten(2)).view_as(x).clamp_(0, 1)


def augment(x, strength="light", rng=None):
    """Augment float images (N, 3, H, W) in [0, 1] at random, each in its own way; they stay in [0, 1].

    The strength is a `Strength` or the name of one of ``STRENGTHS``; `rng` is a torch.Generator on the device of `x`.
    """
    if isinstance(strength, str) and strength not in STRENGTHS:
        raise ValueError(f"There is no augmentation {strength!r}; valid names: {', '.join(STRENGTHS)}.")
    strength = STRENGTHS.get(strength, strength)
    if strength == STRENGTHS["none"]:
        return x
    draw = torch.rand(8, len(x), generator=rng, device=x.device, dtype=x.dtype)
    side = (strength.scale + (1 - strength.scale) * draw[0]).sqrt()
    x = crop_and_flip(x, side, draw[1:3].T * 2 - 1, draw[3] < strength.flip)
    jitters = (strength.brightness, strength.contrast, strength.saturation)
    factors = [1 + jitter * (2 * u - 1) for jitter, u in zip(jitters, draw[4:7], strict=True)]
    factors[2] = torch.where(draw[7] < strength.grey, 0.0, factors[2])
    return recolour(x, *factors)
