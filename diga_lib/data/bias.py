"""Biased splits: a training set in which an attribute that means nothing predicts the target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from diga_lib.data.dataset import BiasedSplit, ImageDataset, LabelledImages

MOST_TEST_IMAGES = 1000  # a group, when the caller does not say
PARTS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training", "0"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "1"), "validation"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}
PEOPLE = ("identity", "subject")  # columns of metadata that say who is shown


def biased_split(
    dataset: ImageDataset,
    target: str = "Smiling",
    spurious: str | Sequence[str] = "Male",
    bias: float = 1 / 9,
    n_train: int = 10_000,
    n_validation: int | None = None,
    n_test_per_group: int | None = None,
    seed: int = 0,
    aligned: str = "opposite",
) -> BiasedSplit:
    """Draw a biased training and validation set and a balanced test set, all disjoint.

    With one spurious attribute, the groups (y0s0, y0s1, y1s0, y1s1) of the training set have the sizes
    [b, 1, 1, b] · N / (2 (1 + b)). With several, a group is one combination of their values, and its size is
    proportional to b to the power of how many of them go against the alignment (our reading for pairs such
    as "Male&Young"; the papers do not say). Sizes that are not whole are rounded down and the images left
    over go to the largest remainders, so that the total is exact and each size is off by less than one.

    Where `dataset.metadata` has a column "partition" (train, validation, test), each part is drawn from its own
    partition; validation from the training partition, where none is called so. Without it, but with a column
    "identity" or "subject", nobody is in two parts.

    The test set depends on the pool, the attributes, the seed and the sizes, not on the bias: a sweep over biases,
    and the balanced oracle (`bias=1`), share one test set. Training sets of different biases share as many images
    of each group as both have.

    Parameters
    ----------
    dataset : ImageDataset
        The pool to draw from.
    target : str
        The attribute to predict.
    spurious : str or sequence of str
        The attribute that predicts it in training only; several as "Male&Young" or ["Male", "Young"].
        The spurious value of an image is then 2·Male + Young.
    bias : float
        Minority size divided by majority size, above 0, at most 1 (balanced).
    n_train : int
        Number of training images.
    n_validation : int, optional
        Number of validation images, biased like training; a tenth of `n_train` by default.
    n_test_per_group : int, optional
        Test images of each group. By default as many as a training set of this size leaves whatever its bias, at
        most 1,000 and at least a tenth of the pool's smallest group. An official test partition that has fewer gives
        as many as it has, and a printed line says so.
    seed : int
        Chooses the images; at least 0.
    aligned : {"opposite", "same"}
        The value of each spurious attribute that most images with target 1 have: "opposite" is 0, as in
        the official code ("women smile more": Smiling = 1 goes with Male = 0); "same" is 1.

    Returns
    -------
    BiasedSplit
        With the rows of each part in random order.

    Raises
    ------
    ValueError
        When an attribute, a number or a partition is not valid, or when there are too few images of a group: the
        sentence says how many of each group exist and how many were asked for.

    References
    ----------
    Group sizes as in the official code of DiGA, arXiv:2403.06606.
    """
    names = _attribute_names(dataset, target, spurious)
    _check_numbers(bias, n_train, n_validation, n_test_per_group, seed, aligned)
    n_validation = n_train // 10 if n_validation is None else n_validation

    y = dataset.attributes[target].to_numpy(np.int64)
    s = np.zeros_like(y)
    for name in names:
        s = 2 * s + dataset.attributes[name].to_numpy(np.int64)
    n_spurious = 2 ** len(names)
    group = n_spurious * y + s

    against = _values_against_alignment(len(names), aligned)
    asked = {"train": group_sizes(n_train, bias, against), "validation": group_sizes(n_validation, bias, against)}
    share = _largest_shares(against)
    most = {"train": np.ceil(n_train * share).astype(int), "validation": np.ceil(n_validation * share).astype(int)}
    column, place = _kept_apart(dataset)
    official = column == "partition"
    if official:
        have = np.bincount(group[place == "test"], minlength=2 * n_spurious).min()
        wanted = MOST_TEST_IMAGES if n_test_per_group is None else n_test_per_group
        if n_test_per_group is not None and 0 < have < wanted:
            print(f"The test has {have:,} images a group, not {wanted:,}: its official partition holds no more.")
        n_test_per_group = max(1, min(wanted, have))
    elif n_test_per_group is None:
        available = np.bincount(group, minlength=2 * n_spurious)
        spare = (available - most["train"] - most["validation"]).min()
        # Whole people fill a part less evenly than images do.
        spare = max(spare * 4 // 5 if column else spare, available.min() // 10, 1)
        n_test_per_group = min(MOST_TEST_IMAGES, spare)
    asked["test"] = most["test"] = np.full(2 * n_spurious, n_test_per_group)
    if column and not official:
        place = _people_apart(place, group, most, np.random.default_rng([seed, 2 * n_spurious + 1]))
    source = {part: part if column else "pool" for part in PARTS}
    if official and not (place == "validation").any():
        source["validation"] = "train"
    for one in sorted(set(source.values())):
        parts = [part for part in PARTS if source[part] == one]
        total = sum(asked[part] for part in parts)
        have = np.bincount(group[place == one], minlength=2 * n_spurious)
        if (total > have).any():
            raise ValueError(_too_few(target, names, have, total, n_test_per_group, parts, column))

    rows_of = {part: [] for part in PARTS}
    for g in range(2 * n_spurious):
        rows = np.random.default_rng([seed, g]).permutation(np.flatnonzero(group == g))
        within = {part: rows[place[rows] == source[part]] for part in PARTS}
        start = n_test_per_group if source["train"] == source["test"] else 0
        rows_of["test"].append(within["test"][:n_test_per_group])
        rows_of["train"].append(within["train"][start : start + asked["train"][g]])
        # Validation is taken from the far end, so that training sets of several biases are nested.
        rows_of["validation"].append(within["validation"][len(within["validation"]) - asked["validation"][g] :])

    def labelled(part):
        rows = np.random.default_rng([seed, 2 * n_spurious]).permutation(np.concatenate(rows_of[part]))
        return LabelledImages(dataset.images[rows], y[rows], s[rows], rows, n_spurious)

    return BiasedSplit(*(labelled(part) for part in PARTS), target, "&".join(names), float(bias))


def _kept_apart(dataset):
    """The column of metadata that keeps parts apart (None: there is none), and what it says of each image."""
    table = dataset.metadata
    columns = () if table is None else table.columns
    if "partition" in columns:
        said = table["partition"].astype(str).str.strip().str.lower()
        place = said.map(SPELLINGS)
        if place.isna().any():
            raise ValueError(
                f"The column 'partition' of {dataset.name} has {said[place.isna()].iloc[0]!r}: "
                "valid are train, validation and test, or another name for the column."
            )
        return "partition", place.to_numpy(object)
    for column in PEOPLE:
        if column in columns:
            return column, table[column].astype(str).to_numpy(object)
    return None, np.full(len(dataset), "pool", object)


def _people_apart(people, group, asked, rng):
    """Give each person, in random order, to the part that is furthest from what is asked of the person's groups.

    The unknown (all those whose name is empty) are one person: nobody of them is in two parts either.
    """
    _, person = np.unique(people.astype(str), return_inverse=True)
    asked = np.stack([asked[part] for part in PARTS]).astype(float)
    shown = np.zeros((person.max(initial=-1) + 1, asked.shape[1]))
    np.add.at(shown, (person, group), 1)
    have, part_of = np.zeros_like(asked), np.zeros(len(shown), int)
    for one in rng.permutation(len(shown)):
        filled = np.divide(have, asked, out=np.full_like(have, np.inf), where=asked > 0)
        part_of[one] = np.argmin(filled[:, shown[one] > 0].min(1))
        have[part_of[one]] += shown[one]
    return np.array(PARTS, object)[part_of[person]]


def group_sizes(n: int, bias: float, against: np.ndarray) -> np.ndarray:
    """Split `n` images over groups in proportion to ``bias ** against``, exact in total.

    Parameters
    ----------
    n : int
        How many images.
    bias : float
        Minority size divided by majority size, above 0, at most 1.
    against : ndarray of int, shape (G,)
        For each group, how many spurious attributes go against the alignment.

    Returns
    -------
    ndarray of int64, shape (G,)
        Sizes by largest remainder; equal remainders go to the first groups.
    """
    weights = bias ** against.astype(float)
    exact = n * weights / weights.sum()
    exact = np.where(np.isclose(exact, np.rint(exact), rtol=0, atol=1e-6), np.rint(exact), exact)
    sizes = np.floor(exact).astype(np.int64)
    # Remainders are compared to nine places: the rounding of floats must not decide between equal ones.
    largest_first = np.argsort(-np.round(exact - sizes, 9), kind="stable")
    sizes[largest_first[: n - sizes.sum()]] += 1
    return sizes


def _values_against_alignment(n_attributes, aligned):
    """For each group (target major, then spurious), the number of attributes against the alignment."""
    count = []
    for y in (0, 1):
        natural = y if aligned == "same" else 1 - y
        for values in itertools.product((0, 1), repeat=n_attributes):
            count.append(sum(value != natural for value in values))
    return np.array(count)


def _largest_shares(against):
    """The largest share that each group has of a training set, over all biases in (0, 1].

    A group with d of k attributes against the alignment has the share b^d / (2 (1 + b)^k), which is largest
    at b = d / (k - d), or at 1 when that lies beyond.
    """
    k = against.max()
    at = np.minimum(1, against / np.maximum(k - against, 1))
    return at**against / (2 * (1 + at) ** k)


def _attribute_names(dataset, target, spurious):
    names = spurious.split("&") if isinstance(spurious, str) else list(spurious)
    names = [name.strip() for name in names]
    for name in [target, *names]:
        if name not in dataset.attributes:
            raise ValueError(
                f"{name!r} is not an attribute of {dataset.name}: valid are {', '.join(dataset.attributes.columns)}."
            )
    if not names or len({target, *names}) <= len(names):
        raise ValueError(
            f"The target {target!r} and the spurious attributes {'&'.join(names)!r} "
            "must all differ, with at least one spurious attribute."
        )
    return names


def _check_numbers(bias, n_train, n_validation, n_test_per_group, seed, aligned):
    if not isinstance(bias, Real) or isinstance(bias, bool) or not (math.isfinite(bias) and 0 < bias <= 1):
        raise ValueError(f"bias is {bias!r}: valid is a number above 0, at most 1 (1 is balanced).")
    least = {
        "n_train": (n_train, 1),
        "n_validation": (n_validation, 0),
        "n_test_per_group": (n_test_per_group, 1),
        "seed": (seed, 0),
    }
    for name, (value, minimum) in least.items():
        if value is None and name in ("n_validation", "n_test_per_group"):
            continue  # the default is worked out later
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} is {value!r}: valid is a whole number of at least {minimum}.")
    if aligned not in ("opposite", "same"):
        raise ValueError(f"aligned is {aligned!r}: valid are 'opposite' and 'same'.")


def _too_few(target, names, have, asked, n_test_per_group, parts, column):
    groups = itertools.product((0, 1), repeat=1 + len(names))
    lines = [
        " ".join(f"{name}={value}" for name, value in zip([target, *names], values, strict=True))
        + f": {exist:,} exist, {want:,} asked"
        for values, exist, want in zip(groups, have, asked, strict=True)
    ]
    what = "The pool has too few images for this split"
    if column:
        what = f"The column {column!r} leaves too few images for {' and '.join(parts)}"
    test = f"; of these {n_test_per_group:,} a group are for the test" if "test" in parts and len(parts) > 1 else ""
    return (
        f"{what} ({'; '.join(lines)}{test}): "
        "valid is a larger pool, a smaller n_train, n_validation or n_test_per_group, or a larger bias."
    )
