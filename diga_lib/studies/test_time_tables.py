"""What page 10 says of the raw results, in per cent and points; `frame` is what `store.read` returns, or some rows."""

import numpy as np
import pandas as pd

from diga_lib.metrics import mean_and_interval
from diga_lib.studies.test_time import METHODS


def hits(frame):
    """Return a row for each predicted image: model, method, dataset, order, place in the stream, right (0 or 1)."""
    kept = frame[(frame["correct"] != "") & (frame["variant"] == "")]
    place = [np.arange(n) * every for n, every in zip(kept["n"], kept["every"], strict=True)]
    rows = kept[["model", "method", "dataset", "order"]].assign(place=place, right=kept["correct"].map(list))
    return rows.explode(["place", "right"], ignore_index=True).astype({"place": int, "right": int})


def same_images(frame):
    """Reduce the table's records to the images that every method has predicted, those of the sparsest record."""
    table = frame[frame["variant"] == ""].copy()
    every = table["every"].max()
    table["correct"] = [row.correct[:: every // row.every] for row in table.itertuples()]
    table["n"], table["every"] = table["correct"].str.len(), every
    return table.assign(accuracy=[row.count("1") / len(row) for row in table["correct"]])


def _by_order(frame, model):
    """A row for each method and order, a column for each data set and "mean": accuracies; no ablations."""
    rows = frame[(frame["model"] == model) & (frame["variant"] == "")]
    wide = 100 * rows.pivot_table(index=["method", "order"], columns="dataset", values="accuracy", sort=False)
    return wide.assign(mean=wide.mean(axis=1))


def _means(frame):
    """The mean of each column over the orders, and the half width of its 95 % t interval, as two Series."""
    pairs = [mean_and_interval(frame[name]) for name in frame]
    return tuple(pd.Series(values, frame.columns) for values in zip(*pairs, strict=True))


def accuracy_table(frame, model):
    """Return a model's accuracies, method x data set and "mean", and the half widths of their 95 % intervals."""
    wide = _by_order(frame, model)
    pairs = {method: _means(wide.loc[method]) for method in METHODS if method in wide.index}
    return tuple(pd.DataFrame({method: pair[k] for method, pair in pairs.items()}).T for k in (0, 1))


def gains(frame, model, method="TDA", base="zero-shot"):
    """Return how far a method is above another on each data set and in the "mean", and the half widths (Series)."""
    wide = _by_order(frame, model)
    return _means(wide.loc[method] - wide.loc[base])


def costs(frame, model):
    """Return medians for an image, by method: milliseconds of the clock, of a processor core, and peak memory in MB."""
    rows = frame[(frame["model"] == model) & (frame["variant"] == "")]
    processor = 1e3 * rows["extra"].str["processor_seconds_per_image"].astype(float)
    table = rows[["method"]].assign(milliseconds=1e3 * rows["seconds_per_image"], processor=processor)
    medians = table.assign(memory=rows["peak_memory_mb"]).groupby("method").median()
    return medians.reindex([method for method in METHODS if method in medians.index])
