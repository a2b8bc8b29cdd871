"""The image–text model: which words fit a face. It plays CLIP's role, and a real CLIP can take its place by name.

``load("rendered-faces-text")`` is a small contrastive model of this project, trained on rendered faces and captions
such as "a smiling young man with glasses and black hair"; it knows the words of those captions and no others. Its eyes
are those of the network that reads the renderer's factors (`latent.perceptual`), so they were taught with labels,
unlike CLIP's (Radford et al., ICML 2021). Two more, which end in "-s" and "-l", borrow only the first two or three
stages of those eyes and learned from captions that say more: they serve the page on test-time adaptation.
"""

import json
import os

from torch import Tensor

from diga_lib import runtime
from diga_lib.image_text import open_clip
from diga_lib.image_text.base import PROMPTS, ImageText
from diga_lib.image_text.small import RenderedFacesText
from diga_lib.latent import checkpoints

__all__ = ["PROMPTS", "SHIPPED", "ImageText", "RenderedFacesText", "load", "read", "write"]

SHIPPED = ("rendered-faces-text", "rendered-faces-text-s", "rendered-faces-text-l")


def load(name: str = "rendered-faces-text", device: str = "auto") -> ImageText:
    """Load an image–text model, on one of `runtime.device`'s devices; nothing is ever downloaded.

    The name is one of ``SHIPPED``, or "open_clip:NAME:PATH", such as "open_clip:ViT-B-32:clip.safetensors": a real CLIP
    by its name in open_clip, with a safetensors file of its weights. A model that is unknown, damaged or not on this
    machine is a ValueError or FileNotFoundError.
    """
    kind, _, rest = name.partition(":")
    if kind == "open_clip" and rest:
        return open_clip.load(*rest.partition(":")[::2], runtime.device(device))
    if name not in SHIPPED:
        valid = ", ".join(map(repr, SHIPPED))
        raise ValueError(f"There is no image–text model {name!r}; valid are {valid} and 'open_clip:ViT-B-32:PATH'.")
    return _model(*checkpoints.load(name)).to(runtime.device(device))


def read(file: str | os.PathLike) -> RenderedFacesText:
    """Read a model that :func:`write` wrote; errors as of :func:`diga_lib.latent.checkpoints.read`."""
    return _model(*checkpoints.read(file))


def write(model: RenderedFacesText, file: str | os.PathLike) -> None:
    """Write a model's weights and shape into a safetensors file."""
    checkpoints.write(file, model.state_dict(), {"config": json.dumps(model.config)})


def _model(tensors: dict[str, Tensor], metadata: dict[str, str]) -> RenderedFacesText:
    model = RenderedFacesText(**json.loads(metadata["config"]))
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)
