"""A linear editor and the transfer of an expression, on codes in which the truth is known."""

import numpy as np
import torch

from diga_lib.action_units import editors

RNG = torch.Generator().manual_seed(0)
DIRECTIONS, CODES = torch.randn(12, 5, 4, generator=RNG), torch.randn(3, 5, 4, generator=RNG)


def test_an_edit_is_the_sum_of_its_units():
    source, target = torch.randint(0, 6, (2, 3, 12), generator=RNG).float()
    edited = editors.Linear(DIRECTIONS, gain=2.0)(CODES, source, target)
    by_hand = [
        w + 2 * sum((t[k] - s[k]) * DIRECTIONS[k] for k in range(12))
        for w, s, t in zip(CODES, source, target, strict=True)
    ]
    torch.testing.assert_close(edited, torch.stack(by_hand))
    assert editors.no_edit(CODES, source, target) is CODES


def test_transfer_asks_the_reader_for_both_pictures():
    seen = []

    def read(images):
        seen.append(images)
        return np.full((3, 12), 9.0 if images == "target" else -1.0)  # out of the scale: readings are clipped

    edited = editors.transfer(editors.Linear(DIRECTIONS), read, CODES, "source", "target")
    assert seen == ["source", "target"]
    torch.testing.assert_close(edited, CODES + 5 * DIRECTIONS.sum(0))
