"""Rendered faces: the embedded data. Face number i of a seed is the same face on every machine and in every batch.

A face is *identity + expression + camera*, three independent streams of random numbers, so the same subject can be
drawn again with another expression. Attributes carry CelebA's names, action units DISFA's. Attributes are drawn
first and the visible cues after them, from ranges that overlap: no single pixel tells a target, and none of the
attributes used together as target and spurious attribute causes the other. Any correlation in a training set is
therefore the doing of :func:`diga_lib.data.biased_split`.

What the names mean here: "Male" is *drawn with masculine-presenting cues*, "Young" is *drawn with few signs of age*.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from diga_lib.data.painter import EYE_X, EYE_Y, in_batches, paint

__all__ = ["ACTION_UNITS", "ATTRIBUTES", "EYE_X", "EYE_Y", "VERSION", "draw", "parameters", "render"]

VERSION = "1"
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")
_ATTRIBUTES = """
    Smiling Male Young Eyeglasses Black_Hair Blond_Hair Brown_Hair Gray_Hair Big_Nose Heavy_Makeup Wearing_Lipstick
    No_Beard Mustache Bald Bangs Mouth_Slightly_Open Narrow_Eyes Pale_Skin Attractive Ethnicity
"""
ATTRIBUTES = tuple(_ATTRIBUTES.split())

# Calibrated once on seeds 900-902, which nothing else uses: see "How hard the faces are" in the data card.
SMILE_RANGE, NO_SMILE_RANGE = (0.42, 1.0), (0.0, 0.40)

# The names of a stream's uniform numbers, in the order in which they are drawn.
_IDENTITY = """
    male young ethnicity glasses hair big_nose makeup lipstick beard mustache bald bangs narrow male_shape age skin
    hair_shade gray gray_shade nose_size makeup_strength lip_tone lip_strength lip_fullness beard_strength
    beard_length stubble bangs_strength hair_length hair_long hair_volume hair_wave hair_phase hair_forward parting
    receding strand_contrast fuzz fat long_face brow_weight eye_opening eye_size eye_slant eye_colour lashes
    sunglasses frame_square frame_height frame_weight frame_colour shadow_tone tooth_light crooked skin_red hair_red
    attractive_noise fold mouth_drop mouth_width nose_length brow_height
"""
_EXPRESSION = """
    smile smile_strength au6 au1 au2 au12_ brow_up au4 au4_on au5 au5_on au9 au9_on au15 au15_on au17 au17_on au20
    au20_on au25 au25_on au26 au26_on blink blink_on gaze teeth squint_on
"""
_CAMERA = """
    shift_x shift_y roll yaw pitch light_x light_y light_strength exposure contrast blur noise warm green
    background_tilt neckline bg_r bg_g bg_b bg_grey cl_r cl_g cl_b
"""


def draws(seed: int, stream: int, indices: np.ndarray, names: Sequence[str], grids: dict) -> dict[str, np.ndarray]:
    """Uniform numbers (n,) by name and standard normal grids by shape, from random numbers of each picture's own."""
    uniforms = np.empty((len(indices), len(names)), np.float32)
    noise = {key: np.empty((len(indices), *shape), np.float32) for key, shape in grids.items()}
    for row, index in enumerate(indices):
        rng = np.random.Generator(np.random.SFC64([seed, stream, int(index)]))
        rng.random(dtype=np.float32, out=uniforms[row])
        for key in noise:
            rng.standard_normal(dtype=np.float32, out=noise[key][row])
    return dict(zip(names, uniforms.T, strict=True)) | noise


def _between(u: np.ndarray, low, high) -> np.ndarray:
    return low + (high - low) * u


def _gradient(position: np.ndarray, stops: list[list[float]]) -> np.ndarray:
    """Colours (n, 3) along a piecewise linear palette; position in [0, 1]."""
    stops = np.asarray(stops, np.float32)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(position, at, stops[:, k]) for k in range(3)], axis=1).astype(np.float32)


