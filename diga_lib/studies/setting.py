"""What the rows of a table are run on: a biased split, and what is computed once for all of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from diga_lib import data, directions, image_text, latent, runtime
from diga_lib.data import BiasedSplit, ImageDataset, LabelledImages
from diga_lib.directions import Direction, words
from diga_lib.directions.clusters import fit_clusters
from diga_lib.latent import checkpoints
from diga_lib.pages.parameters import POOL_SEED, SIZES, Sizes

KEPT = 7  # version of what is kept on disk, raised by whoever changes codes or directions


@dataclass(frozen=True)
class Setting:
    """A biased split of a pool, with everything that is computed at most once for all rows, when it is first asked for.

    If `kept` describes the setting, codes and directions are kept on disk for other processes. `text` makes the
    image-text model, in place of the one of rendered faces.
    """

    pool: ImageDataset
    split: BiasedSplit
    generator: object
    sizes: Sizes
    profile: str
    seed: int = 0
    kept: dict | None = field(default=None, repr=False)
    text: Callable[[], image_text.ImageText] | None = field(default=None, repr=False)

    @property
    def train(self) -> LabelledImages:
        """The biased training set without the spurious attribute."""
        return self.split.train.without_spurious()

    @cached_property
    def balanced(self) -> BiasedSplit:
        """A balanced training set of the same size with the same test set, for an oracle."""
        s, sizes = self.split, self.sizes
        more = {"n_validation": len(s.validation), "n_test_per_group": sizes.n_test_per_group, "seed": self.seed}
        return data.biased_split(self.pool, s.target, s.spurious, 1.0, sizes.n_train, **more)

    @cached_property
    def codes(self) -> Tensor:
        """Of the training images (n_train, levels, width)."""
        return once(self.kept, "codes", lambda: self.generator.encode(self.split.train.images))

    @cached_property
    def encoded(self) -> SimpleNamespace:
        """The generator for methods; it does not encode the training images again."""
        images, network, codes = self.split.train.images, self.generator, self.codes  # a cycle would keep the pool

        def encode(some):
            return codes if some is images else network.encode(some)

        return SimpleNamespace(encode=encode, decode=network.decode)

    def combined(self, scorer: Callable | None = None, strengths: list[float] | None = None) -> Direction:
        """The paper's combined direction, with c chosen by a scorer of images or by the clusters."""
        y = self.split.train.target
        return directions.spurious_direction(self.codes, y, self.generator, scorer, strengths, refined=False)

    @cached_property
    def plain(self) -> Direction:
        """The paper's combined direction, with c chosen by the clusters inside the classes."""
        return once(self.kept, "plain", self.combined)

    @cached_property
    def refined(self) -> Direction:
        """The same, sharpened by these clusters."""
        return once(self.kept, "refined", lambda: directions.sharpen(self.codes, self.split.train.target, self.plain))

    @cached_property
    def reader(self) -> image_text.ImageText:
        return self.text() if self.text else image_text.load("rendered-faces-text")

    @property
    def asked(self) -> str:
        """The word by which the image-text model knows the target."""
        drawn = self.pool.name == "rendered-faces"  # whose make-up stands for somebody's judgement
        return "Heavy_Makeup" if drawn and self.split.target == "Attractive" else self.split.target

    @property
    def scorer(self) -> Callable | None:
        """The image-text model's P(target = 1) of images, for `combined`; None if it has no prompts for the target."""
        return (lambda x: self.reader.zero_shot(x, self.asked)) if self.asked in image_text.PROMPTS else None

    @cached_property
    def judged(self) -> Direction:
        """The paper's combined direction, with c chosen by the image-text model; where it can't be asked, `plain`."""
        if self.scorer is None:
            return self.plain
        return once(self.kept, "scored", lambda: self.combined(self.scorer))

    @cached_property
    def named(self) -> words.Named | Direction:
        """The words for the spurious attribute; where none is named or no target asked for, what the latents tell."""
        if self.scorer is None:
            return self.refined
        train = self.split.train
        found = words.name_spurious(self.codes, train.target, train.images, self.generator, self.reader, self.asked)
        return found if found.words else self.refined


