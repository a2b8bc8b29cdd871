"""How the small image–text models learn: the symmetric InfoNCE loss, and the loop."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from diga_lib import latent, runtime
from diga_lib.image_text import RenderedFacesText
from diga_lib.latent.autoencoder import to_float
from diga_lib.latent.checkpoints import Resumable
from diga_lib.studies.weights.captions import PHRASES, caption, vocabulary

LR, WEIGHT_DECAY = 3e-3, 0.05  # AdamW's peak rate, and the decay of matrices


def info_nce(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The symmetric InfoNCE loss (van den Oord et al., 2018) of n pairs of features (n, d) at an inverse temperature.

    A caption that is true of several faces counts against all but its own, as in CLIP, to no harm: at the optimum the
    scaled cosine is log p(caption | image) - log p(caption) plus a constant, so prompts still compare.
    """
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def train(images, described, file=None, phrases=PHRASES, epochs=14, batch_size=256, **shape) -> RenderedFacesText:
    """Train a model of some `shape` from nothing, or go on where it was stopped: it ends with the same weights.

    Captions with these `phrases` are made from the rows of `described`, a DataFrame (n, A) such as attributes of the
    images, uint8 (n, 3, H, W). The state is kept in `file` after each epoch; a ValueError if it is another run's.
    """
    if len(images) < batch_size:
        raise ValueError(f"There are {len(images)} images; at least one batch of {batch_size} is needed.")
    runtime.seed_everything(0)
    on = runtime.device()
    model = RenderedFacesText(vocabulary(phrases), **shape).to(on)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices, others = ([p for p in learned if (p.ndim > 1) == wide] for wide in (True, False))
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LR, weight_decay=WEIGHT_DECAY, fused=True)
    told = [hashlib.sha256(part).hexdigest() for part in (np.ascontiguousarray(images), described.to_csv().encode())]
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": LR, "weight_decay": WEIGHT_DECAY, "told": told}
    state = Resumable(file, model, optimizer, settings | {"model": model.config})
    model.borrow(latent.load_factor_network())
    seen = runtime.in_batches(lambda x: model.see(to_float(x, on)), images, size=256)
    rows, steps = described.to_dict("records"), len(images) // batch_size
    for epoch in range(len(state.history), epochs):
        rng, total = np.random.default_rng([0, epoch]), 0.0
        model.train()
        order = rng.permutation(len(images))[: steps * batch_size].reshape(steps, -1)
        for step, index in enumerate(runtime.progress(order, f"epoch {epoch + 1} of {epochs}")):
            with sdpa_kernel(SDPBackend.MATH):  # for texts this short, the others take twice as long to differentiate
                texts = model.text_features([caption(rows[i], rng, phrases) for i in index]).float()
                loss = info_nce(model.image(seen[torch.from_numpy(index).to(on)]), texts, model.scale)
            done = (epoch * steps + step) / (epochs * steps)
            rate = done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))
            for group in optimizer.param_groups:  # a warm-up, then a cosine
                group["lr"] = LR * rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.item()
        state.keep(epoch=epoch, loss=total / steps)
    return model.eval().requires_grad_(False)