SKIN = [
    [0.97, 0.84, 0.76],
    [0.91, 0.73, 0.60],
    [0.80, 0.60, 0.45],
    [0.62, 0.43, 0.31],
    [0.45, 0.30, 0.22],
    [0.31, 0.20, 0.15],
]
HAIR = {
    "black": ([0.045, 0.042, 0.042], [0.19, 0.155, 0.14]),
    "brown": ([0.15, 0.105, 0.08], [0.46, 0.31, 0.20]),
    "blond": ([0.58, 0.43, 0.25], [0.92, 0.80, 0.55]),
    "red": ([0.36, 0.14, 0.07], [0.66, 0.31, 0.14]),
    "gray": ([0.42, 0.42, 0.42], [0.84, 0.84, 0.83]),
}
# Probability of black, brown, blond, red hair for each of the four values of the ethnicity-like factor.
HAIR_ODDS = np.array(
    [[0.22, 0.38, 0.33, 0.07], [0.55, 0.30, 0.12, 0.03], [0.62, 0.30, 0.06, 0.02], [0.64, 0.30, 0.05, 0.01]]
)
SKIN_RANGE = np.array([[0.0, 0.34], [0.14, 0.52], [0.34, 0.78], [0.58, 1.0]])


def _identity(u: dict[str, np.ndarray]) -> tuple[dict, dict, dict]:
    def flag(name, p):
        return (u[name] < p).astype(np.float32)

    male, young = flag("male", 0.5), flag("young", 0.55)
    ethnicity = np.minimum((u["ethnicity"] * 4).astype(int), 3)
    glasses, big_nose = flag("glasses", 0.22), flag("big_nose", 0.45)
    p, a = {}, {}
    p["male_shape"] = np.where(male > 0, _between(u["male_shape"], 0.48, 1.0), _between(u["male_shape"], 0.0, 0.52))
    p["age"] = np.where(young > 0, _between(u["age"], 0.0, 0.55), _between(u["age"], 0.45, 1.0))
    low, high = SKIN_RANGE[ethnicity].T
    tone = _between(u["skin"], low, high)
    redness = (u["skin_red"][:, None] - 0.5) * np.array([0.03, -0.025, -0.03], np.float32)
    p["skin"] = np.clip(_gradient(tone, SKIN) + redness, 0, 1)

    odds = HAIR_ODDS[ethnicity].cumsum(1)
    colour = (u["hair"][:, None] > odds[:, :3]).sum(1)  # 0 black, 1 brown, 2 blond, 3 red
    gray = u["gray"] < np.where(young > 0, 0.02, 0.45)
    colour = np.where(gray, 4, colour)
    ends = np.array([HAIR[name] for name in ("black", "brown", "blond", "red", "gray")], np.float32)[colour]
    shade = np.where(gray, u["gray_shade"], u["hair_shade"])[:, None]
    warmth = 1 + (u["hair_red"][:, None] - 0.5) * np.array([0.10, 0.0, -0.10], np.float32)
    p["hair"] = np.clip((ends[:, 0] + (ends[:, 1] - ends[:, 0]) * shade) * warmth, 0, 1).astype(np.float32)
    brow = np.where(gray[:, None], 0.55 * p["hair"], np.minimum(p["hair"] * 0.72, 0.42))
    p["brow_colour"] = brow.astype(np.float32)

    bald = male * flag("bald", 0.12)
    bangs = flag("bangs", 0.28) * (1 - bald)
    p["has_hair"], p["fuzz"] = 1 - bald, u["fuzz"]
    p["bangs"] = np.where(bangs > 0, _between(u["bangs_strength"], 0.6, 1.0), _between(u["bangs_strength"], 0.0, 0.30))
    long_odds = np.where(male > 0, 0.13, 0.80)
    long_hair = u["hair_long"] < long_odds
    p["hair_length"] = np.where(long_hair, _between(u["hair_length"], 0.42, 1.0), _between(u["hair_length"], 0.0, 0.34))
    p["receding"] = male * p["age"] * u["receding"]
    for name in ("hair_volume", "hair_wave", "hair_phase", "hair_forward", "fat", "long_face", "eye_size"):
        p[name] = u[name]
    p["parting"] = _between(u["parting"], -1, 1)
    p["strand_contrast"] = _between(u["strand_contrast"], 0.06, 0.18)

    beard = male * flag("beard", 0.34)
    mustache = male * np.where(beard > 0, flag("mustache", 0.85), flag("mustache", 0.08))
    p["beard"] = beard * _between(u["beard_strength"], 0.45, 1.0)
    p["mustache"] = mustache * _between(u["beard_strength"], 0.55, 1.0)
    p["beard_length"] = u["beard_length"] ** 2
    p["stubble"] = male * _between(u["stubble"], 0.0, 0.34) * (1 - beard)

    makeup = (u["makeup"] < np.where(male > 0, 0.15, 0.75)).astype(np.float32)
    p["makeup"] = np.where(
        makeup > 0, _between(u["makeup_strength"], 0.42, 1.0), _between(u["makeup_strength"], 0.0, 0.48)
    )
    p["makeup"] = p["makeup"] * np.where(male > 0, 0.85, 1.0)
    lipstick = (u["lipstick"] < np.where(makeup > 0, 0.80, 0.12)).astype(np.float32)
    stick = np.where(lipstick > 0, _between(u["lip_strength"], 0.40, 0.95), 0.10 * u["lip_strength"])[:, None]
    natural = p["skin"] * np.array([0.84, 0.60, 0.58], np.float32) + np.array([0.03, 0.02, 0.02], np.float32)
    paint_tone = _gradient(
        u["lip_tone"], [[0.72, 0.13, 0.20], [0.80, 0.30, 0.38], [0.55, 0.16, 0.24], [0.76, 0.34, 0.28]]
    )
    p["lip"] = (natural + (paint_tone - natural) * stick).astype(np.float32)
    p["lip_fullness"] = np.clip(u["lip_fullness"] + 0.25 * (1 - p["male_shape"]) - 0.2 * p["age"], 0, 1.2)
    p["lashes"] = np.clip(0.25 * (1 - p["male_shape"]) + 0.75 * p["makeup"] * _between(u["lashes"], 0.6, 1), 0, 1)
    p["shadow"] = _gradient(
        u["shadow_tone"], [[0.45, 0.25, 0.35], [0.30, 0.32, 0.48], [0.42, 0.28, 0.20], [0.55, 0.35, 0.45]]
    )
    p["blush"] = np.clip(
        p["skin"] * np.array([1.02, 0.66, 0.64], np.float32) + np.array([0.08, 0, 0.02], np.float32), 0, 1
    )

    narrow = flag("narrow", 0.25)
    p["eye_opening"] = np.where(
        narrow > 0, _between(u["eye_opening"], 0.52, 0.80), _between(u["eye_opening"], 0.76, 1.10)
    )
    fold = (ethnicity == 1) * (u["fold"] < 0.6)
    p["fold"], p["eye_slant"] = fold.astype(np.float32), _between(u["eye_slant"], -0.6, 0.9) + 0.7 * fold
    dark_eyes = [[0.20, 0.12, 0.07], [0.12, 0.08, 0.06]]
    light_eyes = [[0.34, 0.48, 0.62], [0.33, 0.42, 0.26], [0.32, 0.22, 0.12]]
    pale_eyes = ((ethnicity == 0) & (u["eye_colour"] > 0.25))[:, None]
    p["eye"] = np.where(
        pale_eyes, _gradient(u["eye_colour"], light_eyes), _gradient(u["eye_colour"], dark_eyes)
    ).astype(np.float32)
    p["brow_weight"] = np.clip(0.18 + 0.42 * u["brow_weight"] + 0.42 * p["male_shape"], 0, 1)
    p["nose_size"] = np.where(big_nose > 0, _between(u["nose_size"], 0.42, 1.0), _between(u["nose_size"], 0.0, 0.56))
    p["glasses"] = glasses
    p["sunglasses"] = (u["sunglasses"] < 0.06).astype(np.float32)
    for name in ("frame_square", "frame_height", "frame_weight"):
        p[name] = u[name]
    # Proportions differ from head to head, so an expression must be read as a shape, not at a fixed place.
    for name, low, high in (
        ("mouth_drop", -0.045, 0.055),
        ("mouth_width", 0.84, 1.18),
        ("nose_length", -0.035, 0.025),
        ("brow_height", -0.028, 0.022),
    ):
        p[name] = _between(u[name], low, high)
    p["frame"] = _gradient(
        u["frame_colour"], [[0.07, 0.07, 0.08], [0.12, 0.10, 0.10], [0.36, 0.22, 0.13], [0.55, 0.53, 0.50]]
    )
    p["tooth_light"], p["crooked"] = _between(u["tooth_light"], 0.84, 1.02), _between(u["crooked"], -1, 1)

    a |= {
        "Male": male,
        "Young": young,
        "Eyeglasses": glasses,
        "Big_Nose": big_nose,
        "Heavy_Makeup": makeup,
        "Wearing_Lipstick": lipstick,
        "No_Beard": 1 - np.maximum(beard, mustache),
        "Mustache": mustache,
        "Bald": bald,
        "Bangs": bangs,
        "Narrow_Eyes": narrow,
        "Pale_Skin": tone < 0.14,
        "Ethnicity": ethnicity >= 2,
    }
    for code, name in enumerate(("Black_Hair", "Brown_Hair", "Blond_Hair", None, "Gray_Hair")):
        if name:
            a[name] = (colour == code) & (bald == 0)
    # "Attractive" is somebody's judgement and is not drawn: the column is Heavy_Makeup with 10 % of labels flipped.
    a["Attractive"] = np.where(u["attractive_noise"] < 0.10, 1 - makeup, makeup)
    truth = {"ethnicity": ethnicity, "skin_tone": tone}
    truth |= {name: p[name] for name in ("male_shape", "age", "nose_size", "makeup", "hair_length", "eye_opening")}
    return p, a, truth


