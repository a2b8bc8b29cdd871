"""What the small image–text model is told of a face: captions made from its attributes, and their vocabulary."""

from diga_lib.image_text import PROMPTS

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


def _vocabulary():
    texts = [
        text
        for pair in (*PHRASES.values(), *NOUNS.values())
        for side in pair
        for text in ([side] if isinstance(side, str) else side)
    ]
    texts += [*FRAMES, "a an and", *(prompt for pair in PROMPTS.values() for prompt in pair)]
    return tuple(sorted({word for text in texts for word in text.split()}))


VOCABULARY = _vocabulary()


def caption(attributes, rng):
    """Describe a face: some of its attributes, in random order and words.

    Whether an attribute is named does not depend on its value, so captions alone tell nothing of base rates.

    Parameters
    ----------
    attributes : mapping
        From attribute names to 0 or 1: a row of `ImageDataset.attributes`, as a Series or a dict.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    str
        Such as "a smiling young man with glasses and black hair".
    """
    return compose(attributes, rng, PHRASES)


def compose(values, rng, phrases):
    """Describe a face by some of its values, whatever they are called; a value of -1 is passed over.

    Parameters
    ----------
    values : mapping
        From names to whole numbers, for each name in `phrases` and for "Male".
    rng : numpy.random.Generator
        Chooses.
    phrases : dict
        From names to what may be said for each value.

    Returns
    -------
    str
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
