"""``make bench``: what costs how much, as ratios measured side by side in one run.

A rate says something of a machine, a ratio something of the code: each is between two ways of doing the same thing,
timed in turn, in the same process, on the same networks and data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from diga_lib import directions, latent, runtime
from diga_lib.studies import own_images
from diga_lib.data import LabelledImages, faces
from diga_lib.studies import celeba_tree
from diga_lib.methods import ERM, DiGAOneStage
from diga_lib.methods.networks import classifier

DEGREES = (3.0, 4.0, 5.0)  # which the official code renders beforehand, with both signs


def seconds(work, repeats: int = 1) -> float:
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
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class EditedFiles(Dataset):
    """Two views of each face, read from the JPEG files that were written beforehand."""

    def __init__(self, folder, target):
        self.folder, self.target, self.rng = folder, target, np.random.default_rng(0)

    def __len__(self):
        return len(self.target)

    def __getitem__(self, i):
        views = []
        for sign in "+-":
            with Image.open(self.folder / f"{i}{sign}{self.rng.choice(DEGREES)}.jpg") as image:
                views.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255)
        return views[0], views[1], self.target[i]


def official_way(generator, found, train, epochs: int) -> tuple[float, float]:
    """Stage 2 as the official code does it: one edit at a time to JPEG, then read by a DataLoader, fp32, 32 a batch.

    Returns
    -------
    (float, float)
        Seconds of editing and of training.
    """
    with tempfile.TemporaryDirectory() as work:
        folder, start = Path(work), time.perf_counter()
        for i, image in enumerate(train.images):
            code = generator.encode(image[None])
            for sign in (1, -1):
                for degree in DEGREES:
                    picture = generator.decode(found.move(code, sign * degree))[0]
                    pixels = (picture * 255).byte().permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(folder / f"{i}{'+' if sign > 0 else '-'}{degree}.jpg", quality=95)
        edited = time.perf_counter() - start
        network, start = classifier(), time.perf_counter()
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        for _ in range(epochs):
            for one, other, y in DataLoader(EditedFiles(folder, torch.from_numpy(train.target)), 32, shuffle=True):
                logits = network(torch.cat([one, other]))
                first, second = logits.chunk(2)
                loss = F.cross_entropy(logits, torch.cat([y, y])) + 0.5 * (first - second).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return edited, time.perf_counter() - start


class SixEdits(DiGAOneStage):
    """DiGA whose views are those of the official way: one of three degrees up, and one of three down."""

    flips = True  # so that views are chosen from what `offer` has, and painted once

    def prepare(self, train):
        super().prepare(train)
        degrees = torch.tensor([*DEGREES, *(-degree for degree in DEGREES)], device=self.device)
        self.faces.offer(degrees.view(1, -1, 1).repeat(len(train), 1, 1))

    def opposite_sides(self, index):
        draw = lambda: (len(DEGREES) * self.uniform(len(index), 0, 1)).long()
        return draw(), len(DEGREES) + draw()


def our_way(generator, found, train, epochs: int) -> float:
    """The same views by our loop: codes once, edits painted in batches, each when it is first shown."""
    method = SixEdits(generator, found, balance=False, originals=0.0, epochs=epochs)
    return seconds(lambda: method.fit(train))


def peak_flops(dtype: torch.dtype, side: int = 2048) -> float:
    """Floating-point operations a second of the fastest matrix product of this machine."""
    a, b = torch.randn(2, side, side).to(dtype)
    return 2 * side**3 / seconds(lambda: a @ b, 5)


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
    n, rows = given.images, []

    def show(what: str, value: str, goal: str = "") -> None:
        rows.append((what, value, goal))
        print(f"{what:66s} {value:>12s}  {goal}", flush=True)

    threads = torch.get_num_threads()
    print(f"{runtime.available_cores()} cores, {threads} threads, bf16 in hardware: {runtime.has_fast_bf16()}, "
          f"torch {torch.__version__}, {n} faces of 64 x 64")
    images, table, _ = faces.render(41, range(n))
    generator, y = latent.load(), table["Smiling"].to_numpy().astype(np.int64)
    codes = generator.encode(images)
    train = LabelledImages(images, y, None, np.arange(n))
    found = directions.paper_direction(codes, directions.boundary(codes, y, 100.0 * n))

    print("\nimages a second")
    show("render", f"{256 / seconds(lambda: faces.render(42, range(256)), 3):.0f}")
    show("encode", f"{n / seconds(lambda: generator.encode(images), 3):.0f}")
    in_batches = n / seconds(lambda: generator.decode(codes), 3)
    one_by_one = 64 / seconds(lambda: [generator.decode(codes[i : i + 1]) for i in range(64)], 2)
    show("decode", f"{in_batches:.0f}")
    show("decode, one at a time", f"{one_by_one:.0f}")

    print("\nratios, side by side")
    some = LabelledImages(images[:given.edited], y[:given.edited], None, np.arange(given.edited))
    edited, trained = official_way(generator, found, some, given.epochs)
    ours = our_way(generator, found, some, given.epochs)
    ratio = f"{(edited + trained) / ours:.1f}"
    show(f"DiGA's stage 2, {given.epochs} epochs: the official way / ours", ratio, "goal 10")
    show("  seconds: editing to JPEG / reading back and training / ours", f"{edited:.0f}/{trained:.0f}/{ours:.0f}")
    batch = min(128, n)
    x = (torch.from_numpy(images[:batch]).float() / 255).contiguous(memory_format=torch.channels_last)
    target, steps = torch.from_numpy(y[:batch]), 4 * (n // batch)
    bare, loop = (min(pair) for pair in zip(*[
        (seconds(lambda: bare_training(x, target, steps)), seconds(lambda: ERM(epochs=4, augment="none").fit(train)))
        for _ in range(3)]))  # in turn, so that both meet the same neighbours
    show("ERM's loop against its bare network", f"{bare / loop:.2f}", "goal 0.85")
    augmented = seconds(lambda: ERM(epochs=4).fit(train), 2)
    show("  the same with image augmentation", f"{bare / augmented:.2f}")
    done = training_flops(x, target) * steps / bare
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peak = peak_flops(dtype)
        used = training_flops(x, target) * steps / seconds(lambda: bare_training(x, target, steps, name), 2)
        goal = "goal 0.25" if name == "bf16" else ""
        show(f"{name} training against the peak of matrix products, {peak / 1e9:.0f} GFLOP/s", f"{used / peak:.2f}", goal)
    show("  training, GFLOP/s", f"{done / 1e9:.0f}")
    flat = codes.flatten(1).numpy()
    plain = seconds(lambda: LogisticRegression(C=1 / (100.0 * n), max_iter=1000).fit(flat, y), 2)
    show("boundary: scikit-learn's defaults / ours",
         f"{plain / seconds(lambda: directions.boundary(codes, y, 100.0 * n), 2):.2f}")
    features = ERM(epochs=1).fit(train).features(images)
    brute = seconds(lambda: TSNE(perplexity=30, random_state=0, method="exact", max_iter=500).fit_transform(features))
    trees = seconds(lambda: TSNE(perplexity=30, random_state=0, max_iter=500).fit_transform(features))
    show("t-SNE: exact / Barnes-Hut, which page 05 uses (both scikit-learn)", f"{brute / trees:.2f}")

    print("\nreading files into the store (10,000 to 200,000: python -m diga_lib.studies.own_images)")
    with tempfile.TemporaryDirectory() as work:
        source = celeba_tree.make(Path(work) / "drawn", 200, jobs=1)
        for count in (1_000, 4_000):
            tree = own_images.linked_tree(source, count, Path(work) / str(count))
            facts = own_images.step(["read", str(tree), "1"], tree, Path(work) / f"cache-{count}")
            show(f"{count} files: images a second / peak memory, MB",
                 f"{count / facts['seconds']:.0f}/{facts['peak_memory_mb']:.0f}")
    kept = own_images.read() if own_images.RESULTS.exists() else None
    for _, row in (kept[kept["step"] == "read"].iterrows() if kept is not None else ()):
        show(f"{row['images']} files (kept result): images a second / peak memory, MB",
             f"{row['images'] / row['seconds']:.0f}/{row['peak_memory_mb']:.0f}")


if __name__ == "__main__":
    main()