def _expression(u: dict[str, np.ndarray]) -> tuple[dict, dict]:
    def on(name, p):
        return u[name] < p

    smiling = on("smile", 0.5)
    p = {}
    p["AU12"] = np.where(
        smiling, _between(u["smile_strength"], *SMILE_RANGE), _between(u["smile_strength"] ** 1.3, *NO_SMILE_RANGE)
    )
    # Cheeks rise with most smiles, and also with a squint: AU 6 alone does not tell a smile.
    p["AU6"] = np.where(on("squint_on", 0.30), u["au6"], p["AU12"] * _between(u["au6"], 0.1, 0.9))
    brow_up = on("brow_up", 0.40)
    p["AU1"], p["AU2"] = brow_up * u["au1"], brow_up * u["au2"]
    calm = np.where(smiling, 0.8, 1.0)
    for name, chance in (("au4", 0.32), ("au5", 0.28), ("au9", 0.22), ("au17", 0.28), ("au20", 0.28), ("au26", 0.30)):
        p[name.upper()] = on(name + "_on", chance) * u[name] * (calm if name in ("au4", "au9") else 1.0)
    p["AU15"] = on("au15_on", 0.30) * u["au15"] * np.where(smiling, 0.35, 1.0)
    p["AU25"] = np.where(on("au25_on", 0.50), u["au25"], 0.0)
    p["blink"] = np.where(on("blink_on", 0.04), _between(u["blink"], 0.6, 1.0), 0.0)
    p["gaze"], p["teeth"] = _between(u["gaze"], -1, 1), u["teeth"]
    return p, {"Smiling": smiling}


