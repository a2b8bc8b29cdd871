"""How the small image–text models learn: the symmetric InfoNCE loss, and the loop."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from diga_lib import latent, runtime
from diga_lib.data.dataset import ImageDataset
from diga_lib.image_text import PROMPTS, ImageText, RenderedFacesText
from diga_lib.latent.autoencoder import to_float
from diga_lib.latent.checkpoints import Resumable
from diga_lib.latent.perceptual import FactorNetwork
from diga_lib.studies.weights.captions import VOCABULARY, WIDE_PHRASES, caption


def info_nce(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Compute the symmetric contrastive loss of n pairs: features (n, d), row i of both, and the inverse temperature.

    Captions that are true of several faces of a batch count against all but their own, as in CLIP. That is no
    harm: at the optimum the scaled cosine is log p(caption | image) - log p(caption) plus a constant, and a
    comparison of two prompts is then a comparison of their probabilities.

    References
    ----------
    van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding, 2018; Radford et
    al., 2021, figure 3.
    """
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


@dataclass(frozen=True)
class Settings:
    """Of the training: passes over the faces, pairs that are contrasted, AdamW's peak rate and decay of matrices."""

    epochs: int = 14
    batch_size: int = 256
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


def train(
    images: np.ndarray,
    described: pd.DataFrame,
    file: str | os.PathLike | None = None,
    settings: Settings = Settings(),
    words: Sequence[str] = VOCABULARY,
    describe: Callable[[dict, np.random.Generator], str] = caption,
    eyes: FactorNetwork | None = None,
    **shape,
) -> RenderedFacesText:
    """Train a model from nothing, or go on where it was stopped.

    Everything random in an epoch comes from (seed, epoch), so a run that was stopped ends with the same weights.

    Parameters
    ----------
    images : uint8 array (n, 3, H, W)
        May be a memory map.
    described : DataFrame (n, A)
        What captions are made from, such as attributes of 0 and 1.
    file : path, optional
        Where the state is kept after each epoch.
    settings : Settings
    words : sequence of str
        Every word that a caption may use.
    describe : callable
        Maps a row of `described`, as a dict, and a random number generator to a caption.
    eyes : FactorNetwork, optional
        To borrow; the shipped one if not given.
    **shape
        Of the model, see :class:`diga_lib.image_text.RenderedFacesText`.

    Raises
    ------
    ValueError
        If the file is of another run, or there are fewer images than a batch.
    """
    if len(images) < settings.batch_size:
        raise ValueError(f"There are {len(images)} images; at least one batch of {settings.batch_size} is needed.")
    on = runtime.device()
    runtime.seed_everything(settings.seed)
    model = RenderedFacesText(words, **shape).to(on)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in learned if p.ndim > 1]}]
    groups += [{"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)
    told = hashlib.sha256(np.ascontiguousarray(images))
    told.update(described.to_csv(index=False).encode())
    state = Resumable(file, model, optimizer, {**asdict(settings), "model": model.config, "told": told.hexdigest()})
    model.borrow(eyes or latent.load_factor_network())
    seen = torch.cat([model.see(to_float(images[i : i + 256], on)) for i in range(0, len(images), 256)])
    rows, steps = described.to_dict("records"), len(images) // settings.batch_size
    for epoch in range(len(state.history), settings.epochs):
        rng, total = np.random.default_rng([settings.seed, epoch]), 0.0
        model.train()
        order = rng.permutation(len(images))[: steps * settings.batch_size].reshape(steps, -1)
        for step, index in enumerate(runtime.progress(order, f"epoch {epoch + 1} of {settings.epochs}")):
            captions = [describe(rows[i], rng) for i in index]
            pictures = seen[torch.from_numpy(index).to(on)]
            with sdpa_kernel(SDPBackend.MATH):  # for texts this short, the others take twice as long to differentiate
                loss = info_nce(model.image(pictures), model.text_features(captions).float(), model.scale)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * _schedule((epoch * steps + step) / (settings.epochs * steps))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.item()
        state.keep(epoch=epoch, loss=total / steps)
    return model.eval().requires_grad_(False)


def _schedule(done: float) -> float:
    """Learning rate as a share of its peak, after a share of the steps."""
    return done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))


def evaluate(model: ImageText, faces: ImageDataset) -> pd.DataFrame:
    """Measure zero-shot prediction, on faces that the model was not trained on: share, accuracy, balanced and AUC.

    Prompts are compared as if both were as likely, so for rare attributes plain accuracy says little.
    """
    rows = {}
    for attribute in PROMPTS:
        truth, score = faces.attributes[attribute].to_numpy(), model.zero_shot(faces.images, attribute)
        rows[attribute] = {"share": truth.mean(), "accuracy": ((score > 0.5) == truth).mean()}
        rows[attribute] |= {"balanced_accuracy": balanced_accuracy_score(truth, score > 0.5)}
        rows[attribute] |= {"auc": roc_auc_score(truth, score)}
    return pd.DataFrame(rows).T


def evaluate_facts(model: ImageText, images: np.ndarray, facts: pd.DataFrame) -> pd.DataFrame:
    """Measure the choice of the first phrase of the right value, fact by fact, where something may be said."""
    rows = {}
    for name, phrases in WIDE_PHRASES.items():
        known = facts[name].to_numpy() >= 0
        truth = facts[name].to_numpy()[known]
        prompts = [f"a person {words[0]}" if " " in words[0] else f"a {words[0]} person" for words in phrases]
        found = model.probabilities(images[known], prompts).argmax(1)
        rows[name] = {"values": len(phrases), "faces": known.sum(), "accuracy": (found == truth).mean()}
        rows[name] |= {"balanced_accuracy": balanced_accuracy_score(truth, found)}
    return pd.DataFrame(rows).T
