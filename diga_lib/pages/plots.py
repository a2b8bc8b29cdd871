"""The book's pictures: each function takes data and an axes, draws, and returns the axes; and numbers as text.

Without an axes a figure of a fitting size is made. Colours are those of seaborn's colour-blind palette, and the target
is blue and the spurious attribute orange on every page.
"""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from diga_lib.data import LabelledImages
from diga_lib.metrics import GroupMetrics, mean_and_interval

TARGET, SPURIOUS, OTHER = "#0173b2", "#de8f05", "#949494"
COLOURS = sns.color_palette("colorblind")
WIDTH, DPI = 7.2, 120  # inches and dots per inch of a figure as wide as the text
FACE, FACE_DPI = 1.8, 200  # the widest face in a grid; 200 dots per inch are two for each pixel of the page


def axes(ax: Axes | None = None, height: float = 3.2, width: float = WIDTH, dpi: int = DPI) -> Axes:
    """Return `ax`, or a new axes of so many inches if there is none."""
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), dpi=dpi, layout="constrained")
    return ax


def ends(attribute: str, flipped: bool = False) -> tuple[str, str]:
    """Say in words what there is more of at the left and the right end of a direction for an attribute.

    To the right there is more of the attribute, or, where the direction points the other way (`flipped`), less.
    """
    words = {
        "Male": ("cues read as feminine", "cues read as masculine"),
        "Young": ("signs of age", "few signs of age"),
        "Smiling": ("no smile", "smile"),
        "Dark_Fur": ("lighter fur", "darker fur"),
    }
    less, more = words.get(attribute, (f"less {attribute}", f"more {attribute}"))
    left, right = (more, less) if flipped else (less, more)
    return f"← {left}", f"{right}\N{NO-BREAK SPACE}→"


def group_words(target: str, spurious: str) -> list[str]:
    """Name the groups in words, in the order of ``group``: "not smiling, not Male" first, "smiling, Male" last."""
    words = {"Dog": ("cat", "dog"), "Dark_Fur": ("light fur", "dark fur"), "Smiling": ("not smiling", "smiling")}
    names = [words.get(name, (f"not {name}", name)) for name in (target, *spurious.split("&"))]
    return [", ".join(row).replace("_", " ") for row in itertools.product(*names)]


# ------------------------------------------------------------------------------------------------------------- faces
def as_pixels(images) -> np.ndarray:
    """Turn images (..., 3, H, W), uint8 or floats in [0, 1], into pixels that can be drawn, uint8 (..., H, W, 3)."""
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.moveaxis(pixels, -3, -1)


