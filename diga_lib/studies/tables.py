"""What the pages make of stored results: tables, ties, agreement with what the papers report."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from diga_lib.metrics import mean_and_interval
from diga_lib.studies import rows as all_rows
from diga_lib.studies import store
from diga_lib.studies.grids import PAIRS, PAPERS_SEVEN, SEVEN, SIX, TABLE, Cell, chosen
from diga_lib.studies.rows import label
from diga_lib.studies.store import FOLDER, METRICS

REPORTED = FOLDER.parent / "reported"
BETTER = {"accuracy": 1, "worst_group": 1, "equalized_odds": -1}  # EO: the lower the better
LEAST_SEEDS = 3  # the t interval of two is six times as wide, and holds everything
LEAST_GAP = 0.02  # what chance alone may open in groups of some hundred images
WORDS = {"accuracy": "Acc", "worst_group": "Wst", "equalized_odds": "EO"}
ORDER = [f"{target}/{spurious}" for target, spurious in PAIRS]
UNTOLD = (*PAPERS_SEVEN, "diga-one-stage", "diga-one-stage-words")  # of the spurious attribute
THEIRS = {"ERM": "erm", "CVaR DRO": "cvar-dro", "EIIL": "eiil", "LfF": "lff", "JTT": "jtt", "MAPLE": "maple"}


def published(*names: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Read the stored results of studies, such as "classification"; one that has none yet has no rows.

    The columns are those of `store.read`, and: pair ("Smiling/Male"), and stale (whether the version, or the settings
    that the search chooses, have changed since).
    """
    frame = pd.concat([store.kept(folder / f"{name}.jsonl") for name in names], ignore_index=True)
    best = {row: chosen(row, folder / "search.jsonl") for row in frame["row"].unique()}
    changes = [extra["cell"]["changes"] for extra in frame["extra"]]
    untuned = (frame["case"] == "") & (frame["row"].map(best) != pd.Series(changes, dtype=object))
    old = frame["version"] != frame["row"].map(all_rows.version)
    return frame.assign(pair=frame["target"] + "/" + frame["spurious"], stale=(old | untuned).astype(bool))


def runs(target: str, spurious: str, bias: float, path: Path = FOLDER / "fair_training.jsonl") -> pd.DataFrame:
    """The newest stored runs for a target, a spurious attribute and a bias, in the order of ``rows.ROWS``.

    The columns are those of `store.read`, and stale (whether the version has changed since).
    """
    frame = store.kept(path)
    near = np.isclose(frame["bias"].astype(float), bias, rtol=0.01)
    frame = frame[near & (frame["target"] == target) & (frame["spurious"] == spurious)]
    frame = frame.sort_values("row", key=lambda ids: ids.map(list(all_rows.ROWS).index), kind="stable")
    return frame.assign(stale=frame["version"] != frame["row"].map(all_rows.version)).reset_index(drop=True)


def reported() -> pd.DataFrame:
    """The papers' table as columns row, pair and the three metrics, as shares in [0, 1]."""
    frame = pd.read_csv(REPORTED / "classification.csv")
    frame = frame.rename(columns={"acc": "accuracy", "wst": "worst_group", "eo": "equalized_odds"})
    frame["row"] = frame["method"].map(THEIRS | {"DiGA": "diga-paper"})
    frame["pair"] = frame["target"].replace("Gender", "Male") + "/" + frame["spurious"]
    frame[list(METRICS)] /= 100
    return frame[["row", "pair", *METRICS]]


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of the metrics over seeds: index (pair, row) in the papers' order, columns the metrics."""
    table = frame.groupby(["pair", "row"])[list(METRICS)].mean()
    index = [(pair, row) for pair in ORDER for row in TABLE if (pair, row) in table.index]
    return table.reindex(pd.MultiIndex.from_tuples(index, names=["pair", "row"])) if index else table


def best(frame: pd.DataFrame, metric: str, pair: str, rows: tuple[str, ...] = UNTOLD) -> tuple[str | None, set[str]]:
    """The row with the best mean, and those that cannot be told from it.

    Another row is tied if the 95 % t interval of the difference, seed by seed, holds 0. With fewer than ``LEAST_SEEDS``
    common seeds hardly anything is known of the spread, and only equal means are tied.

    Returns
    -------
    str or None, set of str
        None if the pair has no results; the set holds the best one too.
    """
    some = frame[(frame["pair"] == pair) & frame["row"].isin(rows)].pivot(index="seed", columns="row", values=metric)
    if some.empty:
        return None, set()
    first = (BETTER[metric] * some.mean()).idxmax()
    tied = {first}
    for row in some.columns.drop(first):
        difference = (some[first] - some[row]).dropna()
        centre, half = mean_and_interval(difference) if len(difference) else (np.inf, np.nan)
        if abs(centre) <= (half if len(difference) >= LEAST_SEEDS else 0):
            tied.add(row)
    return first, tied


