"""``python -m diga_lib.latent --output FILE``: train a generator on images of your own, or go on after a stop.

The file is what ``-p generator FILE`` gives to a notebook. Reconstructions are judged by the shipped network.
"""

import argparse
import hashlib
from pathlib import Path

from diga_lib import data, latent, runtime
from diga_lib.data.photos import layouts, reading
from diga_lib.latent.training import POPULATION, Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataset", default="rendered-faces", choices=data.NAMES, help="images to train on")
    parser.add_argument("--root", help="folder of the images, for data that is not rendered")
    parser.add_argument("--images", type=int, default=30_000, help="how many images; all if there are fewer on disk")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images, a multiple of 32")
    parser.add_argument("--output", type=Path, required=True, help="file for the generator, NAME.safetensors")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--work", type=Path, help="folder for the state between epochs (default: in the cache)")
    given = parser.parse_args()
    try:
        if given.output.suffix != ".safetensors":
            raise ValueError(f"--output is {given.output}: valid is a name that ends in .safetensors.")
        if given.images < 2 or given.epochs < 1 or given.resolution % 32 or given.resolution < 32:
            said = f"--images is {given.images}, --epochs {given.epochs}, --resolution {given.resolution}"
            raise ValueError(f"{said}: valid are at least 2 images and 1 epoch, and a multiple of 32.")
        output = runtime.check_output(given.output)
        # Trainings on different images must not go on with each other's state.
        identity = f"{given.dataset} {given.root and Path(given.root).resolve()} {output.resolve()}"
        work = given.work or runtime.cache_folder("training", hashlib.sha256(identity.encode()).hexdigest()[:12])
        images = _images(given.dataset, given.root, given.images, given.resolution)
        training = Training(images, latent.load_factor_network(), work, epochs=given.epochs)
    except (ValueError, FileNotFoundError) as fault:
        parser.error(str(fault))
    print(f"Wrote {latent.save_file(training.run(), output)}")


def _images(dataset: str, root: str | None, most: int, resolution: int):
    """At most so many images; photographs in which no face is found are left out."""
    if dataset in data.RENDERED or not root:
        return data.load(dataset, most, seed=POPULATION, resolution=resolution).images
    found = layouts.LAYOUTS[dataset](root)
    return reading.read(found, min(most, len(found.paths)), resolution, align=True, missing="drop").images


if __name__ == "__main__":
    main()
