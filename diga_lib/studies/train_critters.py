"""``python -m diga_lib.studies.train_critters``: train the generator of cats and dogs, or go on after a stop.

The code is that of the faces' generator, with narrower networks and fewer principal components. The network that
judges reconstructions learns the cues of the species and of the coat's pattern, but neither species nor fur colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diga_lib import data, latent, runtime
from diga_lib.data.critters import CUES
from diga_lib.latent import checkpoints
from diga_lib.latent.__main__ import POOL_SEED
from diga_lib.latent.perceptual import train_factor_network
from diga_lib.latent.training import Training

NAME, JUDGE = "rendered-critters-64", "rendered-critters-factors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=4_000, help="how many images")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--judge-epochs", type=int, default=2, help="of the network that judges reconstructions")
    parser.add_argument("--channels", type=int, default=16, help="width of the networks, a multiple of 8")
    parser.add_argument("--components", type=int, default=96, help="principal components that they start from")
    parser.add_argument("--name", default=NAME, help="name of the weights")
    parser.add_argument("--weights", type=Path, default=checkpoints.FOLDER, help="folder the weights go to")
    parser.add_argument("--work", type=Path, help="folder for the state between epochs (default: in the cache)")
    given = parser.parse_args()
    work = given.work or runtime.cache_folder("training", given.name)
    pool = data.load("rendered-critters", given.images, seed=POOL_SEED)
    if JUDGE not in checkpoints.names(work):
        judge = train_factor_network(pool.images, pool.attributes, pool.factors, given.judge_epochs, names=CUES)
        checkpoints.save_state(JUDGE, judge.state_dict(), work)
    judge = latent.load_factor_network(JUDGE, folder=work)
    shape = {"channels": given.channels, "components": given.components}
    generator = Training(pool.images, judge, work, epochs=given.epochs, units=0, **shape).run()
    for file in latent.save(generator, given.name, given.weights):
        print(f"Wrote {file}")


if __name__ == "__main__":
    main()
