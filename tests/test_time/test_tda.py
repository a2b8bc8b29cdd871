"""TDA against a slow transcription of its equations, one image at a time, in plain Python."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from diga_lib.test_time.tda import TDA, Rows, Settings


def transcription(features, weights, scale, s):
    """The equations as they are written: caches are dicts of lists, and every sum is a loop."""
    number = len(weights)
    positive, negative, rows = {}, {}, []

    def update(cache, label, entropy, item, capacity):
        entries = cache.setdefault(label, [])
        if len(entries) < capacity:
            entries.append((entropy, item))
        elif entropy < entries[-1][0]:
            entries[-1] = (entropy, item)
        entries.sort(key=lambda entry: entry[0])

    for f in features:
        z = [scale * sum(a * b for a, b in zip(f, w, strict=True)) for w in weights]
        top = max(z)
        total = sum(math.exp(v - top) for v in z)
        p = [math.exp(v - top) / total for v in z]
        entropy = -sum(q * (v - top - math.log(total)) for q, v in zip(p, z, strict=True))
        label = z.index(top)
        if s.positive_capacity:
            update(positive, label, entropy, f, s.positive_capacity)
        if s.negative_capacity and s.entropy[0] < entropy / math.log2(number) < s.entropy[1]:
            update(negative, label, entropy, (f, p), s.negative_capacity)
        out = list(z)
        for k, entries in positive.items():
            for _, key in entries:
                near = sum(a * b for a, b in zip(f, key, strict=True))
                out[k] += s.positive_alpha * math.exp(-s.positive_beta * (1 - near))
        for entries in negative.values():
            for _, (key, probability) in entries:
                near = sum(a * b for a, b in zip(f, key, strict=True))
                for k in range(number):
                    if s.mask[0] < probability[k] < s.mask[1]:
                        out[k] -= s.negative_alpha * math.exp(-s.negative_beta * (1 - near))
        rows.append(out)
    return np.array(rows)


def random_stream(seed, n, classes, d, spread):
    random = np.random.default_rng(seed)
    weights = random.normal(size=(classes, d))
    features = weights[random.integers(classes, size=n)] + spread * random.normal(size=(n, d))
    return [F.normalize(torch.from_numpy(x), dim=1) for x in (features, weights)]


SPANS = st.tuples(st.floats(0, 0.4), st.floats(0.3, 1.0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 60),
    classes=st.integers(2, 6),
    d=st.integers(2, 12),
    spread=st.floats(0.1, 2),
    scale=st.sampled_from([4.0, 15.0, 100.0]),
    positive=st.integers(0, 4),
    negative=st.integers(0, 3),
    alpha=st.floats(0, 5),
    beta=st.floats(0, 9),
    span=SPANS,
    mask=SPANS,
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_it_is_the_transcription_however_the_stream_is_cut(
    seed, n, classes, d, spread, scale, positive, negative, alpha, beta, span, mask, cuts
):
    features, weights = random_stream(seed, n, classes, d, spread)
    chosen = Settings(positive, alpha, beta, negative, 0.3 * alpha, beta / 2, span, mask)
    expected = transcription(features.tolist(), weights.tolist(), scale, chosen)
    adapt = TDA(weights, scale, chosen)
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    found = torch.cat([adapt(features[a:b]) for a, b in pairwise(edges)])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_one_at_a_time_and_all_at_once_predict_the_same_in_single_precision(classes):
    features, weights = (x.float() for x in random_stream(3, 500, classes, 32, 3.0))
    one, all_at_once = TDA(weights, 6.0), TDA(weights, 6.0)
    single = torch.cat([one(f[None]) for f in features])
    block = all_at_once(features)
    assert torch.equal(single.argmax(1), block.argmax(1))
    assert one.held() == all_at_once.held() and one.seen == all_at_once.seen == 500
    assert (block.argmax(1) != (features @ weights.T).argmax(1)).any(), "the caches change something"


def test_without_caches_it_is_zero_shot():
    features, weights = random_stream(0, 30, 3, 8, 0.5)
    nothing = Settings(positive_capacity=0, negative_capacity=0)
    assert torch.equal(TDA(weights, 20.0, nothing)(features), 20 * features @ weights.T)


def test_a_cache_keeps_the_lowest_entropies_of_each_class():
    random = np.random.default_rng(0)
    labels, entropies = random.integers(3, size=200).tolist(), random.random(200).tolist()
    cache = Rows(4)
    for row, (label, entropy) in enumerate(zip(labels, entropies, strict=True)):
        cache.update(label, entropy, row)
        best = [
            sorted((e, r) for r, (k, e) in enumerate(zip(labels[: row + 1], entropies, strict=False)) if k == label)[:4]
            for label in range(3)
        ]
        assert cache.rows() == [r for entries in best for _, r in entries]


def test_of_equal_entropies_the_first_stays():
    cache = Rows(1)
    assert cache.update(0, 0.5, 10) is None
    assert cache.update(0, 0.5, 11) == 11 and cache.rows() == [10]
    assert cache.update(0, 0.4, 12) == 10 and cache.rows() == [12]
    assert Rows(0).update(0, 0.1, 7) == 7


def test_an_empty_block_changes_nothing():
    features, weights = random_stream(1, 20, 3, 8, 0.5)
    adapt = TDA(weights, 20.0)
    first = adapt(features[:10])
    assert adapt(features[:0]).shape == (0, 3)
    again = TDA(weights, 20.0)
    assert torch.allclose(torch.cat([first, adapt(features[10:])]), again(features), atol=1e-9)


def test_bad_settings():
    for wrong in ({"positive_capacity": -1}, {"negative_capacity": 1.5}, {"negative_beta": -0.1}):
        with pytest.raises(ValueError, match="capacity must be a whole number"):
            Settings(**wrong)
    with pytest.raises(ValueError, match="must be .classes, d., 2 classes or more"):
        TDA(torch.ones(1, 4))


@pytest.mark.parametrize("factor", [3, 0, float("nan"), float("inf")])
def test_features_and_weights_that_are_no_unit_vectors_are_refused(factor):
    features, weights = random_stream(1, 20, 3, 8, 0.5)
    adapt = TDA(weights, 20.0)
    spoiled = features.clone()
    spoiled[7] *= factor
    with pytest.raises(ValueError, match="features must be finite and of length 1; normalise them"):
        adapt(spoiled)
    assert adapt.seen == 0 and adapt.held() == ([], []), "nothing of it is remembered"
    with pytest.raises(ValueError, match="weights must be finite and of length 1"):
        TDA(factor * weights, 20.0)
    with pytest.raises(ValueError, match=r"valid is \(images, 8\)"):
        adapt(features[:, :5])
    assert torch.isfinite(adapt(features.half().double())).all(), "rounded to half precision they still are"