_CAMERA_RANGES = """
    shift_x -0.025 0.025; shift_y -0.025 0.025; roll -0.04 0.04; yaw -1 1; pitch -1 1; light_x -1 1; light_y
    -1 0.35; light_strength 0.04 0.24; exposure 0.86 1.14; contrast 0.85 1.12; blur 0 0.55; noise 0.003 0.018;
    background_tilt -1 1; neckline -1 1
"""


def _camera(u: dict[str, np.ndarray]) -> dict:
    p = {"grain": u["grain"], "background_noise": u["background_noise"]}
    for line in _CAMERA_RANGES.strip().split(";"):
        name, low, high = line.split()
        p[name] = _between(u[name], float(low), float(high))
    tint = np.stack([(u["warm"] - 0.5) * 0.08, (u["green"] - 0.5) * 0.03, (0.5 - u["warm"]) * 0.08], 1)
    p["white_balance"] = (1 + tint).astype(np.float32)
    raw = 0.08 + 0.86 * np.stack([u["bg_r"], u["bg_g"], u["bg_b"]], 1)
    mean = raw.mean(1, keepdims=True)
    p["background"] = mean + (raw - mean) * 0.6 * u["bg_grey"][:, None] ** 1.5
    p["clothes"] = 0.05 + 0.85 * np.stack([u["cl_r"], u["cl_g"], u["cl_b"]], 1)
    return p


