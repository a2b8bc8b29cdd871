"""`make bench`: what costs how much, as ratios of two ways of doing the same thing, timed in turn in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from diga_lib import directions, latent, runtime
from diga_lib.data import LabelledImages, faces
from diga_lib.methods import ERM
from diga_lib.methods.networks import classifier

N, BATCH, EPOCHS = 1024, 128, 4


def ratio(what: str, *ways: Callable) -> None:
    """Print how many times as long one way takes as the other: the least of three repeats each."""
    times = np.zeros((2, 3))
    for k, repeat in np.ndindex(times.shape):
        start = time.perf_counter()
        ways[k]()
        times[k, repeat] = time.perf_counter() - start
    one, other = times.min(1)
    print(f"{what:60s} {one / other:9.2f}", flush=True)


def bare_training(x: torch.Tensor, y: torch.Tensor) -> None:
    """Nothing but the network: forward, loss, backward and step on one batch that is in memory."""
    network = classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    for _ in range(EPOCHS * N // BATCH):
        with runtime.autocast():
            logits = network(x)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()


def main() -> None:
    images, table, _ = faces.render(41, range(N))
    generator, y, strength = latent.load(), table["Smiling"].to_numpy().astype(np.int64), 100.0 * N
    codes, train = generator.encode(images), LabelledImages(images, y, None, np.arange(N))
    x = (torch.from_numpy(images[:BATCH]).float() / 255).contiguous(memory_format=torch.channels_last)
    target, flat, few = torch.from_numpy(y[:BATCH]), codes.flatten(1).numpy(), codes[:64]
    print(f"{runtime.available_cores()} cores, {torch.get_num_threads()} threads, {N} faces of 64 x 64")
    bare = partial(bare_training, x, target)
    paint = generator.decode
    ratio("painting: one face at a time / in a batch", lambda: [paint(one[None]) for one in few], lambda: paint(few))
    ratio("ERM's loop / its network alone", lambda: ERM(epochs=EPOCHS, augment="none").fit(train), bare)
    ratio("the same with image augmentation", lambda: ERM(epochs=EPOCHS).fit(train), bare)
    plain = LogisticRegression(C=1 / strength, max_iter=1000)
    ratio("boundary: scikit-learn / ours", lambda: plain.fit(flat, y), lambda: directions.boundary(codes, y, strength))


if __name__ == "__main__":
    main()
