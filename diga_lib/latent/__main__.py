"""``python -m diga_lib.latent``: train the factor network and the generator from nothing, or go on after a stop."""

from __future__ import annotations

import argparse
from pathlib import Path

from diga_lib import data, latent, runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.perceptual import train_factor_network
from diga_lib.latent.training import Training

POOL_SEED = 7  # a population that no training set, test set or calibration is drawn from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="rendered-faces", choices=data.NAMES, help="images to train on")
    parser.add_argument("--root", help="folder of the images, for data that is not rendered")
    parser.add_argument("--images", type=int, default=30_000, help="how many images")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images, a multiple of 32")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--name", default="rendered-faces-64", help="name of the weights")
    parser.add_argument("--weights", type=Path, default=checkpoints.FOLDER, help="folder the weights go to")
    parser.add_argument("--work", type=Path, help="folder for the state between epochs (default: in the cache)")
    given = parser.parse_args()
    pool = data.load(given.data, given.images, seed=POOL_SEED, resolution=given.resolution, root=given.root)
    factor_name = "rendered-faces-factors"
    if factor_name in checkpoints.names(given.weights):
        network = latent.load_factor_network(factor_name)
    elif pool.factors is None or "AU12" not in pool.factors:
        raise SystemExit(f"Train the factor network on rendered faces first: {factor_name} is not in {given.weights}.")
    else:
        network = train_factor_network(pool.images, pool.attributes, pool.factors)
        checkpoints.save_state(factor_name, network.state_dict(), given.weights)
    work = given.work or runtime.cache_folder("training", given.name)
    generator = Training(pool.images, network, work, epochs=given.epochs).run()
    for file in latent.save(generator, given.name, given.weights):
        print(f"Wrote {file}")


if __name__ == "__main__":
    main()
