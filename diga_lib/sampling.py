"""``python -m diga_lib.sampling``: how many images does DiGA's generator need?

Generators are trained on all, half and a tenth of the same images, with equally many steps, and DiGA finds its direction
and paints its edits with each. Each finished run is a line of ``book/results/sampling.jsonl``; stopped at any time, it
goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from diga_lib import cells, data, experiments, latent, results, runtime
from diga_lib.experiments import FOLDER, TABLE
from diga_lib.latent.__main__ import POOL_SEED
from diga_lib.latent.training import Training

RESULTS = FOLDER / "sampling.jsonl"
SHARES = (1.0, 0.5, 0.1)
IMAGES, EPOCHS = 10_000, 2  # of the generator that sees all; a share of the images is seen as many times more often
CHECKED = 500  # faces whose reconstruction is measured, from the pool that training and test sets are drawn from


def train_generator(images, share: float, folder: Path):
    """Train a generator on the first `share` of the images, or load it where that is done.

    Parameters
    ----------
    images : uint8 array (N, 3, R, R)
    share : float
        In (0, 1].
    folder : path
        Of finished generators and of the state between epochs.
    """
    file = folder / f"{share:g}.safetensors"
    if not file.exists():
        some = images[: round(share * len(images))]
        training = Training(some, latent.load_factor_network(), folder / f"{share:g}", epochs=round(EPOCHS / share))
        latent.save_file(training.run(), file)
    return latent.load_file(file)


def reconstruction_error(generator, images) -> float:
    """Mean absolute difference of pixels, of 255, between faces (N, 3, R, R) and what the generator makes of them."""
    again = generator.decode(generator.encode(images))
    return float(255 * (again.float() - torch.from_numpy(np.array(images)) / 255).abs().mean())


def run(share: float, seed: int, folder: Path, target: str = "Smiling", spurious: str = "Male", bias: float = 1 / 9) -> results.Result:
    """DiGA in one stage with a generator that has seen a share of the images, as a cell of the large table otherwise."""
    generator = train_generator(data.load("rendered-faces", IMAGES, seed=POOL_SEED).images, share, folder)
    setting = experiments.setting(target, spurious, bias, "table", generator=generator, seed=seed)
    row = TABLE["DiGA"]
    extra = {"share": share, "images": round(share * IMAGES),
             "reconstruction": reconstruction_error(generator, setting.pool.images[:CHECKED]),
             "direction": experiments.direction_scores(setting, setting.refined)}  # fmt: skip
    result, _ = experiments.run(setting, row, seed, extra, **json.loads(cells.chosen("DiGA")))
    return result.model_copy(update={"variant": _variant(share)})


def kept(target: str, spurious: str, path: Path = RESULTS) -> pd.DataFrame:
    """What was measured for a pair, a line for each share, averaged over seeds.

    Returns
    -------
    DataFrame
        Indexed by the generator's images: reconstruction (mean absolute difference of pixels, of 255), the cosine of the
        direction with the true shift of the spurious attribute, the share of right pseudo groups, the three metrics,
        and the number of runs.
    """
    frame = results.read(path)
    lines = [{"images of the generator": line["extra"]["images"], "reconstruction": line["extra"]["reconstruction"],
              "cosine with spurious": line["extra"]["direction"]["cosine"][spurious],
              "right pseudo groups": line["extra"]["direction"]["pseudo_groups"][spurious],
              **{metric: line[metric] for metric in results.METRICS}}
             for _, line in frame.iterrows() if (line["target"], line["spurious"]) == (target, spurious)]  # fmt: skip
    if not lines:
        return pd.DataFrame()
    groups = pd.DataFrame(lines).groupby("images of the generator")
    return groups.mean().assign(runs=groups.size()).sort_index(ascending=False)


def _variant(share: float) -> str:
    return f"{TABLE['DiGA'].variant}, generator trained on {share:.0%} of {IMAGES:,} images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, choices=SHARES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    folder = runtime.cache_folder("training", "sampling")
    for seed in given.seeds:
        for share in given.shares:
            key = {"variant": _variant(share), "seed": seed, "target": "Smiling", "spurious": "Male"}
            if not results.done(given.output, key):
                result = run(share, seed, folder)
                results.append(given.output, result)
                print(f"{share:.0%}, seed {seed}: accuracy {result.accuracy:.3f}, worst group {result.worst_group:.3f}, "
                      f"EO {result.equalized_odds:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
