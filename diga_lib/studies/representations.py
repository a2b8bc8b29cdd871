"""What a network's representation tells: t-SNE to look at, and two numbers that t-SNE cannot fake.

``python -m diga_lib.studies.representations`` trains ERM, DiGA and the balanced oracle with every seed and appends the scores
of each to ``book/results/representations.jsonl``; stopped at any time, it goes on with what is missing. The features of
the first seed's networks go to ``book/results/representations.safetensors``, for the pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diga_lib import data, latent, runtime
from diga_lib.pages.profiles import POOL_SEED, SIZES
from diga_lib.studies import experiments, results

RESULTS = experiments.FOLDER / "representations.jsonl"
FEATURES = experiments.FOLDER / "representations.safetensors"
ROWS = ("erm", "diga", "balanced")
KEPT = 200  # test images of each group whose features are kept
SCORES = ("probe", "target purity", "spurious purity")
COMPONENTS = 50  # before t-SNE, as van der Maaten and Hinton do


def embed(features: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Arrange features in the plane by t-SNE.

    Parameters
    ----------
    features : float array (n, D)
    perplexity : float
        How many neighbours a point cares for, above 0 and below n.
    seed : int

    Returns
    -------
    float array (n, 2)
        Distances far apart, sizes of clusters and the axes mean nothing.

    Raises
    ------
    ValueError
        If the perplexity is not below the number of points.

    References
    ----------
    van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 2008; shown in notebook 05_tsne_ablations.
    """
    features = np.asarray(features, np.float32)
    if not 0 < perplexity < len(features):
        raise ValueError(
            f"perplexity is {perplexity}; valid is a number above 0 and below {len(features)}, the number of points."
        )
    few = PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(features)
    # Begun at random, so that the seed matters and is seen to matter; the default begins at the principal components.
    return TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(few)


def linear_probe(
    features: np.ndarray, spurious: np.ndarray, target: np.ndarray, folds: int = 5, seed: int = 0
) -> float:
    """How well a linear classifier reads the spurious attribute from features, within each target class.

    Within a class the target is of no help, so only the attribute itself counts.

    Parameters
    ----------
    features : float array (n, D)
        Of images that the representation was not trained on.
    spurious, target : int arrays (n,), 0 or 1
    folds : int
        Of the cross-validation.
    seed : int
        Of the folds.

    Returns
    -------
    float
        Balanced accuracy, averaged over folds and the two classes: 0.5 is chance, 1 is everything.

    Raises
    ------
    ValueError
        If a group of target and spurious value has fewer images than there are folds.
    """
    target, spurious = np.asarray(target), np.asarray(spurious)
    least = min(np.sum((target == y) & (spurious == s)) for y in (0, 1) for s in (0, 1))
    if least < folds:
        raise ValueError(f"The smallest group has {least} images; at least {folds} are needed, one for each fold.")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(
        np.mean(
            [
                cross_val_score(
                    probe, features[target == y], spurious[target == y], cv=split, scoring="balanced_accuracy"
                ).mean()
                for y in (0, 1)
            ]
        )
    )


def purity(points: np.ndarray, labels: np.ndarray, neighbours: int = 10) -> float:
    """Mean share of a point's nearest neighbours, itself left out, that have its label.

    Parameters
    ----------
    points : float array (n, D)
        Features, or a map of them.
    labels : int array (n,)
        With as many points of each of K labels, 1/K is chance.
    neighbours : int
        At least 1 and below n.

    Returns
    -------
    float
        In [0, 1].
    """
    if not 1 <= neighbours < len(points):
        raise ValueError(f"neighbours is {neighbours}; valid is a whole number from 1 to {len(points) - 1}.")
    labels = np.asarray(labels)
    # Asked without points, scikit-learn leaves each point itself out, duplicates of it not.
    near = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


