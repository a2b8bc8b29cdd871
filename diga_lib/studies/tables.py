"""What the pages make of stored results: tables, ties, agreement with what the papers report."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from diga_lib.metrics import mean_and_interval
from diga_lib.pages.plots import COLOURS, OTHER, SPURIOUS, TARGET
from diga_lib.studies import store
from diga_lib.studies.grids import CRITTERS, PAIRS, PAPERS_SEVEN, SEVEN, SIX, TABLE, chosen, chosen_on_photographs
from diga_lib.studies.rows import ROWS, label, version
from diga_lib.studies.store import FOLDER, METRICS

BETTER = {"accuracy": 1, "worst_group": 1, "equalized_odds": -1}  # EO: the lower the better
LEAST_SEEDS = 3  # the t interval of two is six times as wide, and holds everything
LEAST_GAP = 0.02  # what chance alone may open in groups of some hundred images
WORDS = {"accuracy": "Acc", "worst_group": "Wst", "equalized_odds": "EO"}
ORDER = ["/".join(pair) for pair in (*PAIRS, CRITTERS)]
UNTOLD = (*PAPERS_SEVEN, "diga-one-stage", "diga-one-stage-words")  # of the spurious attribute
DRAWN = (*TABLE, "erm-pretrained")  # in figures, each with a colour and a marker
PAINT = (OTHER, *(COLOURS[k] for k in (8, 9, 4, 5, 6)), TARGET, SPURIOUS, COLOURS[3], COLOURS[2], "black", OTHER)
STYLES = {row: {"color": c, "marker": m} for row, c, m in zip(DRAWN, PAINT, "ov^<>DPosxx*", strict=True)}


def aged(frame: pd.DataFrame, settings=lambda row: None) -> pd.DataFrame:
    """Add to stored results their pair, and stale: made by another version or, but for cases, with other `settings`."""
    changes = pd.Series([extra.get("cell", {}).get("changes") for extra in frame["extra"]], frame.index, dtype=object)
    other = changes != frame["row"].map(now := {row: settings(row) for row in frame["row"].unique()})
    other &= (frame["case"] == "") & frame["row"].map(now).notna()
    stale = other | (frame["version"] != frame["row"].map(version))
    return frame.assign(pair=frame["target"] + "/" + frame["spurious"], stale=stale.astype(bool))


def published(*names: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The newest results of studies, `aged`; stale is also what was run with other settings than the search's now."""
    frame = pd.concat([store.kept(folder / f"{name}.jsonl") for name in names], ignore_index=True)
    return aged(frame, lambda row: chosen(row, folder / "search.jsonl"))


def runs(target: str, spurious: str, bias: float, name: str = "fair_training", folder: Path = FOLDER) -> pd.DataFrame:
    """A study's newest runs for a target, a spurious attribute and a bias, `aged`, in the order of ``rows.ROWS``."""
    frame = store.kept(folder / f"{name}.jsonl")
    near = np.isclose(frame["bias"].astype(float), bias, rtol=0.01)
    frame = frame[near & (frame["target"] == target) & (frame["spurious"] == spurious)]
    return aged(frame.sort_values("row", key=lambda ids: ids.map(list(ROWS).index), kind="stable"))


def photographs(name: str = "real_photos") -> pd.DataFrame:
    """A study's newest results on photographs, `aged` as `published` does, with the number of training images."""
    frame = aged(store.kept(FOLDER / f"{name}.jsonl", store.PhotoResult), chosen_on_photographs)
    return frame.assign(n_train=[extra["n_train"] for extra in frame["extra"]])


def on_celeba(target: str, spurious: str, bias: float = 1 / 9, rows=()) -> pd.DataFrame:
    """Stored results on CelebA with a generator of the train partition, of the pair's largest training set; of some
    `rows`, with the seeds that all of them have."""
    frame = photographs()
    frame = frame[(frame["dataset"] == "celeba") & (frame["case"] == "") & (frame["generator_pool"] == store.POOLS[0])]
    frame = frame[np.isclose(frame["bias"].astype(float), bias) & (frame["pair"] == f"{target}/{spurious}")]
    frame = with_same_seeds(frame, rows, "n_train") if rows else frame
    return frame[frame["n_train"] == frame["n_train"].max()]


def reported() -> pd.DataFrame:
    """The papers' table as columns row, pair and the three metrics, as shares in [0, 1]."""
    frame = pd.read_csv(FOLDER.parent / "reported" / "classification.csv")
    frame = frame.rename(columns={"acc": "accuracy", "wst": "worst_group", "eo": "equalized_odds"})
    frame["row"] = frame["method"].map({label(row): row for row in SIX} | {"DiGA": "diga-paper"})
    frame["pair"] = frame["target"].replace("Gender", "Male") + "/" + frame["spurious"]
    frame[list(METRICS)] /= 100
    return frame[["row", "pair", *METRICS]]


def in_order(table):
    """A table or series indexed by pairs, in the papers' order."""
    return table.reindex([pair for pair in ORDER if pair in table.index])


def with_same_seeds(frame: pd.DataFrame, rows, each: str = "pair") -> pd.DataFrame:
    """The results of these rows with the seeds that all of them have: what may be compared, for each pair."""
    groups = frame[frame["row"].isin(rows)].groupby([each, "seed"])
    return groups.filter(lambda part: set(rows) <= set(part["row"]))


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of the metrics over seeds: index (pair, row) in the papers' order, columns the metrics."""
    table = frame.groupby(["pair", "row"])[list(METRICS)].mean()
    return table.loc[[key for key in itertools.product(ORDER, TABLE) if key in table.index]]


