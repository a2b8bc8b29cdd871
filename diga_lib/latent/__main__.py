"""``python -m diga_lib.latent``: train the factor network and the generator from nothing, or go on after a stop.

With ``--output FILE`` the generator becomes one file of the user's own, for ``-p generator FILE``; otherwise it becomes
shipped weights.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from diga_lib import data, latent, runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import train_factor_network
from diga_lib.latent.training import Training

POOL_SEED = 7  # a population that no training set, test set or calibration is drawn from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataset", default="rendered-faces", choices=data.NAMES, help="images to train on")
    parser.add_argument("--root", help="folder of the images, for data that is not rendered")
    parser.add_argument("--images", type=int, default=30_000, help="how many images; all if there are fewer on disk")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images, a multiple of 32")
    parser.add_argument("--output", type=Path, help="one file for the generator, NAME.safetensors")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--name", default="rendered-faces-64", help="name of the weights")
    parser.add_argument("--weights", type=Path, default=checkpoints.FOLDER, help="folder the weights go to")
    parser.add_argument("--work", type=Path, help="folder for the state between epochs (default: in the cache)")
    given = parser.parse_args()
    if given.output and given.output.suffix != ".safetensors":
        parser.error(f"--output is {given.output}: valid is a name that ends in .safetensors")
    if given.images < 2 or given.epochs < 1:
        parser.error(f"--images is {given.images} and --epochs {given.epochs}: valid are at least 2 images and 1 epoch")
    try:
        pool = _pool(given)
    except (ValueError, FileNotFoundError) as fault:
        parser.exit(1, f"{fault}\n")
    network = _factor_network(given, pool)
    try:
        training = Training(pool.images, network, _work_folder(given), epochs=given.epochs)
    except ValueError as fault:
        parser.exit(1, f"{fault}\n")
    generator = training.run()
    single = given.output and [latent.save_file(generator, given.output)]
    for file in single or latent.save(generator, given.name, given.weights):
        print(f"Wrote {file}")


def _pool(given):
    """At most so many images; photographs in which no face is found are left out."""
    if given.dataset in data.RENDERED or not given.root:
        return data.load(given.dataset, given.images, seed=POOL_SEED, resolution=given.resolution)
    from diga_lib.data.photos import layouts, reading

    found = layouts.LAYOUTS[given.dataset](given.root)
    return reading.read(found, min(given.images, len(found.paths)), given.resolution, align=True, missing="drop")


def _factor_network(given, pool):
    """The network that judges reconstructions: the shipped one, or a new one while the shipped one is being made."""
    name = "rendered-faces-factors"
    folder = checkpoints.FOLDER if given.output else given.weights
    if name in checkpoints.names(folder):
        return latent.load_factor_network(name)
    if pool.factors is None or "AU12" not in pool.factors:
        raise SystemExit(f"Train the factor network on rendered faces first: {name} is not in {folder}.")
    network = train_factor_network(pool.images, pool.attributes, pool.factors)
    checkpoints.save_state(name, network.state_dict(), given.weights)
    return network


def _work_folder(given):
    if given.work or not given.output:
        return given.work or runtime.cache_folder("training", given.name)
    # Two trainings on different images must not go on with each other's state.
    identity = f"{given.dataset} {given.root and Path(given.root).resolve()} {given.output.resolve()}"
    return runtime.cache_folder("training", hashlib.sha256(identity.encode()).hexdigest()[:12])


if __name__ == "__main__":
    main()
