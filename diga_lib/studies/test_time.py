"""Every method of page 10 on every stream: two models, ten class spaces, six orders with another subject in each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from diga_lib import image_text, latent
from diga_lib.studies import store
from diga_lib.studies.runner import Study
from diga_lib.test_time.class_spaces import SOURCE, SPACES, class_weights, stream
from diga_lib.test_time.prompts import DIFF_TPT, TPT, CoCoOp, CoOp, Tuning, diff_tpt
from diga_lib.test_time.tda import TDA, Settings

MODELS = ("rendered-faces-text-s", "rendered-faces-text-l")
METHODS = ("zero-shot", "CoOp", "CoCoOp", "TPT", "DiffTPT", "TDA")
N = 480  # images of a stream
EVERY = {"TPT": 16, "DiffTPT": 48}  # slow, and they remember nothing of an image: asked for one image in so many
SHOTS = 16  # labelled images of each source class, for CoOp and CoCoOp
ORDERS = 6  # of each stream, each of another subject
FIRST = 3  # of the test's subjects: settings once rested on too few validation subjects, and three had been looked at

# Six trials for each method. TDA's begin with the published settings; which others to try was seen on validation faces:
# the sum over the negative cache grows with the number of classes, and these spaces have few.
TUNED = ("positive_alpha", "positive_beta", "negative_alpha")
TRIALS = (
    (2.0, 5.0, 0.117),
    (0.25, 5.0, 0.117),
    (0.25, 5.0, 0.5),
    (1.0, 5.0, 0.5),
    (2.0, 10.0, 0.5),
    (0.25, 20.0, 0.117),
)
RATES = {
    "CoOp": (0.002, 0.01, 0.05, 0.2, 0.5, 1.0),
    "CoCoOp": (0.0005, 0.002, 0.01, 0.02, 0.05, 0.2),
    "TPT": (0.002, 0.005, 0.02, 0.05, 0.1, 0.2),
    "DiffTPT": (0.002, 0.005, 0.02, 0.05, 0.1, 0.2),
}


def _chosen(trials, for_all, **rates):
    """Settings as `test_time_choices.tuning` returns them, from numbers in ``TRIALS`` in the order of the spaces."""
    spaces = {space: TRIALS[trial] for space, trial in zip(SPACES, trials, strict=True)}
    return {"TDA": spaces, "TDA, one for all": TRIALS[for_all], **rates}


CHOSEN = {  # on other subjects and pictures than the test's
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
    """One method on one stream.

    Parameters
    ----------
    model, method, variant, dataset : str
        Which image–text model, method, settings of it ("" for those of the table) and class space.
    order : int
        Of the stream, and the number of its subject; it also seeds whatever else is random.
    n, every : int
        How many images were predicted, and that they are one in so many of the stream, from the first on.
    accuracy : float
        Over these images.
    seconds_per_image, peak_memory_mb : float
        From pictures to predictions, and the process's peak meanwhile (10^6 bytes).
    correct : str
        One digit for each of them in the order of the stream: 1 if it was predicted rightly. "" where it is not kept.
    extra : dict
        processor_seconds_per_image: what an image would take on an idle core.
    """

    model: str
    method: str
    variant: str = ""
    dataset: str
    order: int
    n: Annotated[int, Field(ge=1)]
    every: Annotated[int, Field(ge=1)] = 1
    accuracy: store.Share
    seconds_per_image: Annotated[float, Field(ge=0)]
    peak_memory_mb: Annotated[float, Field(ge=0)]
    correct: str = ""
    extra: dict[str, Any] = {}


@dataclass(frozen=True)
class Cell:
    """A model, a method with the settings of the table or a variant of them, a class space and an order."""

    model: str
    method: str
    variant: str
    dataset: str
    order: int
    version: ClassVar[int] = 1

    @property
    def key(self) -> dict:
        """The fields by which its record is found."""
        return asdict(self)


class Bench:
    """An image–text model with everything that its methods share.

    Parameters
    ----------
    name : str
        One of ``MODELS``, or any that `image_text.load` knows.
    """

    def __init__(self, name):
        self.model = image_text.load(name, device="cpu")
        self.scale = self.model.scale.item()
        self.chosen = CHOSEN.get(name, CHOSEN[MODELS[-1]])
        self.weights_of, self.learned = lru_cache(self._weights), lru_cache(self._learned)

    def settings(self, space=None, **changes):
        """Return TDA's settings as chosen for a class space (a name; None: one for all spaces), with changes."""
        chosen = self.chosen["TDA"].get(space, self.chosen["TDA, one for all"])
        return Settings().changed(**dict(zip(TUNED, chosen, strict=True)) | changes)

    def weights(self, space):
        """Return the zero-shot classifier of a `ClassSpace`, made once for each."""
        return self.weights_of(tuple(space.prompts.values()))

    def _weights(self, prompts):
        return class_weights(self.model, prompts)

    def _learned(self, method, seed, lr):
        """CoOp or CoCoOp, taught with a few shots of the source classes."""
        kind, shots = {"CoOp": CoOp, "CoCoOp": CoCoOp}[method], shots_of(SHOTS, seed)
        learner = kind(self.model, replace(kind.defaults, lr=lr))
        return learner.fit(shots.images, shots.labels, list(shots.space.prompts.values()), seed)

    def tuner(self, method, lr):
        """Return TPT or DiffTPT with a learning rate."""
        if method == "TPT":
            return TPT(self.model, Tuning(lr=lr))
        return diff_tpt(self.model, *generator_and_codes(), replace(DIFF_TPT, lr=lr))

    def predictor(self, method, order=0, lr=None, **changes):
        """Return a function from a `Stream` to logits (n, C).

        Parameters
        ----------
        method : str
            One of ``METHODS``.
        order : int
            Seeds what is random in the method.
        lr : float, optional
            Of CoOp, CoCoOp, TPT and DiffTPT, in place of the chosen one.
        **changes
            Of the settings of TDA (see `tda.Settings.changed`), and `space`, whose settings it has.
        """
        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}; valid are {', '.join(METHODS)}.")
        lr = lr or self.chosen.get(method)
        if method in ("CoOp", "CoCoOp"):
            learned = self.learned(method, order, lr)
            return lambda s: learned.logits(s.images, list(s.space.prompts.values()))
        if method in ("TPT", "DiffTPT"):
            tuner = self.tuner(method, lr)
            return lambda s: tuner.logits(s.images, list(s.space.prompts.values()), order)

        def predict(s):
            features, weights = self.model.encode_image(s.images), self.weights(s.space)
            if method == "zero-shot":
                return self.scale * features @ weights.T
            return TDA(weights, self.scale, self.settings(**({"space": s.space.name} | changes)))(features)

        return predict

    def run(self, method, s, order=0, **changes):
        """Predict a stream and measure it: the fields n to extra of a `Record`, as a dict."""
        predict = self.predictor(method, order, **changes)
        predict(s.take(slice(0, 2)))  # what is made once (class weights, learned prompts) is not an image's cost
        begun = time.process_time()
        with store.timed_run() as timing:
            found = predict(s)
        processor = time.process_time() - begun
        right = found.argmax(1).numpy() == s.labels
        return {
            "n": len(s),
            "accuracy": float(right.mean()),
            "seconds_per_image": timing["seconds"] / len(s),
            "peak_memory_mb": timing["peak_memory_mb"],
            "correct": "".join("01"[int(r)] for r in right),
            "extra": {"processor_seconds_per_image": processor / len(s)},
        }


