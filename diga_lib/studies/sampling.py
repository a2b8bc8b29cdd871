"""DiGA with generators of all, half or a tenth of a pool's images, or of the biased training images alone."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from diga_lib import data, latent, runtime
from diga_lib.latent import checkpoints
from diga_lib.latent.training import POPULATION, Training
from diga_lib.studies import grids, store
from diga_lib.studies.runner import Study
from diga_lib.studies.setting import Setting

SHARES = (1.0, 0.5, 0.1)
IMAGES, SHOWN = 10_000, 20_000  # of the pool; how many images each generator is shown, the same ones again and again
WITH_BIASED = ("diga-one-stage", "diga-paper")


@dataclass(frozen=True)
class SamplingCell(grids.Cell):
    """A cell of the large table with a generator of a `share` of the pool or, at None, of its own training images."""

    row: str = WITH_BIASED[0]
    share: float | None = 1.0

    def setting(self) -> Setting:
        return _setting(self)


@lru_cache(maxsize=1)
def _setting(cell: SamplingCell) -> Setting:
    s, images = grids.Cell.setting(cell), data.load("rendered-faces", IMAGES, seed=POPULATION).images
    images = s.split.train.images if cell.share is None else images[: round(cell.share * IMAGES)]
    return replace(s, generator=trained_generator(images, SHOWN), kept=None)


def trained_generator(images: np.ndarray, shown: int):
    """A generator that was shown so many of images (N, 3, R, R), each several times; it is trained once and kept."""
    epochs = max(1, round(shown / len(images)))
    file = runtime.cache_folder("training", f"generator-{digest(images)}-{epochs}") / "generator.safetensors"
    if not file.exists():
        latent.save_file(Training(images, latent.load_factor_network(), file.parent, epochs=epochs).run(), file)
    return latent.load_file(file)


def digest(array: np.ndarray) -> str:
    """What an array is recognised by in the cache."""
    return checkpoints.digest({"array": torch.from_numpy(np.array(array))})[:20]


def reconstruction_error(generator, images: np.ndarray) -> float:
    """Mean absolute difference of pixels, of 255, between faces (N, 3, R, R) and what the generator makes of them."""
    again = generator.decode(generator.encode(images))
    return float(255 * (again.float() - torch.from_numpy(np.array(images)) / 255).abs().mean())


def compute(cell: SamplingCell) -> store.Result:
    """Train the generator if need be, and DiGA with it."""
    result, s = grids.compute(cell), cell.setting()
    images = len(s.split.train) if cell.share is None else round(cell.share * IMAGES)
    extra = {"images": images, "reconstruction": reconstruction_error(s.generator, s.pool.images[:500])}
    return result.model_copy(update={"extra": result.extra | extra})


def cells(rows=WITH_BIASED, seeds=(0, 1, 2)) -> list[SamplingCell]:
    """DiGA in one stage with every share, and both DiGAs with the biased training images; every seed."""
    words = {share: f"generator trained on {share:.0%} of {IMAGES:,} images" for share in SHARES}
    words |= {None: "generator trained on the biased training images"}
    every = [(r, k, s) for s in seeds for r in rows for k in words if k is None or r == WITH_BIASED[0]]
    return [SamplingCell(r, seed=s, share=k, variant=words[k], changes=grids.chosen(r)) for r, k, s in every]


STUDY = Study("sampling", cells, compute)
