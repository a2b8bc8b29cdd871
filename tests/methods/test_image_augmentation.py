"""Augmentation against PIL and torch's own affine sampling."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from diga_lib.methods.image_augmentation import Strength, augment, crop_and_flip, recolour

ONE = torch.ones(4)


@pytest.fixture
def images():
    levels = np.random.default_rng(0).integers(60, 180, (4, 3, 12, 16))
    return torch.from_numpy(levels.astype(np.float32)) / 255


def pil(image):
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def close(found, picture, levels):
    """Compare with a PIL image, which rounds to whole levels at each step."""
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy() * 255, np.asarray(picture, float), atol=levels)


def test_whole_window_changes_nothing_and_flip_mirrors(images):
    flipped = torch.tensor([False, True, False, True])
    found = crop_and_flip(images, ONE, torch.zeros(4, 2), flipped)
    expected = torch.where(flipped[:, None, None, None], images.flip(3), images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_crop_is_the_affine_map_of_torch(images):
    scale, centre = torch.tensor([0.5, 0.8, 0.9, 1.0]), torch.tensor([[-1, -1], [1, 0.5], [0, 0], [1, 1.0]])
    theta = torch.zeros(4, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = centre * (1 - scale[:, None])
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    found = crop_and_flip(images, scale, centre, torch.zeros(4, dtype=torch.bool))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # The window in the top left corner, at half the size, is the top left quarter enlarged.
    quarter = F.interpolate(images[:1, :, :7, :9], scale_factor=2, mode="bilinear")[:, :, :12, :16]
    torch.testing.assert_close(found[:1], quarter, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.3])
def test_colours_are_those_of_pil(images, factor):
    f = ONE * factor
    for found, enhancer in [
        (recolour(images, f, ONE, ONE), ImageEnhance.Brightness),
        (recolour(images, ONE, f, ONE), ImageEnhance.Contrast),
        (recolour(images, ONE, ONE, f), ImageEnhance.Color),
    ]:
        for image, result in zip(images, found, strict=True):
            close(result, enhancer(pil(image)).enhance(factor), levels=2)


def test_saturation_zero_is_pil_grey(images):
    for image, result in zip(images, recolour(images, ONE, ONE, 0 * ONE), strict=True):
        close(result, pil(image).convert("L").convert("RGB"), levels=1)


def test_result_stays_within_range_and_has_the_same_shape(images):
    wild = Strength(scale=0.5, flip=0.5, grey=0.2, brightness=0.9, contrast=0.9, saturation=0.9)
    found = augment(images, wild)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1


def test_the_generator_of_random_numbers_decides(images):
    draws = [augment(images, "byol", torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_shares_of_flipped_and_grey_images():
    ramp = torch.linspace(0.2, 0.8, 8).expand(2000, 1, 8, 8) * torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    found = augment(ramp, Strength(flip=0.5, grey=0.2), torch.Generator().manual_seed(0))
    mirrored = (found[:, 0, 0, 0] > found[:, 0, 0, -1]).float().mean()
    grey = ((found[:, 0] - found[:, 2]).abs().amax((1, 2)) < 1e-5).float().mean()
    assert abs(mirrored - 0.5) < 0.06 and abs(grey - 0.2) < 0.05  # 5 binomial deviations


def test_none_changes_nothing_and_unknown_names_are_one_sentence(images):
    assert augment(images, "none") is images
    with pytest.raises(ValueError, match="no augmentation 'strong'; valid names: none, crop, light, byol"):
        augment(images, "strong")