def once(kept: dict | None, name: str, compute: Callable[[], Tensor | Direction]) -> Tensor | Direction:
    """What `compute` returns, a Direction without its scores: from disk, if it is there and whole.

    `kept` is everything that it depends on, in JSON's types; None keeps nothing.
    """
    if kept is None:
        return compute()
    description = json.dumps([KEPT, kept], sort_keys=True).encode()
    file = runtime.cache_folder("shared") / f"{name}-{hashlib.sha256(description).hexdigest()[:20]}.safetensors"
    with FileLock(f"{file}.lock"):  # of several processes, one computes and the others wait
        try:
            parts, _ = checkpoints.read(file)
        except (FileNotFoundError, ValueError):  # not there, or damaged
            made = compute()
            made = {"tensor": made} if isinstance(made, Tensor) else vars(made)
            parts = {
                name: value.clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
                for name, value in made.items()
                if name != "scores"
            }
            checkpoints.write(file, parts)
    if "tensor" in parts:
        return parts["tensor"]
    return Direction(**{name: value if value.ndim else value.item() for name, value in parts.items()})


def setting(target="Smiling", spurious="Male", bias=1 / 9, profile="quick", dataset=None, generator=None, seed=0):
    """Split a pool, drawn faces by default, as `data.biased_split` does, with the sizes of a profile: a Setting."""
    sizes = SIZES[profile]
    pool = data.load("rendered-faces", sizes.pool, seed=POOL_SEED) if dataset is None else dataset
    split = data.biased_split(pool, target, spurious, bias, sizes.n_train, None, sizes.n_test_per_group, seed)
    return Setting(pool, split, generator or latent.load(), sizes, profile, seed)


def direction_scores(setting: Setting, found: Direction | words.Named) -> dict:
    """Say what was found. For scoring only: it reads the spurious attribute and all others of the images.

    By each spurious attribute, "cosine" (and by the target) is the largest absolute cosine of a direction with its true
    mean shift, "pseudo_groups" the share of training faces on its side; "carries" are the five attributes whose
    correlation with a coordinate inside the classes is largest in size; "words" are those of a Named.
    """
    train, target, names = setting.split.train, setting.split.target, setting.split.spurious.split("&")
    y, several = train.target, found.directions
    along = np.stack([direction.coordinate(setting.codes).numpy() for direction in several], 1)
    if isinstance(found, words.Named):
        upper, scores = found.probability, {"words": list(found.words)}
    else:
        upper, scores = fit_clusters(along[:, 0], y).probability[:, None], {}
    cosine, agree = {target: 0.0}, {}
    for k, name in enumerate(names):
        s = train.spurious >> (len(names) - 1 - k) & 1
        shifts = directions.true_shifts(setting.codes, y, s)
        near = [max(abs(directions.cosine(one.direction, shift)) for one in several) for shift in shifts]
        cosine |= {name: near[0], target: max(cosine[target], near[1])}
        right = ((upper > 0.5) == (s == 1)[:, None]).mean(0)
        agree[name] = float(np.maximum(right, 1 - right).max())
    others = setting.pool.attributes.iloc[train.index].reset_index(drop=True).drop(columns=target).astype(float)
    inside, coordinates = (t - t.groupby(y).transform("mean") for t in (others, pd.DataFrame(along)))
    each = pd.DataFrame({k: inside.corrwith(column) for k, column in coordinates.items()}).dropna()
    strongest = each.apply(lambda row: row[row.abs().idxmax()], axis=1)
    carries = strongest.loc[strongest.abs().nlargest(5).index].round(4).to_dict()
    return scores | {"cosine": cosine, "pseudo_groups": agree, "carries": carries}
