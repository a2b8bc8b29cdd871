"""Rendered critters: heads of cats and dogs, with the colour of the fur as the spurious attribute.

Critter number i of a seed is the same picture on every machine and in every batch. ``Dog`` is the target (0 cat,
1 dog) and ``Dark_Fur`` the attribute that a biased split ties to it; neither causes the other. As in life no single
cue tells a cat from a dog: some cats' ears hang, some dogs' stand, snouts come in every length, and each cue is drawn
from ranges that overlap. Any correlation of species and fur is the doing of :func:`diga_lib.data.biased_split`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from diga_lib.data.critter_painter import paint
from diga_lib.data.faces import _between, _gradient, draws
from diga_lib.data.painter import in_batches

__all__ = ["ATTRIBUTES", "CUES", "FACTORS", "VERSION", "parameters", "render"]

VERSION = "1"
ATTRIBUTES = ("Dog", "Dark_Fur", "Floppy_Ears", "Collar", "Tongue_Out", "Striped", "Patched", "Light_Eyes")
FACTORS = ("muzzle", "droop", "fur_level", "eye_size", "pupil", "cheeks", "nose_size", "whiskers", "ear_size")
# What the network that judges reconstructions learns to read: neither the species nor the fur.
CUES = (
    *(name for name in FACTORS if name != "fur_level"),
    *(name for name in ATTRIBUTES if name not in ("Dog", "Dark_Fur")),
)

# Calibrated once on seed 910, which nothing else uses: see "Rendered critters" in the data card.
# A species' cues come from ranges (cat, dog); with probability EXCEPTION each cue is drawn from the other's range.
RANGES = {
    "muzzle": ((0.0, 0.56), (0.44, 1.0)),
    "nose_size": ((0.0, 0.55), (0.40, 1.0)),
    "eye_size": ((0.40, 1.0), (0.0, 0.60)),
    "eye_slant": ((0.25, 1.0), (0.0, 0.65)),
    "pupil": ((0.0, 0.90), (0.60, 1.0)),
    "cheeks": ((0.35, 1.0), (0.0, 0.65)),
    "whiskers": ((0.15, 0.85), (0.0, 0.30)),
    "ear_size": ((0.10, 0.90), (0.10, 1.0)),
}
EXCEPTION = 0.12
FLOPPY = (0.15, 0.62)  # probability of hanging ears: cats, dogs
TONGUE = (0.06, 0.30)
STRIPED = (0.36, 0.22)

_SHARED = """
    dog dark fur_level fur_hue second_on second_level snout_on snout_level ear_tone floppy droop ear_spread
    ear_uneven dome jaw fluff eye_colour eye_light eye_opening eye_apart nose_colour nose_pink whisker_tilt
    whisker_length stripes_on stripes blots_on eye_patch_on patch_side blaze_on bib_on brow_dots_on furrow collar
    collar_hue tag tongue_on tongue gaze grain_strength
"""
_CAMERA_RANGES = """
    shift_x -0.05 0.05; shift_y -0.045 0.045; roll -0.1 0.1; yaw -1 1; pitch -1 1; light_x -1 1; light_y -1
    0.35; light_strength 0.04 0.24; exposure 0.84 1.16; contrast 0.85 1.12; blur 0 0.55; noise 0.003 0.018;
    background_tilt -1 1
"""
_CAMERA = {name: (float(low), float(high)) for name, low, high in map(str.split, _CAMERA_RANGES.split(";"))}
_LAST = "warm green bg_r bg_g bg_b bg_grey"
_UNIFORMS = (*_SHARED.split(), *RANGES, *(f"{cue}_swap" for cue in RANGES), *_CAMERA, *_LAST.split())
_GRIDS = {"coat_noise": (6, 6), "strand_noise": (26, 22), "background_noise": (4, 4)}

# Coats from dark to light, one palette a row; the first half of each is Dark_Fur, the second half is not.
_COATS = """
    0.05 0.05 0.055  0.17 0.165 0.17  0.34 0.34 0.35  0.66 0.66 0.66  0.88 0.87 0.86
    0.10 0.065 0.05  0.24 0.155 0.11  0.42 0.28 0.19  0.74 0.56 0.38  0.93 0.83 0.68
    0.13 0.06 0.04  0.28 0.13 0.075  0.48 0.26 0.13  0.82 0.52 0.24  0.95 0.76 0.52
    0.08 0.085 0.10  0.19 0.205 0.24  0.35 0.37 0.42  0.62 0.65 0.70  0.82 0.84 0.87
