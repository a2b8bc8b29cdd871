"""How the small image–text model learns: the symmetric InfoNCE loss, and the loop."""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch.nn.attention import SDPBackend, sdpa_kernel

from diga_lib import data, latent, runtime
from diga_lib.data.faces import VERSION
from diga_lib.image_text import PROMPTS, RenderedFacesText
from diga_lib.image_text.captions import VOCABULARY, caption
from diga_lib.image_text.wide import WIDE_PHRASES, WORDS, wide_caption, wide_facts
from diga_lib.latent import checkpoints
from diga_lib.latent.autoencoder import to_float

MODELS = {
    "rendered-faces-text": {},
    "rendered-faces-text-s": {"stages": 2, "hidden": 256},
    "rendered-faces-text-l": {"stages": 3, "hidden": 512},
}
UNSEEN = 2000  # faces of the next seed, on which the result is measured


def info_nce(image, text, scale):
    """Compute the symmetric contrastive loss of n pairs.

    Captions that are true of several faces of a batch count against all but their own, as in CLIP. That is no
    harm: at the optimum the scaled cosine is log p(caption | image) - log p(caption) plus a constant, and a
    comparison of two prompts is then a comparison of their probabilities.

    Parameters
    ----------
    image, text : torch.Tensor
        Features (n, d), of any length; row i of both is a pair.
    scale : torch.Tensor
        The inverse temperature, a scalar.

    Returns
    -------
    torch.Tensor
        A scalar: mean cross-entropy of finding the caption of each image and the image of each caption.

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
    """Of the training.

    Parameters
    ----------
    epochs, batch_size : int
        Passes over the faces, with new captions each time; pairs that are contrasted with one another.
    lr, weight_decay : float
        Peak learning rate of AdamW (a short rise, then a cosine to 0), and its decoupled decay of matrices.
    seed : int
        Of initialisation, order and captions.
    """

    epochs: int = 14
    batch_size: int = 256
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 2 or not self.lr > 0 or not self.weight_decay >= 0:
            raise ValueError(
                f"{self}: epochs must be at least 1, batch_size at least 2, lr above 0 and weight_decay at least 0."
            )


def train(
    images,
    attributes,
    settings=Settings(),
    checkpoint=None,
    device="auto",
    after_epoch=None,
    caption=caption,
    words=VOCABULARY,
    **shape,
):
    """Train a model from nothing, or go on where a checkpoint stopped.

    Everything random in an epoch comes from (seed, epoch), so a run that was stopped ends with the same weights.

    Parameters
    ----------
    images : np.ndarray
        uint8 (n, 3, H, W), may be a memory map.
    attributes : DataFrame
        (n, A) of 0 and 1, with every attribute in `PROMPTS`, or whatever `caption` is made from.
    settings : Settings
        Of the training.
    checkpoint : path, optional
        Where the state is kept after each epoch, and removed after the last.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    after_epoch : callable, optional
        Called as ``after_epoch(model, record)`` with epoch, loss and seconds.
    caption : callable
        Maps a row of `attributes`, as a dict, and a numpy generator to a sentence.
    words : sequence of str
        Every word that it may use.
    **shape
        Of the model, see `RenderedFacesText`.

    Returns
    -------
    RenderedFacesText

    Raises
    ------
    ValueError
        If the checkpoint is of another run, or there are fewer images than a batch.
    """
    if len(images) < settings.batch_size:
        raise ValueError(f"There are {len(images)} images; at least one batch of {settings.batch_size} is needed.")
    on = runtime.device(device)
    runtime.seed_everything(settings.seed)
    model = RenderedFacesText(words, **shape).to(on)
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed, others = ([p for p in learned if (p.ndim > 1) == matrix] for matrix in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        settings.lr,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    run = json.dumps({"settings": asdict(settings), "model": model.config, "faces": VERSION, "n": len(images)})
    first = _restore(checkpoint, run, model, optimizer) if checkpoint and Path(checkpoint).exists() else 0
    model.borrow(latent.load_factor_network(device=device))
    seen = torch.cat([model.see(to_float(images[i : i + 256], on)) for i in range(0, len(images), 256)])
    rows, steps = attributes.to_dict("records"), len(images) // settings.batch_size
    for epoch in range(first, settings.epochs):
        begun, total = time.perf_counter(), 0.0
        rng = np.random.default_rng([settings.seed, epoch])
        model.train()
        order = rng.permutation(len(images))
        for step in runtime.progress(range(steps), f"epoch {epoch + 1} of {settings.epochs}"):
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            captions = [caption(rows[i], rng) for i in index]
            with sdpa_kernel(SDPBackend.MATH):  # for texts this short, the others take twice as long to differentiate
                loss = info_nce(
                    model.image(seen[torch.from_numpy(index).to(on)]),
                    model.text_features(captions).float(),
                    model.scale,
                )
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * _schedule((epoch * steps + step) / (settings.epochs * steps))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
        if checkpoint:
            _keep(checkpoint, run, model, optimizer, epoch + 1)
        if after_epoch:
            model.eval()
            after_epoch(
                model, {"epoch": epoch + 1, "loss": float(total) / steps, "seconds": time.perf_counter() - begun}
            )
    if checkpoint:
        Path(checkpoint).unlink(missing_ok=True)
    return model.eval().requires_grad_(False)


def _schedule(done):
    """Learning rate as a share of its peak, after a share of the steps."""
    return min(done / 0.05, 1.0) if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))


def _keep(path, run, model, optimizer, epoch):
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {
        f"optimizer.{number}.{key}": value
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    with runtime.atomic_write(path) as temporary:
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, temporary, {"run": run, "epoch": str(epoch)}
        )


def _restore(path, run, model, optimizer):
    with safe_open(path, "pt") as file:
        if file.metadata()["run"] != run:
            raise ValueError(
                f"{path} is the checkpoint of a run with other settings, captions or faces: "
                "remove it to begin anew, or go on with what it was begun with."
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        epoch = int(file.metadata()["epoch"])
    model.load_state_dict({key[len("model.") :]: value for key, value in tensors.items() if key[:6] == "model."})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {number: {} for number in range(len(parameters))}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            # The fused optimiser walks through memory, so its averages must lie there as the weights do.
            laid = value if name == "step" else torch.empty_like(parameters[int(number)]).copy_(value)
            state[int(number)][name] = laid.detach()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return epoch


def write(model, path):
    """Write a model's weights and shape to a safetensors file, which `image_text.read` reads."""
    with runtime.atomic_write(path) as temporary:
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()},
            temporary,
            {"config": json.dumps(model.config)},
        )