def face_grid(
    rows, row_labels: Sequence[str] | None = None, column_labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a grid of pictures as one image, with R words beside the rows and C above the columns (else a ValueError).

    `rows` are uint8, or float (an array or a tensor) in [0, 1], (R, C, 3, H, W), or a list of R rows (C, 3, H, W).
    """
    pixels = np.stack([as_pixels(row) for row in rows])
    count, across, high, wide, _ = pixels.shape
    for what, labels, n in (("row_labels", row_labels, count), ("column_labels", column_labels, across)):
        if labels is not None and len(labels) != n:
            raise ValueError(f"{what} has {len(labels)} words; the grid needs {n}.")
    gap = max(1, wide // 32)
    sheet = np.full((count * (high + gap) - gap, across * (wide + gap) - gap, 3), 255, np.uint8)
    for i, j in np.ndindex(count, across):
        sheet[i * (high + gap) :, j * (wide + gap) :][:high, :wide] = pixels[i, j]
    if ax is None:
        labelled = 0.9 if row_labels is not None else 0.0
        room = WIDTH - labelled
        face = min(FACE, room / across)
        row_labels, column_labels = (
            None if labels is None else [textwrap.fill(str(label), width) for label in labels]
            for labels, width in ((row_labels, 13), (column_labels, max(5, int(14 * face))))
        )
        lines = max(label.count("\n") + 1 for label in column_labels) if column_labels is not None else 0
        blank = round((room / face - across) * (wide + gap))  # a narrow grid keeps the size of its faces
        sheet = np.pad(sheet, ((0, 0), (0, blank), (0, 0)), constant_values=255)
        ax = axes(height=sheet.shape[0] * room / sheet.shape[1] + 0.15 * lines + 0.1, dpi=FACE_DPI)
    ax.imshow(sheet, interpolation="lanczos")
    ax.set_xticks([j * (wide + gap) + wide / 2 for j in range(across)] if column_labels is not None else [])
    ax.set_yticks([i * (high + gap) + high / 2 for i in range(count)] if row_labels is not None else [])
    if column_labels is not None:
        ax.set_xticklabels(column_labels, fontsize=8)
    if row_labels is not None:
        ax.set_yticklabels(row_labels, fontsize=8)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def difference(before, after, times: float = 1.0) -> np.ndarray:
    """Picture what changed, so many times larger: grey where nothing did, brighter where `after` is, in its colours.

    Images of one shape (..., 3, H, W), uint8 or in [0, 1], give floats in [0, 1] of that shape.
    """
    one, two = (np.moveaxis(as_pixels(images), -1, -3) / 255 for images in (before, after))
    return np.clip(0.5 + times * (two - one) / 2, 0, 1)


def contact_sheet(images, columns: int = 10, ax: Axes | None = None) -> Axes:
    """Draw pictures (N, 3, H, W) side by side, row after row; places without a picture stay white."""
    pixels = np.moveaxis(as_pixels(images), -1, -3)
    columns = min(columns, len(pixels))
    missing = -len(pixels) % columns
    pixels = np.concatenate([pixels, np.full((missing, *pixels.shape[1:]), 255, np.uint8)])
    return face_grid(pixels.reshape(-1, columns, *pixels.shape[1:]), ax=ax)


# ------------------------------------------------------------------------------------------------------------ groups
def group_counts(part: LabelledImages, target: str, spurious: str, ax: Axes | None = None) -> Axes:
    """Draw how many images each group has, as a square table: target down, spurious attribute across, both by name."""
    counts = np.bincount(part.group, minlength=2 * part.n_spurious).reshape(2, -1)
    across = part.n_spurious
    ax = axes(ax, height=2.6, width=2.4 + 1.1 * across)
    words = [f"{spurious} = {value}" for value in range(across)], [f"{target} = {value}" for value in (0, 1)]
    style = {"cmap": "Blues", "vmin": 0, "linewidths": 2, "square": True, "cbar": False, "annot_kws": {"fontsize": 12}}
    sns.heatmap(counts, annot=True, fmt=",d", xticklabels=words[0], yticklabels=words[1], ax=ax, **style)
    ax.tick_params(length=0, labelrotation=0)
    return ax


def group_accuracies(metrics: Mapping[str, GroupMetrics], target: str, spurious: str, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each group as bars, a colour for each method, whose metrics are given under its name."""
    table = pd.DataFrame({name: m.groups for name, m in metrics.items()})
    table.index = [f"{target} = {group[1]}\n{spurious} = {group[3:]}" for group in table.index]
    table = table.rename_axis("group").reset_index().melt("group", var_name="method", value_name="accuracy")
    ax = axes(ax)
    colours = [COLOURS[i] for i in range(len(metrics))]
    sns.barplot(table, x="group", y="accuracy", hue="method", palette=colours, ax=ax)
    for bars in ax.containers:
        ax.bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    ax.set(ylim=(0, 1.08), xlabel="", ylabel="accuracy on the balanced test set")
    ax.axhline(0.5, color=OTHER, linewidth=0.8, linestyle=":")
    sns.move_legend(ax, "lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(metrics), title=None, frameon=False)
    sns.despine(ax=ax)
    return ax


# -------------------------------------------------------------------------------------------------------- directions
def angles(table: pd.DataFrame, target: str, ax: Axes | None = None, logarithmic: bool = True) -> Axes:
    """Draw angles between directions and true shifts against a strength or a coefficient.

    The table's index is the strength (or c), named as the axis is to be called; each column has the angles, in degrees,
    to an attribute's shift: the target's and spurious attributes'.
    """
    ax = axes(ax)
    for name, style in zip(table.columns, ("-", "--", "-.", ":"), strict=False):
        colour = TARGET if name == target else SPURIOUS
        ax.plot(table.index, table[name], "o" + style, color=colour, label=f"to the shift of {name}")
    ax.axhline(90, color=OTHER, linewidth=0.8, linestyle=":")
    if logarithmic:
        ax.set_xscale("log")
    ax.set(xlabel=table.index.name, ylabel="angle in degrees")
    ax.invert_yaxis()  # the closer to a shift, the higher
    ax.legend(frameon=False)
    sns.despine(ax=ax)
    return ax


def plane(points: np.ndarray, target: np.ndarray, normals: Mapping[str, np.ndarray], ax: Axes | None = None) -> Axes:
    """Draw points (N, 2) of two classes and, for each named unit normal (2,), its boundary through the origin."""
    ax = axes(ax, height=4.2, width=4.6)
    reach = float(np.quantile(np.abs(points), 0.995)) * 1.1
    for value, marker in ((0, "o"), (1, "^")):
        some = points[np.asarray(target) == value]
        ax.scatter(*some.T, s=9, marker=marker, color=COLOURS[4 + value], alpha=0.35, linewidth=0, label=f"y = {value}")
    for (name, normal), colour in zip(normals.items(), (COLOURS[3], COLOURS[2], COLOURS[0], COLOURS[7]), strict=False):
        along = np.array([-normal[1], normal[0]]) * 2 * reach
        ax.plot(*np.stack([-along, along]).T, color=colour, linewidth=1, linestyle="--")
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2}
        ax.annotate("", normal * reach * 0.62, (0, 0), arrowprops=arrow)
        ax.plot([], [], color=colour, linewidth=2, label=name)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    legend = ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
    for handle in legend.legend_handles:
        handle.set_alpha(1)  # a single point is pale
    sns.despine(ax=ax)
    return ax


def changed_words(table: pd.DataFrame, ax: Axes | None = None, most: int = 10) -> Axes:
    """Draw the `most` words that change most along a direction: columns attribute and change, the largest first."""
    some = table.head(most)
    ax = axes(ax, height=0.6 + 0.26 * len(some))
    colours = [COLOURS[0] if change > 0 else COLOURS[3] for change in some["change"]]
    ax.barh(some["attribute"], some["change"], color=colours)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="change of the word's probability along the direction", xlim=(-1, 1))
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)
    return ax


