"""``make bench``: images a second of what a reader waits for, and ratios measured side by side in one run."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.nn import functional as F

from diga_lib import directions, latent, runtime
from diga_lib.data import LabelledImages, faces
from diga_lib.methods import ERM, DiGA
from diga_lib.methods.networks import classifier


def rate(images: int, work, repeats: int = 3) -> float:
    """Images a second, the best of a few repeats (the others waited for something else)."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return images / min(times)


def bare_training(x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Nothing but the network: forward, loss, backward and step on one batch that is in memory."""
    network = classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    for _ in range(steps):
        with runtime.autocast():
            logits = network(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    count = 1024
    images, table, _ = faces.render(41, range(count))
    generator = latent.load()
    codes = generator.encode(images)
    y = table["Smiling"].to_numpy().astype(np.int64)
    train = LabelledImages(images, y, table["Male"].to_numpy().astype(np.int64), np.arange(count))
    found = directions.paper_direction(codes, directions.boundary(codes, y, 100.0 * count))
    x = (torch.from_numpy(images[:128]).float() / 255).contiguous(memory_format=torch.channels_last)
    rates = {
        "render, one process": rate(256, lambda: faces.render(42, range(256))),
        "encode": rate(count, lambda: generator.encode(images)),
        "decode": rate(count, lambda: generator.decode(codes)),
        "decode one at a time": rate(64, lambda: [generator.decode(codes[i : i + 1]) for i in range(64)]),
        "train, network alone": rate(count, lambda: bare_training(x, torch.from_numpy(y[:128]), count // 128)),
        "train, ERM": rate(count * 2, lambda: ERM(epochs=2).fit(train)),
        "train, DiGA": rate(count * 2, lambda: DiGA(generator, found, epochs=2).fit(train)),
    }
    print(f"{'images a second':24s}  ({runtime.available_cores()} cores, bf16: {runtime.has_fast_bf16()})")
    for name, value in rates.items():
        print(f"{name:24s} {value:8.0f}")
    print(f"ERM against its network alone:          {rates['train, ERM'] / rates['train, network alone']:.2f}")
    print(f"DiGA against ERM:                       {rates['train, DiGA'] / rates['train, ERM']:.2f}")
    print(f"decoding in batches against one by one: {rates['decode'] / rates['decode one at a time']:.1f}")


if __name__ == "__main__":
    main()
