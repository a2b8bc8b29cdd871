"""The table of test-time adaptation: what is run on which streams, how it was tuned, and where the numbers go.

``python -m diga_lib.test_time`` runs every method on every stream and appends each finished run to
``book/results/test_time.jsonl``; stopped at any time, it goes on with what is missing.
"""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from diga_lib import image_text, latent
from diga_lib.studies import store
from diga_lib.studies.test_time import records
from diga_lib.test_time.class_spaces import SEEDS, SOURCE, SPACES, Stream, class_weights, stream
from diga_lib.test_time.prompts import DIFF_TPT, TPT, CoCoOp, CoOp, Training, Tuning, diff_tpt
from diga_lib.test_time.shifts import shift
from diga_lib.test_time.tda import TDA, Settings

MODELS = ("rendered-faces-text-s", "rendered-faces-text-l")
N = 480  # images of a stream
EVERY = {"TPT": 16, "DiffTPT": 48}  # slow, and they remember nothing of an image: asked for every so-manieth
SHOTS = 16  # labelled images of each source class, for CoOp and CoCoOp
ORDERS = 6  # of each stream, each of another subject
FIRST = (
    3  # of the test's subjects: the three before were looked at while settings rested on too few validation subjects
)
METHODS = ("zero-shot", "CoOp", "CoCoOp", "TPT", "DiffTPT", "TDA")

# Chosen by `tuning`, on other subjects and pictures than the test's. TDA: α and β of the positive cache, α of the negative one.
CHOSEN = {
    "rendered-faces-text-s": {
        "TDA": {
            "expressions": (1.0, 5.0, 0.5),
            "hair colours": (0.25, 20.0, 0.117),
            "hair styles": (0.25, 5.0, 0.5),
            "eyewear": (2.0, 5.0, 0.117),
            "facial hair": (0.25, 5.0, 0.117),
            "age groups": (0.25, 20.0, 0.117),
            "skin tones": (2.0, 5.0, 0.117),
            "poses": (0.25, 5.0, 0.117),
            "mouths": (0.25, 5.0, 0.5),
            "makeup": (0.25, 20.0, 0.117),
        },
        "TDA, one for all": (0.25, 20.0, 0.117),
        "CoOp": 0.05,
        "CoCoOp": 0.002,
        "TPT": 0.002,
        "DiffTPT": 0.005,
    },
    "rendered-faces-text-l": {
        "TDA": {
            "expressions": (2.0, 5.0, 0.117),
            "hair colours": (2.0, 10.0, 0.5),
            "hair styles": (1.0, 5.0, 0.5),
            "eyewear": (0.25, 20.0, 0.117),
            "facial hair": (0.25, 20.0, 0.117),
            "age groups": (0.25, 5.0, 0.117),
            "skin tones": (2.0, 5.0, 0.117),
            "poses": (0.25, 5.0, 0.117),
            "mouths": (0.25, 5.0, 0.5),
            "makeup": (0.25, 5.0, 0.117),
        },
        "TDA, one for all": (1.0, 5.0, 0.5),
        "CoOp": 0.2,
        "CoCoOp": 0.02,
        "TPT": 0.1,
        "DiffTPT": 0.002,
    },
}


