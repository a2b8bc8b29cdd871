"""What a network's representation tells, in two numbers that a picture cannot fake, and features for the pictures."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diga_lib import runtime
from diga_lib.latent import checkpoints
from diga_lib.studies import grids, store
from diga_lib.studies.runner import Study

ROWS = ("erm", "diga-one-stage", "balanced")
KEPT = 200  # test images of each group whose features are kept
FOLDS = 5  # of the probe's cross-validation


def linear_probe(features: np.ndarray, spurious: np.ndarray, target: np.ndarray, seed: int = 0) -> float:
    """Balanced accuracy of a linear classifier of the spurious attribute from features (n, D), by cross-validation.

    It is asked within each target class, where the target is of no help; 0.5 is chance.
    """
    least = min(np.sum((target == y) & (spurious == s)) for y in (0, 1) for s in (0, 1))
    if least < FOLDS:
        raise ValueError(f"The smallest group has {least} images; at least {FOLDS} are needed, one for each fold.")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    read = {"cv": StratifiedKFold(FOLDS, shuffle=True, random_state=seed), "scoring": "balanced_accuracy"}
    each = [cross_val_score(probe, features[target == y], spurious[target == y], **read).mean() for y in (0, 1)]
    return float(np.mean(each))


def purity(points: np.ndarray, labels: np.ndarray, neighbours: int = 10) -> float:
    """Mean share of the nearest neighbours of points (n, D) that have their label; 1/K is chance for K even classes."""
    labels = np.asarray(labels)
    # Asked without points, scikit-learn leaves each point itself out, duplicates of it not.
    near = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


def scores(features: np.ndarray, target: np.ndarray, spurious: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The numbers beside the pictures; the purity of the spurious attribute is that within the target's classes."""
    within = float(np.mean([purity(features[target == y], spurious[target == y]) for y in (0, 1)]))
    probe = linear_probe(features, spurious, target, seed=seed)
    return {"probe": probe, "target purity": purity(features, target), "spurious purity": within}


@dataclass(frozen=True)
class FeatureCell(grids.Cell):
    """A network whose features are scored, and kept for the pictures if `features` names a file."""

    features: str = ""


def cells(pairs=(("Smiling", "Male"),), seeds=(0, 1, 2), bias=1 / 9, profile="table", output=None) -> list[FeatureCell]:
    """The networks of ``ROWS`` with their defaults; features go beside the results, as a safetensors file."""
    file = str(Path(output or STUDY.path).with_suffix(".safetensors"))
    files = {seed: file if seed == min(seeds) else "" for seed in seeds}
    every = itertools.product(pairs, seeds, ROWS)
    return [FeatureCell(row, *pair, bias, seed, profile, features=files[seed]) for pair, seed, row in every]


def compute(cell: FeatureCell) -> store.Result:
    """Train a network, score its features and keep them if they are asked for."""
    result, model = grids.trained(cell)
    test = cell.setting().split.test
    features = model.features(test.images)
    if cell.features:
        facts = facts_of(cell.target, cell.spurious, cell.bias, cell.profile, cell.seed)
        keep_features(Path(cell.features), cell.row, features, test.target, test.spurious, facts)
    extra = {name: value for name, value in result.extra.items() if name != "cell"}  # it names a file of this machine
    return result.model_copy(update={"extra": extra | scores(features, test.target, test.spurious)})


STUDY = Study("representations", cells, compute)
FEATURES = STUDY.path.with_suffix(".safetensors")


def facts_of(target: str, spurious: str, bias: float, profile: str, seed: int) -> dict[str, str]:
    """What kept features are recognised by."""
    return {"target": target, "spurious": spurious, "bias": f"{bias:.4f}", "profile": profile, "seed": str(seed)}


def first_of_each(groups: np.ndarray) -> np.ndarray:
    """Rows of the first ``KEPT`` images of each group, in their order."""
    return np.sort(np.concatenate([np.flatnonzero(groups == g)[:KEPT] for g in np.unique(groups)]))


def keep_features(path: Path, row: str, features: np.ndarray, target: np.ndarray, spurious: np.ndarray, facts: dict):
    """Add a row's features (n, D), float16, of ``KEPT`` images of each group to a file; those with other facts go."""
    chosen = first_of_each(2 * target + spurious)
    with FileLock(runtime.cache_folder("claims") / "features.lock"):
        kept = kept_features(path, facts)
        kept |= {row: features[chosen].astype(np.float16), "target": target[chosen], "spurious": spurious[chosen]}
        checkpoints.write(path, {name: torch.from_numpy(value) for name, value in kept.items()}, facts)


def kept_features(path: Path, facts: dict) -> dict[str, np.ndarray]:
    """The arrays by name that :func:`keep_features` wrote for these facts; none if the file has others."""
    tensors, found = checkpoints.read(path) if path.exists() else ({}, {})
    return {name: value.numpy() for name, value in tensors.items()} if facts.items() <= found.items() else {}
