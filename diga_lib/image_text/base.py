"""What every image–text model here can do, whatever its parts are."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diga_lib import runtime

# What to say of a face without an attribute, and of a face with it. "Attractive" is nobody's to say.
PROMPTS = {
    "Smiling": ("a face without smile", "a face with smile"),
    "Male": ("a woman", "a man"),
    "Young": ("an old person", "a young person"),
    "Eyeglasses": ("a person without glasses", "a person with glasses"),
    "Black_Hair": ("a person without black hair", "a person with black hair"),
    "Blond_Hair": ("a person without blond hair", "a person with blond hair"),
    "Brown_Hair": ("a person without brown hair", "a person with brown hair"),
    "Gray_Hair": ("a person without gray hair", "a person with gray hair"),
    "Big_Nose": ("a person with a small nose", "a person with a big nose"),
    "Heavy_Makeup": ("a person without makeup", "a person with heavy makeup"),
    "Wearing_Lipstick": ("a person without lipstick", "a person wearing lipstick"),
    "No_Beard": ("a person with facial hair", "a person without facial hair"),
    "Mustache": ("a person without mustache", "a person with a mustache"),
    "Bald": ("a person who is not bald", "a person who is bald"),
    "Bangs": ("a person without bangs", "a person with bangs"),
    "Mouth_Slightly_Open": ("a person with closed mouth", "a person with open mouth"),
    "Narrow_Eyes": ("a person with wide eyes", "a person with narrow eyes"),
    "Pale_Skin": ("a person without pale skin", "a person with pale skin"),
    "Ethnicity": ("a person with light skin", "a person with dark skin"),
}


class ImageText:
    """What every image–text model here can do, given its parts.

    A subclass says how prepared images (B, 3, S, S) in [0, 1] and prompts become vectors of any length, in
    `image_features` and `text_features`, and has `size` (S, pixels), `device` and `scale` (the number that
    multiplies cosines before the softmax). For learned prompts it also has `words` and `text_with_context`.
    """

    @torch.inference_mode()
    def encode_image(self, images: np.ndarray | Tensor) -> Tensor:
        """Map images (n, 3, H, W), uint8 or floats in [0, 1], to unit vectors (n, d), float32, on the processor.

        Other sizes than the model's are resized. Images of another shape, type or range, or none, are a ValueError.
        """
        if not len(images):
            raise ValueError("There are no images; at least one is needed.")
        return runtime.in_batches(lambda batch: _unit(self.image_features(self._prepare(batch))), images)

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Map n prompts to unit vectors (n, d), float32, on the processor."""
        if isinstance(prompts, str):
            raise ValueError(f"Prompts are a list of sentences, not the one sentence {prompts!r}.")
        return _unit(self.text_features(prompts))

    def probabilities(self, images: np.ndarray | Tensor, prompts: Sequence[str]) -> np.ndarray:
        """Tell how well each prompt fits each image: softmax over the prompts, float32 (n, len(prompts))."""
        cosines = self.encode_image(images) @ self.encode_text(prompts).T
        return (self.scale.item() * cosines).softmax(1).numpy()

    def zero_shot(self, images: np.ndarray | Tensor, attribute: str) -> np.ndarray:
        """Return the probability (n,), float32, of an attribute against its absence, by its pair in ``PROMPTS``."""
        if attribute not in PROMPTS:
            raise ValueError(f"There are no prompts for {attribute!r}; valid attributes: {', '.join(PROMPTS)}.")
        return self.probabilities(images, PROMPTS[attribute])[:, 1]

    def _prepare(self, images: np.ndarray | Tensor) -> Tensor:
        x = torch.as_tensor(np.array(images) if isinstance(images, np.ndarray) else images).to(self.device)
        if x.ndim != 4 or x.shape[1] != 3 or not (x.dtype == torch.uint8 or x.is_floating_point()):
            valid = "they must be uint8, or floating point in [0, 1], of shape (n, 3, height, width)."
            raise ValueError(f"The images are {x.dtype} of shape {tuple(x.shape)}; {valid}")
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if len(x) and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"The images reach from {x.min():.3g} to {x.max():.3g}; floats must be in [0, 1].")
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return x


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=1).cpu()