def evaluate(model, faces):
    """Measure zero-shot prediction of every attribute in `PROMPTS`.

    Parameters
    ----------
    model : ImageText
        Any model of `image_text`.
    faces : ImageDataset
        Faces that it was not trained on.

    Returns
    -------
    DataFrame
        One row an attribute: share (of faces that have it), accuracy, balanced_accuracy and auc. Prompts are
        compared as if both were as likely, so for rare attributes accuracy says little.
    """
    rows = {}
    for attribute in PROMPTS:
        truth, score = faces.attributes[attribute].to_numpy(), model.zero_shot(faces.images, attribute)
        rows[attribute] = {
            "share": truth.mean(),
            "accuracy": ((score > 0.5) == truth).mean(),
            "balanced_accuracy": balanced_accuracy_score(truth, score > 0.5),
            "auc": roc_auc_score(truth, score),
        }
    return pd.DataFrame(rows).T


def evaluate_facts(model, images, facts):
    """Measure zero-shot reading of the facts of `image_text_wide`.

    Parameters
    ----------
    model : ImageText
    images : np.ndarray
        uint8 (n, 3, H, W), of faces that it was not trained on.
    facts : DataFrame
        Theirs, from `image_text_wide.wide_facts`.

    Returns
    -------
    DataFrame
        One row a fact: values, faces of which it may be said, accuracy and balanced_accuracy of choosing the first
        phrase of the right value.
    """
    rows = {}
    for name, phrases in WIDE_PHRASES.items():
        known = facts[name].to_numpy() >= 0
        truth = facts[name].to_numpy()[known]
        prompts = [f"a person {words[0]}" if " " in words[0] else f"a {words[0]} person" for words in phrases]
        found = model.probabilities(images[known], prompts).argmax(1)
        rows[name] = {
            "values": len(phrases),
            "faces": known.sum(),
            "accuracy": (found == truth).mean(),
            "balanced_accuracy": balanced_accuracy_score(truth, found),
        }
    return pd.DataFrame(rows).T


def main(arguments=None):
    """Train a model that ships: ``python -m diga_lib.image_text --model rendered-faces-text``."""
    parser = argparse.ArgumentParser(prog="python -m diga_lib.image_text", description=__doc__)
    parser.add_argument("--model", default="rendered-faces-text", choices=MODELS, help="default: rendered-faces-text")
    parser.add_argument("--n", type=int, default=20_000, help="rendered faces to train on")
    parser.add_argument("--pool-seed", type=int, default=7, help="which rendered faces to train on")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--output", type=Path, help="where to write the weights (default: into the package)")
    parser.add_argument("--checkpoint", type=Path, help="where to keep the state between epochs")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    runtime.set_threads()
    settings = Settings(**{name: options[name] for name in asdict(Settings())})
    name, shape = options["model"], MODELS[options["model"]]
    faces = data.load("rendered-faces", n=options["n"], seed=options["pool_seed"])
    unseen = data.load("rendered-faces", n=UNSEEN, seed=options["pool_seed"] + 1)
    checkpoint = options["checkpoint"] or runtime.cache_folder("training") / f"{name}.safetensors"
    wide = bool(shape)  # the two sizes are told more
    described = wide_facts(options["n"], options["pool_seed"]) if wide else faces.attributes
    told = {"caption": wide_caption, "words": WORDS} if wide else {}
    model = train(
        faces.images,
        described,
        settings,
        checkpoint,
        options["device"],
        lambda _, record: print(json.dumps(record), flush=True),
        **told,
        **shape,
    )
    if wide:
        print(evaluate_facts(model, unseen.images, wide_facts(UNSEEN, options["pool_seed"] + 1)).round(3).to_string())
    else:
        print(evaluate(model, unseen).round(3).to_string())
    output = options["output"] or checkpoints.FOLDER / f"{name}.safetensors"
    write(model, output)
    if options["output"] is None:
        checkpoints.register(name, output)
    print(f"written to {output}")
