"""A real CLIP of the open_clip library, where its weights are on the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from diga_lib import runtime
from diga_lib.image_text.base import ImageText


class OpenClip(ImageText):
    """A CLIP of the open_clip library behind the same methods.

    Parameters
    ----------
    model : nn.Module
        With `encode_image` (B, 3, S, S), `encode_text` (n, L) and `logit_scale`.
    tokenizer : callable
        Maps a list of str to tokens (n, L).
    size : int
        Side S of its images in pixels.
    mean, std : sequences of three floats
        By which it wants colours in [0, 1] normalised.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable, size: int, mean: Sequence[float], std: Sequence[float]):
        self.model, self.tokenizer, self.size = model.eval(), tokenizer, size
        self.mean, self.std = (torch.tensor(v)[:, None, None].to(self.device) for v in (mean, std))

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """The inverse temperature (a scalar)."""
        return self.model.logit_scale.detach().exp()

    def image_features(self, x: Tensor) -> Tensor:
        """Map float images (B, 3, S, S) in [0, 1] to features (B, d)."""
        with runtime.autocast(self.device):
            return self.model.encode_image((x - self.mean) / self.std)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Map prompts to features (n, d)."""
        with runtime.autocast(self.device):
            return self.model.encode_text(self.tokenizer(list(prompts)).to(self.device))

    def words(self, text: str) -> Tensor:
        """Return the embeddings (L, width) of the tokens of a text, such as where learned prompts begin."""
        tokens = self.tokenizer([text]).to(self.device)[0]
        return self._tower().token_embedding(tokens[1 : tokens.argmax()]).detach()  # the last token is the largest

    def text_with_context(self, prompts: Sequence[str], context: Tensor) -> Tensor:
        """Map prompts that begin with learned words to features, as of :class:`RenderedFacesText`.

        Raises
        ------
        ValueError
            If this CLIP's text tower is not the transformer of the original, or the result is too long.
        """
        tower, tokens = self._tower(), self.tokenizer(list(prompts)).to(self.device)
        context = context.expand(len(tokens), *context.shape[-2:])
        length, last = tokens.shape[1], tokens.argmax(1) + context.shape[1]
        if last.max() >= length:
            raise ValueError(
                f"A learned context of {context.shape[1]} tokens is too long for these prompts: "
                f"this model reads {length} tokens."
            )
        embedded = tower.token_embedding(tokens)
        x = torch.cat([embedded[:, :1], context.to(embedded), embedded[:, 1:]], 1)[:, :length]
        with runtime.autocast(self.device):
            x = tower.transformer(x + tower.positional_embedding, attn_mask=tower.attn_mask)
            return (tower.ln_final(x)[torch.arange(len(x)), last] @ tower.text_projection).float()

    def _tower(self) -> nn.Module:
        """Return the part of the model that has the original CLIP's text transformer."""
        parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection", "attn_mask")
        for tower in (self.model, getattr(self.model, "text", None)):
            if all(hasattr(tower, part) for part in parts):
                return tower
        raise ValueError(
            "Prompts can be learned only with a CLIP whose text tower is that of the original, "
            "such as 'ViT-B-32'; TDA works with any."
        )


def load(name: str, path: str, device: torch.device) -> OpenClip:
    """Load a CLIP by its name in open_clip, such as "ViT-B-32"; nothing is downloaded.

    Parameters
    ----------
    name : str
    path : str
        A safetensors file, or "" for one in the cache of open_clip.
    device : torch.device

    Raises
    ------
    ValueError
        If open_clip has no such model.
    FileNotFoundError
        If open_clip or the weights are not on this machine.
    """
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"'open_clip:{name}' needs the package open_clip_torch, which is not installed "
            "here; 'rendered-faces-text' needs nothing."
        ) from error
    config = open_clip.get_model_config(name)
    if config is None or {"hf_tokenizer_name", "hf_model_name"} & set(config["text_cfg"]):  # those are fetched
        raise ValueError(
            f"open_clip has no model {name!r} with a tokenizer of its own; "
            "valid are names such as 'ViT-B-32' and 'ViT-B-32-quickgelu'."
        )
    found = Path(path) if path else _cached(open_clip, name, config)
    if found is None or not found.is_file():
        where = f"at {path}" if path else "in the cache of open_clip"
        raise FileNotFoundError(
            f"There are no weights of {name!r} {where}; valid is 'open_clip:{name}:PATH' with a safetensors file."
        )
    model = open_clip.create_model(name, pretrained=None)
    model.load_state_dict(load_file(found))
    wanted = open_clip.get_model_preprocess_cfg(model)
    size = wanted["size"] if isinstance(wanted["size"], int) else wanted["size"][0]
    return OpenClip(model.to(device), open_clip.get_tokenizer(name), size, wanted["mean"], wanted["std"])


def _cached(open_clip, name: str, config: dict) -> Path | None:
    """Return the first safetensors file of a model in the cache, or None; looks and does not fetch."""
    from huggingface_hub import try_to_load_from_cache  # open_clip depends on it

    for tag in open_clip.list_pretrained_tags_by_model(name):
        known = open_clip.get_pretrained_cfg(name, tag)
        if known.get("quick_gelu", False) != config.get("quick_gelu", False):
            continue  # trained with another activation: it would load and be wrong
        repository, file = os.path.split(known.get("hf_hub", ""))
        found = repository and try_to_load_from_cache(repository, file or "open_clip_model.safetensors")
        if isinstance(found, str) and found.endswith(".safetensors"):  # may be a mark that there is no such file
            return Path(found)
    return None
