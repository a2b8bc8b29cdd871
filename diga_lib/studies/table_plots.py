"""Pictures of the large tables; as in :mod:`diga_lib.pages.plots`, each takes data and axes and returns the axes."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from diga_lib.pages.plots import COLOURS, OTHER, SPURIOUS, TARGET, axes
from diga_lib.studies import store
from diga_lib.studies.grids import TABLE
from diga_lib.studies.rows import label
from diga_lib.studies.tables import BETTER, LEAST_SEEDS, ORDER, WORDS, in_order

OF_ROWS = (OTHER, *(COLOURS[k] for k in (8, 9, 4, 5, 6)), TARGET, SPURIOUS, COLOURS[3], COLOURS[2], "black")
STYLES = dict(zip(TABLE, zip(OF_ROWS, "ov^<>DPosxx", strict=True), strict=True))  # a colour and a marker


def by_pair(table: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Draw a metric of every method, a line of markers for each pair, from the means of `tables.means`."""
    ax = axes(ax, height=4.2)
    values = table[metric].unstack("row")
    pairs = [pair for pair in ORDER if pair in values.index]
    for k, row in enumerate(row for row in TABLE if row in values):
        colour, marker = STYLES[row]
        # A little above or below the line, so that equal values do not hide one another.
        places = [place + (k - 5) * 0.06 for place in range(len(pairs))]
        front = row.startswith("diga") or row == "balanced"
        look = {"markersize": 8, "zorder": 3} if front else {"markersize": 6, "zorder": 2}
        ax.plot(values.loc[pairs, row], places, marker, color=colour, label=label(row), **look)
    ax.set_yticks(range(len(pairs)), pairs)
    name = "EO (lower is better)" if metric == "equalized_odds" else metric.replace("_", " ")
    ax.set(ylim=(len(pairs) - 0.5, -0.5), xlabel=name)
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    sns.despine(ax=ax)
    return ax


def rank_map(agreement: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the rank correlation of measured and reported orders: a row for each pair, a column for each metric."""
    ax = axes(ax, height=4.0, width=4.0)
    table = agreement.pivot(index="pair", columns="metric", values="rank_correlation")
    look = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 9}, "linewidths": 1, "cmap": "vlag_r"}
    bar = {"label": "rank correlation"}
    sns.heatmap(in_order(table)[list(WORDS.values())], vmin=-1, vmax=1, cbar_kws=bar, ax=ax, **look)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0, labelrotation=0)
    return ax


def gains(agreement: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw DiGA's measured gain over ERM against the reported one, a point for each pair and metric."""
    ax = axes(ax, height=4.0, width=4.2)
    looks = {"Acc": (TARGET, "o"), "Wst": (SPURIOUS, "s"), "EO": (COLOURS[2], "^")}
    for metric, some in agreement.groupby("metric", sort=False):
        colour, marker = looks[metric]
        ax.scatter(some["reported"], some["measured"], color=colour, marker=marker, label=metric, s=30)
    low, high = ax.get_xlim()
    ax.axline((0, 0), slope=1, color=OTHER, linewidth=0.8, linestyle=":", label="equal")
    ax.axhline(0, color=OTHER, linewidth=0.8)
    ax.set(xlabel="reported gain, points", ylabel="measured gain, points", xlim=(low, high))
    ax.legend(frameon=False, fontsize=8)
    sns.despine(ax=ax)
    return ax


def closed(shares: pd.DataFrame, ax: Axes | None = None, bar: float | None = None) -> Axes:
    """Draw the share of the way from ERM to an oracle, pair x row, as bars, cut where they leave the picture.

    A line is drawn at `bar`: what was asked for.
    """
    ax = axes(ax, height=3.6)
    colours = [STYLES[row][0] for row in shares]
    shares.clip(-1, 1.5).rename(columns=label).plot.bar(ax=ax, width=0.8, color=colours, rot=0, fontsize=8)
    for bars, row in zip(ax.containers, shares, strict=True):
        words = ["" if pd.isna(value) else f"{value:.2f}" for value in shares[row]]
        ax.bar_label(bars, words, fontsize=6, padding=1)
    if bar is not None:
        ax.axhline(bar, color=OTHER, linewidth=0.8, linestyle="--")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axhline(1, color=OTHER, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(shares)), [pair.replace("/", "/\n") for pair in shares.index])
    ax.set(ylabel="share of the gap closed", xlabel="")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3, frameon=False)
    sns.despine(ax=ax)
    return ax


def found_and_gained(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw DiGA's "gain", points of worst group over ERM, against "right pseudo groups", a labelled point a pair."""
    ax = axes(ax, height=3.8)
    ax.scatter(table["right pseudo groups"], table["gain"], color=SPURIOUS, s=40, zorder=2)
    # Labels of neighbouring points go to different heights.
    for k, (pair, line) in enumerate(table.sort_values("right pseudo groups").iterrows()):
        beside = {"xytext": (5, 7 if k % 2 else -11), "textcoords": "offset points", "fontsize": 8}
        ax.annotate(pair, (line["right pseudo groups"], line["gain"]), **beside)
    ax.axhline(0, color=OTHER, linewidth=0.8)
    low, high = ax.get_xlim()
    ax.set(xlim=(low, high + 0.15 * (high - low)), ylabel="worst group over ERM, points")
    ax.set_xlabel("training faces in the right pseudo group")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    sns.despine(ax=ax)
    return ax


def sweep(frame: pd.DataFrame, axs, rows: tuple[str, ...]) -> None:
    """Draw each metric on one of three axes against the bias, a curve for each method, with 95 % t intervals.

    They are drawn from three seeds on; that of two hides everything else. `frame` has the published runs of one pair.
    """
    some = frame[frame["row"].isin(rows)].sort_values("bias")
    for ax, metric in zip(axs, store.METRICS, strict=True):
        if some.empty:
            ax.text(0.5, 0.5, "no results yet", ha="center", va="center", transform=ax.transAxes, color=OTHER)
            ax.set_axis_off()
            continue
        for k, row in enumerate(row for row in rows if row in set(some["row"])):
            table = store.summary(some[some["row"] == row], "bias", [metric])
            half = table[metric, "interval"].where(table["runs", "count"] >= LEAST_SEEDS, 0)
            colour, marker = STYLES[row]
            beside = 1.03 ** (k - len(rows) // 2)  # so that intervals do not hide one another
            look = {"linewidth": 2.2 if row.startswith("diga") else 1, "elinewidth": 0.8, "markersize": 5}
            look |= {"color": colour, "marker": marker, "label": label(row)}
            ax.errorbar(table.index * beside, table[metric, "mean"], half, **look)
        ax.set_xscale("log")
        biases = some["bias"].unique()
        ax.set_xticks(biases, ["1" if b == 1 else f"1/{1 / b:.0f}" for b in biases], minor=False)
        ax.minorticks_off()
        title = WORDS[metric] + (" (lower is better)" if BETTER[metric] < 0 else "")
        ax.set(xlabel="bias (minority / majority)", title=title)
        sns.despine(ax=ax)
