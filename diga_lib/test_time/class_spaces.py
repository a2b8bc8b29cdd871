"""Ten class spaces, each with its own prompts and its own shift: what ten data sets are to TDA's table.

The image–text model was told single facts of faces, never these lists of classes, and it never saw a shifted picture.
Each space shows one subject in all its classes, with an expression and a camera of its own in each picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from diga_lib.data import faces
from diga_lib.test_time.shifts import shift

SEEDS = {"test": 41, "validation": 42, "shots": 43}  # populations that nothing else uses
SUBJECTS = 100_000  # number of the first subject in each: far from the faces whose classes they take over
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a portrait of {}")
AGES = (0.36, 0.61)  # where young ends and where old begins, as shares of the renderer's age

# Action units, in 0 to 5, of the emotions' prototypes (Ekman and Friesen's FACS), each drawn with some freedom.
NEUTRAL, HAPPY, SURPRISED = {}, {"AU6": 3, "AU12": 4}, {"AU1": 4, "AU2": 4, "AU5": 4, "AU26": 3.5}
EMOTIONS = (NEUTRAL, HAPPY, SURPRISED, {"AU9": 4.5, "AU17": 2.5, "AU4": 1})  # the last is disgusted


@dataclass(frozen=True)
class ClassSpace:
    """A set of classes and how they are described and drawn."""

    name: str
    prompts: dict  #: what stands in the templates for each name of a class (`class_spaces.csv`)
    kind: str  #: of the shift, see `shifts.shift`
    strength: float
    label: Callable | None = None  #: maps parameters, attributes and factors of n faces to classes (n,), -1 for none
    # The parameters that the subject takes over from faces of the wanted class; without, each picture shows another.
    keys: tuple = ()
    edit: Callable | None = None  #: changes the parameters so that faces show given classes (n,), if none need be asked

    @property
    def classes(self):
        """The names of the classes (tuple of str)."""
        return tuple(self.prompts)


@dataclass(frozen=True)
class Stream:
    """Images in the order in which they come: uint8 (n, 3, H, W), their classes int64 (n,), and their space."""

    images: np.ndarray
    labels: np.ndarray
    space: ClassSpace

    def __len__(self):
        return len(self.labels)

    def take(self, rows):
        """Return the stream of some of the images, in the order of `rows`."""
        return Stream(self.images[rows], self.labels[rows], self.space)


def _hair_styles(p, attributes, factors):
    style = 1 + 2 * (p["hair_length"] > 0.4) + attributes["Bangs"].to_numpy(int)
    return np.where(attributes["Bald"] == 1, 0, style)


def _facial_hair(p, attributes, factors):
    bearded, mustache = p["beard"] > 0, p["mustache"] > 0
    shaven = np.where(p["stubble"] > 0.17, 1, 0)
    return np.where(attributes["Male"] == 0, -1, np.where(bearded, 2 + mustache, np.where(mustache, -1, shaven)))


def _eyewear(p, label, rng):
    p["glasses"], p["sunglasses"] = (label > 0).astype(np.float32), (label == 2).astype(np.float32)
    p["frame_weight"] = rng.random(len(label), np.float32)


def _emotions(p, label, rng):
    for unit in faces.ACTION_UNITS:
        mean = np.array([wanted.get(unit, 0.0) for wanted in EMOTIONS])[label] / 5
        intensity = mean * rng.uniform(0.55, 1.1, len(label)) + rng.uniform(0, 0.22, len(label))
        p[unit] = np.clip(intensity, 0, 1).astype(np.float32)
    p["blink"][:] = 0


def _mouths(p, label, rng):
    amount = rng.uniform(0.45, 1, (2, len(label)))
    p["AU25"] = np.where(label > 0, amount[0], 0.0).astype(np.float32)
    p["AU26"] = np.where(label == 2, amount[1], 0.0).astype(np.float32)


def _hair_colours(p, attributes, factors):
    numbers = {"Bald": -1, "Black_Hair": 0, "Brown_Hair": 1, "Blond_Hair": 2, "Gray_Hair": 4}
    return np.select([attributes[name] == 1 for name in numbers], list(numbers.values()), 3)  # else it is red


def _makeup(p, attributes, factors):
    return 2 * attributes["Heavy_Makeup"] + attributes["Wearing_Lipstick"]


def _cuts(name, *edges):
    return lambda p, attributes, factors: np.digitize(p[name] if name in p else factors[name].to_numpy(), edges)


HAIR = ("has_hair", "bangs", "hair_length", "receding", "fuzz", "hair_forward", "hair_volume", "hair_wave")
# Kind and strength of the shift, label, keys, edit. "people" is where CoOp and CoCoOp get their labelled shots and
# where settings are tuned; its pictures have no shift.
DRAWN = {
    "expressions": ("low light", 0.1, None, (), _emotions),
    "hair colours": ("colour cast", 1.0, _hair_colours, ("hair", "brow_colour", "has_hair")),
    "hair styles": ("noise", 0.1, _hair_styles, HAIR),
    "eyewear": ("small", 3.0, None, (), _eyewear),
    "facial hair": ("blur", 1.0, _facial_hair, ("beard", "mustache", "beard_length", "stubble", "male_shape")),
    "age groups": ("noise", 0.01, _cuts("age", *AGES), ("age",)),
    "skin tones": ("low light", 0.2, _cuts("skin_tone", 0.15, 0.35, 0.59), ("skin",)),
    "poses": ("sketch", 0.8, _cuts("yaw", -1 / 3, 1 / 3), ("yaw",)),
    "mouths": ("fog", 0.65, None, (), _mouths),
    "makeup": ("fog", 0.1, _makeup, ("makeup", "lip", "lashes", "blush", "shadow")),
    "people": ("none", 1.0, lambda p, attributes, factors: 3 * attributes["Male"] + np.digitize(p["age"], AGES)),
}
TABLE = pd.read_csv(Path(__file__).with_suffix(".csv"), keep_default_na=False)
PROMPTS = TABLE.set_index("class").groupby("space")["prompt"]
EVERY = {name: ClassSpace(name, PROMPTS.get_group(name).to_dict(), *drawn) for name, drawn in DRAWN.items()}
SOURCE = EVERY["people"]
SPACES = {name: space for name, space in EVERY.items() if space is not SOURCE}


@lru_cache(maxsize=4)
def _population(seed, count):
    """The classes (DataFrame, a column for each space that has labels) of the first faces of a population."""
    blocks = [faces.parameters(seed, np.arange(start, start + 1000)) for start in range(0, count, 1000)]
    labelled = {name: space.label for name, space in EVERY.items() if space.label}
    return pd.DataFrame({name: np.concatenate([label(*b) for b in blocks]) for name, label in labelled.items()})


@lru_cache(maxsize=32)
def _drawn(name, n, part, subject, crowd):
    """Draw the pictures of a space, before any shift: images and labels, class after class in turn."""
    space, number = EVERY[name], list(EVERY).index(name)
    labels, rows = np.arange(n) % len(space.classes), np.arange(n)
    if space.label:
        found = _population(SEEDS[part], 3000 if n <= 60 else 8000 if n <= 600 else 20000)[name].to_numpy()
        for k in range(len(space.classes)):
            of_class, wanted = np.flatnonzero(found == k), np.flatnonzero(labels == k)
            if len(of_class) < len(wanted):
                raise ValueError(f"n is {n}, but of {space.classes[k]!r} there are only {len(of_class)} faces.")
            rows[wanted] = of_class[: len(wanted)]
    one_subject = bool(space.keys or space.edit) and not crowd
    the_one = np.full(n, SUBJECTS + len(EVERY) * subject + number)
    p, _, _ = faces.parameters(SEEDS[part], the_one if one_subject else rows, rows, rows)
    if space.keys:
        taken = faces.parameters(SEEDS[part], rows)[0]
        p |= {key: taken[key] for key in space.keys}
    if space.edit:
        space.edit(p, labels, np.random.default_rng([SEEDS[part], number]))
    return faces.draw(p), labels


def stream(space, n=240, part="test", shifted=True, seed=0, subject=0, crowd=False):
    """Draw a `Stream` of `n` images (at most 1500) of a class space, equally many of each class, in random order.

    The space is one of ``SPACES``, or "people", the source. No face is in two parts: "test", "validation", "shots". The
    space's shift is left out unless `shifted`; the seed is of the order. All pictures show one subject, of the number
    `subject`, or each another (`crowd`).
    """
    for what, given, valid in (("class space", space, EVERY), ("part", part, SEEDS)):
        if given not in valid:
            raise ValueError(f"There is no {what} {given!r}; valid are {', '.join(valid)}.")
    space = EVERY[space]
    if not len(space.classes) <= n <= 1500:
        raise ValueError(f"n is {n!r}; valid for {space.name} is {len(space.classes)} to 1500.")
    images, labels = _drawn(space.name, n, part, subject, crowd)
    if shifted and space.kind != "none":
        images = shift(images, space.kind, space.strength, SEEDS[part])
    order = np.random.default_rng([SEEDS[part], seed]).permutation(n)
    return Stream(images[order], labels[order], space)


def class_weights(model, prompts, templates=TEMPLATES):
    """Make the zero-shot classifier (C, d) of some classes: unit text features, averaged and made unit again.

    There is a prompt for each of the C classes, and "{}" in each of the templates.
    """
    texts = [template.format(prompt) for prompt in prompts for template in templates]
    with torch.inference_mode():
        features = model.encode_text(texts).view(len(prompts), len(templates), -1)
    return F.normalize(features.mean(1), dim=1).clone()