def scores(features: np.ndarray, target: np.ndarray, spurious: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The numbers beside the pictures: a linear probe for the spurious attribute, and the purity of both attributes.

    Parameters
    ----------
    features : float array (n, D)
    target, spurious : int arrays (n,)
    seed : int

    Returns
    -------
    dict
        "probe", "target purity" and "spurious purity", the last one within the target's classes.
    """
    target, spurious = np.asarray(target), np.asarray(spurious)
    within = np.mean([purity(features[target == y], spurious[target == y]) for y in (0, 1)])
    return {
        "probe": linear_probe(features, spurious, target, seed=seed),
        "target purity": purity(features, target),
        "spurious purity": float(within),
    }


def keep_features(
    path: Path, row: str, features: np.ndarray, target: np.ndarray, spurious: np.ndarray, facts: dict
) -> None:
    """Add one network's features of some test images to a file, whole or not at all.

    Parameters
    ----------
    path : path
        A safetensors file, made if need be; what it holds of runs with other facts is dropped.
    row : str
    features : float array (n, D)
        Kept as float16: the first ``KEPT`` images of each group.
    target, spurious : int arrays (n,)
    facts : dict of str to str
        What the runs have in common, such as their target.
    """
    groups = 2 * target + spurious
    chosen = np.sort(np.concatenate([np.flatnonzero(groups == g)[:KEPT] for g in np.unique(groups)]))
    kept = {}
    if path.exists():
        with safe_open(str(path), "numpy") as opened:
            if opened.metadata() == facts:
                kept = {name: opened.get_tensor(name) for name in opened.keys()}
    kept |= {row: features[chosen].astype(np.float16), "target": target[chosen], "spurious": spurious[chosen]}
    with runtime.atomic_write(path) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in kept.items()}, str(temporary), metadata=facts)


def kept_features(path: Path, facts: dict) -> dict[str, np.ndarray] | None:
    """The arrays that :func:`keep_features` wrote for these facts, or None unless every one of ``ROWS`` is there."""
    if not path.exists():
        return None
    with safe_open(str(path), "numpy") as opened:
        if opened.metadata() != facts or not set(ROWS) <= set(opened.keys()):
            return None
        return {name: opened.get_tensor(name) for name in opened.keys()}


def kept_scores(target: str, spurious: str, bias: float, output: Path = RESULTS) -> pd.DataFrame:
    """What :func:`diga_lib.studies.experiments.kept` finds, with a column for each of :func:`scores`."""
    frame = experiments.kept(target, spurious, bias, output)
    return frame.assign(**{name: [extra[name] for extra in frame["extra"]] for name in SCORES})


def train_features(setting: experiments.Setting, seed: int = 0) -> dict[str, np.ndarray]:
    """Train the networks of ``ROWS`` and return their features of the test images, with "target" and "spurious"."""
    test = setting.split.test
    trained = {row: experiments.run(setting, row, seed)[1].features(test.images) for row in ROWS}
    return trained | {"target": test.target, "spurious": test.spurious}


def facts_of(target: str, spurious: str, bias: float, profile: str, seed: int) -> dict[str, str]:
    """What kept features are recognised by."""
    return {"target": target, "spurious": spurious, "bias": f"{bias:.4f}", "profile": profile, "seed": str(seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--target", default="Smiling")
    parser.add_argument("--spurious", default="Male")
    parser.add_argument("--bias", type=float, default=1 / 9)
    parser.add_argument("--profile", default="table", choices=tuple(SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--features", type=Path, default=FEATURES)
    parser.add_argument("--renew", action="store_true", help="run again what older code has made")
    given = parser.parse_args()
    pool = data.load("rendered-faces", SIZES[given.profile].pool, seed=POOL_SEED)
    generator = latent.load()
    for seed in given.seeds:
        s = experiments.setting(given.target, given.spurious, given.bias, given.profile, pool, generator, seed=seed)
        for name in ROWS:
            row = experiments.ROWS[name]
            key = experiments.key_of(row, given.target, given.spurious, given.bias, seed, given.profile)
            made_by = {"fingerprint": experiments.fingerprint_of(row, key)}
            if results.done(given.output, key | (made_by if given.renew else {})):
                continue
            result, model = experiments.run(s, name, seed)
            test = s.split.test
            features = model.features(test.images)
            told = scores(features, test.target, test.spurious)
            if seed == given.seeds[0]:
                facts = facts_of(given.target, given.spurious, given.bias, given.profile, seed)
                keep_features(given.features, name, features, test.target, test.spurious, facts)
            results.append(given.output, result.model_copy(update=made_by | {"extra": result.extra | told}))
            words = ", ".join(f"{what} {value:.3f}" for what, value in told.items())
            print(f"{name:9s} seed {seed}: EO {result.equalized_odds:.3f}, {words}", flush=True)


if __name__ == "__main__":
    main()