class Bench:
    """An image–text model with everything that its methods share.

    Parameters
    ----------
    name : str
        One of ``MODELS``, or any that `image_text.load` knows.
    """

    def __init__(self, name):
        self.name, self.model = name, image_text.load(name, device="cpu")
        self.scale = self.model.scale.item()
        self.chosen = CHOSEN.get(name, CHOSEN[MODELS[-1]])
        self._learned, self._weights = {}, {}

    def settings(self, space=None, **changes):
        """Return TDA's settings as chosen for this model and a class space (a name; None: one for all), with changes."""
        return Settings().changed(
            **(dict(zip(TUNED, self.chosen["TDA"].get(space, self.chosen["TDA, one for all"]))) | changes)
        )

    def weights(self, space):
        """Return the zero-shot classifier of a `ClassSpace`, made once for each."""
        prompts = tuple(space.prompts.values())
        if prompts not in self._weights:
            self._weights[prompts] = class_weights(self.model, prompts)
        return self._weights[prompts]

    def learned(self, method, seed, lr=None):
        """Return CoOp or CoCoOp, taught with a few shots of the source classes."""
        lr = lr or self.chosen[method]
        if (method, seed, lr) not in self._learned:
            kind = {"CoOp": CoOp, "CoCoOp": CoCoOp}[method]
            shots = shots_of(SHOTS, seed)
            training = Training(**(vars(kind.defaults) | {"lr": lr}))
            self._learned[method, seed, lr] = kind(self.model, training).fit(
                shots.images, shots.labels, list(shots.space.prompts.values()), seed
            )
        return self._learned[method, seed, lr]

    def tuner(self, method, **changes):
        """Return TPT or DiffTPT, with the chosen learning rate and changes."""
        changes = {"lr": self.chosen[method]} | changes
        if method == "TPT":
            return TPT(self.model, Tuning(**changes))
        return diff_tpt(self.model, *generator_and_codes(), replace(DIFF_TPT, **changes))

    def predictor(self, method, order=0, **changes):
        """Return a function from a `Stream` to logits (n, C).

        Parameters
        ----------
        method : str
            One of ``METHODS``.
        order : int
            Seeds what is random in the method.
        **changes
            Of the settings of TDA (see `tda.Settings.changed`), CoOp, CoCoOp, TPT or DiffTPT.
        """
        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}; valid are {', '.join(METHODS)}.")
        if method in ("CoOp", "CoCoOp"):
            learned = self.learned(method, order, **changes)
            return lambda s: learned.logits(s.images, list(s.space.prompts.values()))
        if method in ("TPT", "DiffTPT"):
            tuner = self.tuner(method, **changes)
            return lambda s: tuner.logits(s.images, list(s.space.prompts.values()), order)
        if method == "TDA":
            return lambda s: TDA(
                self.weights(s.space), self.scale, self.settings(**({"space": s.space.name} | changes))
            )(self.model.encode_image(s.images))
        return lambda s: self.scale * self.model.encode_image(s.images) @ self.weights(s.space).T

    def run(self, method, s, order=0, **changes):
        """Predict a stream and measure it: the fields n to extra of `records.Record`, as a dict."""
        predict = self.predictor(method, order, **changes)
        predict(s.take(slice(0, 2)))  # what is made once (class weights, learned prompts) is not an image's cost
        with measured_run() as timing:
            found = predict(s)
        return self._measured(s, found, timing)

    def ablate(self, s, variants):
        """Yield TDA with other settings on one stream: its name, and the dict of `run`.

        The images are encoded once; each variant is charged for that.
        """
        weights = self.weights(s.space)
        with measured_run() as encoding:
            features = self.model.encode_image(s.images)
        for name, changes in variants.items():
            with measured_run() as timing:
                found = TDA(weights, self.scale, self.settings(**({"space": s.space.name} | changes)))(features)
            timing = {key: timing[key] + encoding[key] for key in ("seconds", "processor_seconds")} | {
                "peak_memory_mb": max(timing["peak_memory_mb"], encoding["peak_memory_mb"])
            }
            yield name, self._measured(s, found, timing) | {"correct": ""}

    @staticmethod
    def _measured(s, logits, timing):
        right = logits.argmax(1).numpy() == s.labels
        return {
            "n": len(s),
            "accuracy": float(right.mean()),
            "seconds_per_image": timing["seconds"] / len(s),
            "peak_memory_mb": timing["peak_memory_mb"],
            "correct": "".join("01"[int(r)] for r in right),
            "extra": {"processor_seconds_per_image": timing["processor_seconds"] / len(s)},
        }


