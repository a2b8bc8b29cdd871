"""What the small image–text models are told of a face: captions made from its attributes, or from more facts.

No emotion is named: what a surprised face is must be said in the words for its parts.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.image_text import PROMPTS
from diga_lib.studies.weights.facts import AS_ATTRIBUTES

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


def vocabulary(*texts: str | Iterable) -> tuple[str, ...]:
    """Every word of texts, or of texts in sequences of any depth, sorted; a hyphen parts two words."""
    words = set()
    for text in texts:
        words |= set(text.replace("-", " ").split()) if isinstance(text, str) else set(vocabulary(*text))
    return tuple(sorted(words))


VOCABULARY = vocabulary(PHRASES.values(), NOUNS.values(), FRAMES, "a an and", PROMPTS.values())
WIDE_VOCABULARY = vocabulary(WIDE_PHRASES.values(), NOUNS.values(), FRAMES, "a an and")


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
    words = [phrase for phrase in said if " " not in phrase] + [noun]
    sentence, previous = " ".join(["an" if words[0][0] in "aeiou" else "a", *words]), ""
    for phrase in (phrase for phrase in said if " " in phrase):
        start, _, rest = phrase.partition(" ")
        if start == previous == "with" and rng.random() < 0.6:  # "with glasses and black hair"
            phrase = rest
        sentence += pick((" and ", ", ", ", and ") if previous else (" ",)) + phrase
        previous = start
    return f"{pick(FRAMES)} {sentence}".strip()
