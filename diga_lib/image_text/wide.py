"""What the two image–text models of the test-time page are told of a face: more than attributes, see `facts`.

Poses, backgrounds, hair lengths and the shapes of brows and lips come in as well, one fact at a time. No caption
ever names a class of `test_time.class_spaces` as one of a list of choices, and no emotion is named at all: what a
surprised face is must be said in the words for its parts.
"""

import numpy as np
import pandas as pd

from diga_lib.data import faces
from diga_lib.image_text.captions import FRAMES, NOUNS, PHRASES, compose

# For each fact: what may be said for each of its values.
WIDE_PHRASES = {
    name: PHRASES[name]
    for name in (
        "Smiling",
        "Eyeglasses",
        "Big_Nose",
        "Heavy_Makeup",
        "Wearing_Lipstick",
        "No_Beard",
        "Mustache",
        "Bald",
        "Bangs",
        "Mouth_Slightly_Open",
        "Narrow_Eyes",
    )
} | {
    "Hair_Colour": tuple(
        (f"with {colour} hair", f"who has {colour} hair", f"with hair that is {colour}")
        for colour in ("black", "brown", "blond", "red", "gray")
    ),
    "Hair_Length": (("with short hair", "who has short hair"), ("with long hair", "who has long hair")),
    "Age": (
        ("young", "youthful", "who is young"),
        ("middle-aged", "who is middle-aged"),
        ("old", "elderly", "who is old"),
    ),
    "Skin": (
        ("with pale skin", "pale"),
        ("with light skin", "who has light skin"),
        ("with tan skin", "who has tan skin"),
        ("with dark skin", "who has dark skin"),
    ),
    "Lenses": (("with clear glasses", "wearing clear glasses"), ("with sunglasses", "wearing sunglasses")),
    "Frames": (("with thin glasses", "wearing thin glasses"), ("with thick glasses", "wearing thick glasses")),
    "Stubble": (("without stubble",), ("with stubble", "with a little stubble")),
    "Brows": (
        ("with relaxed eyebrows", "with calm eyebrows"),
        ("with raised eyebrows", "with high eyebrows"),
        ("with lowered eyebrows", "with a frown", "frowning"),
    ),
    "Nose_Wrinkles": (("with a smooth nose", "without nose wrinkles"), ("with a wrinkled nose", "with nose wrinkles")),
    "Lip_Corners": (("without drooping lips",), ("with drooping lips", "with lowered lip corners")),
    "Jaw": (("without dropped jaw", "with the jaw closed"), ("with dropped jaw", "with the jaw dropped")),
    "Eyelids": (("with closed eyes", "with eyes shut"), ("with relaxed eyelids",), ("with staring eyes", "staring")),
    "Turn": (
        ("turned to the left", "facing left"),
        ("facing the camera", "facing forward"),
        ("turned to the right", "facing right"),
    ),
    "Background": tuple(
        (f"on a {colour} background", f"before a {colour} wall")
        for colour in ("dark", "gray", "light", "red", "green", "blue")
    ),
}
WORDS = tuple(
    sorted(
        {
            word
            for sides in (*WIDE_PHRASES.values(), *NOUNS.values(), FRAMES, ("a an and",))
            for side in sides
            for text in ([side] if isinstance(side, str) else side)
            for word in text.replace("-", " ").split()
        }
    )
)


def _steps(values, *edges):
    """Number the intervals between pairs of edges, and -1 in the gaps, where words would be a matter of taste."""
    result = np.full(len(values), -1)
    for number, (low, high) in enumerate(edges):
        result[(values >= low) & (values < high)] = number
    return result


