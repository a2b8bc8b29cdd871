"""Biased splits: a training set in which an attribute that means nothing predicts the target."""

import itertools
import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from diga_lib.data.dataset import BiasedSplit, ImageDataset, LabelledImages, check_whole

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

    A ValueError says what is not valid, or of which group there are too few images. With one spurious attribute, the
    groups (y0s0, y0s1, y1s0, y1s1) of the training set have the sizes [b, 1, 1, b] · N / (2 (1 + b)), as in the
    official code of DiGA, arXiv:2403.06606. With several, a group is one combination of their values, and its size is
    proportional to b to the power of how many of them go against the alignment (our reading; the papers do not say).

    Where `dataset.metadata` has a column "partition" (train, validation, test), each part is drawn from its own;
    validation from training, where none is called so. Without it, but with a column "identity" or "subject", nobody
    is in two parts. The test set does not depend on the bias; training sets of several biases share what they can.

    Parameters
    ----------
    target, spurious : str, str or sequence of str
        The attribute to predict, and what predicts it in training only; of "Male&Young" or ["Male", "Young"] the value
        is 2·Male + Young.
    bias : float
        Minority size divided by majority size, above 0, at most 1 (balanced).
    n_train, n_validation : int
        Numbers of images; of validation a tenth of `n_train` by default.
    n_test_per_group : int, optional
        By default as many as a training set of this size leaves whatever its bias, at most 1,000 and at least a tenth
        of the pool's smallest group. An official test partition that has fewer gives what it has, with a printed line.
    seed : int
        Chooses the images and their order; at least 0.
    aligned : {"opposite", "same"}
        The spurious value of most images with target 1: "opposite" is 0, as in the official code ("women smile more"
        with Male = 0), "same" is 1.
    """
    names = _attribute_names(dataset, target, spurious)
    if not isinstance(bias, Real) or isinstance(bias, bool) or not (math.isfinite(bias) and 0 < bias <= 1):
        raise ValueError(f"bias is {bias!r}: valid is a number above 0, at most 1 (1 is balanced).")
    check_whole("n_train", n_train, 1)
    n_validation = n_train // 10 if n_validation is None else n_validation
    check_whole("n_validation", n_validation, 0)
    check_whole("n_test_per_group", 1 if n_test_per_group is None else n_test_per_group, 1)
    check_whole("seed", seed, 0)
    if aligned not in ("opposite", "same"):
        raise ValueError(f"aligned is {aligned!r}: valid are 'opposite' and 'same'.")

    y = dataset.attributes[target].to_numpy(np.int64)
    s = dataset.attributes[names].to_numpy(np.int64) @ 2 ** np.arange(len(names))[::-1]
    n_spurious = 2 ** len(names)
    group, n_groups = n_spurious * y + s, 2 * n_spurious

    def count(of):
        return np.bincount(group[of], minlength=n_groups)

    values = np.array(list(itertools.product((0, 1), repeat=len(names))))
    odd = (1, 0) if aligned == "same" else (0, 1)  # the spurious value that goes against each target
    against = np.concatenate([(values == value).sum(1) for value in odd])
    sizes, largest = {"train": n_train, "validation": n_validation}, _largest_shares(against)
    asked = {part: group_sizes(n, bias, against) for part, n in sizes.items()}
    most = {part: np.ceil(n * largest).astype(int) for part, n in sizes.items()}
    column, place = _kept_apart(dataset)
    official = column == "partition"
    if official:
        have, wanted = count(place == "test").min(), n_test_per_group or MOST_TEST_IMAGES
        if n_test_per_group is not None and 0 < have < wanted:
            print(f"The test has {have:,} images a group, not {wanted:,}: its official partition holds no more.")
        n_test_per_group = max(1, min(wanted, have))
    elif n_test_per_group is None:
        available = count(slice(None))
        spare = (available - most["train"] - most["validation"]).min()
        # Whole people fill a part less evenly than images do.
        spare = max(spare * 4 // 5 if column else spare, available.min() // 10, 1)
        n_test_per_group = min(MOST_TEST_IMAGES, spare)
    asked["test"] = most["test"] = np.full(n_groups, n_test_per_group)
    if column and not official:
        place = _people_apart(place, group, most, np.random.default_rng([seed, n_groups + 1]))
    source = {part: part if column else "pool" for part in PARTS}
    if official and not (place == "validation").any():
        source["validation"] = "train"
    for one in sorted(set(source.values())):
        parts = [part for part in PARTS if source[part] == one]
        total, have = sum(asked[part] for part in parts), count(place == one)
        if (total > have).any():
            raise ValueError(_too_few([target, *names], have, total, n_test_per_group, parts, column))

    rows_of = {part: [] for part in PARTS}
    for g in range(n_groups):
        rows = np.random.default_rng([seed, g]).permutation(np.flatnonzero(group == g))
        within = {part: rows[place[rows] == source[part]] for part in PARTS}
        start = n_test_per_group if source["train"] == source["test"] else 0
        rows_of["test"].append(within["test"][:n_test_per_group])
        rows_of["train"].append(within["train"][start : start + asked["train"][g]])
        # Validation is taken from the far end, so that training sets of several biases are nested.
        rows_of["validation"].append(within["validation"][len(within["validation"]) - asked["validation"][g] :])

    def labelled(part):
        rows = np.random.default_rng([seed, n_groups]).permutation(np.concatenate(rows_of[part]))
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
            said = f"The column 'partition' of {dataset.name} has {said[place.isna()].iloc[0]!r}"
            raise ValueError(f"{said}: valid are train, validation and test, or another name for the column.")
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
    """Split `n` images over groups in proportion to ``bias ** against``, exact in total, by largest remainder.

    `against` (int, shape (G,)) is how many spurious attributes go against the alignment in each group. Equal
    remainders go to the first groups, and each size is off by less than one.
    """
    weights = bias ** against.astype(float)
    exact = n * weights / weights.sum()
    exact = np.where(np.isclose(exact, np.rint(exact), rtol=0, atol=1e-6), np.rint(exact), exact)
    sizes = np.floor(exact).astype(np.int64)
    # Remainders are compared to nine places: the rounding of floats must not decide between equal ones.
    largest_first = np.argsort(-np.round(exact - sizes, 9), kind="stable")
    sizes[largest_first[: n - sizes.sum()]] += 1
    return sizes


def _largest_shares(against):
    """The largest share that each group has of a training set, over all biases in (0, 1].

    A group with d of k attributes against the alignment has the share b^d / (2 (1 + b)^k), which is largest
    at b = d / (k - d), or at 1 when that lies beyond.
    """
    k = against.max()
    at = np.minimum(1, against / np.maximum(k - against, 1))
    return at**against / (2 * (1 + at) ** k)


def _attribute_names(dataset, target, spurious):
    names = [name.strip() for name in (spurious.split("&") if isinstance(spurious, str) else spurious)]
    for name in [target, *names]:
        if name not in dataset.attributes:
            valid = ", ".join(dataset.attributes)
            raise ValueError(f"{name!r} is not an attribute of {dataset.name}: valid are {valid}.")
    if not names or len({target, *names}) <= len(names):
        said = f"The target {target!r} and the spurious attributes {'&'.join(names)!r}"
        raise ValueError(f"{said} must all differ, with at least one spurious attribute.")
    return names


def _too_few(names, have, asked, n_test_per_group, parts, column):
    groups = [" ".join(map("{}={}".format, names, values)) for values in itertools.product((0, 1), repeat=len(names))]
    lines = [f"{g}: {exist:,} exist, {want:,} asked" for g, exist, want in zip(groups, have, asked, strict=True)]
    what = "The pool has too few images for this split"
    if column:
        what = f"The column {column!r} leaves too few images for {' and '.join(parts)}"
    test = f"; of these {n_test_per_group:,} a group are for the test" if "test" in parts and len(parts) > 1 else ""
    valid = "a larger pool, a smaller n_train, n_validation or n_test_per_group, or a larger bias"
    return f"{what} ({'; '.join(lines)}{test}): valid is {valid}."
