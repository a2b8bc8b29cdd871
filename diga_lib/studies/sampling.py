"""How many images does DiGA's generator need? It learns from all, half or a tenth of them, in equally many steps."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from diga_lib import data, latent, runtime
from diga_lib.latent.training import POPULATION, Training
from diga_lib.studies import grids, store
from diga_lib.studies.runner import Study
from diga_lib.studies.setting import Setting, setting

SHARES = (1.0, 0.5, 0.1)
IMAGES, EPOCHS = 10_000, 2  # of the generator that sees all; a share of the images is seen as many times more often
CHECKED = 500  # faces whose reconstruction is measured, from the pool that training and test sets are drawn from
VERSION = 1  # of the generators' training


@dataclass(frozen=True)
class SamplingCell(grids.Cell):
    """DiGA in one stage with a generator that has seen a share of the images; otherwise a cell of the large table."""

    row: str = "diga-one-stage"
    share: float = 1.0

    def setting(self) -> Setting:
        return _setting(self)


@lru_cache(maxsize=1)
def _setting(cell: SamplingCell) -> Setting:
    images = data.load("rendered-faces", IMAGES, seed=POPULATION).images[: round(cell.share * IMAGES)]
    folder = runtime.cache_folder("training", f"sampling-{VERSION}-{cell.share:g}")
    generator = trained_generator(images, folder, round(EPOCHS / cell.share))
    return setting(cell.target, cell.spurious, cell.bias, cell.profile, generator=generator, seed=cell.seed)


def trained_generator(images: np.ndarray, folder: Path, epochs: int):
    """Train a generator on images (N, 3, R, R), or go on where a training was stopped, or load it from the folder."""
    file = folder / "generator.safetensors"
    if not file.exists():
        latent.save_file(Training(images, latent.load_factor_network(), folder, epochs=epochs).run(), file)
    return latent.load_file(file)


def reconstruction_error(generator, images: np.ndarray) -> float:
    """Mean absolute difference of pixels, of 255, between faces (N, 3, R, R) and what the generator makes of them."""
    again = generator.decode(generator.encode(images))
    return float(255 * (again.float() - torch.from_numpy(np.array(images)) / 255).abs().mean())


def compute(cell: SamplingCell) -> store.Result:
    """Train the generator if need be, and DiGA with it."""
    result, s = grids.compute(cell), cell.setting()
    extra = {"share": cell.share, "images": round(cell.share * IMAGES)}
    extra |= {"reconstruction": reconstruction_error(s.generator, s.pool.images[:CHECKED])}
    return result.model_copy(update={"extra": result.extra | extra})


def cells(seeds=(0, 1, 2)) -> list[SamplingCell]:
    """Every share with every seed."""
    words = {share: f"generator trained on {share:.0%} of {IMAGES:,} images" for share in SHARES}
    more = {"changes": grids.chosen("diga-one-stage")}
    return [SamplingCell(seed=s, share=share, variant=words[share], **more) for s in seeds for share in SHARES]


STUDY = Study("sampling", cells, compute)
