"""The rows of the tables: which method, with what, trained on what. A row is found by its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from diga_lib.methods import EIIL, ERM, JTT, MAPLE, CVaRDRO, DiGA, DiGAOneStage, GroupDRO, LfF, PseudoGroups, Settings
from diga_lib.metrics import group_metrics
from diga_lib.studies import store
from diga_lib.studies.setting import Setting

VERSION = 1  # of what every row computes: the images, the split, the training loop
KEPT = 2  # of what is kept on disk for several runs: codes, directions, references
PAPER, OURS = "DiGA (paper)", "DiGA, one stage (ours)"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    method, variant : str
        Words for it.
    make : callable
        ``make(setting, **changes)`` returns the untrained method.
    direction : {"", "plain", "refined", "judged", "named"}
        The part of the setting that it moves images along, computed before its time is taken.
    oracle : bool
        Whether it reads the spurious attribute.
    data : {"biased", "balanced"}
    short : str
        How tables and figures name it; its method by default.
    searched : str
        Whose search chose its hyperparameters; its own by default.
    version : int
        Raised by whoever changes what only this row computes.
    """

    method: str
    variant: str
    make: Callable[..., ERM]
    direction: str = ""
    oracle: bool = False
    data: str = "biased"
    short: str = ""
    searched: str = ""
    version: int = 0


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


def _edited(kind: type[ERM], direction: str, **fixed) -> Callable[..., ERM]:
    """Make a method that edits images along a direction of the setting."""

    def make(s: Setting, **changes) -> ERM:
        epochs = s.sizes.byol_epochs if kind is DiGA else s.sizes.epochs
        return kind(s.generator, getattr(s, direction), **{"epochs": epochs} | fixed | changes)

    return make


def _paper(variant: str, direction: str, short: str = "", **fixed) -> Row:
    return Row(PAPER, variant, _edited(DiGA, direction, **fixed), direction, short=short, version=1)


def _ours(variant: str, direction: str, short: str = "", version: int = 0, **fixed) -> Row:
    make = _edited(DiGAOneStage, direction, **fixed)
    return Row(OURS, variant, make, direction, short=short, searched="diga-one-stage", version=version)


def _oracle(method: str, variant: str, kind: type[ERM], short: str, **more) -> Row:
    return Row(method, f"oracle: {variant}", _plainly(kind), oracle=True, short=f"{short} (oracle)", **more)


BALANCED = {"data": "balanced", "searched": "erm"}
EDITS_ONLY = {"balance": False, "originals": 0.0}
HEAD, PLAIN = (f"two stages: BYOL, head on {images}" for images in ("conflicting edits", "the images themselves"))
ROWS = {
    "erm": Row("ERM", "", _plainly(ERM)),
    "cvar-dro": Row("CVaR DRO", "", _plainly(CVaRDRO)),
    "eiil": Row("EIIL", "", _in_two_stages(EIIL)),
    "lff": Row("LfF", "", _plainly(LfF)),
    "jtt": Row("JTT", "", _in_two_stages(JTT)),
    "maple": Row("MAPLE", "", _in_two_stages(MAPLE), version=1),
    "diga-paper": _paper(f"c by the image–text model, {HEAD}", "judged"),
    "diga-paper-latents": _paper(f"c by the latents, {HEAD}", "plain", f"{PAPER}, c by the latents"),
    "diga-paper-plain-head": _paper(f"c by the latents, {PLAIN}", "plain", f"{PAPER}, plain head", head_degrees=()),
    "diga-one-stage-shift": _ours("shift both ways", "plain", f"{OURS}, shift", edit="shift", **EDITS_ONLY),
    "diga-one-stage-place": _ours("replace the coordinate", "refined", f"{OURS}, place", edit="place", **EDITS_ONLY),
    "pseudo-groups": Row("pseudo groups", "resampled, no edits", _edited(PseudoGroups, "refined"), "refined"),
    "diga-one-stage": _ours("both clusters and pseudo groups", "refined", version=1),
    "diga-one-stage-words": _ours("words: sides named by the image–text model", "named", f"{OURS}, words"),
    "group-dro": _oracle("GroupDRO", "reads the spurious attribute", GroupDRO, "GroupDRO"),
    "balanced": _oracle("ERM", "balanced data of the same size", ERM, "balanced ERM", **BALANCED),
}


def label(row: str) -> str:
    """The name of a row as tables and figures write it."""
    return ROWS[row].short or ROWS[row].method


def described(row: str) -> str:
    """The name of a row with what it does."""
    return ": ".join(filter(None, (ROWS[row].method, ROWS[row].variant)))


def version(row: str) -> int:
    """Of what a row computes now; a stored result with another one is older. Each change raises it."""
    return VERSION + ROWS[row].version


def versions() -> list[int]:
    """What is kept on disk for several rows is made anew when one of these is raised."""
    return [KEPT, *map(version, ROWS)]


def check(rows) -> None:
    """Raise a ValueError with one sentence if there is no such row."""
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"There is no row {row!r}; valid rows: {', '.join(ROWS)}.")


def run(setting: Setting, row: str, seed: int = 0, case: str = "", extra=None, make=None, **changes):
    """Train one row with one seed and measure it on the balanced test set.

    Parameters
    ----------
    setting : Setting
    row : str
        Its id in ``ROWS``.
    seed : int
        Of the training.
    case, extra
        For the result.
    make : callable, optional
        In place of the row's own.
    **changes
        Arguments of the method that differ from the row's.

    Returns
    -------
    Result, trained method

    Raises
    ------
    ValueError
        If there is no such row.
    """
    check([row])
    split, kind = setting.split, ROWS[row]
    if kind.direction and make is None:
        getattr(setting, kind.direction)
    biased = split.train if kind.oracle else setting.train
    train = setting.balanced.train.without_spurious() if kind.data == "balanced" else biased
    # DiGA (paper) takes the head of the epoch with the best accuracy on images that are biased like training.
    watched = {"validation": split.validation.without_spurious()} if kind.method == PAPER else {}
    with store.timed_run() as timing:
        model = (make or kind.make)(setting, **changes).fit(train, seed=seed, **watched)
        predicted = model.predict(split.test.images)
    metrics = group_metrics(split.test.target, predicted, split.test.spurious)
    validated = float((model.predict(split.validation.images) == split.validation.target).mean())
    told = {"n_train": len(train), "validation": validated} | (extra or {})
    fields = {"method": kind.method, "variant": ", ".join(filter(None, (kind.variant, case))), "row": row, "case": case}
    fields |= {"target": split.target, "spurious": split.spurious, "bias": split.bias, "seed": seed}
    fields |= {"profile": setting.profile, "version": version(row), "extra": told}
    return store.Result.of(metrics, timing, **fields), model
