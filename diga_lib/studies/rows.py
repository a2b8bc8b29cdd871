"""The rows of the tables: which method, with what, trained on what. A row is found by its id."""

from dataclasses import asdict, dataclass, field
from functools import partial

from diga_lib.methods import EIIL, ERM, JTT, MAPLE, CVaRDRO, DiGA, DiGAOneStage, GroupDRO, LfF, PseudoGroups
from diga_lib.metrics import group_metrics
from diga_lib.studies import store
from diga_lib.studies.setting import Setting

VERSION = 1  # of what every row computes: the images, the split, the training loop
PAPER, OURS = "DiGA (paper)", "DiGA, one stage (ours)"


@dataclass(frozen=True)
class Row:
    """One row of a table: a method's class with arguments that are no defaults (`fixed`), and words for it.

    It moves images along the `direction` of a setting: "plain", "refined", "judged", "named" or "" (none). It trains on
    "biased" images, on "told" ones (with the spurious attribute) or on "balanced" ones. `searched` is the row whose
    search chose its hyperparameters, by default itself; `version` is raised by whoever changes what it alone computes.
    """

    kind: type[ERM]
    method: str
    variant: str = ""
    direction: str = ""
    short: str = ""
    train: str = "biased"
    searched: str = ""
    version: int = 0
    fixed: dict = field(default_factory=dict)

    def make(self, setting: Setting, **changes) -> ERM:
        """The untrained method, with arguments that differ from the row's."""
        edits = (setting.encoded, getattr(setting, self.direction)) if self.direction else ()
        epochs = setting.sizes.byol_epochs if self.kind is DiGA else setting.sizes.epochs
        return self.kind(*edits, **{"epochs": epochs} | self.fixed | changes)


_paper = partial(Row, DiGA, PAPER, direction="judged", version=2)
_ours = partial(Row, DiGAOneStage, OURS, searched="diga-one-stage")
EDITS = {"balance": False, "originals": 0.0}
PRETRAINED = "from the weights that DiGA (paper) starts from"
ROWS = {
    "erm": Row(ERM, "ERM"),
    "erm-pretrained": Row(ERM, "ERM", PRETRAINED, short="ERM, pretrained", fixed={"backbone": "pretrained"}),
    "cvar-dro": Row(CVaRDRO, "CVaR DRO"),
    "eiil": Row(EIIL, "EIIL"),
    "lff": Row(LfF, "LfF"),
    "jtt": Row(JTT, "JTT"),
    "maple": Row(MAPLE, "MAPLE", version=1),
    "diga-paper": _paper("two stages: BYOL, head on edits against the label"),
    "diga-paper-plain-head": _paper("head on the images", short=f"{PAPER}, plain head", fixed={"head_degrees": ()}),
    "diga-one-stage-shift": _ours("shift both ways", "plain", f"{OURS}, shift", fixed={"edit": "shift", **EDITS}),
    "diga-one-stage-place": _ours("placed", "refined", f"{OURS}, place", version=1, fixed={"edit": "place", **EDITS}),
    "pseudo-groups": Row(PseudoGroups, "pseudo groups", "resampled, no edits", "refined", version=1),
    "diga-one-stage": _ours("both clusters and pseudo groups", "refined", version=2),
    "diga-one-stage-words": _ours("words: sides named by the image–text model", "named", f"{OURS}, words"),
    "group-dro": Row(GroupDRO, "GroupDRO", "oracle: reads the spurious attribute", "", "GroupDRO (oracle)", "told"),
    "balanced": Row(ERM, "ERM", "oracle: balanced data", "", "balanced ERM (oracle)", "balanced", "erm"),
}
ORACLES = ("group-dro", "balanced")
STEPS = ("erm-pretrained", "diga-paper-plain-head", "diga-paper", "diga-one-stage-shift", "diga-one-stage-place")
FAIR = ("erm", *STEPS, "pseudo-groups", "diga-one-stage", *ORACLES)  # the rows of page 04


def label(row: str) -> str:
    """The name of a row as tables and figures write it."""
    return ROWS[row].short or ROWS[row].method


def version(row: str) -> int:
    """Of what a row computes now; a stored result with another one is older."""
    return VERSION + ROWS[row].version


def check(rows) -> None:
    """Raise a ValueError with one sentence if there is no such row."""
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"There is no row {row!r}; valid rows: {', '.join(ROWS)}.")


def run(setting: Setting, row: str, seed: int = 0, case: str = "", extra: dict | None = None, callbacks=(), **changes):
    """Train one of ``ROWS`` with one seed and measure it on the balanced test set: its Result, and the method.

    `case` and `extra` are for the result, `callbacks` for `ERM.fit`; `changes` are arguments of the method that differ
    from the row's.
    """
    check([row])
    split, one = setting.split, ROWS[row]
    if one.direction:
        getattr(setting, one.direction)
    train = setting.balanced.train if one.train == "balanced" else split.train
    train = train if one.train == "told" else train.without_spurious()
    with store.timed_run() as timing:
        model = one.make(setting, **changes).fit(train, seed=seed, callbacks=callbacks)
        predicted = model.predict(split.test.images)
    metrics = group_metrics(split.test.target, predicted, split.test.spurious)
    validated = float((model.predict(split.validation.images) == split.validation.target).mean())
    fields = {"method": one.method, "variant": ", ".join(filter(None, (one.variant, case))), "row": row, "case": case}
    fields |= {"target": split.target, "spurious": split.spurious, "bias": split.bias, "profile": setting.profile}
    extra = {"n_train": len(train), "validation": validated} | (extra or {})
    result = asdict(metrics) | timing | fields
    return store.Result(**result, seed=seed, version=version(row), extra=extra), model
