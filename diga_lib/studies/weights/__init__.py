"""``python -m diga_lib.studies weights NAME``: train what ships from nothing, or go on after a stop."""

import argparse
from pathlib import Path

import numpy as np

from diga_lib import data, image_text, latent, runtime
from diga_lib.action_units import EDITOR
from diga_lib.data import critters, faces
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import train_factor_network
from diga_lib.latent.training import POPULATION, Training
from diga_lib.studies import action_units, judge_training
from diga_lib.studies.weights import contrastive
from diga_lib.studies.weights.captions import PHRASES, WIDE_PHRASES, facts

FACES, CRITTERS, PHOTOGRAPHS = 30_000, 4_000, 19_000  # images to learn from: drawn of POPULATION, or FairFace's first
SIZES = {  # of the image–text models: faces with captions, and shape
    "rendered-faces-text": (20_000, {}),
    "rendered-faces-text-s": (20_000, {"stages": 2, "hidden": 256}),
    "rendered-faces-text-l": (12_000, {"stages": 3, "hidden": 512}),
}


# Each takes the name, the folder to write to, one for what is kept meanwhile, and --root, and returns what it wrote.
def factor_network(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The network that reads the renderer's factors and judges reconstructions."""
    pool = data.load("rendered-faces", FACES, seed=POPULATION)
    network = train_factor_network(pool.images, pool.attributes, pool.factors, 8)
    return [checkpoints.save_state(name, network.state_dict(), folder)]


def face_generator(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The generators of faces, judged by the shipped factor network: of drawn ones, or FairFace's without labels."""
    if name == "real-faces-64":
        if not root:
            raise ValueError(f"{name} learns from photographs: valid is --root DIR, FairFace with an attributes.csv.")
        images, epochs = data.load("folder", root=root, missing="drop").images[:PHOTOGRAPHS], 1
    else:
        images, epochs = data.load("rendered-faces", FACES, seed=POPULATION).images, 4
    return latent.save(Training(images, latent.load_factor_network(), work, epochs=epochs).run(), name, folder)


def critter_generator(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """The generator of cats and dogs; its judge learns the species' cues, but neither species nor fur colour."""
    pool, judge = data.load("rendered-critters", CRITTERS, seed=POPULATION), "judge"
    if judge not in checkpoints.names(work):
        made = train_factor_network(pool.images, pool.attributes, pool.factors, 2, names=critters.CUES)
        checkpoints.save_state(judge, made.state_dict(), work)
    network = latent.load_factor_network(judge, folder=work)
    training = Training(pool.images, network, work, epochs=2, units=0, channels=16, components=96)
    return latent.save(training.run(), name, folder)


def image_text_model(name: str, folder: Path, work: Path, root: str | None) -> list[Path]:
    """One of the small image–text models; the two sizes are told more than attributes."""
    count, shape = SIZES[name]
    pool, phrases = data.load("rendered-faces", count, seed=POPULATION), WIDE_PHRASES if shape else PHRASES
    described = facts(*faces.parameters(POPULATION, np.arange(count))) if shape else pool.attributes
    model = contrastive.train(pool.images, described, work / "state.safetensors", phrases, **shape)
    image_text.write(model, file := folder / f"{name}.safetensors")
    checkpoints.register(name, file)
    return [file]


WEIGHTS = {
    "rendered-faces-factors": factor_network,
    "rendered-faces-64": face_generator,
    "rendered-critters-64": critter_generator,
    "real-faces-64": face_generator,
    **dict.fromkeys(SIZES, image_text_model),
    **dict.fromkeys(judge_training.NAMES.values(), judge_training.ship),
    EDITOR: action_units.ship,
}


def main(arguments: list[str] | None = None) -> None:
    """Train some of the weights that ship."""
    parser = argparse.ArgumentParser(prog="python -m diga_lib.studies weights", description=__doc__)
    parser.add_argument("name", choices=WEIGHTS)
    parser.add_argument("--root", help="folder of FairFace, for real-faces-64")
    parser.add_argument("--output", type=Path, default=checkpoints.FOLDER, help="folder (default: into the package)")
    given = parser.parse_args(arguments)
    try:
        runtime.check_output(given.output / checkpoints.TABLE)
        files = WEIGHTS[given.name](given.name, given.output, runtime.cache_folder("training", given.name), given.root)
    except (ValueError, FileNotFoundError) as fault:
        parser.error(str(fault))
    for file in files:
        print(f"Wrote {file}")
