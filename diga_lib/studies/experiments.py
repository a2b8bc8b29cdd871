"""The rows of the tables: what is run, on what, and where the numbers go.

``python -m diga_lib.studies.experiments`` runs the rows of page 04 with every seed of the full profile and appends each
finished run to ``book/results/fair_training.jsonl``; stopped at any time, it goes on with what is missing. The rows of
the large tables (``TABLE``) are run by :mod:`diga_lib.studies.grid`.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from diga_lib import data, directions, image_text, latent
from diga_lib.data import BiasedSplit, ImageDataset, LabelledImages
from diga_lib.directions import Direction, words
from diga_lib.directions.clusters import fit_clusters
from diga_lib.methods import EIIL, ERM, JTT, MAPLE, CVaRDRO, DiGA, DiGAOneStage, GroupDRO, LfF, PseudoGroups, Settings
from diga_lib.methods.diga_one_stage import directions_of
from diga_lib.metrics import group_metrics
from diga_lib.pages.profiles import POOL_SEED, SIZES, Sizes
from diga_lib.studies import results, shared
from diga_lib.studies.fingerprints import fingerprint

FOLDER = Path(__file__).resolve().parent.parent.parent / "book" / "results"
RESULTS = FOLDER / "fair_training.jsonl"
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
    judge : callable or None
        See :func:`diga_lib.directions.spurious_direction`.
    kept : dict or None
        If given, it describes the setting, and what is computed is kept on disk for other processes.
    balanced : BiasedSplit
        A balanced training set of the same size with the same test set, for an oracle.
    codes : Tensor (n_train, levels, width)
    plain, refined : Direction
        The paper's combined direction, and the same sharpened by the clusters inside each class.
    judged : Direction
        The paper's combined direction with c chosen by the image-text model.
    named : Named or Direction
        The words for the spurious attribute, see :mod:`diga_lib.directions.words`; where none is named, what the latents tell.
    """

    pool: ImageDataset
    split: BiasedSplit
    generator: object
    sizes: Sizes
    profile: str
    seed: int = 0
    judge: Callable | None = None
    kept: dict | None = field(default=None, repr=False)

    @property
    def train(self) -> LabelledImages:
        """The biased training set without the spurious attribute."""
        return self.split.train.without_spurious()

    @cached_property
    def balanced(self) -> BiasedSplit:
        s = self.split
        return data.biased_split(
            self.pool,
            s.target,
            s.spurious,
            1.0,
            self.sizes.n_train,
            n_test_per_group=self.sizes.n_test_per_group,
            seed=self.seed,
        )

    @cached_property
    def codes(self) -> Tensor:
        return shared.once(self.kept, "codes", lambda: self.generator.encode(self.split.train.images))

    @cached_property
    def plain(self) -> Direction:
        return shared.once(
            self.kept,
            "plain",
            lambda: directions.spurious_direction(
                self.codes, self.split.train.target, self.generator, self.judge, refined=False
            ),
        )

    @cached_property
    def refined(self) -> Direction:
        return shared.once(
            self.kept, "refined", lambda: directions.sharpen(self.codes, self.split.train.target, self.plain)
        )

    @cached_property
    def reader(self) -> image_text.ImageText:
        return image_text.load("rendered-faces-text")

    def reference(self, epochs: int) -> ERM:
        """The plainly trained network that EIIL, JTT and MAPLE look at first, with this setting's seed."""
        trained = shared.once(
            self.kept, f"reference-{epochs}", lambda: ERM(epochs=epochs).fit(self.train, self.seed).network.state_dict()
        )
        model = ERM(epochs=epochs)
        model.network = model.build().to(model.device)
        model.network.load_state_dict(trained)
        return model

    @property
    def asked(self) -> str:
        """The word by which the image-text model knows the target."""
        rendered = self.pool.name == "rendered-faces"
        return STANDS_FOR.get(self.split.target, self.split.target) if rendered else self.split.target

    @cached_property
    def judged(self) -> Direction:
        judge = lambda images: self.reader.zero_shot(images, self.asked)
        return shared.once(
            self.kept,
            "judged",
            lambda: directions.spurious_direction(
                self.codes, self.split.train.target, self.generator, judge, refined=False
            ),
        )

    @cached_property
    def named(self) -> words.Named | Direction:
        train = self.split.train
        found = words.name_spurious(self.codes, train.target, train.images, self.generator, self.reader, self.asked)
        return found if found.words else self.refined


