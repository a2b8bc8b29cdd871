"""The study of test-time adaptation: runs are measured and recorded, and TDA costs what zero-shot costs."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from diga_lib import image_text
from diga_lib.studies import test_time as study
from diga_lib.studies.weights.captions import WIDE_PHRASES, vocabulary
from diga_lib.test_time import SPACES, TDA, class_weights, stream


@pytest.fixture
def small(monkeypatch):
    """A random model in the place of the shipped ones, and short streams."""
    torch.manual_seed(0)
    model = image_text.RenderedFacesText(
        vocabulary(WIDE_PHRASES), width=16, layers=1, heads=2, dimension=16, stages=2, hidden=16
    )
    monkeypatch.setattr(image_text, "load", lambda name, device="auto": model.eval().requires_grad_(False))
    monkeypatch.setattr(study, "SHOTS", 2)
    study.shots_of.cache_clear()
    monkeypatch.setattr(study, "N", 12)
    study.bench.cache_clear()
    yield study.Bench(study.MODELS[0])
    study.bench.cache_clear()
    study.shots_of.cache_clear()


@pytest.mark.parametrize(
    ("method", "n", "every"), [("zero-shot", 12, 1), ("CoOp", 12, 1), ("TPT", 1, 16), ("TDA", 12, 1)]
)
def test_a_cell_is_computed_and_the_same_again(small, method, n, every):
    cell = study.Cell(study.MODELS[0], method, "", "poses", 1)
    one, again = study.compute(cell), study.compute(cell)
    assert one.correct == again.correct and len(one.correct) == one.n == n and one.every == every
    assert one.accuracy == pytest.approx(np.mean([int(c) for c in one.correct]))
    assert {name: getattr(one, name) for name in cell.key} == cell.key and one.version == cell.version
    assert one.peak_memory_mb > 10 and one.seconds_per_image > 0 < one.extra["processor_seconds_per_image"]


def test_every_cell_is_there_once():
    cells = study.cells(seeds=[0, 5])
    assert len(set(cells)) == len(cells) == 2 * 2 * 10 * (6 + len(study.ABLATIONS))


def test_a_run_predicts_what_the_method_does_by_hand(small):
    s = stream("poses", 20)
    weights = class_weights(small.model, list(s.space.prompts.values()))
    features = small.model.encode_image(s.images)
    zero, found = small.scale * features @ weights.T, small.predictor("zero-shot", s.space)(s.images)
    torch.testing.assert_close(found, zero)
    adapted = TDA(weights, small.scale, small.settings("poses"))(features)
    torch.testing.assert_close(small.predictor("TDA", s.space)(s.images), adapted)
    nothing = small.predictor("TDA", s.space, positive_capacity=0, negative_capacity=0)(s.images)
    torch.testing.assert_close(nothing, zero)
    with pytest.raises(ValueError, match="valid are zero-shot, CoOp"):
        small.predictor("Tip-Adapter", s.space)


def test_shots_are_balanced_and_differ_with_the_seed():
    one, two = (study.shots_of(seed) for seed in (0, 1))
    assert np.bincount(one.labels).tolist() == [study.SHOTS] * 6 == np.bincount(two.labels).tolist()
    assert not np.array_equal(np.sort(one.images.sum((1, 2, 3))), np.sort(two.images.sum((1, 2, 3))))


def test_tda_does_little_beside_encoding(small):
    """Counted, not timed: for n images TDA multiplies matrices of a few hundred entries, and encodes each once."""
    encoded = []
    original = small.model.image_features

    def watched(x):
        encoded.append(len(x))
        return original(x)

    small.model.image_features = watched
    s = stream("poses", 60)
    small.predictor("TDA", s.space)(s.images)
    assert sum(encoded) == 60
    adapt = TDA(small.weights(s.space), small.scale, small.settings())
    adapt(small.model.encode_image(s.images))
    assert max(map(len, adapt.entries)) <= 3 * len(s.space.classes)


def test_validation_subjects_are_not_those_of_the_test():
    tried = [stream(name, 6, "validation", seed=k, subject=k) for name in SPACES for k in range(2)]
    tested = [stream(name, 6, subject=study.FIRST + k) for name in SPACES for k in range(2)]
    tried, tested = ({image.tobytes() for s in part for image in s.images} for part in (tried, tested))
    assert len(tried) == 2 * 6 * len(SPACES) and not tried & tested


def test_the_best_of_the_trials_is_chosen(small, monkeypatch):
    monkeypatch.setattr(study, "SPACES", {"poses": SPACES["poses"]})
    monkeypatch.setattr(study, "SUBJECTS", range(2))
    monkeypatch.setattr(study, "RATES", {"CoOp": (0.1, 0.2), "TPT": (0.1, 0.2)})
    chosen = study.tuning(study.MODELS[0])
    streams = [stream("poses", 12, "validation", seed=subject, subject=subject) for subject in range(2)]
    scores = {
        trial: small.accuracy("TDA", streams, **dict(zip(study.TUNED, trial, strict=True))) for trial in study.TRIALS
    }
    best = max(scores, key=scores.get)
    assert chosen["TDA"] == {"poses": best} and chosen["TDA, one for all"] == best
    assert chosen["CoOp"] in (0.1, 0.2) and chosen["TPT"] in (0.1, 0.2)


@pytest.mark.parametrize("model", study.MODELS)
def test_every_method_chose_among_as_many_settings(model):
    chosen = study.CHOSEN[model]
    assert len(study.TRIALS) == 6 and all(len(rates) == 6 for rates in study.RATES.values())
    tda = {*chosen["TDA"].values(), chosen["TDA, one for all"]}
    assert set(chosen["TDA"]) == set(SPACES) and tda <= set(study.TRIALS)
    assert all(chosen[method] in rates for method, rates in study.RATES.items())


def frame():
    """Two orders, two sets and three methods; TDA is right on more of the same images, TPT saw every second one."""
    rows = []
    right = {"zero-shot": "110010", "TPT": "111", "TDA": "110111"}
    for method, correct in right.items():
        for dataset in ("poses", "makeup"):
            for order in (0, 1):
                c = correct[::-1] if order else correct
                rows.append(
                    {
                        "model": "m",
                        "method": method,
                        "variant": "",
                        "dataset": dataset,
                        "order": order,
                        "n": len(c),
                        "every": 6 // len(c),
                        "accuracy": np.mean([int(k) for k in c]),
                        "correct": c,
                    }
                )
    rows.append(rows[-1] | {"variant": "positive only", "accuracy": 0.5, "correct": ""})
    return pd.DataFrame(rows)


def test_accuracy_table():
    table, interval = study.accuracy_table(frame(), "m")
    assert table.index.tolist() == ["zero-shot", "TPT", "TDA"] and set(table) == {"poses", "makeup", "mean"}
    assert table["mean"].tolist() == pytest.approx([50, 100, 500 / 6])
    assert interval.to_numpy() == pytest.approx(0), "both orders are alike"


def test_gains_pair_the_orders():
    rows = frame()
    first = (rows["order"] == 0) & (rows["variant"] == "")
    rows.loc[first, "accuracy"] -= 0.1  # a harder subject, for all methods alike
    gain, interval = study.gains(rows, "m")
    assert gain.to_dict() == pytest.approx({"poses": 100 / 3, "makeup": 100 / 3, "mean": 100 / 3})
    assert interval.to_numpy() == pytest.approx(0)
    rows.loc[first & (rows["method"] == "TDA"), "accuracy"] -= 0.1
    gain, interval = study.gains(rows, "m")
    assert gain["mean"] == pytest.approx(100 / 3 - 5)
    assert interval["mean"] == pytest.approx(stats.t.ppf(0.975, 1) * 10 / 2), "standard deviation 10 / √2, over √2"


def test_the_same_images_for_all():
    same = study.same_images(frame())
    assert set(same["n"]) == {3} and set(same["every"]) == {2} and "positive only" not in set(same["variant"])
    poses = same[same["dataset"] == "poses"].set_index(["order", "method"])["accuracy"]
    assert poses[0].to_dict() == pytest.approx({"zero-shot": 2 / 3, "TPT": 1, "TDA": 2 / 3})  # places 0, 2 and 4
    assert poses[1].to_dict() == pytest.approx({"zero-shot": 1 / 3, "TPT": 1, "TDA": 1})
