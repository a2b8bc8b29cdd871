"""How strong the shifts of page 10 are, and the settings of its methods: chosen on other faces than the test's."""

import itertools

import numpy as np
import pandas as pd

from diga_lib.studies.test_time import MODELS, RATES, TRIALS, TUNED, bench
from diga_lib.test_time.class_spaces import SEEDS, SOURCE, SPACES, Stream, stream
from diga_lib.test_time.shifts import shift
from diga_lib.test_time.tda import TDA, Settings

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


def strengths(n=120):
    """Find for each class space the strength of its shift that brings zero-shot accuracy nearest to ``AIM``.

    It is measured on `n` pictures of each validation subject and averaged over these; each model should be inside
    ``WINDOW``. No method but zero-shot is run. Returns a dict from class space to strength.
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
        inside = [strength for strength, pair in accuracy.items() if WINDOW[0] <= min(pair) and max(pair) <= WINDOW[1]]
        found[name] = min(inside or accuracy, key=lambda strength: abs(np.mean(accuracy[strength]) - AIM))
        print(f"{name}: {space.kind} {found[name]} of {accuracy}{'' if inside else ', none inside for both models'}")
    return found


def trials(n, subjects=SUBJECTS):
    """Yield the streams on which settings are chosen: of each space, other subjects and pictures than the test."""
    for name, subject in itertools.product(SPACES, range(subjects)):
        yield stream(name, n, "validation", seed=subject, subject=subject)


def tuning(name, n=480, n_tuned=2):
    """Choose TDA's two α and β for each class space, and the learning rates of the others, by accuracy on `trials`.

    TDA's authors choose for each test set as well; the other methods' have one setting for all. CoOp and CoCoOp,
    which learn from the source classes, are judged on other source faces, as in their papers.

    Parameters
    ----------
    name : str
        Of the image–text model.
    n, n_tuned : int
        Images of each stream, and of these, the first ones, for the methods that tune a prompt for every one.

    Returns
    -------
    dict
        As an entry of ``test_time.CHOSEN``.
    """
    made, streams, rows = bench(name), list(trials(n)), []
    for s in streams:
        features, weights = made.model.encode_image(s.images), made.weights(s.space)
        for trial in TRIALS:
            settings = Settings().changed(**dict(zip(TUNED, trial, strict=True)))
            found = TDA(weights, made.scale, settings)(features).argmax(1).numpy()
            rows.append({"space": s.space.name, "trial": trial, "accuracy": np.mean(found == s.labels)})
    table = pd.DataFrame(rows).pivot_table(index="space", columns="trial", values="accuracy", sort=False)
    print(table.mean().round(4).to_dict())
    chosen = {"TDA": table.idxmax(axis=1).to_dict(), "TDA, one for all": table.mean().idxmax()}
    source = stream(SOURCE.name, n, "validation")
    for method, rates in RATES.items():
        if method in ("CoOp", "CoCoOp"):
            found = {lr: made.run(method, source, lr=lr)["accuracy"] for lr in rates}
        else:
            tuners, right = {lr: made.tuner(method, lr) for lr in rates}, {lr: [] for lr in rates}
            for s in (s.take(slice(0, n_tuned)) for s in streams):
                views_of_each = tuners[rates[0]].views_of(s.images)  # the same for all rates
                for views, label in zip(views_of_each, s.labels, strict=True):
                    for lr, tuner in tuners.items():
                        right[lr].append(int(tuner.answer(views, list(s.space.prompts.values())).argmax()) == label)
            found = {lr: float(np.mean(answers)) for lr, answers in right.items()}
        print({method: {lr: round(value, 4) for lr, value in found.items()}})
        chosen[method] = max(found, key=found.get)
    return chosen
