"""What page 10 says of the raw results: tables, the curve along the stream, the ablations, and the bars.

`frame` is always what `store.read` returns, or some rows of it; accuracies come out in per cent.
"""

import numpy as np
import pandas as pd

from diga_lib.metrics import mean_and_interval
from diga_lib.studies.store import FOLDER
from diga_lib.studies.test_time import METHODS

REPORTED = FOLDER.parent / "reported" / "cross_domain.csv"


def _means(frame):
    """The mean of each column and the half width of its 95 % t interval, as two Series."""
    pairs = [mean_and_interval(frame[name]) for name in frame]
    return tuple(pd.Series(values, frame.columns) for values in zip(*pairs, strict=True))


def _of(frame, model):
    return frame[(frame["model"] == model) & (frame["variant"] == "")]


def hits(frame):
    """Return who was right about which image: one row for each image that was predicted.

    Returns
    -------
    DataFrame
        model, method, dataset, order, place (in the stream, from 0) and right (0 or 1), for records that keep it.
    """
    kept = frame[(frame["correct"] != "") & (frame["variant"] == "")]
    kept = kept.assign(
        right=kept["correct"].map(list), place=[np.arange(n) * k for n, k in kept[["n", "every"]].values]
    )
    rows = kept[["model", "method", "dataset", "order", "place", "right"]].explode(
        ["place", "right"], ignore_index=True
    )
    return rows.astype({"place": int, "right": int})


def same_images(frame):
    """Reduce the table's records to the images that every method has predicted, those of the sparsest record."""
    table = frame[frame["variant"] == ""].copy()
    every = table["every"].max()
    table["correct"] = [row.correct[:: every // row.every] for row in table.itertuples()]
    table["n"], table["every"] = table["correct"].str.len(), every
    table["accuracy"] = [np.mean([int(c) for c in row]) for row in table["correct"]]
    return table


def accuracy_table(frame, model):
    """Return a model's accuracies: a row for each method, a column for each data set and "mean"; no ablations.

    Returns
    -------
    table, interval : DataFrames
        The mean over the orders, and the half width of its 95 % t interval.
    """
    wide = 100 * _of(frame, model).pivot_table(
        index=["method", "order"], columns="dataset", values="accuracy", sort=False
    )
    wide["mean"] = wide.mean(axis=1)
    methods = [method for method in METHODS if method in wide.index.get_level_values(0)]
    pairs = {method: _means(wide.loc[method]) for method in methods}
    return tuple(pd.DataFrame({method: pair[k] for method, pair in pairs.items()}).T for k in (0, 1))


def gains(frame, model, method="TDA", base="zero-shot"):
    """Return by how many points a method is above another, as Series over the data sets and "mean".

    Returns
    -------
    gain, interval : Series
        The mean over the orders, and the half width of its 95 % t interval. Both methods meet the same subjects in
        the same order, so differences are steadier than the accuracies themselves.
    """
    wide = _of(frame, model).pivot_table(index="order", columns=["method", "dataset"], values="accuracy", sort=False)
    apart = 100 * (wide[method] - wide[base])
    return _means(apart.assign(mean=apart.mean(axis=1)))


def costs(frame, model):
    """Return what an image costs each method: medians over its runs.

    Returns
    -------
    DataFrame
        milliseconds (of the wall clock), processor (milliseconds of one core, which other work on the machine does
        not lengthen) and memory (the process's peak, 10^6 bytes).
    """
    rows = _of(frame, model)
    processor = [1e3 * extra["processor_seconds_per_image"] for extra in rows["extra"]]
    table = pd.DataFrame({"method": rows["method"], "milliseconds": 1e3 * rows["seconds_per_image"]})
    table = table.assign(processor=processor, memory=rows["peak_memory_mb"])
    return table.groupby("method").median().reindex([m for m in METHODS if m in set(rows["method"])])


def along_the_stream(frame, model, methods=("zero-shot", "TDA"), window=40):
    """Return accuracy over the last `window` images at each place of the stream, over all sets and orders.

    Returns
    -------
    DataFrame
        Indexed by place, a column for each method.
    """
    rows = hits(frame[(frame["model"] == model) & frame["method"].isin(methods)])
    at = rows.pivot_table(index="place", columns="method", values="right")[list(methods)]
    return at.rolling(window, min_periods=window).mean().dropna()


def ablation(frame):
    """Return what each change of TDA's settings costs: the mean difference to TDA, in points, for each model.

    Returns
    -------
    DataFrame
        A row for each variant, a column for each model.
    """
    tda = frame[frame["method"] == "TDA"]
    means = 100 * tda.groupby(["model", "variant"], sort=False)["accuracy"].mean().unstack(0)
    return (means - means.loc[""]).drop(index="")


def bars(frame, model):
    """Return what was asked of TDA, and whether it was met: a dict from a sentence to (value, met)."""
    cost = costs(frame, model)["processor"]
    gain, lead = (
        gains(same_images(frame[frame["method"].isin(["TDA", base])]), model, base=base)[0]["mean"]
        for base in ("zero-shot", "TPT")
    )
    times = cost["TDA"] / cost["zero-shot"]
    return {
        "points above zero-shot, at least 1.5": (gain, gain >= 1.5),
        "points above TPT on the same images, more than 0": (lead, lead > 0),
        "share of TPT's time, at most 1/20": (cost["TDA"] / cost["TPT"], cost["TDA"] <= cost["TPT"] / 20),
        "times zero-shot's cost, at most 1.1": (times, times <= 1.1),
    }


def reported(backbone):
    """Return the table that the paper reports for "RN50" or "ViT-B/16", in per cent (DataFrame)."""
    rows = pd.read_csv(REPORTED)
    return rows[rows["backbone"] == backbone].drop(columns="backbone").set_index("method")


def misfit(table):
    """Return by how much each reported "Average" is above the mean of the row's columns (Series)."""
    return table["Average"] - table.drop(columns="Average").mean(axis=1)