def complete(frame: pd.DataFrame, rows: tuple[str, ...] = SEVEN) -> list[str]:
    """The pairs, in order, for which every one of these rows has a result."""
    return [pair for pair in ORDER if set(rows) <= set(frame.loc[frame["pair"] == pair, "row"])]


def wins(frame: pd.DataFrame, row: str = "diga-one-stage", rows: tuple[str, ...] = SEVEN) -> pd.DataFrame:
    """For each complete pair and metric: the best row, and how `row` stands.

    Returns
    -------
    DataFrame
        Columns pair, metric, best, won (its mean alone is best: an equal one is no win), tied, and lead: the mean of
        `row` less that of the best of the others, in points of a hundred, positive if `row` is better.
    """
    table, lines = means(frame), []
    for pair, (metric, sign) in itertools.product(complete(frame, rows), BETTER.items()):
        first, tied = best(frame, metric, pair, rows)
        mine, others = (sign * table.loc[pair].loc[some, metric] for some in (row, [r for r in rows if r != row]))
        lead = mine - others.max()
        lines.append((pair, WORDS[metric], first, lead > 1e-9, row in tied, 100 * lead))
    return pd.DataFrame(lines, columns=["pair", "metric", "best", "won", "tied", "lead"])


def gap_closed(
    frame: pd.DataFrame, metric: str = "worst_group", row: str = "diga-one-stage", oracle: str = "balanced"
) -> pd.Series:
    """Share of the way from ERM to the oracle that a row goes, for each pair that has all three: 0 ERM, 1 the oracle.

    A pair on which the oracle is not at least ``LEAST_GAP`` better than ERM has no gap to close, and is left out.
    """
    table = means(frame)[metric].unstack("row") if len(frame) else pd.DataFrame()
    if not {"erm", row, oracle} <= set(table.columns):
        return pd.Series(dtype=float, name=row)
    gap = BETTER[metric] * (table[oracle] - table["erm"])
    share = BETTER[metric] * (table[row] - table["erm"]) / gap.where(gap >= LEAST_GAP)
    return share.dropna().reindex([pair for pair in ORDER if pair in share.dropna().index]).rename(row)


def agreement(frame: pd.DataFrame, other: pd.DataFrame | None = None, row: str = "diga-one-stage") -> pd.DataFrame:
    """Rank correlation of the methods' order with the reported one, for each complete pair and metric.

    Returns
    -------
    DataFrame
        Columns pair, metric, rank_correlation (Spearman, NaN if all are equal), and measured and reported: the gain
        over ERM in points of `row` and of the reported DiGA (paper), whose place among the seven `row` takes.
    """
    sides = ((means(frame), (*SIX, row)), (means(reported() if other is None else other), PAPERS_SEVEN))
    lines = []
    for pair, (metric, sign) in itertools.product(complete(frame, (*SIX, row)), BETTER.items()):
        one, two = (table.loc[pair].loc[list(rows), metric].to_numpy() for table, rows in sides)
        rank = stats.spearmanr(one, two).statistic if np.ptp(one) and np.ptp(two) else np.nan
        lines.append((pair, WORDS[metric], rank, *(100 * sign * (values[-1] - values[0]) for values in (one, two))))
    return pd.DataFrame(lines, columns=["pair", "metric", "rank_correlation", "measured", "reported"])


def directions_found(frame: pd.DataFrame, row: str = "diga-one-stage") -> pd.DataFrame:
    """What the directions of a row of ours carried, a line for each pair, averaged over seeds.

    Returns
    -------
    DataFrame
        Indexed by pair: cosine with the true shift of the spurious attribute (the best of several) and of the target,
        share of training faces that are in the right pseudo group, and what the direction goes along with most.
    """
    lines = []
    for _, line in frame[frame["row"] == row].iterrows():
        found, names = line["extra"]["direction"], line["spurious"].split("&")
        most, size = max(found["carries"].items(), key=lambda item: abs(item[1]))
        best_of = [max(found[what][name] for name in names) for what in ("cosine", "pseudo_groups")]
        shown = (best_of[0], found["cosine"][line["target"]], best_of[1], f"{most} ({abs(size):.2f})")
        lines.append((line["pair"], *shown))
    columns = ["pair", "cosine with spurious", "cosine with target", "right pseudo groups", "carries most"]
    groups = pd.DataFrame(lines, columns=columns).groupby("pair")
    words = groups["carries most"].agg(lambda group: ", ".join(dict.fromkeys(group)))
    numbers = groups.mean(numeric_only=True)
    return numbers.join(words).reindex([pair for pair in ORDER if pair in numbers.index])


