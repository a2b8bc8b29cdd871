"""The rows of the fair-training table: what is run, on what, and where the numbers go.

``python -m diga_lib.experiments`` runs every row with every seed of the full profile and appends each finished run
to ``book/results/fair_training.jsonl``; stopped at any time, it goes on with what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diga_lib import data, directions, latent, results, runtime
from diga_lib.data import BiasedSplit, ImageDataset, LabelledImages
from diga_lib.methods import ERM, GroupDRO
from diga_lib.methods.byol import DiGABYOL
from diga_lib.methods.diga import DiGA, PseudoGroups
from diga_lib.metrics import group_metrics
from diga_lib.profiles import POOL_SEED, SIZES, Sizes

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results" / "fair_training.jsonl"


@dataclass(frozen=True)
class Setting:
    """A biased split with everything that is computed once for all rows.

    Attributes
    ----------
    split, balanced : BiasedSplit
        The biased training set, and a balanced one of the same size with the same test set (for an oracle).
    generator : object with ``encode`` and ``decode``
    codes : Tensor (n_train, levels, width)
    plain, refined : Direction
        The paper's combined direction, and the same sharpened by the clusters inside each class.
    sizes : Sizes
    profile : str
    """

    split: BiasedSplit
    balanced: BiasedSplit
    generator: object
    codes: Tensor
    plain: directions.Direction
    refined: directions.Direction
    sizes: Sizes
    profile: str

    @property
    def train(self) -> LabelledImages:
        """The biased training set without the spurious attribute."""
        return self.split.train.without_spurious()


def setting(
    target: str = "Smiling",
    spurious: str = "Male",
    bias: float = 1 / 9,
    profile: str = "quick",
    dataset: ImageDataset | None = None,
    generator=None,
    judge: Callable | None = None,
    seed: int = 0,
) -> Setting:
    """Split the data, encode the training images and find the spurious direction.

    Parameters
    ----------
    target, spurious, bias
        As for :func:`diga_lib.data.biased_split`.
    profile : {"quick", "full"}
    dataset : ImageDataset, optional
        Rendered faces by default.
    generator : object with ``encode`` and ``decode``, optional
        The shipped one by default.
    judge : callable, optional
        Chooses c as in the paper, see :func:`diga_lib.directions.spurious_direction`; without one the choice needs
        no image-text model.
    seed : int
        Of the split.
    """
    sizes = SIZES[profile]
    pool = data.load("rendered-faces", sizes.pool, seed=POOL_SEED) if dataset is None else dataset
    split, balanced = (
        data.biased_split(pool, target, spurious, b, sizes.n_train, n_test_per_group=sizes.n_test_per_group, seed=seed)
        for b in (bias, 1.0)
    )
    generator = generator or latent.load()
    codes = generator.encode(split.train.images)
    plain = directions.spurious_direction(codes, split.train.target, generator, judge, refined=False)
    refined = directions.sharpen(codes, split.train.target, plain)
    return Setting(split, balanced, generator, codes, plain, refined, sizes, profile)


@dataclass(frozen=True)
class Row:
    """One row of the table: its names, how it is made, and whether it reads the spurious attribute."""

    method: str
    variant: str
    make: Callable[[Setting], ERM]
    oracle: bool = False
    data: str = "biased"  # or "balanced"


ROWS = {
    "erm": Row("ERM", "", lambda s: ERM(epochs=s.sizes.epochs)),
    "diga-byol": Row("DiGA", "as published: BYOL, head on conflicting edits",
                     lambda s: DiGABYOL(s.generator, s.plain, epochs=s.sizes.byol_epochs)),
    "diga-byol-plain-head": Row("DiGA", "BYOL, head on the images themselves",
                                lambda s: DiGABYOL(s.generator, s.plain, conflicting=False, epochs=s.sizes.byol_epochs)),
    "diga-shift": Row("DiGA", "one stage: shift both ways",
                      lambda s: DiGA(s.generator, s.plain, "shift", balance=False, originals=0.0, epochs=s.sizes.epochs)),
    "diga-place": Row("DiGA", "one stage: replace the coordinate, refined direction",
                      lambda s: DiGA(s.generator, s.refined, "place", balance=False, originals=0.0, epochs=s.sizes.epochs)),
    "pseudo-groups": Row("DiGA", "no edits: resample the pseudo groups",
                         lambda s: PseudoGroups(s.generator, s.refined, epochs=s.sizes.epochs)),
    "diga": Row("DiGA", "one stage: both clusters and pseudo groups", lambda s: DiGA(s.generator, s.refined, epochs=s.sizes.epochs)),
    "group-dro": Row("GroupDRO", "oracle: reads the spurious attribute", lambda s: GroupDRO(epochs=s.sizes.epochs), True),
    "balanced": Row("ERM", "oracle: balanced data of the same size", lambda s: ERM(epochs=s.sizes.epochs), True, "balanced"),
}  # fmt: skip


def run(setting: Setting, name: str, seed: int = 0) -> tuple[results.Result, ERM]:
    """Train one row with one seed and measure it on the balanced test set.

    Raises
    ------
    ValueError
        If there is no such row.
    """
    if name not in ROWS:
        raise ValueError(f"There is no row {name!r}; valid rows: {', '.join(ROWS)}.")
    row, split = ROWS[name], setting.split
    train = setting.balanced.train.without_spurious() if row.data == "balanced" else (split.train if row.oracle else setting.train)
    with results.timed_run() as timing:
        model = row.make(setting).fit(train, seed=seed)
    metrics = group_metrics(split.test.target, model.predict(split.test.images), split.test.spurious)
    fields = dict(method=row.method, variant=row.variant, target=split.target, spurious=split.spurious, bias=split.bias, seed=seed)
    extra = {"row": name, "n_train": len(train)}
    return results.Result.of(metrics, timing, profile=setting.profile, extra=extra, **fields), model




def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--target", default="Smiling")
    parser.add_argument("--spurious", default="Male")
    parser.add_argument("--bias", type=float, default=1 / 9)
    parser.add_argument("--profile", default="full", choices=tuple(SIZES))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=tuple(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: as many as the profile has")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    made = setting(given.target, given.spurious, given.bias, given.profile)
    for seed in given.seeds or range(made.sizes.seeds):
        for name in given.rows:
            row = ROWS[name]
            key = {"method": row.method, "variant": row.variant, "target": given.target, "spurious": given.spurious,
                   "bias": given.bias, "seed": seed, "profile": given.profile}  # fmt: skip
            if results.done(given.output, key):
                continue
            result, _ = run(made, name, seed)
            results.append(given.output, result)
            print(f"{name:22s} seed {seed}: accuracy {result.accuracy:.3f}, worst group {result.worst_group:.3f}, "
                  f"EO {result.equalized_odds:.3f}, {result.seconds:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
