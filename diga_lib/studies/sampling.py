"""``python -m diga_lib.studies.sampling``: how many images does DiGA's generator need?

Generators are trained on all, half and a tenth of the same images, with equally many steps, and DiGA finds its direction
and paints its edits with each. Each finished run is a line of ``book/results/sampling.jsonl``; stopped at any time, it
goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from diga_lib import data, latent, runtime
from diga_lib.latent import training
from diga_lib.latent.__main__ import POOL_SEED
from diga_lib.studies import cells, experiments, results
from diga_lib.studies.experiments import FOLDER, TABLE
from diga_lib.studies.fingerprints import fingerprint

RESULTS = FOLDER / "sampling.jsonl"
PAIR, BIAS = ("Smiling", "Male"), 1 / 9
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
        network = latent.load_factor_network()
        made = training.Training(some, network, folder / f"{share:g}", epochs=round(EPOCHS / share)).run()
        latent.save_file(made, file)
    return latent.load_file(file)


def reconstruction_error(generator, images) -> float:
    """Mean absolute difference of pixels, of 255, between faces (N, 3, R, R) and what the generator makes of them."""
    again = generator.decode(generator.encode(images))
    return float(255 * (again.float() - torch.from_numpy(np.array(images)) / 255).abs().mean())


def run(share: float, seed: int, folder: Path) -> results.Result:
    """DiGA in one stage with a generator that has seen a share of the images, as a cell of the large table otherwise."""
    generator = train_generator(data.load("rendered-faces", IMAGES, seed=POOL_SEED).images, share, folder)
    setting = experiments.setting(*PAIR, BIAS, "table", generator=generator, seed=seed)
    extra = {
        "share": share,
        "images": round(share * IMAGES),
        "reconstruction": reconstruction_error(generator, setting.pool.images[:CHECKED]),
        "direction": experiments.direction_scores(setting, setting.refined),
    }
    result, _ = experiments.run(setting, TABLE["DiGA"], seed, extra, **json.loads(cells.chosen("DiGA")))
    key = key_of(share, seed)
    return result.model_copy(update={"variant": key["variant"], "fingerprint": fingerprint_of(key)})


def key_of(share: float, seed: int) -> dict[str, Any]:
    """The fields by which a run is found again among stored results."""
    row = TABLE["DiGA"]
    row = replace(row, variant=f"{row.variant}, generator trained on {share:.0%} of {IMAGES:,} images")
    return experiments.key_of(row, *PAIR, BIAS, seed, "table")


def fingerprint_of(key: dict[str, Any]) -> str:
    """Of the code and the configuration behind a run: the training of the classifier, and that of its generator."""
    return experiments.fingerprint_of(TABLE["DiGA"], key, [cells.chosen("DiGA"), IMAGES, EPOCHS], (training.__name__,))


def kept(target: str, spurious: str, path: Path = RESULTS) -> pd.DataFrame:
    """What was measured for a pair, a line for each share, averaged over seeds.

    Returns
    -------
    DataFrame
        Indexed by the generator's images: reconstruction (mean absolute difference of pixels, of 255), the cosine of the
        direction with the true shift of the spurious attribute, the share of right pseudo groups, the three metrics,
        and the numbers of runs, and of stale ones, whose code or configuration has changed since.
    """
    frame = results.latest(results.read(path))
    frame = frame[(frame["target"] == target) & (frame["spurious"] == spurious)]
    lines = [
        {
            "images of the generator": line["extra"]["images"],
            "reconstruction": line["extra"]["reconstruction"],
            "cosine with spurious": line["extra"]["direction"]["cosine"][spurious],
            "right pseudo groups": line["extra"]["direction"]["pseudo_groups"][spurious],
            **{metric: line[metric] for metric in results.METRICS},
            "stale": line["fingerprint"] != fingerprint_of(line[list(results.KEY)].to_dict()),
        }
        for _, line in frame.iterrows()
    ]
    if not lines:
        return pd.DataFrame()
    groups = pd.DataFrame(lines).groupby("images of the generator")
    return groups.mean().assign(runs=groups.size(), stale=groups["stale"].sum()).sort_index(ascending=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, choices=SHARES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--renew", action="store_true", help="run again what older code has made")
    given = parser.parse_args()
    # Named by the code that trains them, so that generators of older code are not taken for new ones.
    folder = runtime.cache_folder("training", "sampling", fingerprint([training.__name__], [IMAGES, EPOCHS]))
    for seed in given.seeds:
        for share in given.shares:
            key = key_of(share, seed)
            made_by = {"fingerprint": fingerprint_of(key)} if given.renew else {}
            if not results.done(given.output, key | made_by):
                result = run(share, seed, folder)
                results.append(given.output, result)
                print(
                    f"{share:.0%}, seed {seed}: accuracy {result.accuracy:.3f}, worst group {result.worst_group:.3f}, "
                    f"EO {result.equalized_odds:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