@lru_cache(maxsize=4)
def bench(name):
    """Return the `Bench` of a model, made once."""
    return Bench(name)


@lru_cache(maxsize=1)
def generator_and_codes():
    """Return the shipped generator and codes of 200 unshifted faces, which say how long its moves are."""
    generator = latent.load(device="cpu")
    return generator, generator.encode(stream(SOURCE.name, 200, "shots", shifted=False).images)


@lru_cache(maxsize=8)
def shots_of(shots, seed):
    """Return so many labelled images of each source class, others for each seed."""
    every = stream(SOURCE.name, 3 * shots * len(SOURCE.classes), "shots")
    order = np.random.default_rng(seed).permutation(len(every))
    rows = np.concatenate([order[every.labels[order] == k][:shots] for k in range(len(SOURCE.classes))])
    return every.take(rows)


def cells(seeds: Sequence[int] = range(ORDERS)) -> list[Cell]:
    """Every method and every ablation of TDA, for every model and class space; a seed is an order of the stream."""
    jobs = [(method, "") for method in METHODS] + [("TDA", variant) for variant in ABLATIONS]
    every = [(order, space, model) for order in seeds for space in SPACES for model in MODELS]
    return [Cell(model, *job, space, order) for order, space, model in every for job in jobs]


def compute(cell: Cell) -> Record:
    """Run one method on one stream."""
    step, s = EVERY.get(cell.method, 1), stream(cell.dataset, N, seed=cell.order, subject=FIRST + cell.order)
    changes = ABLATIONS[cell.variant] if cell.variant else {}
    measured = bench(cell.model).run(cell.method, s.take(slice(None, None, step)), cell.order, **changes)
    measured["correct"] = "" if cell.variant else measured["correct"]
    return Record(version=cell.version, **cell.key, every=step, **measured)


STUDY = Study("test_time", cells, compute, Record)
