"""The table of cats and dogs: fur colour as the shortcut, the methods of the large tables, three seeds.

Nothing is tuned on critters: the competitors have the settings that their search on faces chose, and ERM, DiGA and the
oracles their defaults.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.studies import rows as all_rows
from diga_lib.studies import store
from diga_lib.studies.grids import ORACLES, SEVEN, Cell, chosen, compute
from diga_lib.studies.runner import Study

ROWS = (*SEVEN, *ORACLES)
UNTUNED = ("erm", "balanced", "diga-one-stage", "group-dro")


def cells(rows=ROWS, seeds=(0, 1, 2), bias=1 / 9, profile="quick") -> list[Cell]:
    """The table's cells, seed after seed."""
    all_rows.check(rows)
    changes = {row: "{}" if row in UNTUNED else chosen(row) for row in rows}
    same = {"target": "Dog", "spurious": "Dark_Fur", "dataset": "rendered-critters", "bias": bias, "profile": profile}
    return [Cell(row, seed=seed, changes=changes[row], **same) for seed in seeds for row in rows]


STUDY = Study("beyond_faces", cells, compute)


def kept(bias: float, output: Path = STUDY.path) -> pd.DataFrame:
    """The stored results for a bias in the table's order: the columns of `store.read`, and stale.

    stale says whether the version has changed since.
    """
    frame = store.kept(output)
    frame = frame[np.isclose(frame["bias"].astype(float), bias, rtol=0.01)]
    stale = [all_rows.version(row) != made for row, made in zip(frame["row"], frame["version"], strict=True)]
    order = [ROWS.index(row) for row in frame["row"]]
    return frame.assign(stale=stale).iloc[np.argsort(order, kind="stable")]