def other_words(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with words that named one which is not the spurious attribute, indexed by pair: seed, the words named,
    the worst-group accuracy, and ERM's with that seed."""
    erm = frame[frame["row"] == "erm"].set_index(["pair", "seed"])["worst_group"]
    lines = []
    for _, line in frame[frame["row"] == "diga-one-stage-words"].iterrows():
        words = line["extra"]["direction"].get("words", [])  # where none was named, the latents alone decide
        if not set(words) <= set(line["spurious"].split("&")):
            where = line["pair"], line["seed"]
            lines.append((*where, ", ".join(words), line["worst_group"], erm.get(where)))
    return pd.DataFrame(lines, columns=["pair", "seed", "words", "worst group", "of ERM"]).set_index("pair")


def tolerance(frame: pd.DataFrame, row: str, metric: str, images: int) -> float:
    """How far a recomputed cell may lie from the published one: half of a 95 % prediction interval.

    Two trainings that differ in nothing but rounding end as differently as two seeds. Their difference has a standard
    deviation of sqrt(2) times that of the seeds, pooled over the pairs; but no less is assumed than what a test group
    of so many `images` allows, since seeds may by chance agree. `frame` comes from `published`.
    """
    some = frame[frame["row"] == row]
    groups = [values for _, values in some.groupby("pair")[metric] if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(((values - values.mean()) ** 2).sum() for values in groups)
    p = min(max(some["worst_group"].mean(), 0.5), 0.95)
    least = np.sqrt(p * (1 - p) / images) * {"accuracy": 0.5, "worst_group": 1.0, "equalized_odds": np.sqrt(2)}[metric]
    spread = max(np.sqrt(squares / freedom) if freedom else 0.0, least)
    return float(stats.t.ppf(0.975, freedom) if freedom >= 4 else 2.78) * np.sqrt(2) * spread


def as_text(frame: pd.DataFrame, metric: str, rows: tuple[str, ...] = TABLE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write one metric as a table of pairs x rows, and say which cells are best.

    Returns
    -------
    text : DataFrame of str
        "81.2 ± 1.3" in per cent, with the 95 % t interval where there are ``LEAST_SEEDS`` seeds, a dagger where a run
        is older than its code, and "–" where there is no run.
    bold : DataFrame of bool
        The best mean of the methods that are not told the spurious attribute.
    """
    rows = [row for row in rows if row in set(frame["row"])]
    text = pd.DataFrame("–", ORDER, rows)
    bold = pd.DataFrame(False, ORDER, rows)
    for (pair, row), lines in frame[frame["row"].isin(rows) & frame["pair"].isin(ORDER)].groupby(["pair", "row"]):
        centre, half = mean_and_interval(lines[metric])
        spread = f" ± {100 * half:.1f}" if len(lines) >= LEAST_SEEDS else ""
        text.loc[pair, row] = f"{100 * centre:.1f}{spread}{'†' if lines.get('stale', pd.Series([False])).any() else ''}"
    for pair in ORDER:
        first, _ = best(frame, metric, pair)
        bold.loc[pair, [row for row in rows if row == first]] = True
    return text, bold


def styled(frame: pd.DataFrame, metric: str, caption: str, rows: tuple[str, ...] = TABLE):
    """A table of `as_text` for a page (a pandas Styler): methods x pairs, best in bold, with the caption above."""
    heading = {pair: re.sub("([_&])", r"\1<wbr>", pair).replace("/", "/<br>") for pair in ORDER}
    text, bold = (part.T.rename(index=label, columns=heading) for part in as_text(frame, metric, rows))
    text = text.replace(" (± .*?)(†?)$", r"\2<br><small>\1</small>", regex=True)
    marks = bold.replace({True: "font-weight: bold", False: ""}).astype(str)
    return text.style.apply(lambda _: marks, axis=None).set_caption(caption)


def missing(frame: pd.DataFrame, wanted: list[Cell]) -> list[Cell]:
    """The cells of a grid that have no result yet."""
    there = set(frame[list(store.KEY)].itertuples(index=False, name=None))
    return [cell for cell in wanted if tuple(cell.key[name] for name in store.KEY) not in there]