@contextmanager
def measured_run():
    """Measure seconds, processor_seconds (what it would take on an idle core) and peak_memory_mb of a block (dict)."""
    found, begun = {}, time.process_time()
    with store.timed_run() as timing:
        yield found
    found.update(
        seconds=timing.seconds, processor_seconds=time.process_time() - begun, peak_memory_mb=timing.peak_memory_mb
    )


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


ABLATIONS = {
    "positive only": {"negative_capacity": 0},
    "negative only": {"positive_capacity": 0},
    **{f"positive capacity {k}": {"positive_capacity": k} for k in (1, 2, 5, 10)},
    **{f"negative capacity {k}": {"negative_capacity": k} for k in (1, 3, 5)},
    "one setting for all spaces": {"space": None},
    **{f"positive α {a:g}": {"positive_alpha": a} for a in (0.25, 1.0, 2.0, 5.0)},
    **{f"positive β {b:g}": {"positive_beta": b} for b in (1.0, 3.0, 8.0)},
    **{f"negative α {a:g}": {"negative_alpha": a} for a in (0.117, 0.25, 0.5, 1.0)},
    **{
        f"entropy window {low:g} to {high:g}": {"entropy": (low, high)}
        for low, high in ((0.0, 1.0), (0.0, 0.2), (0.1, 0.4), (0.3, 0.8))
    },
}


def run_all(
    path=records.PATH,
    n=N,
    orders=ORDERS,
    models=MODELS,
    methods=METHODS,
    datasets=tuple(SPACES),
    ablations=True,
    say=print,
):
    """Run what a file of results does not have yet, and append it.

    Parameters
    ----------
    path : path
    n, orders : int
        Images of a stream, and its orders, each of which shows a subject of its own.
    models, methods, datasets : sequences of str
    ablations : bool
        Whether TDA's ablations are run too.
    say : callable
        Told of each run.
    """
    have = records.finished(path)
    for order, dataset in itertools.product(range(orders), datasets):
        missing = {
            model: [
                (method, variant)
                for method, variant in [(m, "") for m in methods] + [("TDA", v) for v in ABLATIONS if ablations]
                if (model, method, variant, dataset, order) not in have
            ]
            for model in models
        }
        if not any(missing.values()):
            continue
        s = stream(dataset, n, seed=order, subject=FIRST + order)
        for model, jobs in missing.items():
            made, key = bench(model), {"model": model, "dataset": dataset, "order": order}
            for method in [method for method, variant in jobs if not variant]:
                step = EVERY.get(method, 1)
                measured = made.run(method, s.take(slice(None, None, step)), order)
                store.append(path, records.Record(**key, method=method, every=step, **measured))
                say(
                    f"{order} {dataset:13s} {model[-1]} {method:9s} {measured['accuracy']:.3f} "
                    f"{1e3 * measured['seconds_per_image']:7.2f} ms"
                )
            for variant, measured in made.ablate(s, {v: ABLATIONS[v] for _, v in jobs if v}):
                store.append(path, records.Record(**key, method="TDA", variant=variant, **measured))


@lru_cache(maxsize=4)
def bench(name):
    """Return the `Bench` of a model, made once."""
    return Bench(name)


# ---- choices, made on other faces -----------------------------------------------------------------------------

# Six trials for each method. TDA's begin with the published settings; which others to try was seen on validation faces: the sum
# over the negative cache grows with the number of classes, and these spaces have few.
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
LADDERS = {
    "sketch": (0.3, 0.45, 0.6, 0.8, 1.0),
    "low light": (0.1, 0.2, 0.35, 0.5, 0.6),
    "blur": (1.0, 1.5, 2.5),
    "noise": (0.01, 0.02, 0.04, 0.06, 0.1, 0.2),
    "colour cast": (0.5, 0.7, 0.85, 1.0),
    "small": (1.5, 2.0, 3.0),
    "fog": (0.1, 0.2, 0.35, 0.5, 0.65, 0.8),
}

AIM, WINDOW = 0.6, (0.42, 0.83)  # zero-shot accuracy on validation subjects: inside 40 to 85 % with something to spare
SUBJECTS = 6  # of the validation faces, on which strengths and settings are chosen