def facts(parameters, attributes, factors):
    """Tell what may be said of rendered faces.

    Parameters
    ----------
    parameters, attributes, factors
        As `data.faces.parameters` returns them for n faces.

    Returns
    -------
    DataFrame
        (n, F) of int: the value of each fact in ``WIDE_PHRASES`` and of "Male", or -1 where it is not to be said.
    """
    p, unit = parameters, factors / 5
    high = np.inf
    table = {name: attributes[name].to_numpy(int) for name in WIDE_PHRASES if name in attributes}
    table["Male"] = attributes["Male"].to_numpy(int)
    colours = ["Black_Hair", "Brown_Hair", "Blond_Hair", "", "Gray_Hair"]
    named = np.stack([attributes[name] if name else np.zeros(len(attributes)) for name in colours], 1)
    hair = np.where(named.any(1), named.argmax(1), 3)  # hair of none of CelebA's colours is red
    bald = attributes["Bald"].to_numpy() == 1
    table["Hair_Colour"] = np.where(bald, -1, hair)
    table["Hair_Length"] = np.where(bald, -1, _steps(p["hair_length"], (-1, 0.38), (0.42, high)))
    table["Age"] = _steps(p["age"], (-1, 0.35), (0.37, 0.60), (0.62, high))
    table["Skin"] = _steps(factors["skin_tone"].to_numpy(), (-1, 0.14), (0.16, 0.34), (0.36, 0.58), (0.60, high))
    glasses = p["glasses"] > 0
    table["Lenses"] = np.where(glasses, p["sunglasses"], -1).astype(int)
    table["Frames"] = np.where(glasses, _steps(p["frame_weight"], (-1, 0.4), (0.6, high)), -1)
    shaven = (attributes["Male"] == 1) & (attributes["No_Beard"] == 1)
    table["Stubble"] = np.where(shaven, _steps(p["stubble"], (-1, 0.10), (0.20, high)), -1)
    raised, lowered = (unit["AU1"] + unit["AU2"]).to_numpy() / 2, unit["AU4"].to_numpy()
    table["Brows"] = np.where(
        (raised > 0.35) & (lowered > 0.35),
        -1,
        np.where(lowered > 0.35, 2, np.where(raised > 0.35, 1, np.where(np.maximum(raised, lowered) < 0.2, 0, -1))),
    )
    for name, source in (("Nose_Wrinkles", "AU9"), ("Lip_Corners", "AU15"), ("Jaw", "AU26")):
        table[name] = _steps(unit[source].to_numpy(), (-1, 0.15), (0.35, high))
    lids = _steps(unit["AU5"].to_numpy(), (high, high), (-1, 0.15), (0.40, high))
    table["Eyelids"] = np.where(p["blink"] > 0.5, 0, lids)
    table["Turn"] = _steps(p["yaw"], (-high, -0.35), (-0.25, 0.25), (0.35, high))
    table["Background"] = _background(p["background"])
    return pd.DataFrame(table).astype(int)


def _background(colour):
    """Number the colours (n, 3) in [0, 1] as ``WIDE_PHRASES`` does, -1 between two."""
    mean, chroma = colour.mean(1), colour.max(1) - colour.min(1)
    lightness = _steps(mean, (-1, 0.38), (0.42, 0.60), (0.64, np.inf))
    ordered = np.sort(colour, 1)
    clear = (chroma > 0.15) & (ordered[:, 2] - ordered[:, 1] > 0.5 * chroma)
    return np.where(clear, 3 + colour.argmax(1), np.where(chroma < 0.10, lightness, -1))


def wide_caption(row, rng):
    """Describe a face by some of its facts, in random order and words.

    Parameters
    ----------
    row : mapping
        From names to values: a row of `facts`.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    str
        Such as "a young woman with raised eyebrows, facing left".
    """
    return compose(row, rng, WIDE_PHRASES)


def wide_facts(n, seed):
    """Return the `facts` of rendered faces 0 to n - 1 of a population, without drawing them."""
    blocks = [facts(*faces.parameters(seed, np.arange(start, min(start + 1000, n)))) for start in range(0, n, 1000)]
    return pd.concat(blocks, ignore_index=True)
