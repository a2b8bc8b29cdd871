"""``make bench``: what costs how much, as ratios measured side by side in one run.

A rate says something of a machine, a ratio something of the code: each is between two ways of doing the same thing,
timed in turn, in the same process, on the same networks and data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from diga_lib import directions, latent, runtime
from diga_lib.data import LabelledImages, faces
from diga_lib.methods import ERM, DiGAOneStage
from diga_lib.methods.networks import classifier

DEGREES = (3.0, 4.0, 5.0)  # which the official code renders beforehand, with both signs


def seconds(work: Callable, repeats: int = 1) -> float:
    """The least of a few repeats: in the others, the machine was busy with something else."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def bare_training(x: torch.Tensor, y: torch.Tensor, steps: int, precision: str = "auto") -> None:
    """Nothing but the network: forward, loss, backward and step on one batch that is in memory."""
    network = classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    for _ in range(steps):
        with runtime.autocast(precision=precision):
            logits = network(x)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()


class EditedFiles(Dataset):
    """Two views of each face, read from the JPEG files that were written beforehand."""

    def __init__(self, folder, target):
        self.folder, self.target, self.rng = folder, target, np.random.default_rng(0)

    def __len__(self):
        return len(self.target)

    def __getitem__(self, i):
        files = [self.folder / f"{i}{sign}{self.rng.choice(DEGREES)}.jpg" for sign in "+-"]
        views = [torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255 for file in files]
        return *views, self.target[i]


def official_way(generator, found, train, epochs: int) -> None:
    """Edits as the official code makes them: one at a time to JPEG, then read by a DataLoader, fp32, 32 a batch."""
    with tempfile.TemporaryDirectory() as work:
        for i, image in enumerate(train.images):
            code = generator.encode(image[None])
            for degree in (*DEGREES, *(-degree for degree in DEGREES)):
                picture = (generator.decode(found.move(code, degree))[0] * 255).byte().permute(1, 2, 0).numpy()
                name = f"{i}{'+' if degree > 0 else '-'}{abs(degree)}.jpg"
                Image.fromarray(picture).save(Path(work) / name, quality=95)
        network = classifier()
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        for _ in range(epochs):
            files = EditedFiles(Path(work), torch.from_numpy(train.target))
            for one, other, y in DataLoader(files, 32, shuffle=True):
                first, second = network(torch.cat([one, other])).chunk(2)
                loss = F.cross_entropy(torch.cat([first, second]), torch.cat([y, y]))
                optimizer.zero_grad()
                (loss + 0.5 * (first - second).square().mean()).backward()
                optimizer.step()


def our_way(generator, found, train, epochs: int) -> None:
    """Edits as we make them: codes once, edits painted in batches."""
    DiGAOneStage(generator, found, edit="shift", degrees=(3, 5), balance=False, originals=0.0, epochs=epochs).fit(train)


def training_flops(x: torch.Tensor, y: torch.Tensor) -> float:
    """Floating-point operations of one step on a batch, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        bare_training(x, y, 1, "fp32")
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=1024, help="faces that everything is measured on")
    parser.add_argument("--edited", type=int, default=256, help="of them, those on which stage 2 is compared")
    parser.add_argument("--epochs", type=int, default=8, help="of stage 2, as in the full profile")
    given = parser.parse_args()
    n = given.images
    images, table, _ = faces.render(41, range(n))
    generator, y = latent.load(), table["Smiling"].to_numpy().astype(np.int64)
    codes, train = generator.encode(images), LabelledImages(images, y, None, np.arange(n))
    found = directions.paper_direction(codes, directions.boundary(codes, y, 100.0 * n))
    some = LabelledImages(images[: given.edited], y[: given.edited], None, np.arange(given.edited))
    batch = min(128, n)
    x = (torch.from_numpy(images[:batch]).float() / 255).contiguous(memory_format=torch.channels_last)
    target, steps, flat = torch.from_numpy(y[:batch]), 4 * (n // batch), codes.flatten(1).numpy()

    def show(what: str, value: float, form: str = ".2f", goal: str = "") -> None:
        print(f"{what:72s} {value:>9{form}}  {goal}", flush=True)

    print(f"{runtime.available_cores()} cores, {torch.get_num_threads()} threads, {n} faces of 64 x 64")
    show("images a second: render", 256 / seconds(lambda: faces.render(42, range(256)), 3), ".0f")
    show("images a second: encode", n / seconds(lambda: generator.encode(images), 3), ".0f")
    show("images a second: decode", n / seconds(lambda: generator.decode(codes), 3), ".0f")
    alone = seconds(lambda: [generator.decode(codes[i : i + 1]) for i in range(64)], 2)
    show("images a second: decode, one at a time", 64 / alone, ".0f")
    ways = [seconds(lambda way=way: way(generator, found, some, given.epochs)) for way in (official_way, our_way)]
    show("DiGA's edits and training: the official way / ours", ways[0] / ways[1], ".1f", "goal 10")
    loops = {
        "ERM's loop": lambda: ERM(epochs=4, augment="none").fit(train),
        "ERM's loop with image augmentation": lambda: ERM(epochs=4).fit(train),
    }
    bare = seconds(lambda: bare_training(x, target, steps), 3)
    for name, loop in loops.items():
        show(f"{name} against its bare network", bare / seconds(loop, 3), goal="goal 0.85")
    a = torch.randn(2048, 2048)
    kinds = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if runtime.has_fast_bf16() else {})
    for name, dtype in kinds.items():
        peak = 2 * 2048**3 / seconds(lambda dtype=dtype: a.to(dtype) @ a.to(dtype), 5)
        used = training_flops(x, target) * steps / seconds(lambda name=name: bare_training(x, target, steps, name), 2)
        show(f"{name} training against the peak of matrix products ({peak / 1e9:.0f} GFLOP/s)", used / peak)
    plain = seconds(lambda: LogisticRegression(C=1 / (100.0 * n), max_iter=1000).fit(flat, y), 2)
    show("boundary: scikit-learn / ours", plain / seconds(lambda: directions.boundary(codes, y, 100.0 * n), 2))


if __name__ == "__main__":
    main()