def strengths(n=120, aim=AIM, window=WINDOW, say=print):
    """Find for each class space the strength of its shift that brings zero-shot accuracy nearest to `aim`.

    It is measured on `n` pictures of each validation subject and averaged over these; each model should be inside `window`.
    No method but zero-shot is run.

    Returns
    -------
    dict
        From class space to strength.
    """
    found = {}
    for name, space in SPACES.items():
        subjects = [stream(name, n, "validation", shifted=False, subject=subject) for subject in range(SUBJECTS)]
        images, labels = (np.concatenate([getattr(s, part) for s in subjects]) for part in ("images", "labels"))
        accuracy = {}
        for strength in LADDERS[space.kind]:
            s = Stream(shift(images, space.kind, strength, SEEDS["validation"]), labels, space)
            logits = [bench(model).predictor("zero-shot")(s) for model in MODELS]
            accuracy[strength] = [float(np.mean(z.argmax(1).numpy() == s.labels)) for z in logits]
        inside = [strength for strength, pair in accuracy.items() if window[0] <= min(pair) and max(pair) <= window[1]]
        found[name] = min(inside or accuracy, key=lambda strength: abs(np.mean(accuracy[strength]) - aim))
        say(
            f"{name}: {space.kind} {found[name]}{'' if inside else ' (none is inside for both)'} of "
            f"{ {strength: [round(value, 3) for value in pair] for strength, pair in accuracy.items()} }"
        )
    return found


def trials(n, subjects=SUBJECTS):
    """Yield the streams on which settings are chosen: of each class space, of other subjects and pictures than the test."""
    for name, subject in itertools.product(SPACES, range(subjects)):
        yield stream(name, n, "validation", seed=subject, subject=subject)


def tuning(name, n=480, n_tuned=2, say=print):
    """Choose TDA's two α and β for each class space, and the learning rates of the others, by accuracy on `trials`.

    TDA's authors choose for each test set as well; the other methods' have one setting for all. CoOp and CoCoOp,
    which learn from the source classes, are judged on other source faces, as in their papers.

    Parameters
    ----------
    name : str
        Of the image–text model.
    n, n_tuned : int
        Images of each stream, and of these, the first ones, for the methods that tune a prompt for every one.
    say : callable
        Told of each method's trials.

    Returns
    -------
    dict
        As an entry of ``CHOSEN``.
    """
    made, streams = bench(name), list(trials(n))
    rows = []
    for s in streams:
        features, weights = made.model.encode_image(s.images), made.weights(s.space)
        for trial in TRIALS:
            found = TDA(weights, made.scale, Settings().changed(**dict(zip(TUNED, trial))))(features).argmax(1).numpy()
            rows.append({"space": s.space.name, "trial": trial, "accuracy": np.mean(found == s.labels)})
    table = pd.DataFrame(rows).pivot_table(index="space", columns="trial", values="accuracy", sort=False)
    say({"TDA": table.mean().round(4).to_dict()})
    chosen = {"TDA": table.idxmax(axis=1).to_dict(), "TDA, one for all": table.mean().idxmax()}
    source = stream(SOURCE.name, n, "validation")
    for method, rates in RATES.items():
        if method in ("CoOp", "CoCoOp"):
            found = {lr: made.run(method, source, lr=lr)["accuracy"] for lr in rates}
        else:
            tuners, right = {lr: made.tuner(method, lr=lr) for lr in rates}, {lr: [] for lr in rates}
            for s in (s.take(slice(0, n_tuned)) for s in streams):
                for views, label in zip(made.tuner(method).views_of(s.images), s.labels):  # the same for all rates
                    for lr, tuner in tuners.items():
                        right[lr].append(int(tuner.answer(views, list(s.space.prompts.values())).argmax()) == label)
            found = {lr: float(np.mean(answers)) for lr, answers in right.items()}
        say({method: {lr: round(value, 4) for lr, value in found.items()}})
        chosen[method] = max(found, key=found.get)
    return chosen
