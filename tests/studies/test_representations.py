"""The numbers beside the maps, against data where the answer is known and against slow counts."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from diga_lib.studies import representations


@pytest.fixture
def groups():
    """Four groups of equal size: targets (n,), spurious values (n,) and a generator of numbers."""
    rng = np.random.default_rng(3)
    target, spurious = np.repeat([0, 0, 1, 1], 150), np.tile(np.repeat([0, 1], 150), 2)
    return target, spurious, rng


def test_purity_is_what_counting_by_hand_gives(groups):
    _, labels, rng = groups
    points = rng.normal(size=(len(labels), 4)) + labels[:, None]
    distance = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    for k in (1, 7):
        near = np.argsort(distance, axis=1)[:, :k]
        expected = np.mean([np.mean(labels[row] == own) for row, own in zip(near, labels, strict=False)])
        assert representations.purity(points, labels, k) == pytest.approx(expected)


def test_purity_of_a_line_of_four_points():
    points = np.array([[0.0], [1.0], [3.0], [10.0]])  # nearest: 1, 0, 1, 2
    assert representations.purity(points, [0, 0, 1, 1], neighbours=1) == 0.75


def test_purity_is_chance_without_and_one_with_complete_separation(groups):
    target, spurious, rng = groups
    noise = rng.normal(size=(len(target), 5))
    assert abs(representations.purity(noise, spurious) - 0.5) < 0.03
    assert representations.purity(noise + 100 * spurious[:, None], spurious) == 1


def test_the_probe_reaches_the_best_possible_rate_for_two_gaussians(groups):
    target, spurious, rng = groups
    features = rng.normal(size=(len(target), 3))
    features[:, 1] += 2.0 * spurious
    probe = representations.linear_probe(features, spurious, target)
    assert abs(probe - norm.cdf(1.0)) < 0.04  # Bayes' rate of two unit Gaussians two apart
    lda = np.mean(
        [
            LinearDiscriminantAnalysis()
            .fit(features[target == y], spurious[target == y])
            .score(features[target == y], spurious[target == y])
            for y in (0, 1)
        ]
    )
    assert abs(probe - lda) < 0.03


def test_the_probe_is_not_helped_by_the_target(groups):
    target, spurious, rng = groups
    keep = (target == spurious) | (rng.random(len(target)) < 0.2)  # target and attribute go together
    features = rng.normal(size=(len(target), 3)) + 5.0 * target[:, None]
    probe = representations.linear_probe(features[keep], spurious[keep], target[keep])
    assert abs(probe - 0.5) < 0.1
    naive = np.mean((features[keep].mean(1) > 2.5) == spurious[keep])
    assert naive > 0.8, "a probe over both classes would be fooled"


def test_the_probe_does_not_learn_by_heart():
    rng = np.random.default_rng(0)
    target, spurious = rng.integers(0, 2, 240), rng.integers(0, 2, 240)
    probe = representations.linear_probe(rng.normal(size=(240, 100)), spurious, target)
    assert abs(probe - 0.5) < 0.12


def test_scores_tell_a_shortcut_from_the_target(groups):
    target, spurious, rng = groups
    noise = rng.normal(size=(len(target), 6))
    honest, shortcut = noise.copy(), noise.copy()
    honest[:, 0] += 6 * target
    shortcut[:, 0] += 6 * spurious
    good, bad = representations.scores(honest, target, spurious), representations.scores(shortcut, target, spurious)
    assert good["target purity"] > 0.95 and bad["target purity"] < 0.6
    assert bad["spurious purity"] > 0.95 and good["spurious purity"] < 0.6
    assert bad["probe"] > 0.95 and good["probe"] < 0.6


def test_bad_requests_say_what_is_valid():
    points = np.zeros((8, 2))
    with pytest.raises(ValueError, match="n_neighbors = 8, n_samples_fit = 8"):
        representations.purity(points, np.zeros(8), 8)
    with pytest.raises(ValueError, match="smallest group has 2 images; at least 5"):
        representations.linear_probe(points, np.tile([0, 1], 4), np.repeat([0, 1], 4))


def test_features_are_kept_for_their_facts_alone(groups, tmp_path):
    target, spurious, rng = groups
    file, facts = tmp_path / "f.safetensors", representations.facts_of("Smiling", "Male", 1 / 9, "quick", 0)
    one, two = rng.normal(size=(600, 4)), rng.normal(size=(600, 4))
    assert representations.kept_features(file, facts) == {}
    representations.keep_features(file, "erm", one, target, spurious, facts)
    representations.keep_features(file, "diga-one-stage", two, target, spurious, facts)
    kept = representations.kept_features(file, facts)
    assert set(kept) == {"erm", "diga-one-stage", "target", "spurious"}
    np.testing.assert_allclose(kept["erm"], one, atol=2e-3)
    np.testing.assert_array_equal(kept["spurious"], spurious)
    other = facts | {"seed": "1"}
    assert representations.kept_features(file, other) == {}
    representations.keep_features(file, "erm", two, target, spurious, other)
    assert representations.kept_features(file, facts) == {}, "replaced by the run with other facts"
