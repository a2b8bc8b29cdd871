"""Figures of the page on action units."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from diga_lib.action_units.data import UNITS
from diga_lib.pages import plots

MEANING = {
    "AU1": "inner brow up",
    "AU2": "outer brow up",
    "AU4": "brow down",
    "AU5": "upper lid up",
    "AU6": "cheek up",
    "AU9": "nose wrinkled",
    "AU12": "lip corners up",
    "AU15": "lip corners down",
    "AU17": "chin up",
    "AU20": "lips stretched",
    "AU25": "lips apart",
    "AU26": "jaw down",
}
NAMES = [f"{unit} {meaning}" for unit, meaning in MEANING.items()]


def dual_branch(source, neutral, target, ax: Axes | None = None) -> Axes:
    """Draw the two branches as a diagram around what W_src, W_N and W_tar paint, float tensors (3, R, R) in [0, 1]."""
    ax = plots.axes(ax, height=3.0, width=9.0)
    ax.set(xlim=(0, 12), ylim=(0, 4))
    ax.axis("off")
    pictures = {r"$W_{src}$": source, r"$\hat W_N$, neutral": neutral, r"$\hat W_{tar}$": target}
    for x, (words, image) in zip((1.1, 6, 10.9), pictures.items(), strict=True):
        ax.imshow(plots.as_pixels(image), extent=(x - 1, x + 1, 0.55, 2.55), zorder=2, interpolation="lanczos")
        ax.text(x, 0.25, words, ha="center", va="center", fontsize=11)
    arrow = {"arrowstyle": "-|>", "linewidth": 1.6, "color": "black", "mutation_scale": 14}
    for x, sign, labels, name, colour in (
        (3.55, "−", "src", "source branch", plots.SPURIOUS),
        (8.45, "+", "tar", "target branch", plots.TARGET),
    ):
        ax.annotate("", (x - 0.25, 1.55), (x - 1.4, 1.55), arrowprops=arrow)
        ax.annotate("", (x + 1.5, 1.55), (x + 0.25, 1.55), arrowprops=arrow)
        ax.text(x, 1.53, sign, ha="center", va="center", fontsize=13, bbox={"boxstyle": "circle", "facecolor": "white"})
        ax.annotate("", (x, 1.9), (x, 2.55), arrowprops=arrow | {"color": colour})
        module = rf"$M_j(W,\ \Psi_{{enc}}(y_{{{labels}}})_j)$"
        outline = {"boxstyle": "round,pad=0.35", "linewidth": 1.4, "edgecolor": colour, "facecolor": "white"}
        ax.text(x, 2.75, module, ha="center", va="center", fontsize=9.5, bbox=outline, zorder=3)
        ax.annotate("", (x, 3.05), (x, 3.45), arrowprops=arrow | {"color": colour})
        ax.text(x, 3.65, rf"$y_{{{labels}}}$: {name}", ha="center", va="center", fontsize=10, color=colour)
    ax.set_aspect("equal")
    return ax


def trajectories(intensities: np.ndarray, units: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw the intensities (frames, 12) of some units over a film, and the whole numbers a coder writes."""
    ax = plots.axes(ax, height=2.6)
    for colour, unit in zip(plots.COLOURS, units, strict=False):
        course = intensities[:, UNITS.index(unit)]
        ax.plot(course, color=colour, label=f"{unit} {MEANING[unit]}")
        ax.step(np.arange(len(course)), np.round(course), where="mid", color=colour, alpha=0.35, linewidth=1)
    ax.set(xlabel="frame", ylabel="intensity", ylim=(-0.2, 5.2))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=4, frameon=False, fontsize=8)
    return ax


def per_unit(table, ax: Axes | None = None) -> Axes:
    """Draw a value of each unit as bars, a colour for each column of a table (12 units by editors)."""
    ax = plots.axes(ax, height=2.8, width=9.0)
    table.plot.bar(ax=ax, width=0.8, color=[plots.COLOURS[k] for k in range(table.shape[1])])
    ax.set(xlabel="", ylim=(min(0, float(table.min().min())), 1))
    ax.tick_params(axis="x", labelrotation=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, frameon=False, fontsize=8)
    return ax
