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

from diga_lib import directions, latent, runtime
from diga_lib.data import LabelledImages, faces
from diga_lib.methods import ERM, DiGAOneStage
from diga_lib.methods.networks import classifier

DEGREES = (-5.0, -4.0, -3.0, 3.0, 4.0, 5.0)  # which the official code renders beforehand


def seconds(work: Callable, repeats: int = 1) -> float:
    """The least of a few repeats: in the others, the machine was busy with something else."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def bare_training(x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Nothing but the network: forward, loss, backward and step on one batch that is in memory."""
    network = classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    for _ in range(steps):
        with runtime.autocast():
            logits = network(x)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()


def official_way(generator, found, train, epochs: int) -> None:
    """Edits as the official code makes them: one at a time to JPEG, then read again in each epoch, fp32, 32 a batch."""
    rng, network = np.random.default_rng(0), classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    with tempfile.TemporaryDirectory() as work:
        for i, image in enumerate(train.images):
            code = generator.encode(image[None])
            for degree in DEGREES:
                picture = (generator.decode(found.move(code, degree))[0] * 255).byte().permute(1, 2, 0).numpy()
                Image.fromarray(picture).save(Path(work) / f"{i} {degree}.jpg", quality=95)
        for batch in (b for _ in range(epochs) for b in np.array_split(rng.permutation(len(train)), len(train) // 32)):
            files = [f"{i} {rng.choice(half)}.jpg" for half in (DEGREES[:3], DEGREES[3:]) for i in batch]
            views = np.stack([np.array(Image.open(Path(work) / file)) for file in files])
            first, second = network(torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255).chunk(2)
            y = torch.from_numpy(train.target[batch])
            loss = F.cross_entropy(torch.cat([first, second]), torch.cat([y, y]))
            optimizer.zero_grad()
            (loss + 0.5 * (first - second).square().mean()).backward()
            optimizer.step()


def our_way(generator, found, train, epochs: int) -> None:
    """Edits as we make them: codes once, edits painted in batches."""
    DiGAOneStage(generator, found, edit="shift", degrees=(3, 5), balance=False, originals=0.0, epochs=epochs).fit(train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=1024, help="faces that everything is measured on")
    parser.add_argument("--edited", type=int, default=256, help="of them, those on which edits are compared")
    parser.add_argument("--epochs", type=int, default=8, help="of training on edits, as in the full profile")
    given = parser.parse_args()
    n, batch = given.images, min(128, given.images)
    images, table, _ = faces.render(41, range(n))
    generator, y = latent.load(), table["Smiling"].to_numpy().astype(np.int64)
    codes, train = generator.encode(images), LabelledImages(images, y, None, np.arange(n))
    found = directions.paper_direction(codes, directions.boundary(codes, y, 100.0 * n))
    some = LabelledImages(images[: given.edited], y[: given.edited], None, np.arange(given.edited))
    x = (torch.from_numpy(images[:batch]).float() / 255).contiguous(memory_format=torch.channels_last)
    target, flat = torch.from_numpy(y[:batch]), codes.flatten(1).numpy()

    def show(what: str, one: float, other: float, goal: str = "") -> None:
        print(f"{what:60s} {one / other:9.2f}  {goal}", flush=True)

    print(f"{runtime.available_cores()} cores, {torch.get_num_threads()} threads, {n} faces of 64 x 64")
    ways = [seconds(lambda way=way: way(generator, found, some, given.epochs)) for way in (official_way, our_way)]
    show("DiGA's edits and training: the official way / ours", *ways, "goal 10")
    bare = seconds(lambda: bare_training(x, target, 4 * (n // batch)), 3)
    show("a bare network / ERM's loop", bare, seconds(lambda: ERM(epochs=4, augment="none").fit(train), 3), "goal 0.85")
    show("the same with image augmentation", bare, seconds(lambda: ERM(epochs=4).fit(train), 3), "goal 0.85")
    plain = seconds(lambda: LogisticRegression(C=1 / (100.0 * n), max_iter=1000).fit(flat, y), 2)
    show("boundary: scikit-learn / ours", plain, seconds(lambda: directions.boundary(codes, y, 100.0 * n), 2))


if __name__ == "__main__":
    main()
