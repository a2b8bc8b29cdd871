"""Does an estimator of action units gain from edited faces? The paper's last check, at 18 subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from diga_lib.action_units import data
from diga_lib.action_units.data import UNITS
from diga_lib.action_units.measures import agreement
from diga_lib.action_units.model import AUEditNet, LabelDecoder

MIXES = {"estimator: real frames": 0.0, "estimator: real and edited frames": 1.0}
STEPS, BATCH = 600, 128


def run(editor: AUEditNet, generator, share: float, seed: int, steps: int = STEPS) -> pd.DataFrame:
    """Train an estimator on the 18 subjects and test it on the 9 others, whose faces it has not seen.

    The estimator is a small network that reads a face's code, which the generator's encoder finds in the picture.
    Edited faces are painted and encoded again, so they come to it as pictures do.

    Parameters
    ----------
    editor : AUEditNet
        Trained on the same 18 subjects.
    generator : object with ``encode`` and ``decode``
    share : float
        Edited pictures for each real one: each frame gets the labels of a random frame of any subject.
    seed, steps : int

    Returns
    -------
    DataFrame
        unit, icc and mae on the test subjects' real frames.
    """
    frames, test = data.load("train"), data.load("test")
    codes, labels = generator.encode(frames.images), torch.from_numpy(frames.labels)
    rng = np.random.default_rng(seed)
    count = int(share * len(frames))
    if count:
        source, asked = rng.permutation(len(frames))[:count], rng.permutation(len(frames))[:count]
        with torch.no_grad():
            edited = generator.decode(editor(codes[source], labels[source], labels[asked]))
        codes, labels = torch.cat([codes, generator.encode(edited)]), torch.cat([labels, labels[asked]])
    torch.manual_seed(seed)
    estimator, random = LabelDecoder(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(estimator.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    estimator.train()
    for _ in range(steps):
        rows = torch.randint(len(codes), (BATCH,), generator=random)
        noisy = codes[rows] + 0.15 * torch.randn(codes[rows].shape, generator=random)
        loss = F.smooth_l1_loss(estimator(noisy), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        read = estimator.eval()(generator.encode(test.images)).numpy()
    icc, mae = agreement(test.intensities, read)
    missing = dict.fromkeys(("icc_strict", "leakage", "moved", "identity", "image_distance", "seconds"), np.nan)
    return pd.DataFrame({"unit": UNITS, "icc": icc, "mae": mae}).assign(**missing)
