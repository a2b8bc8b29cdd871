"""The table: runs are measured, recorded, resumed, and TDA costs what zero-shot costs."""

import json

import numpy as np
import pytest
import torch

from diga_lib import image_text
from diga_lib.studies import store
from diga_lib.studies.test_time import experiments, records
from diga_lib.studies.test_time.__main__ import main
from diga_lib.studies.weights.captions import WIDE_VOCABULARY
from diga_lib.test_time import TDA, class_weights, stream

FIELDS = dict(
    model="m", method="TDA", dataset="poses", order=0, n=4, accuracy=0.5, seconds_per_image=0.1, peak_memory_mb=10.0
)


@pytest.fixture
def small(monkeypatch):
    """A random model in the place of the shipped ones."""
    torch.manual_seed(0)
    model = image_text.RenderedFacesText(WIDE_VOCABULARY, width=16, layers=1, heads=2, dimension=16, stages=2, hidden=16)
    monkeypatch.setattr(image_text, "load", lambda name, device="auto": model.eval().requires_grad_(False))
    experiments.bench.cache_clear()
    yield experiments.Bench("rendered-faces-text-s")
    experiments.bench.cache_clear()


def test_records_are_kept_read_and_refused(tmp_path):
    path = tmp_path / "deep" / "test_time.jsonl"
    assert records.finished(path) == set()
    store.append(path, records.Record(**FIELDS, correct="0110"))
    with open(path, "a") as file:
        file.write('{"model": "torn')
    with pytest.warns(UserWarning, match="line 2 is torn"):
        assert len(records.read(path)) == 1
    with pytest.warns(UserWarning, match="line 2 is torn"):
        store.append(path, records.Record(**FIELDS | {"order": 1}))
    frame = records.read(path)
    assert frame["order"].tolist() == [0, 1] and frame["correct"][0] == "0110" and frame["versions"][0]["torch"]
    assert records.finished(path) == {("m", "TDA", "", "poses", 0), ("m", "TDA", "", "poses", 1)}
    path.write_text('{"model": "m"}\n')
    with pytest.raises(ValueError, match="line 1 is not a result: method: Field required"):
        records.read(path)
    with pytest.raises(FileNotFoundError, match="no results at"):
        records.read(tmp_path / "none")
    for bad in ({"accuracy": 1.1}, {"n": 0}, {"seconds_per_image": float("nan")}, {"other": 1}):
        with pytest.raises(ValueError):
            records.Record(**FIELDS | bad)


def test_the_table_is_run_and_resumed(small, tmp_path, monkeypatch):
    path, told = tmp_path / "t.jsonl", []
    methods = ("zero-shot", "CoOp", "TPT", "TDA")
    monkeypatch.setattr(experiments, "SHOTS", 2)
    monkeypatch.setattr(experiments, "ABLATIONS", {"positive only": {"negative_capacity": 0}})
    monkeypatch.setattr(experiments, "EVERY", {"TPT": 4})
    main(
        [
            "--models",
            "rendered-faces-text-s",
            "--methods",
            *methods,
            "--datasets",
            "poses",
            "--orders",
            "1",
            "--n",
            "12",
            "--output",
            str(path),
        ]
    )
    frame = records.read(path)
    assert frame["method"].tolist() == [*methods, "TDA"] and frame["variant"].tolist()[-1] == "positive only"
    assert frame["n"].tolist() == [12, 12, 3, 12, 12] and frame["every"].tolist() == [1, 1, 4, 1, 1]
    assert (frame["peak_memory_mb"] > 10).all()
    for row in frame.to_dict("records")[:4]:
        assert row["accuracy"] == pytest.approx(np.mean([int(c) for c in row["correct"]]))
    kept = path.read_text().splitlines()
    path.write_text("\n".join(kept[:2]) + "\n")
    experiments.run_all(path, 12, 1, ("rendered-faces-text-s",), methods, ("poses",), say=told.append)
    assert len(told) == 2, "only what was missing"
    again = records.read(path)
    assert again["correct"].tolist() == frame["correct"].tolist(), "and it is the same again"
    assert json.loads(kept[0])["dataset"] == "poses"


def test_a_run_predicts_what_the_method_does_by_hand(small):
    s = stream("poses", 20)
    weights = class_weights(small.model, list(s.space.prompts.values()))
    features = small.model.encode_image(s.images)
    zero = (small.scale * features @ weights.T).argmax(1).numpy() == s.labels
    assert small.run("zero-shot", s)["correct"] == "".join("01"[int(r)] for r in zero)
    adapted = TDA(weights, small.scale, small.settings("poses"))(features).argmax(1).numpy() == s.labels
    assert small.run("TDA", s)["accuracy"] == pytest.approx(adapted.mean())
    ((name, ablated),) = small.ablate(s, {"nothing": {"positive_capacity": 0, "negative_capacity": 0}})
    assert name == "nothing" and ablated["accuracy"] == pytest.approx(zero.mean())
    with pytest.raises(ValueError, match="valid are zero-shot, CoOp"):
        small.run("Tip-Adapter", s)


def test_shots_are_balanced_and_differ_with_the_seed():
    one, two = (experiments.shots_of(3, seed) for seed in (0, 1))
    assert np.bincount(one.labels).tolist() == [3] * 6 == np.bincount(two.labels).tolist()
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
    predict = small.predictor("TDA")
    predict(s)
    assert sum(encoded) == 60
    adapt = TDA(small.weights(s.space), small.scale, small.settings())
    adapt(small.model.encode_image(s.images))
    assert max(len(kept[0]) for kept in adapt._kept) <= 3 * len(s.space.classes)
