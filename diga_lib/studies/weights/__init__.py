"""``python -m diga_lib.studies weights NAME``: make what ships from nothing, or go on after a stop.

What comes from photographs needs them on disk, as ``--root DIR``: FairFace, or the London Set, in a folder with an
attributes.csv.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib import data, image_text, latent, runtime
from diga_lib.action_units import EDITOR
from diga_lib.data import critters, faces, shipped
from diga_lib.image_text.facts import facts
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import train_factor_network
from diga_lib.latent.training import POPULATION, Training
from diga_lib.studies import action_units, judge_training
from diga_lib.studies.weights import contrastive, pictures
from diga_lib.studies.weights.captions import VOCABULARY, WIDE_PHRASES, WIDE_VOCABULARY, caption

FACES, CRITTERS = 30_000, 4_000  # drawn images of POPULATION that networks learn from
UNSEEN = 2_000  # faces of the next population, which measure what an image–text model has learned
SIZES = {  # of the image–text models: faces with captions, and shape
    "rendered-faces-text": (20_000, {}),
    "rendered-faces-text-s": (20_000, {"stages": 2, "hidden": 256}),
    "rendered-faces-text-l": (12_000, {"stages": 3, "hidden": 512}),
}


# Each maps the name, the folder to write to, one for what is kept meanwhile, and --root to the files that it has made.
def factor_network(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The network that reads the renderer's factors and judges reconstructions."""
    pool = data.load("rendered-faces", FACES, seed=POPULATION)
    network = train_factor_network(pool.images, pool.attributes, pool.factors, 8)
    return [checkpoints.save_state(name, network.state_dict(), folder)]


def face_generator(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The generators of faces, judged by the shipped factor network: drawn ones, or photographs without labels."""
    if root:
        images, epochs = pictures.fairface(root).images[: pictures.TRAINED], 1
    else:
        images, epochs = data.load("rendered-faces", FACES, seed=POPULATION).images, 4
    return latent.save(Training(images, latent.load_factor_network(), work, epochs=epochs).run(), name, folder)


def critter_generator(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The generator of cats and dogs: narrower networks, fewer principal components.

    Its judge learns the cues of the species and of the coat's pattern, but neither species nor fur colour.
    """
    pool, judge = data.load("rendered-critters", CRITTERS, seed=POPULATION), "judge"
    if judge not in checkpoints.names(work):
        made = train_factor_network(pool.images, pool.attributes, pool.factors, 2, names=critters.CUES)
        checkpoints.save_state(judge, made.state_dict(), work)
    network = latent.load_factor_network(judge, folder=work)
    training = Training(pool.images, network, work, epochs=2, units=0, channels=16, components=96)
    return latent.save(training.run(), name, folder)


def image_text_model(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """One of the small image–text models; the two sizes are told more than attributes."""
    (count, shape), told, prompts = SIZES[name], {"words": VOCABULARY}, image_text.PROMPTS
    pool, unseen = (data.load("rendered-faces", n, seed=POPULATION + i) for i, n in enumerate((count, UNSEEN)))
    described, known = pool.attributes, unseen.attributes
    if shape:
        described, known = facts_of(count, POPULATION), facts_of(UNSEEN, POPULATION + 1)
        told = {"words": WIDE_VOCABULARY, "describe": partial(caption, phrases=WIDE_PHRASES)}
        first = {fact: [said[0] for said in values] for fact, values in WIDE_PHRASES.items()}
        prompts = {
            fact: [f"a person {p}" if " " in p else f"a {p} person" for p in said] for fact, said in first.items()
        }
    model = contrastive.train(pool.images, described, work / "state.safetensors", **told, **shape)
    print(contrastive.evaluate(model, unseen.images, known, prompts).round(3).to_string())
    file = folder / f"{name}.safetensors"
    image_text.write(model, file)
    checkpoints.register(name, file)
    return [file]


def facts_of(n: int, seed: int) -> pd.DataFrame:
    """The facts (see `image_text.facts`) of rendered faces 0 to n - 1 of a population, without drawing them."""
    blocks = [facts(*faces.parameters(seed, np.arange(start, min(start + 1000, n)))) for start in range(0, n, 1000)]
    return pd.concat(blocks, ignore_index=True)


OF_PHOTOGRAPHS = {
    "real-faces-64": face_generator,
    "fairface-sample": pictures.fairface_sample,
    "london-photos": pictures.london_photos,
}
WEIGHTS = {
    "rendered-faces-factors": factor_network,
    "rendered-faces-64": face_generator,
    "rendered-critters-64": critter_generator,
    **dict.fromkeys(SIZES, image_text_model),
    **OF_PHOTOGRAPHS,
    **dict.fromkeys(judge_training.NAMES.values(), judge_training.ship),
    EDITOR: action_units.ship,
}


def main(arguments: list[str] | None = None) -> None:
    """Make one of the files that ship."""
    parser = argparse.ArgumentParser(prog="python -m diga_lib.studies weights", description=__doc__)
    parser.add_argument("name", choices=WEIGHTS)
    parser.add_argument("--root", help="folder of the photographs, for what is made from photographs")
    parser.add_argument("--output", type=Path, help="folder (default: into the package)")
    given = parser.parse_args(arguments)
    runtime.set_threads()
    folder = given.output or (shipped.FOLDER if given.name in shipped.FILES else checkpoints.FOLDER)
    if (given.name in OF_PHOTOGRAPHS) != bool(given.root):
        parser.error(f"--root is the folder of the photographs, needed for {', '.join(OF_PHOTOGRAPHS)} alone")
    try:
        runtime.check_output(folder / checkpoints.TABLE)
        files = WEIGHTS[given.name](given.name, folder, runtime.cache_folder("training", given.name), given.root)
    except (ValueError, FileNotFoundError) as fault:
        parser.error(str(fault))
    for file in files:
        print(f"Wrote {file}")
