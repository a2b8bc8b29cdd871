"""What the small image–text models are told of a face: captions made from its attributes, or from more facts.

No caption ever names a class of `test_time.class_spaces` as one of a list of choices, and no emotion is named at all:
what a surprised face is must be said in the words for its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from diga_lib.image_text import PROMPTS
from diga_lib.image_text.facts import AS_ATTRIBUTES

# What a caption may say of a face without an attribute, and of one with it. One word comes before the noun, more
# come after it. "Male" is the noun itself.
PHRASES = {
    "Smiling": (
        ("unsmiling", "serious", "without smile", "without a smile", "who is not smiling"),
        ("smiling", "happy", "with smile", "with a smile", "who is smiling"),
    ),
    "Young": (("old", "elderly", "older", "aged"), ("young", "youthful", "younger")),
    "Eyeglasses": (
        ("without glasses", "without eyeglasses", "wearing no glasses"),
        ("with glasses", "with eyeglasses", "wearing glasses", "wearing spectacles", "bespectacled"),
    ),
    "Black_Hair": (("without black hair", "with no black hair"), ("with black hair", "who has black hair")),
    "Blond_Hair": (
        ("without blond hair", "with no blonde hair"),
        ("with blond hair", "with blonde hair", "blond", "who has blond hair"),
    ),
    "Brown_Hair": (("without brown hair", "with no brown hair"), ("with brown hair", "who has brown hair")),
    "Gray_Hair": (
        ("without gray hair", "without grey hair", "with no gray hair"),
        ("with gray hair", "with grey hair", "who has gray hair"),
    ),
    "Big_Nose": (
        ("with a small nose", "without a big nose", "with a narrow nose"),
        ("with a big nose", "with a large nose", "with a wide nose"),
    ),
    "Heavy_Makeup": (
        ("without makeup", "without heavy makeup", "wearing no makeup"),
        ("with heavy makeup", "with makeup", "wearing heavy makeup", "wearing makeup"),
    ),
    "Wearing_Lipstick": (("without lipstick", "wearing no lipstick"), ("with lipstick", "wearing lipstick")),
    "No_Beard": (
        ("with a beard", "bearded", "with facial hair", "who is not shaven"),
        ("without a beard", "with no beard", "without facial hair", "beardless", "shaven"),
    ),
    "Mustache": (
        ("without a mustache", "without mustache", "with no moustache"),
        ("with a mustache", "with a moustache", "with mustache"),
    ),
    "Bald": (("who is not bald", "with hair"), ("bald", "who is bald", "without hair", "with a bald head")),
    "Bangs": (("without bangs", "without a fringe"), ("with bangs", "with a fringe")),
    "Mouth_Slightly_Open": (
        ("with closed mouth", "with a closed mouth", "with the mouth closed"),
        ("with open mouth", "with an open mouth", "with the mouth slightly open"),
    ),
    "Narrow_Eyes": (
        ("with wide eyes", "without narrow eyes", "with big eyes"),
        ("with narrow eyes", "with small eyes"),
    ),
    "Pale_Skin": (("without pale skin", "who is not pale"), ("with pale skin", "pale")),
    "Ethnicity": (("with light skin", "who has light skin"), ("with dark skin", "who has dark skin")),
}
NOUNS = {
    None: ("person", "face", "human face"),
    0: ("woman", "lady", "female person", "female face"),
    1: ("man", "gentleman", "male person", "male face"),
}
FRAMES = ("", "", "", "", "a photo of", "a picture of", "a portrait of")
MOST_NAMED = 4  # attributes in one caption: short captions bind a word to its attribute soonest


# For each fact: what may be said for each of its values.
WIDE_PHRASES = {
    **{name: PHRASES[name] for name in AS_ATTRIBUTES if name in PHRASES},
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


def vocabulary(*texts: str | Iterable) -> tuple[str, ...]:
    """Every word of texts, or of texts in sequences of any depth, sorted; a hyphen parts two words."""
    words = set()
    for text in texts:
        words |= set(text.replace("-", " ").split()) if isinstance(text, str) else set(vocabulary(*text))
    return tuple(sorted(words))


VOCABULARY = vocabulary(PHRASES.values(), NOUNS.values(), FRAMES, "a an and", PROMPTS.values())
WIDE_VOCABULARY = vocabulary(WIDE_PHRASES.values(), NOUNS.values(), FRAMES, "a an and")


def caption(values: Mapping[str, int], rng: np.random.Generator, phrases: Mapping = PHRASES) -> str:
    """Describe a face by some of its attributes, in random order and words.

    Whether an attribute is named does not depend on its value, so captions alone tell nothing of base rates.

    Parameters
    ----------
    values : mapping
        From names to whole numbers, for each name in `phrases` and for "Male"; -1 where nothing is to be said.
    rng : numpy.random.Generator
        Chooses.
    phrases : mapping
        From names to what may be said for each value.

    Returns
    -------
    str
        Such as "a smiling young man with glasses and black hair".
    """

    def pick(options):
        return options[rng.integers(len(options))]

    names = (*phrases, "Male")
    named = [names[i] for i in rng.permutation(len(names))[: rng.integers(1, MOST_NAMED + 1)]]
    noun = pick(NOUNS[int(values["Male"]) if "Male" in named else None])
    said = [pick(phrases[name][int(values[name])]) for name in named if name != "Male" and values[name] >= 0]
    words = [phrase for phrase in said if " " not in phrase] + [noun]
    sentence = " ".join(["an" if words[0][0] in "aeiou" else "a", *words])
    previous = ""
    for phrase in said:
        start, _, rest = phrase.partition(" ")
        if not rest:
            continue
        if start == previous == "with" and rng.random() < 0.6:  # "with glasses and black hair"
            phrase = rest
        sentence += pick((" and ", ", ", ", and ") if previous else (" ",)) + phrase
        previous = start
    return f"{pick(FRAMES)} {sentence}".strip()