def best(frame: pd.DataFrame, metric: str, pair: str, rows: tuple[str, ...] = UNTOLD) -> tuple[str | None, set[str]]:
    """The row with the best mean of the seeds that all have, None without, and all that are tied with it, itself too:
    the 95 % t interval of the difference, seed by seed, holds 0; below ``LEAST_SEEDS``, the difference is 0."""
    some = frame[(frame["pair"] == pair) & frame["row"].isin(rows)].pivot(index="seed", columns="row", values=metric)
    some = some.dropna()
    if some.empty:
        return None, set()
    first = (BETTER[metric] * some.mean()).idxmax()

    def tied(row):
        difference = some[first] - some[row]
        centre, half = mean_and_interval(difference)
        return abs(centre) <= (half if len(difference) >= LEAST_SEEDS else 0)

    return first, set(filter(tied, some))


def complete(frame: pd.DataFrame, rows: tuple[str, ...] = SEVEN) -> list[str]:
    """The pairs, in order, for which every one of these rows has a result."""
    return [pair for pair in ORDER if set(rows) <= set(frame.loc[frame["pair"] == pair, "row"])]


def wins(frame: pd.DataFrame, row: str = "diga-one-stage", rows: tuple[str, ...] = SEVEN) -> pd.DataFrame:
    """For each complete pair and metric: the best row, whether `row` has won (its mean alone is best) or is tied.

    lead is its mean less that of the best of the others, in points of a hundred, positive if it is better.
    """
    lines, table = [], means(frame := with_same_seeds(frame, rows))
    for pair, (metric, sign) in itertools.product(complete(frame, rows), BETTER.items()):
        first, tied = best(frame, metric, pair, rows)
        mine, others = (sign * table.loc[pair].loc[some, metric] for some in (row, [r for r in rows if r != row]))
        lead = mine - others.max()
        lines.append((pair, WORDS[metric], first, lead > 1e-9, row in tied, 100 * lead))
    return pd.DataFrame(lines, columns=["pair", "metric", "best", "won", "tied", "lead"])


def gap_closed(frame: pd.DataFrame, row="diga-one-stage", oracle="balanced", metric="worst_group") -> pd.Series:
    """Share of the way from ERM's metric to the oracle's that a row goes, on pairs with at least ``LEAST_GAP``."""
    rows = ["erm", row, oracle]
    table = BETTER[metric] * means(with_same_seeds(frame, rows))[metric].unstack("row").reindex(columns=rows)
    gap = table[oracle] - table["erm"]
    share = (table[row] - table["erm"]) / gap.where(gap >= LEAST_GAP)
    return in_order(share.dropna()).rename(row)


def tolerance(frame: pd.DataFrame, row: str, metric: str, images: int, level: float = 0.95) -> float:
    """How far a recomputed cell may lie from the published one: half of a prediction interval.

    Trainings that differ in rounding alone end as differently as two seeds, whose standard deviation is pooled over the
    pairs; it is at least what a test group of so many `images` allows, since seeds may by chance agree.
    """
    some = frame[frame["row"] == row]
    groups = some.groupby("pair")[metric]
    freedom = len(some) - groups.ngroups
    squares = (groups.var(ddof=0) * groups.size()).sum()
    p = min(max(some["worst_group"].mean(), 0.5), 0.95)
    least = np.sqrt(p * (1 - p) / images) * {"accuracy": 0.5, "worst_group": 1.0, "equalized_odds": np.sqrt(2)}[metric]
    spread = max(np.sqrt(squares / freedom) if freedom else 0.0, least)
    return float(stats.t.ppf((1 + level) / 2, max(freedom, 4))) * np.sqrt(2) * spread


def styled(frame: pd.DataFrame, metric: str, caption: str, rows: tuple[str, ...] = TABLE):
    """A table of one metric for a page (a pandas Styler): methods x pairs, the best mean of the ``UNTOLD`` in bold.

    Means are in per cent, below them the 95 % t interval where there are ``LEAST_SEEDS`` seeds; a dagger is where a run
    is older than its code, and "–" where there is none.
    """
    frame = frame[frame["pair"].isin(ORDER) & frame["row"].isin(rows)]
    pairs = [pair for pair in ORDER if pair in set(frame["pair"])]
    text = pd.DataFrame("–", [row for row in rows if row in set(frame["row"])], pairs)
    for (pair, row), lines in frame.groupby(["pair", "row"]):
        centre, half = mean_and_interval(lines[metric])
        old = "†" if "stale" in lines and lines["stale"].any() else ""
        spread = f"<br><small>± {100 * half:.1f}</small>" if len(lines) >= LEAST_SEEDS else ""
        text.loc[row, pair] = f"{100 * centre:.1f}{old}{spread}"

    style = text.style.apply(lambda c: np.where(c.index == best(frame, metric, c.name)[0], "font-weight: bold", ""))
    style = style.format_index(label).set_caption(caption)
    return style.format_index(lambda pair: re.sub("([_&])", r"\1<wbr>", pair).replace("/", "/<br>"), axis=1)
