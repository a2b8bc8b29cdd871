"""What the small image–text models are told of a face: captions of its attributes or of facts, never of an emotion."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.image_text import PROMPTS

AS_ATTRIBUTES = ("Smiling", "Eyeglasses", "Big_Nose", "Heavy_Makeup", "Wearing_Lipstick", "No_Beard")  # facts too
AS_ATTRIBUTES += ("Mustache", "Bald", "Bangs", "Mouth_Slightly_Open", "Narrow_Eyes", "Male")
# What may be said of a face for each value of an attribute (0, 1) or a fact. One word comes before the noun, more come
# after it. "Male" is the noun itself.
_TABLE = pd.read_csv(Path(__file__).with_name("phrases.csv")).groupby("name", sort=False)["phrases"]
_SAID = {name: tuple(tuple(said.split("; ")) for said in values) for name, values in _TABLE}
PHRASES = {name: said for name, said in _SAID.items() if name in PROMPTS}
WIDE_PHRASES = {name: PHRASES[name] for name in AS_ATTRIBUTES if name in PHRASES}
WIDE_PHRASES |= {name: said for name, said in _SAID.items() if name not in PROMPTS}
NOUNS = {
    None: ("person", "face", "human face"),
    0: ("woman", "lady", "female person", "female face"),
    1: ("man", "gentleman", "male person", "male face"),
}
FRAMES = ("", "", "", "", "a photo of", "a picture of", "a portrait of")
MOST_NAMED = 4  # attributes in one caption: short captions bind a word to its attribute soonest


def vocabulary(phrases: Mapping) -> tuple[str, ...]:
    """Every word of captions with these phrases, sorted; a hyphen parts two words."""
    texts = chain(FRAMES, ("a", "an", "and"), *NOUNS.values(), *chain(*phrases.values()))
    return tuple(sorted({word for text in texts for word in text.replace("-", " ").split()}))


def caption(values: Mapping[str, int], rng: np.random.Generator, phrases: Mapping = PHRASES) -> str:
    """Describe a face by some of its attributes, in random order and words: "a smiling man with glasses and bangs".

    Whether an attribute is named does not depend on its value, so captions alone tell nothing of base rates. `values`
    are whole numbers by name, of `phrases` and "Male"; -1 where nothing is to be said.
    """

    def pick(options):
        return options[rng.integers(len(options))]

    names = (*phrases, "Male")
    named = [names[i] for i in rng.permutation(len(names))[: rng.integers(1, MOST_NAMED + 1)]]
    noun = pick(NOUNS[int(values["Male"]) if "Male" in named else None])
    said = [pick(phrases[name][int(values[name])]) for name in named if name != "Male" and values[name] >= 0]
    words = " ".join([phrase for phrase in said if " " not in phrase] + [noun])
    sentence, previous = ("an " if words[0] in "aeiou" else "a ") + words, ""
    for phrase in (phrase for phrase in said if " " in phrase):
        start, _, rest = phrase.partition(" ")
        if start == previous == "with" and rng.random() < 0.6:  # "with glasses and black hair"
            phrase = rest
        sentence += pick((" and ", ", ", ", and ") if previous else (" ",)) + phrase
        previous = start
    return f"{pick(FRAMES)} {sentence}".strip()


def facts(parameters: Mapping, attributes: pd.DataFrame, factors: pd.DataFrame) -> pd.DataFrame:
    """Tell what may be said of n faces of `data.faces.parameters`: the value (n, F) of each fact, -1 if unsaid."""
    p, unit, high = parameters, factors / 5, np.inf
    table = {name: attributes[name] for name in AS_ATTRIBUTES}
    bald, glasses = attributes["Bald"] == 1, p["glasses"] > 0
    colours = [attributes[f"{name}_Hair"] == 1 for name in ("Black", "Brown", "Blond", "Gray")]
    table["Hair_Colour"] = np.select([bald, *colours], [-1, 0, 1, 2, 4], 3)  # hair of none of CelebA's colours is red
    table["Hair_Length"] = np.where(bald, -1, _interval(p["hair_length"], (-1, 0.38), (0.42, high)))
    table["Age"] = _interval(p["age"], (-1, 0.35), (0.37, 0.60), (0.62, high))
    table["Skin"] = _interval(factors["skin_tone"], (-1, 0.14), (0.16, 0.34), (0.36, 0.58), (0.60, high))
    table["Lenses"] = np.where(glasses, p["sunglasses"], -1)
    table["Frames"] = np.where(glasses, _interval(p["frame_weight"], (-1, 0.4), (0.6, high)), -1)
    shaven = (attributes["Male"] == 1) & (attributes["No_Beard"] == 1)
    table["Stubble"] = np.where(shaven, _interval(p["stubble"], (-1, 0.10), (0.20, high)), -1)
    raised, lowered = (unit["AU1"] + unit["AU2"]) / 2, unit["AU4"]
    relaxed, up, down = np.maximum(raised, lowered) < 0.2, raised > 0.35, lowered > 0.35
    table["Brows"] = np.select([relaxed, up & ~down, down & ~up], [0, 1, 2], -1)
    for name, source in (("Nose_Wrinkles", "AU9"), ("Lip_Corners", "AU15"), ("Jaw", "AU26")):
        table[name] = _interval(unit[source], (-1, 0.15), (0.35, high))
    table["Eyelids"] = np.where(p["blink"] > 0.5, 0, _interval(unit["AU5"], (high, high), (-1, 0.15), (0.40, high)))
    table["Turn"] = _interval(p["yaw"], (-high, -0.35), (-0.25, 0.25), (0.35, high))
    least, middle, most = np.sort(p["background"], 1).T  # of red, green and blue
    chroma, mean = most - least, p["background"].mean(1)
    grey = np.where(chroma < 0.10, _interval(mean, (-1, 0.38), (0.42, 0.60), (0.64, high)), -1)
    clear = (chroma > 0.15) & (most - middle > 0.5 * chroma)
    table["Background"] = np.where(clear, 3 + p["background"].argmax(1), grey)
    return pd.DataFrame(table).astype(int)


def _interval(values, *edges):
    """Number the intervals between pairs of edges, and -1 in the gaps, where words would be a matter of taste."""
    return np.select([(values >= low) & (values < high) for low, high in edges], range(len(edges)), -1)
