"""Every method of page 10 on every stream: two models, ten class spaces, six orders with another subject in each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from diga_lib import image_text, latent
from diga_lib.metrics import mean_and_interval
from diga_lib.studies import runner, store
from diga_lib.test_time.class_spaces import SOURCE, SPACES, class_weights, stream
from diga_lib.test_time.prompts import TPT, CoCoOp, CoOp, DiffTPT
from diga_lib.test_time.tda import TDA, Settings

MODELS = ("rendered-faces-text-s", "rendered-faces-text-l")
LEARNERS = {"CoOp": CoOp, "CoCoOp": CoCoOp}
METHODS = ("zero-shot", *LEARNERS, "TPT", "DiffTPT", "TDA")
N = 480  # images of a stream
EVERY = {"TPT": 16, "DiffTPT": 48}  # slow, and they remember nothing of an image: asked for one image in so many
SUBJECTS = range(6)  # of the validation faces, on which settings and the strengths of shifts were chosen
SHOTS = 16  # labelled images of each source class, for CoOp and CoCoOp
FIRST = 3  # of the test's subjects: three before it had been looked at

# Six trials for each method, see `tuning`; TDA's begin with the published settings.
TUNED = ("positive_alpha", "positive_beta", "negative_alpha")
TRIALS = ((2, 5, 0.117), (0.25, 5, 0.117), (0.25, 5, 0.5), (1, 5, 0.5), (2, 10, 0.5), (0.25, 20, 0.117))
RATES = {"CoOp": (0.002, 0.01, 0.05, 0.2, 0.5, 1.0), "CoCoOp": (0.0005, 0.002, 0.01, 0.02, 0.05, 0.2)}
RATES |= dict.fromkeys(("TPT", "DiffTPT"), (0.002, 0.005, 0.02, 0.05, 0.1, 0.2))


def _chosen(trials, for_all, **rates):
    """What `tuning` returns, from numbers in ``TRIALS`` in the order of the spaces."""
    spaces = {space: TRIALS[trial] for space, trial in zip(SPACES, trials, strict=True)}
    return {"TDA": spaces, "TDA, one for all": TRIALS[for_all], **rates}


CHOSEN = {
    MODELS[0]: _chosen((3, 5, 2, 0, 1, 5, 0, 1, 2, 5), 5, CoOp=0.05, CoCoOp=0.002, TPT=0.002, DiffTPT=0.005),
    MODELS[1]: _chosen((0, 4, 3, 5, 5, 1, 0, 1, 2, 1), 3, CoOp=0.2, CoCoOp=0.02, TPT=0.1, DiffTPT=0.002),
}
ABLATIONS = (
    {"positive only": {"negative_capacity": 0}, "negative only": {"positive_capacity": 0}}
    | {f"positive capacity {k}": {"positive_capacity": k} for k in (1, 2, 5, 10)}
    | {f"negative capacity {k}": {"negative_capacity": k} for k in (1, 3, 5)}
    | {"one setting for all spaces": {"space": None}}
    | {f"positive α {a:g}": {"positive_alpha": a} for a in (0.25, 1.0, 2.0, 5.0)}
    | {f"positive β {b:g}": {"positive_beta": b} for b in (1.0, 3.0, 8.0)}
    | {f"negative α {a:g}": {"negative_alpha": a} for a in (0.117, 0.25, 0.5, 1.0)}
    | {f"entropy window {a:g} to {b:g}": {"entropy": (a, b)} for a, b in ((0.0, 1.0), (0, 0.2), (0.1, 0.4), (0.3, 0.8))}
)


class Record(store.Record):
    """What a `Cell` gave: of the stream, `n` images were predicted, one in `every`.

    `correct` has a digit for each of them, 1 if it was predicted rightly; "" for variants. What is timed goes from
    pictures to predictions; `extra` has processor_seconds_per_image, what an image would take on an idle core.
    """

    KEY = ("model", "method", "variant", "dataset", "order")
    model: str
    method: str
    variant: str = ""
    dataset: str
    order: int
    n: PositiveInt
    every: PositiveInt = 1
    accuracy: store.Share
    seconds_per_image: NonNegativeFloat
    peak_memory_mb: NonNegativeFloat
    correct: str = ""
    extra: dict[str, Any] = {}


@dataclass(frozen=True)
class Cell(runner.Cell):
    """One method, with the table's settings ("") or a variant of them, on one stream; `order` seeds all randomness."""

    record = Record
    model: str
    method: str
    variant: str
    dataset: str
    order: int


