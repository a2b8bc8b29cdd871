"""Pictures of the large tables; as in :mod:`diga_lib.pages.plots`, each takes data and axes and returns the axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from diga_lib.metrics import mean_and_interval
from diga_lib.pages.plots import COLOURS, OTHER, SPURIOUS, TARGET, axes
from diga_lib.studies.grids import TABLE
from diga_lib.studies.rows import label
from diga_lib.studies.store import METRICS
from diga_lib.studies.tables import BETTER, ORDER, WORDS

STYLES = {
    "erm": (OTHER, "o"),
    "cvar-dro": (COLOURS[8], "v"),
    "eiil": (COLOURS[9], "^"),
    "lff": (COLOURS[4], "<"),
    "jtt": (COLOURS[5], ">"),
    "maple": (COLOURS[6], "D"),
    "diga-one-stage": (SPURIOUS, "o"),
    "diga-one-stage-words": (COLOURS[3], "s"),
    "group-dro": (COLOURS[2], "x"),
    "balanced": ("black", "x"),
    "diga-paper": (TARGET, "P"),
}


def nothing(ax: Axes, words: str = "no results yet") -> Axes:
    """Write on empty axes that there is nothing to show."""
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes, color=OTHER)
    ax.set_axis_off()
    return ax


def by_pair(table: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Draw a metric of every method, a line of markers for each pair.

    `table` comes from `tables.means`: index (pair, row).
    """
    ax = axes(ax, height=4.2)
    if table.empty:
        return nothing(ax)
    pairs = [pair for pair in ORDER if pair in table.index.get_level_values("pair")]
    for k, row in enumerate(row for row in TABLE if row in table.index.get_level_values("row")):
        values = table.xs(row, level="row")[metric]
        colour, marker = STYLES[row]
        # A little above or below the line, so that equal values do not hide one another.
        places = [pairs.index(pair) + (k - 5) * 0.06 for pair in values.index]
        front = row.startswith("diga") or row == "balanced"
        look = {"markersize": 8, "zorder": 3} if front else {"markersize": 6, "zorder": 2}
        ax.plot(values, places, marker, color=colour, label=label(row), **look)
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
    if agreement.empty:
        return nothing(ax, "no pair is complete yet")
    table = agreement.pivot(index="pair", columns="metric", values="rank_correlation")
    table = table.reindex([pair for pair in ORDER if pair in table.index])[list(WORDS.values())]
    look = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 9}, "linewidths": 1}
    bar = {"label": "rank correlation"}
    sns.heatmap(table, vmin=-1, vmax=1, cmap="vlag_r", cbar_kws=bar, ax=ax, **look)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0, labelrotation=0)
    return ax


def gains(agreement: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw DiGA's measured gain over ERM against the reported one, a point for each pair and metric."""
    ax = axes(ax, height=4.0, width=4.2)
    if agreement.empty:
        return nothing(ax, "no pair is complete yet")
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
    """Draw the share of the way from ERM to an oracle as bars: a group for each pair, a colour for each method.

    `shares` has a row for each pair and a column for each row of ``rows.ROWS``; 0 is ERM, 1 the oracle. A line is drawn
    at `bar`: what was asked for.
    """
    ax = axes(ax, height=3.6)
    if shares.empty:
        return nothing(ax)
    shown = shares.clip(-1, 1.5)
    width = 0.8 / len(shares.columns)
    for k, row in enumerate(shares.columns):
        places = np.arange(len(shares)) + (k - (len(shares.columns) - 1) / 2) * width
        bars = ax.bar(places, shown[row], width, color=STYLES[row][0], label=label(row))
        ax.bar_label(bars, [f"{value:.2f}" for value in shares[row]], fontsize=7, padding=1)
    if bar is not None:
        ax.axhline(bar, color=OTHER, linewidth=0.8, linestyle="--")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axhline(1, color=OTHER, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(shares)), [pair.replace("/", "/\n") for pair in shares.index], fontsize=8)
    ax.set(ylabel="share of the gap closed")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3, frameon=False)
    sns.despine(ax=ax)
    return ax


def found_and_gained(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what DiGA gained against how well it found the spurious attribute, a labelled point for each pair.

    `table` has the columns "right pseudo groups" and "gain": points of worst-group accuracy over ERM.
    """
    ax = axes(ax, height=3.8)
    if table.empty:
        return nothing(ax)
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
    """Draw the three metrics against the bias, a curve for each method, with 95 % t intervals from three seeds on.

    Two seeds would give an interval of nearly thirteen standard errors, which hides everything else.

    `frame` comes from `tables.published`, with one pair; `axs` are three.
    """
    for ax, metric in zip(axs, METRICS, strict=True):
        some = frame[frame["row"].isin(rows)]
        if some.empty:
            nothing(ax)
            continue
        for k, (row, lines) in enumerate(some.groupby("row", sort=False)):
            table = results_by_bias(lines, metric)
            colour, marker = STYLES[row]
            beside = 1.03 ** (k - some["row"].nunique() // 2)  # so that intervals do not hide one another
            look = {"linewidth": 2.2 if row.startswith("diga") else 1, "elinewidth": 0.8, "markersize": 5}
            look |= {"color": colour, "marker": marker, "label": label(row)}
            ax.errorbar(table.index * beside, table["mean"], table["interval"].fillna(0), **look)
        ax.set_xscale("log")
        biases = sorted(some["bias"].unique())
        ax.set_xticks(biases, ["1" if b == 1 else f"1/{1 / b:.0f}" for b in biases], minor=False)
        ax.minorticks_off()
        title = WORDS[metric] + (" (lower is better)" if BETTER[metric] < 0 else "")
        ax.set(xlabel="bias (minority / majority)", title=title)
        sns.despine(ax=ax)


def results_by_bias(lines: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean and half width of the 95 % t interval at each bias (NaN for fewer than three seeds)."""
    groups = lines.groupby("bias")[metric]
    table = pd.DataFrame({bias: mean_and_interval(some) for bias, some in groups}, index=["mean", "interval"]).T
    return table.assign(interval=table["interval"].where(groups.size() > 2), runs=groups.size())