"""  # black to white, chocolate to cream, mahogany to ginger, slate to silver
COATS = np.array(_COATS.split(), np.float32).reshape(4, 5, 3)
COLLARS = [[0.75, 0.12, 0.15], [0.14, 0.32, 0.70], [0.15, 0.55, 0.30], [0.85, 0.65, 0.15], [0.45, 0.20, 0.55]]
LIGHT_EYES = [[0.50, 0.66, 0.30], [0.80, 0.66, 0.22], [0.85, 0.52, 0.16], [0.42, 0.60, 0.78]]
BROWN_EYES = [[0.20, 0.11, 0.06], [0.42, 0.25, 0.11], [0.58, 0.36, 0.14]]


def _coat(level: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Colours (n, 3) of coats at a level in [0, 1] (dark to light) and a hue in [0, 1] (which palette)."""
    each = np.stack([_gradient(level, palette) for palette in COATS])
    row = np.minimum((hue * len(COATS)).astype(int), len(COATS) - 1)
    return each[row, np.arange(len(level))]


def parameters(
    seed: int, indices: Sequence[int], resolution: int = 64
) -> tuple[dict[str, np.ndarray], pd.DataFrame, pd.DataFrame]:
    """Everything that is drawn for critters number `indices` of population `seed`, before any paint.

    Returns
    -------
    parameters : dict of float32 arrays
        What :func:`diga_lib.data.critter_painter.paint` takes.
    attributes : DataFrame (n, A), int8 0/1, columns ``ATTRIBUTES``
    factors : DataFrame (n, F), float32 in [0, 1], columns ``FACTORS``
        The continuous truth: the cues of the species, and the lightness of the fur.
    """
    indices = np.asarray(indices, int)
    if seed < 0 or indices.min(initial=0) < 0:
        raise ValueError(
            f"seed and critter numbers must be 0 or more, not seed {seed} and critter {indices.min(initial=0)}."
        )
    u = draws(int(seed), 4, indices, _UNIFORMS, _GRIDS | {"grain": (3, resolution, resolution)})  # 1 to 3: faces

    def on(name, chance):
        return (u[name] < chance).astype(np.float32)

    dog, dark = on("dog", 0.5), on("dark", 0.5)

    def by_species(pair):
        return np.where(dog > 0, pair[1], pair[0])

    p = {name: _between(u[name], *limits) for name, limits in _CAMERA.items()}
    p |= {name: u[name] for name in (*_GRIDS, "grain")}
    for cue, (cat, hound) in RANGES.items():
        like_dog = np.where(u[f"{cue}_swap"] < EXCEPTION, 1 - dog, dog) > 0
        p[cue] = np.where(like_dog, _between(u[cue], *hound), _between(u[cue], *cat))
    floppy = on("floppy", by_species(FLOPPY))
    p["droop"] = np.where(floppy > 0, _between(u["droop"] ** 0.8, 0.70, 1.0), _between(u["droop"] ** 1.5, 0.0, 0.30))
    for name in ("dome", "jaw", "ear_spread", "furrow"):
        p[name] = u[name]
    p["fluff"] = _between(u["fluff"], 0.0, 1.0)
    for name, low, high in (
        ("ear_uneven", -1, 1),
        ("eye_opening", 0.72, 1.05),
        ("eye_apart", -0.025, 0.03),
        ("gaze", -1, 1),
        ("whisker_tilt", -1, 1),
        ("whisker_length", 0.45, 0.85),
        ("grain_strength", 0.02, 0.09),
    ):
        p[name] = _between(u[name], low, high)
    p["collar"], p["tag"] = on("collar", 0.35), (u["tag"] < 0.6).astype(np.float32)
    p["tongue"] = on("tongue_on", by_species(TONGUE)) * _between(u["tongue"], 0.5, 1.0)
    p["stripes"] = on("stripes_on", by_species(STRIPED)) * _between(u["stripes"], 0.4, 1.0)
    p["patch_side"] = np.where(u["patch_side"] < 0.5, -1.0, 1.0)

    level = np.where(dark > 0, _between(u["fur_level"], 0.0, 0.44), _between(u["fur_level"], 0.56, 1.0))
    p["fur"] = _coat(level, u["fur_hue"])
    # The second colour is lighter or darker than the coat by some steps; so are the snout and the ears.
    second = np.where(
        u["second_on"] < 0.75, _between(u["second_level"], 0.75, 1.0), _between(u["second_level"], 0.0, 0.35)
    )
    p["second"] = _coat(second, u["fur_hue"])
    patched = 0
    for mark, chance in (("blots", 0.14), ("eye_patch", 0.14), ("blaze", 0.18), ("bib", 0.30), ("brow_dots", 0.12)):
        p[mark] = on(f"{mark}_on", chance)
        patched = np.maximum(patched, p[mark] * (mark in ("blots", "eye_patch", "blaze")))
    change = np.where(
        u["snout_on"] < 0.30, _between(u["snout_level"], 0.25, 0.55), _between(u["snout_level"], -0.08, 0.12)
    )
    change = np.where(u["snout_on"] > 0.88, -_between(u["snout_level"], 0.15, 0.40), change)
    p["snout"] = _coat(np.clip(level + change, 0, 1), u["fur_hue"])
    p["ear"] = _coat(np.clip(level + _between(u["ear_tone"], -0.22, 0.08), 0, 1), u["fur_hue"])
    p["inner_ear"] = 0.55 * np.array([0.80, 0.58, 0.55], np.float32) + 0.45 * p["fur"]
    pink = u["nose_pink"] < np.where(dog > 0, 0.15, 0.50)
    dark_nose = _gradient(u["nose_colour"], [[0.06, 0.055, 0.06], [0.16, 0.12, 0.11], [0.28, 0.17, 0.14]])
    p["nose"] = np.where(
        pink[:, None], _gradient(u["nose_colour"], [[0.82, 0.52, 0.50], [0.66, 0.38, 0.36]]), dark_nose
    )
    light_eyes = u["eye_light"] < np.where(dog > 0, 0.22, 0.72)
    p["eye"] = np.where(
        light_eyes[:, None], _gradient(u["eye_colour"], LIGHT_EYES), _gradient(u["eye_colour"], BROWN_EYES)
    )
    p["whisker_colour"] = np.where((level < 0.85)[:, None], np.float32(0.93), np.float32(0.45)) + 0 * p["fur"]
    p["collar_colour"] = np.asarray(COLLARS, np.float32)[
        np.minimum((u["collar_hue"] * len(COLLARS)).astype(int), len(COLLARS) - 1)
    ]
    tint = np.stack([(u["warm"] - 0.5) * 0.08, (u["green"] - 0.5) * 0.03, (0.5 - u["warm"]) * 0.08], 1)
    p["white_balance"] = 1 + tint
    raw = 0.10 + 0.84 * np.stack([u["bg_r"], u["bg_g"], u["bg_b"]], 1)
    mean = raw.mean(1, keepdims=True)
    p["background"] = mean + (raw - mean) * 0.7 * u["bg_grey"][:, None]

    attributes = {
        "Dog": dog,
        "Dark_Fur": dark,
        "Floppy_Ears": floppy,
        "Collar": p["collar"],
        "Tongue_Out": p["tongue"] > 0,
        "Striped": p["stripes"] > 0,
        "Patched": patched,
        "Light_Eyes": light_eyes,
    }
    table = pd.DataFrame({name: np.asarray(attributes[name]).astype(np.int8) for name in ATTRIBUTES})
    factors = pd.DataFrame({name: level if name == "fur_level" else p[name] for name in FACTORS}).astype(np.float32)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in p.items()}, table, factors


def render(seed: int, indices: Sequence[int], resolution: int = 64) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Critters number `indices` of population `seed`; each is the same whatever else is drawn with it.

    Returned are uint8 images (n, 3, resolution, resolution), attributes and factors, as of :func:`parameters`.
    """
    p, attributes, factors = parameters(seed, indices, resolution)
    return in_batches(paint, p, resolution), attributes, factors
