"""How DiGA (paper) converges: what its representation holds after each epoch, and what heads on it reach."""

import copy
import json

import numpy as np
from sklearn.linear_model import RidgeClassifier

from diga_lib.metrics import group_metrics
from diga_lib.studies import rows, store
from diga_lib.studies.grids import Cell
from diga_lib.studies.runner import Study

HEADS = {"against the label": {}, "images": {"head_degrees": ()}}


def compute(cell: Cell) -> store.Result:
    """Train and test one cell; its result has a line of the curve for each epoch, 0 before the first."""
    s, curve = cell.setting(), []
    test, train, changes = s.split.test, s.train, json.loads(cell.changes)
    half = np.arange(len(test)) % 2 == 0

    def look(model, record):
        if record["stage"] == "byol":
            seen = model.features(test.images)
            line = {"epoch": record["epoch"] + 1, "loss": record["loss"], "probes": {}}
            for name, truth in {s.split.target: test.target, s.split.spurious: test.spurious}.items():
                probe = RidgeClassifier(1.0).fit(seen[half], truth[half])
                line["probes"][name] = float(probe.score(seen[~half], truth[~half]))
            for name, more in HEADS.items():
                one = copy.copy(model)
                one.network, one.history = copy.deepcopy(model.network), []
                vars(one).update({"head_epochs": 60, "head_draws": 1} | more)  # short ones on the way
                m = group_metrics(test.target, one.fit_head(train, cell.seed).predict(test.images), test.spurious)
                line[name] = {metric: getattr(m, metric) for metric in store.METRICS}
            curve.append(line)

    start = rows.ROWS[cell.row].make(s, **changes)
    start.network, start.history = start.build().to(start.device), []
    start.offer(train)
    look(start, {"stage": "byol", "epoch": -1, "loss": None})
    return rows.run(s, cell.row, cell.seed, cell.variant, {"curve": curve}, callbacks=[look], **changes)[0]


def cells(pairs=(("Smiling", "Male"),), seeds=(0,), bias=1 / 9) -> list[Cell]:
    """A run of twice as many epochs as the tables have."""
    same = {"bias": bias, "changes": json.dumps({"epochs": 12}), "variant": "twelve epochs"}
    return [Cell("diga-paper", *pair, seed=seed, **same) for pair in pairs for seed in seeds]


STUDY = Study("convergence", cells, compute)