def parameters(
    seed: int,
    identities: Sequence[int],
    expressions: Sequence[int] | None = None,
    cameras: Sequence[int] | None = None,
    resolution: int = 64,
    units: pd.DataFrame | None = None,
) -> tuple[dict[str, np.ndarray], pd.DataFrame, pd.DataFrame]:
    """Everything that is drawn, as named numbers, before any paint.

    Parameters
    ----------
    seed : int
        Seed of the population, >= 0.
    identities, expressions, cameras : sequences of int, shape (n,)
        Which of the population each face has. By default face number i has identity, expression and camera number i.
    resolution : int
        Side of the pictures to come (the camera's grain is drawn pixel by pixel).
    units : DataFrame, optional
        Action-unit intensities (n, any of ``ACTION_UNITS``) in 0-5 that replace the drawn ones.

    Returns
    -------
    parameters : dict of float32 arrays
        What :func:`diga_lib.data.painter.paint` takes.
    attributes : DataFrame (n, A), int8 0/1, columns ``ATTRIBUTES``
    factors : DataFrame (n, F), float32
        The twelve action units in 0-5 and the continuous truth behind some attributes.
    """
    if seed < 0 or min(identities, default=0) < 0:
        raise ValueError(f"seed and face numbers must be 0 or more, not seed {seed} and face {min(identities)}.")
    identities = np.asarray(identities, int)
    expressions, cameras = (identities if given is None else np.asarray(given, int) for given in (expressions, cameras))
    grids = {"skin_noise": (12, 12), "strand_noise": (7, 30)}
    who = draws(seed, 1, identities, _IDENTITY.split(), grids)
    p, attributes, factors = _identity(who)
    p |= {name: who[name] for name in grids}
    expression, expressed = _expression(draws(seed, 2, expressions, _EXPRESSION.split(), {}))
    if units is not None:
        unknown = set(units.columns) - set(ACTION_UNITS)
        if unknown:
            raise ValueError(f"Unknown action units {sorted(unknown)}; valid are {', '.join(ACTION_UNITS)}.")
        for unit in units.columns:
            expression[unit] = units[unit].to_numpy(np.float32) / 5
    grids = {"background_noise": (4, 4), "grain": (3, resolution, resolution)}
    p |= expression | _camera(draws(seed, 3, cameras, _CAMERA.split(), grids))
    opened = (p["AU25"] > 0.3) | (p["AU26"] > 0.2)
    attributes |= expressed | {"Mouth_Slightly_Open": opened}
    table = pd.DataFrame({name: np.asarray(attributes[name]).astype(np.int8) for name in ATTRIBUTES})
    truth = {unit: 5 * p[unit] for unit in ACTION_UNITS} | factors
    p = {name: np.ascontiguousarray(value, np.float32) for name, value in p.items()}
    return p, table, pd.DataFrame(truth).astype(np.float32)


def draw(p: dict[str, np.ndarray], resolution: int = 64) -> np.ndarray:
    """Paint faces from their parameters: uint8 images (n, 3, resolution, resolution)."""
    return in_batches(paint, p, resolution)


def render(seed: int, indices: Sequence[int], resolution: int = 64) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Faces number `indices` of population `seed`; each is the same whatever else is drawn with it.

    Returns
    -------
    images : uint8 array (n, 3, resolution, resolution)
    attributes, factors : DataFrame
        As of :func:`parameters`.
    """
    p, attributes, factors = parameters(seed, indices, resolution=resolution)
    return draw(p, resolution), attributes, factors