class Bench:
    """An image–text model, one of ``MODELS``, and the settings chosen for it."""

    def __init__(self, name):
        self.model, self.chosen = image_text.load(name, device="cpu"), CHOSEN[name]
        self.scale, self.learned = self.model.scale.item(), lru_cache(self._learned)

    def settings(self, space=None, **changes):
        """Return TDA's settings as chosen for a class space (a name; None: one for all spaces), with changes."""
        chosen = self.chosen["TDA"].get(space, self.chosen["TDA, one for all"])
        return Settings(**dict(zip(TUNED, chosen, strict=True)) | changes)

    def weights(self, space):
        """Return the zero-shot classifier of a `ClassSpace`."""
        return class_weights(self.model, list(space.prompts.values()))

    def _learned(self, method, seed, lr):
        """CoOp or CoCoOp, taught with a few shots of the source classes."""
        learner, shots = LEARNERS[method](self.model, lr), shots_of(seed)
        return learner.fit(shots.images, shots.labels, list(SOURCE.prompts.values()), seed)

    def predictor(self, method, space, order=0, lr=None, **changes):
        """Return a function from a stream's images uint8 (n, 3, H, W) to logits (n, C); `changes` are of `settings`."""
        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}; valid are {', '.join(METHODS)}.")
        lr, prompts = lr or self.chosen.get(method), list(space.prompts.values())
        if method in LEARNERS:
            learned = self.learned(method, order, lr)
            return lambda images: learned.logits(images, prompts)
        if method in ("TPT", "DiffTPT"):
            tuner = TPT(self.model, lr) if method == "TPT" else DiffTPT(self.model, *generator_and_codes(), lr)
            return lambda images: tuner.logits(images, prompts, order)
        weights = self.weights(space)
        if method == "zero-shot":
            return lambda images: self.scale * self.model.encode_image(images) @ weights.T
        settings = self.settings(**{"space": space.name} | changes)
        return lambda images: TDA(weights, self.scale, settings)(self.model.encode_image(images))

    def accuracy(self, method, streams, **options):
        """Return the share of the images of streams that a method predicts rightly; options as of `predictor`."""
        found = [self.predictor(method, s.space, **options)(s.images).argmax(1).numpy() == s.labels for s in streams]
        return float(np.concatenate(found).mean())


bench = lru_cache(maxsize=4)(Bench)


@lru_cache(maxsize=1)
def generator_and_codes():
    """Return the shipped generator and codes of 200 unshifted faces, which say how long its moves are."""
    generator = latent.load(device="cpu")
    return generator, generator.encode(stream(SOURCE.name, 200, "shots", shifted=False).images)


@lru_cache(maxsize=8)
def shots_of(seed):
    """Return ``SHOTS`` labelled images of each source class, others for each seed."""
    classes = range(len(SOURCE.classes))
    every = stream(SOURCE.name, 3 * SHOTS * len(classes), "shots")
    order = np.random.default_rng(seed).permutation(len(every))
    return every.take(np.concatenate([order[every.labels[order] == k][:SHOTS] for k in classes]))


def cells(seeds: Sequence[int] = range(6)) -> list[Cell]:
    """Every method and every ablation of TDA, for every model and class space; a seed is an order of the stream."""
    jobs = [(method, "") for method in METHODS] + [("TDA", variant) for variant in ABLATIONS]
    every = [(order, space, model) for order in seeds for space in SPACES for model in MODELS]
    return [Cell(model, *job, space, order) for order, space, model in every for job in jobs]