def setting(
    target: str = "Smiling",
    spurious: str = "Male",
    bias: float = 1 / 9,
    profile: str = "quick",
    dataset: ImageDataset | None = None,
    generator=None,
    judge: Callable | None = None,
    seed: int = 0,
    n_validation: int | None = None,
    kept: dict | None = None,
) -> Setting:
    """Split the data; training images are encoded and the spurious direction is found when they are first needed.

    Parameters
    ----------
    target, spurious, bias
        As for :func:`diga_lib.data.biased_split`.
    profile : {"quick", "table", "full"}
    dataset : ImageDataset, optional
        Rendered faces by default.
    generator : object with ``encode`` and ``decode``, optional
        The shipped one by default.
    judge : callable, optional
        Chooses c as in the paper, see :func:`diga_lib.directions.spurious_direction`; without one the choice needs
        no image-text model.
    seed : int
        Of the split.
    n_validation : int, optional
        Validation images, biased like training; a tenth of the training images by default.
    kept : dict, optional
        Describes the setting if what is computed is to be kept on disk, see :mod:`diga_lib.studies.shared`.
    """
    sizes = SIZES[profile]
    pool = data.load("rendered-faces", sizes.pool, seed=POOL_SEED) if dataset is None else dataset
    split = data.biased_split(pool, target, spurious, bias, sizes.n_train, n_validation, sizes.n_test_per_group, seed)
    return Setting(pool, split, generator or latent.load(), sizes, profile, seed, judge, kept)


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    method, variant : str
        Its names.
    kind : type
        The class of the method.
    make : callable
        ``make(setting, **changes)`` returns the untrained method.
    oracle : bool
        Whether it reads the spurious attribute.
    data : {"biased", "balanced"}
    needs : tuple of str
        Parts of the setting that are computed for it before its time is taken.
    """

    method: str
    variant: str
    kind: type[ERM]
    make: Callable[..., ERM]
    oracle: bool = False
    data: str = "biased"
    needs: tuple[str, ...] = ()

    @property
    def modules(self) -> list[str]:
        """Names of the modules that hold the method and what it inherits from."""
        return [kind.__module__ for kind in inspect.getmro(self.kind) if kind is not object]


def _plainly(kind: type[ERM]) -> Callable[..., ERM]:
    """Make a method that needs no more than the training set and the epochs."""
    return lambda s, **changes: kind(**{"epochs": s.sizes.epochs} | changes)


SETTINGS = {field.name for field in fields(Settings)}


def _in_two_stages(kind: type[ERM]) -> Callable[..., ERM]:
    """Make a method whose reference is one for all where runs are kept on disk; otherwise it trains its own."""

    def make(s: Setting, **changes) -> ERM:
        shares = s.kept is not None and not set(changes) & (SETTINGS - {"epochs"})
        more = {"reference": s.reference(changes.get("first_epochs", 1))} if shares else {}
        return kind(**{"epochs": s.sizes.epochs} | changes | more)

    return make


def _diga(direction: str = "refined", edit: str = "auto", **fixed) -> Callable[..., ERM]:
    return lambda s, **changes: DiGAOneStage(
        s.generator, getattr(s, direction), **{"edit": edit, "epochs": s.sizes.epochs} | fixed | changes
    )


def _byol(direction: str = "plain", **fixed) -> Callable[..., ERM]:
    return lambda s, **changes: DiGA(
        s.generator, getattr(s, direction), **{"epochs": s.sizes.byol_epochs} | fixed | changes
    )


EDITS_ONLY = {"balance": False, "originals": 0.0}
ROWS = {
    "erm": Row("ERM", "", ERM, _plainly(ERM)),
    "diga-byol": Row("DiGA", "as published: BYOL, head on conflicting edits", DiGA, _byol(), needs=("plain",)),
    "diga-byol-plain-head": Row(
        "DiGA", "BYOL, head on the images themselves", DiGA, _byol(conflicting=False), needs=("plain",)
    ),
    "diga-shift": Row(
        "DiGA", "one stage: shift both ways", DiGAOneStage, _diga("plain", "shift", **EDITS_ONLY), needs=("plain",)
    ),
    "diga-place": Row(
        "DiGA",
        "one stage: replace the coordinate, refined direction",
        DiGAOneStage,
        _diga("refined", "place", **EDITS_ONLY),
        needs=("refined",),
    ),
    "pseudo-groups": Row(
        "DiGA",
        "no edits: resample the pseudo groups",
        PseudoGroups,
        lambda s, **changes: PseudoGroups(s.generator, s.refined, **{"epochs": s.sizes.epochs} | changes),
        needs=("refined",),
    ),
    "diga": Row("DiGA", "one stage: both clusters and pseudo groups", DiGAOneStage, _diga(), needs=("refined",)),
    "group-dro": Row("GroupDRO", "oracle: reads the spurious attribute", GroupDRO, _plainly(GroupDRO), True),
    "balanced": Row("ERM", "oracle: balanced data of the same size", ERM, _plainly(ERM), True, "balanced"),
}

# The rows of the large tables: by the name of the class, where it has one of its own.
TABLE = {
    "ERM": ROWS["erm"],
    "CVaRDRO": Row("CVaR DRO", "", CVaRDRO, _plainly(CVaRDRO)),
    "EIIL": Row("EIIL", "", EIIL, _in_two_stages(EIIL)),
    "LfF": Row("LfF", "", LfF, _plainly(LfF)),
    "JTT": Row("JTT", "", JTT, _in_two_stages(JTT)),
    "MAPLE": Row("MAPLE", "", MAPLE, _in_two_stages(MAPLE)),
    "DiGA": ROWS["diga"],
    "DiGAWords": Row(
        "DiGA",
        "one stage: directions and pseudo groups named by the image–text model",
        DiGAOneStage,
        _diga("named"),
        needs=("named",),
    ),
    "GroupDRO": ROWS["group-dro"],
    "Balanced": ROWS["balanced"],
    "DiGABYOL": Row(
        "DiGA",
        "as published: c by the image–text model, BYOL, head on conflicting edits",
        DiGA,
        _byol("judged"),
        needs=("judged",),
    ),
}


def key_of(row: Row, target: str, spurious: str, bias: float, seed: int, profile: str) -> dict[str, Any]:
    """The fields by which a run of a row is found again among stored results."""
    return {
        "method": row.method,
        "variant": row.variant,
        "target": target,
        "spurious": spurious,
        "bias": bias,
        "seed": seed,
        "profile": profile,
    }


def fingerprint_of(row: Row, key: dict[str, Any], config: Any = None, modules: tuple[str, ...] = ()) -> str:
    """Hash the code and the configuration behind a run, see :mod:`diga_lib.studies.fingerprints`.

    Parameters
    ----------
    row : Row
    key : dict
        From :func:`key_of`, or the same with other names.
    config : in JSON's types, optional
        What else was configured.
    modules : tuple of str
        Names of modules of this library that count beside the method's.
    """
    return fingerprint([*row.modules, *modules], [key, asdict(SIZES[key["profile"]]), config])


def kept(target: str, spurious: str, bias: float, path: Path = RESULTS) -> pd.DataFrame:
    """The newest stored runs of ``ROWS`` for a target, a spurious attribute and a bias.

    Returns
    -------
    DataFrame
        The columns of `results.read`, and: row (name in ``ROWS``), and stale (whether code or sizes have changed since).
        Without a line if there are none, or no such file.
    """
    frame = (
        results.latest(results.read(path)) if path.exists() else pd.DataFrame(columns=list(results.Result.model_fields))
    )
    near = np.isclose(frame["bias"].astype(float), bias, rtol=0.01)
    frame = frame[near & (frame["target"] == target) & (frame["spurious"] == spurious)].reset_index(drop=True)
    names = [extra["row"] for extra in frame["extra"]]
    now = [
        fingerprint_of(ROWS[name], line[list(results.KEY)].to_dict())
        for name, (_, line) in zip(names, frame.iterrows())
    ]
    return frame.assign(row=names, stale=frame["fingerprint"] != pd.Series(now, dtype=str))


def run(
    setting: Setting, row: str | Row, seed: int = 0, extra: dict | None = None, **changes
) -> tuple[results.Result, ERM]:
    """Train one row with one seed and measure it on the balanced test set.

    Parameters
    ----------
    setting : Setting
    row : str or Row
        A name in ``ROWS`` or ``TABLE``, or a row.
    seed : int
        Of the training.
    extra : dict, optional
        More for the result's `extra`.
    **changes
        Arguments of the method that differ from the row's.

    Raises
    ------
    ValueError
        If there is no such row.
    """
    name = row if isinstance(row, str) else row.method
    if isinstance(row, str):
        if name not in ROWS | TABLE:
            raise ValueError(f"There is no row {name!r}; valid rows: {', '.join(ROWS | TABLE)}.")
        row = (ROWS | TABLE)[name]
    split = setting.split
    for part in row.needs:
        getattr(setting, part)
    train = (
        setting.balanced.train.without_spurious()
        if row.data == "balanced"
        else (split.train if row.oracle else setting.train)
    )
    with results.timed_run() as timing:
        model = row.make(setting, **changes).fit(train, seed=seed)
        predicted = model.predict(split.test.images)
    metrics = group_metrics(split.test.target, predicted, split.test.spurious)
    fields = dict(
        method=row.method, variant=row.variant, target=split.target, spurious=split.spurious, bias=split.bias, seed=seed
    )
    validated = float((model.predict(split.validation.images) == split.validation.target).mean())
    extra = {"row": name, "n_train": len(train), "validation": validated} | (extra or {})
    return results.Result.of(metrics, timing, profile=setting.profile, extra=extra, **fields), model


def direction_scores(setting: Setting, found: Direction | words.Named) -> dict:
    """Say what was found. For scoring only: it reads the spurious attribute and the renderer's others.

    Parameters
    ----------
    setting : Setting
    found : Direction or Named

    Returns
    -------
    dict
        "cosine": for each spurious attribute, and for the target, the largest absolute cosine of a direction with its
        true mean shift; "pseudo_groups": for each spurious attribute, the share of training faces that are on its side;
        "carries": the five attributes whose correlation with a coordinate inside the target's classes is largest in
        size; and "gain", "gap" and "share" of the clusters of a Direction, or the "words" of a Named.
    """
    train, names = setting.split.train, setting.split.spurious.split("&")
    y, several = train.target, directions_of(found)
    along = np.stack([direction.coordinate(setting.codes).numpy() for direction in several], 1)
    if isinstance(found, words.Named):
        upper, scores = found.probability, {"words": list(found.words)}
    else:
        clusters = fit_clusters(along[:, 0], y)
        upper = clusters.probability[:, None]
        scores = {
            "gain": clusters.gain,
            "gap": clusters.gap / clusters.spread,
            "share": [float(share) for share in clusters.share],
        }
    scores |= {"cosine": {setting.split.target: 0.0}, "pseudo_groups": {}}
    largest = lambda true: max(abs(directions.cosine(direction.direction, true)) for direction in several)
    for k, name in enumerate(names):
        s = train.spurious >> (len(names) - 1 - k) & 1
        shift, of_target = directions.true_shifts(setting.codes, y, s)
        scores["cosine"][name] = largest(shift)
        scores["cosine"][setting.split.target] = max(scores["cosine"][setting.split.target], largest(of_target))
        agree = ((upper > 0.5) == (s == 1)[:, None]).mean(0)
        scores["pseudo_groups"][name] = float(np.maximum(agree, 1 - agree).max())
    others = (
        setting.pool.attributes.iloc[train.index]
        .reset_index(drop=True)
        .drop(columns=setting.split.target)
        .astype(float)
    )
    inside = lambda table: table - table.groupby(y).transform("mean")
    each = pd.DataFrame(
        {k: inside(others).corrwith(inside(pd.Series(column))) for k, column in enumerate(along.T)}
    ).dropna()
    strongest = {name: float(row.iloc[row.abs().argmax()]) for name, row in each.iterrows()}
    first = sorted(strongest, key=lambda name: -abs(strongest[name]))[:5]
    return scores | {"carries": {name: round(strongest[name], 4) for name in first}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--target", default="Smiling")
    parser.add_argument("--spurious", default="Male")
    parser.add_argument("--bias", type=float, default=1 / 9)
    parser.add_argument("--profile", default="full", choices=tuple(SIZES))
    parser.add_argument(
        "--rows", nargs="+", default=list(ROWS), choices=tuple(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="default: as many as the profile has")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--renew", action="store_true", help="run again what older code has made")
    given = parser.parse_args()
    made = setting(given.target, given.spurious, given.bias, given.profile)
    for seed in given.seeds or range(made.sizes.seeds):
        for name in given.rows:
            key = key_of(ROWS[name], given.target, given.spurious, given.bias, seed, given.profile)
            made_by = {"fingerprint": fingerprint_of(ROWS[name], key)}
            if results.done(given.output, key | (made_by if given.renew else {})):
                continue
            result = run(made, name, seed)[0].model_copy(update=made_by)
            results.append(given.output, result)
            print(
                f"{name:22s} seed {seed}: accuracy {result.accuracy:.3f}, worst group {result.worst_group:.3f}, "
                f"EO {result.equalized_odds:.3f}, {result.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
