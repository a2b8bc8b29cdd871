"""A real CLIP of the open_clip library, with weights that are on the machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from diga_lib import runtime
from diga_lib.image_text.base import ImageText


class OpenClip(ImageText):
    """A CLIP of the open_clip library, with its tokenizer, behind the same methods.

    Its images have `size` pixels a side; by `mean` and `std` it wants colours in [0, 1] normalised.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable, size: int, mean: Sequence[float], std: Sequence[float]):
        self.model, self.tokenizer, self.size = model.eval(), tokenizer, size
        self.mean, self.std = (torch.tensor(v)[:, None, None].to(self.device) for v in (mean, std))

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def scale(self) -> Tensor:
        return self.model.logit_scale.detach().exp()

    def image_features(self, x: Tensor) -> Tensor:
        with runtime.autocast(self.device):
            return self.model.encode_image((x - self.mean) / self.std)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        with runtime.autocast(self.device):
            return self.model.encode_text(self.tokenizer(list(prompts)).to(self.device))

    def words(self, text: str) -> Tensor:
        raise ValueError("Prompts can be learned only with the models that ship; TDA works with any CLIP.")


def load(name: str, path: str, device: torch.device) -> OpenClip:
    """Load a CLIP by its name in open_clip, such as "ViT-B-32", with a safetensors file of its weights."""
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise FileNotFoundError(f"'open_clip:{name}' needs the package open_clip_torch, which is not there.") from error
    config = open_clip.get_model_config(name)
    if config is None or {"hf_tokenizer_name", "hf_model_name"} & set(config["text_cfg"]):  # those are fetched
        raise ValueError(f"open_clip has no model {name!r} with a tokenizer of its own; valid is 'ViT-B-32', say.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There are no weights of {name!r} at {path!r}; valid is 'open_clip:{name}:PATH'.")
    model = open_clip.create_model(name, pretrained=None)
    model.load_state_dict(load_file(path))
    wanted = open_clip.get_model_preprocess_cfg(model)
    size = wanted["size"] if isinstance(wanted["size"], int) else wanted["size"][0]
    return OpenClip(model.to(device), open_clip.get_tokenizer(name), size, wanted["mean"], wanted["std"])
