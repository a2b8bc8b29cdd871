"""How many images does DiGA's generator need?

Generators are trained on all, half and a tenth of the same images, with equally many steps, and DiGA finds its
direction and paints its edits with each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from diga_lib import data, latent, runtime
from diga_lib.latent import training
from diga_lib.latent.training import POPULATION
from diga_lib.studies import rows, store
from diga_lib.studies.grids import Cell, chosen
from diga_lib.studies.runner import Study
from diga_lib.studies.setting import Setting, direction_scores, setting

SHARES = (1.0, 0.5, 0.1)
IMAGES, EPOCHS = 10_000, 2  # of the generator that sees all; a share of the images is seen as many times more often
CHECKED = 500  # faces whose reconstruction is measured, from the pool that training and test sets are drawn from
VERSION = 1  # of the generators' training


@dataclass(frozen=True)
class SamplingCell(Cell):
    """DiGA in one stage with a generator that has seen a share of the images; otherwise a cell of the large table."""

    row: str = "diga-one-stage"
    share: float = 1.0

    def setting(self) -> Setting:
        images = data.load("rendered-faces", IMAGES, seed=POPULATION).images
        folder = runtime.cache_folder("training", f"sampling-{VERSION}")
        generator = train_generator(images, self.share, folder)
        return setting(self.target, self.spurious, self.bias, self.profile, generator=generator, seed=self.seed)


def train_generator(images: np.ndarray, share: float, folder: Path):
    """Train a generator on the first `share` in (0, 1] of images (N, 3, R, R), or load it from the folder."""
    file = folder / f"{share:g}.safetensors"
    if not file.exists():
        some = images[: round(share * len(images))]
        network = latent.load_factor_network()
        made = training.Training(some, network, folder / f"{share:g}", epochs=round(EPOCHS / share)).run()
        latent.save_file(made, file)
    return latent.load_file(file)


def reconstruction_error(generator, images: np.ndarray) -> float:
    """Mean absolute difference of pixels, of 255, between faces (N, 3, R, R) and what the generator makes of them."""
    again = generator.decode(generator.encode(images))
    return float(255 * (again.float() - torch.from_numpy(np.array(images)) / 255).abs().mean())


def compute(cell: SamplingCell) -> store.Result:
    """Train the generator if need be, and DiGA with it."""
    s = cell.setting()
    extra = {"share": cell.share, "images": round(cell.share * IMAGES)}
    extra |= {"reconstruction": reconstruction_error(s.generator, s.pool.images[:CHECKED])}
    extra |= {"direction": direction_scores(s, s.refined)}
    changes = json.loads(cell.changes)
    return rows.run(s, cell.row, cell.seed, cell.variant, extra, **changes)[0]


def cells(seeds=(0, 1, 2)) -> list[SamplingCell]:
    """Every share with every seed."""
    words = {share: f"generator trained on {share:.0%} of {IMAGES:,} images" for share in SHARES}
    changes = chosen("diga-one-stage")
    return [SamplingCell(seed=s, share=share, variant=words[share], changes=changes) for s in seeds for share in SHARES]


STUDY = Study("sampling", cells, compute)


def kept(target: str, spurious: str, path: Path = STUDY.path) -> pd.DataFrame:
    """What was measured for a pair, a line for each share, averaged over seeds.

    Returns
    -------
    DataFrame
        Indexed by the generator's images: reconstruction (mean absolute difference of pixels, of 255), the cosine of
        the direction with the true shift of the spurious attribute, the share of right pseudo groups, the three
        metrics, and the numbers of runs, and of stale ones, whose version has changed since.
    """
    frame = store.kept(path)
    frame = frame[(frame["target"] == target) & (frame["spurious"] == spurious)]
    lines = []
    for _, line in frame.iterrows():
        extra, found = line["extra"], line["extra"]["direction"]
        told = {"images of the generator": extra["images"], "reconstruction": extra["reconstruction"]}
        told |= {"cosine with spurious": found["cosine"][spurious]}
        told |= {"right pseudo groups": found["pseudo_groups"][spurious]}
        stale = line["version"] != rows.version(line["row"])
        lines.append(told | {metric: line[metric] for metric in store.METRICS} | {"stale": stale})
    if not lines:
        return pd.DataFrame()
    groups = pd.DataFrame(lines).groupby("images of the generator")
    return groups.mean().assign(runs=groups.size(), stale=groups["stale"].sum()).sort_index(ascending=False)