def strength_map(scores: pd.DataFrame, value: str, ax: Axes | None = None, label: str | None = None, **heatmap) -> Axes:
    """Draw a map over the pairs of strengths of ``Direction.scores``: at each the best `value` over the coefficients.

    `label` has words for the colours' scale (by default the column's name), `heatmap` what ``seaborn.heatmap`` takes.
    """
    best = scores.loc[scores.groupby(["strong", "weak"])[value].idxmax()]
    table = best.pivot(index="strong", columns="weak", values=value).sort_index(ascending=False)
    words = best.assign(words=[f"{v:.2f}\nc = {c:g}" for v, c in zip(best[value], best["coefficient"], strict=True)])
    words = words.pivot(index="strong", columns="weak", values="words").reindex_like(table).fillna("")
    ax = axes(ax, height=3.6, width=5.4)
    style = {"cmap": "crest", "linewidths": 1, "cbar_kws": {"label": label or value}} | heatmap
    sns.heatmap(table, annot=words, fmt="", annot_kws={"fontsize": 8}, ax=ax, **style)
    ax.set(xlabel="weak strength, per image", ylabel="strong strength, per image")
    ax.set_xticklabels([f"{v:g}" for v in table.columns], rotation=0, fontsize=8)
    ax.set_yticklabels([f"{v:g}" for v in table.index], rotation=0, fontsize=8)
    return ax


# ----------------------------------------------------------------------------------------------------------- results
def summary(frame, by="row", columns=("accuracy", "worst_group", "equalized_odds")):
    """Average `columns` of a frame of `store.read` over what agrees in the column `by`; without what is NaN in a run.

    Columns are (name, "mean"), (name, "interval"), half the 95 % t interval (NaN for one run), and ("runs", "count").
    """

    def interval(values):
        return mean_and_interval(values.dropna())[1] if values.notna().any() else np.nan

    groups = frame.groupby(by, sort=False)
    table = groups[list(columns)].agg(["mean", interval])
    table["runs", "count"] = groups.size()
    return table


def formatted(table, digits=3):
    """Write a `summary` as text, "0.812 ± 0.013" in each cell, without interval where a run is alone."""
    means, halves = (table.xs(part, axis=1, level=1) for part in ("mean", "interval"))
    return means.map(f"{{:.{digits}f}}".format) + halves.map(f" ± {{:.{digits}f}}".format).where(halves.notna(), "")


def older(stale, runs, study):
    """A sentence in Markdown on how many of some stored runs are older than the code; "" if there is none."""
    again = f"`python -m diga_lib.studies {study} --renew` runs those again."
    return f"{stale} of these {runs} runs are older than the code that makes them; {again}" if stale else ""


def intervals(table: pd.DataFrame, column: str, ax: Axes | None = None, label: str | None = None) -> Axes:
    """Draw mean and 95 % interval of a `column` of each row of a `summary`, first row on top; `label` is the axis's."""
    ax = axes(ax, height=0.7 + 0.3 * len(table))
    names = [" ".join(filter(None, key)) if isinstance(key, tuple) else str(key) for key in table.index]
    places = np.arange(len(table))
    spread = table[column, "interval"].fillna(0)
    ax.errorbar(table[column, "mean"], places, xerr=spread, fmt="o", color=TARGET, capsize=3)
    ax.set_yticks(places, names)
    ax.set(xlabel=label or column.replace("_", " "), ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="x", alpha=0.3)
    sns.despine(ax=ax)
    return ax


def before_after(table: pd.DataFrame, ax: Axes | None = None, label: str = "") -> Axes:
    """Draw the two values of each row of a table as two joined dots, first row on top.

    The columns' names go to the legend, the index beside the rows, and the label below the axis.
    """
    ax = axes(ax, height=0.9 + 0.27 * len(table))
    places = np.arange(len(table))
    before, after = table.columns
    ax.hlines(places, table[before], table[after], color=OTHER, linewidth=2, zorder=1)
    for column, colour in ((before, TARGET), (after, SPURIOUS)):
        ax.scatter(table[column], places, s=36, color=colour, label=column, zorder=2)
    ax.set_yticks(places, table.index)
    ax.set(xlabel=label, ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False)
    sns.despine(ax=ax)
    return ax
