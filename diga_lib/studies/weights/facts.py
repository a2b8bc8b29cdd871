"""What may be said of a drawn face beyond its attributes: poses, backgrounds, the shapes of brows and lips."""

import numpy as np
import pandas as pd

AS_ATTRIBUTES = ("Smiling", "Eyeglasses", "Big_Nose", "Heavy_Makeup", "Wearing_Lipstick", "No_Beard")
AS_ATTRIBUTES += ("Mustache", "Bald", "Bangs", "Mouth_Slightly_Open", "Narrow_Eyes", "Male")


def _steps(values, *edges):
    """Number the intervals between pairs of edges, and -1 in the gaps, where words would be a matter of taste."""
    result = np.full(len(values), -1)
    for number, (low, high) in enumerate(edges):
        result[(values >= low) & (values < high)] = number
    return result


def facts(parameters, attributes, factors):
    """Tell what may be said of faces of `data.faces.parameters`: the value (n, F) of each fact, -1 if unsaid."""
    p, unit, high = parameters, factors / 5, np.inf
    table = {name: attributes[name].to_numpy(int) for name in AS_ATTRIBUTES}
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
    relaxed, up, down = np.maximum(raised, lowered) < 0.2, raised > 0.35, lowered > 0.35
    table["Brows"] = np.select([relaxed, up & ~down, down & ~up], [0, 1, 2], -1)
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
