"""What the rows of a table are run on: a biased split, and what is computed once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from diga_lib import data, directions, image_text, latent
from diga_lib.data import BiasedSplit, ImageDataset, LabelledImages
from diga_lib.directions import Direction, words
from diga_lib.directions.clusters import fit_clusters
from diga_lib.methods import ERM
from diga_lib.pages.profiles import POOL_SEED, SIZES, Sizes
from diga_lib.studies import cache

STANDS_FOR = {"Attractive": "Heavy_Makeup"}  # what rendered faces are given in place of somebody's judgement


@dataclass(frozen=True)
class Setting:
    """A biased split, with everything that is computed at most once for all rows: when it is first asked for.

    Attributes
    ----------
    pool : ImageDataset
        What the split was drawn from.
    split : BiasedSplit
        The biased training set, with a balanced test set.
    generator : object with ``encode`` and ``decode``
    sizes : Sizes
    profile : str
    seed : int
        Of the split.
    kept : dict or None
        If given, it describes the setting, and what is computed is kept on disk for other processes.
    text : callable or None
        Makes the image-text model, `reader`; the one of rendered faces if None.
    balanced : BiasedSplit
        A balanced training set of the same size with the same test set, for an oracle.
    codes : Tensor (n_train, levels, width)
    plain, refined : Direction
        The paper's combined direction, and the same sharpened by the clusters inside each class.
    judged : Direction
        The paper's combined direction with c chosen by the image-text model.
    named : Named or Direction
        The words for the spurious attribute, see :mod:`diga_lib.directions.words`; where none is named, what the
        latents tell.
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
        s, sizes = self.split, self.sizes
        more = {"n_validation": len(s.validation), "n_test_per_group": sizes.n_test_per_group, "seed": self.seed}
        return data.biased_split(self.pool, s.target, s.spurious, 1.0, sizes.n_train, **more)

    @cached_property
    def codes(self) -> Tensor:
        return cache.once(self.kept, "codes", lambda: self.generator.encode(self.split.train.images))

    def combined(self, scorer: Callable | None = None) -> Direction:
        """The paper's combined direction, with c chosen by a scorer of images or by the clusters."""
        y = self.split.train.target
        return directions.spurious_direction(self.codes, y, self.generator, scorer, refined=False)

    @cached_property
    def plain(self) -> Direction:
        return cache.once(self.kept, "plain", self.combined)

    @cached_property
    def refined(self) -> Direction:
        y = self.split.train.target
        return cache.once(self.kept, "refined", lambda: directions.sharpen(self.codes, y, self.plain))

    @cached_property
    def reader(self) -> image_text.ImageText:
        return self.text() if self.text else image_text.load("rendered-faces-text")

    @property
    def asked(self) -> str:
        """The word by which the image-text model knows the target."""
        rendered = self.pool.name == "rendered-faces"
        return STANDS_FOR.get(self.split.target, self.split.target) if rendered else self.split.target

    @cached_property
    def judged(self) -> Direction:
        def scorer(images):
            return self.reader.zero_shot(images, self.asked)

        return cache.once(self.kept, "scored", lambda: self.combined(scorer))

    @cached_property
    def named(self) -> words.Named | Direction:
        train = self.split.train
        found = words.name_spurious(self.codes, train.target, train.images, self.generator, self.reader, self.asked)
        return found if found.words else self.refined

    def reference(self, epochs: int) -> ERM:
        """The plainly trained network that EIIL, JTT and MAPLE look at first, with this setting's seed."""
        model = ERM(epochs=epochs)
        trained = cache.once(
            self.kept, f"reference-{epochs}", lambda: ERM(epochs=epochs).fit(self.train, self.seed).network.state_dict()
        )
        model.network = model.build().to(model.device)
        model.network.load_state_dict(trained)
        return model


def setting(
    target: str = "Smiling",
    spurious: str = "Male",
    bias: float = 1 / 9,
    profile: str = "quick",
    dataset: ImageDataset | None = None,
    generator=None,
    seed: int = 0,
    n_validation: int | None = None,
    kept: dict | None = None,
) -> Setting:
    """Split the data; training images are encoded and the spurious direction is found when they are first needed.

    Parameters
    ----------
    target, spurious, bias, seed, n_validation
        As for :func:`diga_lib.data.biased_split`.
    profile : {"quick", "table", "full"}
    dataset : ImageDataset, optional
        Rendered faces by default.
    generator : object with ``encode`` and ``decode``, optional
        The shipped one by default.
    kept : dict, optional
        As in :class:`Setting`.
    """
    sizes = SIZES[profile]
    pool = data.load("rendered-faces", sizes.pool, seed=POOL_SEED) if dataset is None else dataset
    split = data.biased_split(pool, target, spurious, bias, sizes.n_train, n_validation, sizes.n_test_per_group, seed)
    return Setting(pool, split, generator or latent.load(), sizes, profile, seed, kept)


def direction_scores(setting: Setting, found: Direction | words.Named) -> dict:
    """Say what was found. For scoring only: it reads the spurious attribute and all others of the images.

    Returns
    -------
    dict
        "cosine": for each spurious attribute, and for the target, the largest absolute cosine of a direction with its
        true mean shift; "pseudo_groups": for each spurious attribute, the share of training faces that are on its side;
        "carries": the five attributes whose correlation with a coordinate inside the target's classes is largest in
        size; and "gain", "gap" and "share" of the clusters of a Direction, or the "words" of a Named.
    """
    train, names = setting.split.train, setting.split.spurious.split("&")
    y, several = train.target, found.directions
    along = np.stack([direction.coordinate(setting.codes).numpy() for direction in several], 1)
    if isinstance(found, words.Named):
        upper, scores = found.probability, {"words": list(found.words)}
    else:
        clusters = fit_clusters(along[:, 0], y)
        upper, share = clusters.probability[:, None], [float(share) for share in clusters.share]
        scores = {"gain": clusters.gain, "gap": clusters.gap / clusters.spread, "share": share}
    scores |= {"cosine": {setting.split.target: 0.0}, "pseudo_groups": {}}

    def largest(true):
        return max(abs(directions.cosine(direction.direction, true)) for direction in several)

    for k, name in enumerate(names):
        s = train.spurious >> (len(names) - 1 - k) & 1
        shift, of_target = directions.true_shifts(setting.codes, y, s)
        scores["cosine"][name] = largest(shift)
        scores["cosine"][setting.split.target] = max(scores["cosine"][setting.split.target], largest(of_target))
        agree = ((upper > 0.5) == (s == 1)[:, None]).mean(0)
        scores["pseudo_groups"][name] = float(np.maximum(agree, 1 - agree).max())
    others = setting.pool.attributes.iloc[train.index].reset_index(drop=True).drop(columns=setting.split.target)

    def inside(table):
        return table - table.groupby(y).transform("mean")

    rest = inside(others.astype(float))
    each = pd.DataFrame({k: rest.corrwith(inside(pd.Series(column))) for k, column in enumerate(along.T)}).dropna()
    strongest = {name: float(row.iloc[row.abs().argmax()]) for name, row in each.iterrows()}
    first = sorted(strongest, key=lambda name: -abs(strongest[name]))[:5]
    return scores | {"carries": {name: round(strongest[name], 4) for name in first}}