def compute(cell: Cell) -> Record:
    """Run one method on one stream. What is made once (class weights, learned prompts) is not an image's cost."""
    step, s = EVERY.get(cell.method, 1), stream(cell.dataset, N, seed=cell.order, subject=FIRST + cell.order)
    s, changes = s.take(slice(None, None, step)), ABLATIONS[cell.variant] if cell.variant else {}
    predict = bench(cell.model).predictor(cell.method, s.space, cell.order, **changes)
    predict(s.images[:2])
    begun = time.process_time()
    with store.timed_run() as timing:
        found = predict(s.images)
    processor = time.process_time() - begun
    right = found.argmax(1).numpy() == s.labels
    measured = {"n": len(s), "every": step, "accuracy": float(right.mean())}
    measured |= {"seconds_per_image": timing["seconds"] / len(s), "peak_memory_mb": timing["peak_memory_mb"]}
    measured |= {"correct": "" if cell.variant else "".join("01"[int(r)] for r in right)}
    measured |= {"extra": {"processor_seconds_per_image": processor / len(s)}}
    return Record(version=cell.version, **cell.key, **measured)


STUDY = runner.Study("test_time", cells, compute)


def tuning(model: str) -> dict[str, Any]:
    """Choose TDA's two α and β for each class space, and the learning rates of the others: an entry of ``CHOSEN``.

    TDA's authors choose for each test set as well; the other methods have one setting for all. CoOp and CoCoOp are
    judged on other faces of the source classes, as in their papers; TPT and DiffTPT on two images of each stream.
    """
    made, scores, few = bench(model), {}, []
    for name in SPACES:
        streams = [stream(name, N, "validation", seed=subject, subject=subject) for subject in SUBJECTS]
        few += [s.take(slice(0, 2)) for s in streams]
        scores[name] = [made.accuracy("TDA", streams, **dict(zip(TUNED, trial, strict=True))) for trial in TRIALS]
    best = {name: TRIALS[np.argmax(found)] for name, found in scores.items()}
    chosen = {"TDA": best, "TDA, one for all": TRIALS[np.sum(list(scores.values()), axis=0).argmax()]}
    for method, rates in RATES.items():
        seen = [stream(SOURCE.name, N, "validation")] if method in LEARNERS else few
        chosen[method] = max(rates, key=lambda lr: made.accuracy(method, seen, lr=lr))
    return chosen


# What page 10 says of the results, in per cent and points: `frame` is what `store.read` returns, or some of its rows.
def same_images(frame):
    """Reduce the table's records to the images that every method has predicted, those of the sparsest record."""
    table = frame[frame["variant"] == ""].copy()
    every = table["every"].max()
    table["correct"] = [row.correct[:: every // row.every] for row in table.itertuples()]
    table["n"], table["every"] = table["correct"].str.len(), every
    return table.assign(accuracy=[row.count("1") / len(row) for row in table["correct"]])


def accuracy_table(frame, model, base=None):
    """Return a model's accuracies, less a `base`'s if given, method x data set and "mean", and 95 % half widths."""
    rows = frame[(frame["model"] == model) & (frame["variant"] == "")]
    wide = 100 * rows.pivot_table(index=["method", "order"], columns="dataset", values="accuracy", sort=False)
    wide = wide.assign(mean=wide.mean(axis=1))
    if base:
        wide = wide.sub(wide.loc[base], level="order")
    pairs = wide.groupby("method").agg(mean_and_interval)
    pairs = pairs.reindex([method for method in METHODS if method in pairs.index])
    return tuple(pairs.map(itemgetter(part)) for part in (0, 1))


def gains(frame, model, method="TDA", base="zero-shot"):
    """Return how far a method is above another on each data set and in the "mean", and the half widths (Series)."""
    return tuple(part.loc[method] for part in accuracy_table(frame, model, base))
