"""Settings and cells: what is shared is computed once, every row runs, and directions are scored by hand-made truth."""

import gc
import json
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib import data, directions, latent
from diga_lib.data import ImageDataset
from diga_lib.directions import Direction
from diga_lib.directions.words import Named
from diga_lib.pages.parameters import SIZES, Sizes
from diga_lib.studies import convergence, grids, rows, store
from diga_lib.studies.grids import TABLE, TRIALS, Cell, chosen
from diga_lib.studies.setting import direction_scores, once
from diga_lib.studies.setting import setting as make_setting

TINY = Sizes(pool=900, n_train=200, n_test_per_group=20, epochs=1, byol_epochs=1, seeds=1)
ATTRIBUTES = ("Smiling", "Male", "Young", "Black_Hair")


class Lamps:
    """A generator that is known exactly: an image is four patches, one for each attribute, and its code their tones."""

    resolution = 16

    def __init__(self):
        self.encoded = 0

    def encode(self, images):
        self.encoded += 1
        x = torch.as_tensor(np.asarray(images)).float().mean(1) / 255
        return torch.stack(
            [
                x[:, :8, :8].mean((1, 2)),
                x[:, :8, 8:].mean((1, 2)),
                x[:, 8:, :8].mean((1, 2)),
                x[:, 8:, 8:].mean((1, 2)),
            ],
            1,
        )[:, None]

    def decode(self, codes):
        images = torch.zeros(len(codes), 3, 16, 16)
        for k, (row, column) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
            images[:, :, row : row + 8, column : column + 8] = codes[:, 0, k, None, None, None]
        return images.clamp(0, 1)


def pool(n=TINY.pool, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.integers(0, 2, n).astype(np.int8) for name in ATTRIBUTES})
    tones = 0.5 + 0.3 * (table.to_numpy() - 0.5) + 0.05 * rng.normal(size=(n, 4))
    images = Lamps().decode(torch.tensor(tones, dtype=torch.float32)[:, None])
    return ImageDataset((images * 255).round().to(torch.uint8).numpy(), table, None, "lamps")


@pytest.fixture
def setting(monkeypatch, tmp_path):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path))
    monkeypatch.setitem(SIZES, "quick", TINY)
    return make_setting("Smiling", "Male", 1 / 9, "quick", pool(), Lamps())


def test_what_is_not_asked_for_is_not_computed_and_what_is_is_computed_once(setting):
    result, _ = rows.run(setting, "erm")
    assert setting.generator.encoded == 0 and result.extra["n_train"] == TINY.n_train
    first = setting.refined
    assert setting.refined is first and setting.plain is setting.plain and setting.generator.encoded == 1
    assert (setting.balanced.test.index == setting.split.test.index).all()
    model = rows.run(setting, "diga-one-stage", batch_size=64)[1]
    assert setting.generator.encoded == 1 and torch.equal(model.faces.codes, setting.codes)


def test_where_the_target_has_no_prompts_only_the_codes_are_asked(setting):
    assert setting.asked == "Smiling" and setting.scorer
    other = replace(setting, split=replace(setting.split, target="Hat"), text=lambda: 1 / 0)
    assert not other.scorer and torch.equal(other.judged.direction, setting.plain.direction)
    assert torch.equal(other.named.direction, setting.refined.direction), "nor can words be tried against it"


def test_another_process_finds_codes_and_directions_on_disk(setting):
    kept = {"setting": 1}
    one, other = (replace(setting, generator=Lamps(), kept=kept) for _ in range(2))
    for name in ("codes", "plain", "refined"):
        made, found = getattr(one, name), getattr(other, name)
        if isinstance(made, Direction):
            assert torch.equal(made.direction, found.direction) and torch.equal(made.reader, found.reader)
            numbers = ([d.scale, d.center, d.coefficient] for d in (made, found))
            np.testing.assert_equal(*numbers)  # a number that is not known (NaN) is kept as such
        else:
            assert torch.equal(made, found)
    assert (one.generator.encoded, other.generator.encoded) == (1, 0)
    assert replace(one, generator=Lamps(), kept={"setting": 2}).codes is not None


@pytest.mark.parametrize("name", [name for name in TABLE if name != "diga-one-stage-words"])  # needs a real generator
def test_every_row_of_the_table_runs_with_each_trial_of_its_search(setting, name):
    vars(setting)["judged"] = setting.plain  # that of the image-text model needs a real generator
    small = {"backbone": "small", "head_epochs": 5} if name == "diga-paper" else {}
    for changes in TRIALS.get(name, [{}]):
        result, model = rows.run(setting, name, 0, **changes, **small, batch_size=64)
        assert model.settings.epochs == (TINY.byol_epochs if small else TINY.epochs)
        assert 0 <= result.extra["validation"] <= 1 and all(vars(model).get(k, v) == v for k, v in changes.items())
        assert (result.row, result.method) == (name, rows.ROWS[name].method)


def test_the_curve_of_a_training_does_not_change_it(setting, monkeypatch):
    """A line before the first epoch and one after each; the same run without anybody looking ends at the same."""
    vars(setting)["judged"] = setting.plain  # that of the image-text model needs a real generator
    monkeypatch.setattr(Cell, "setting", lambda cell: setting)
    changes = {"epochs": 2, "batch_size": 64, "head_epochs": 5, "backbone": "small"}
    result = convergence.compute(Cell("diga-paper", changes=json.dumps(changes)))
    curve = result.extra["curve"]
    assert [line["epoch"] for line in curve] == [0, 1, 2] and curve[2]["loss"] < curve[1]["loss"] <= 8
    assert all(0 <= line[head]["accuracy"] <= 1 for line in curve for head in convergence.HEADS)
    assert all(set(line["probes"]) == {"Smiling", "Male"} for line in curve)
    assert rows.run(setting, "diga-paper", **changes)[0].groups == result.groups


def test_an_unknown_row_is_one_sentence(setting):
    with pytest.raises(ValueError, match="There is no row 'Magic'; valid rows: erm, "):
        rows.run(setting, "Magic")


def test_direction_scores_against_hand_made_truth(setting):
    axis = torch.eye(4)[1].view(1, 4)  # the patch of Male
    found = Direction(axis, axis, 0.05, 0.5)
    scores = direction_scores(setting, found)
    train = setting.split.train
    assert scores["cosine"]["Male"] > 0.98 and scores["cosine"]["Smiling"] < 0.2
    assert scores["pseudo_groups"]["Male"] > 0.98
    assert list(scores["carries"])[0] == "Male"
    tone, male = setting.codes[:, 0, 1].double().numpy(), train.spurious.astype(float)
    for k in (0, 1):
        tone[train.target == k] -= tone[train.target == k].mean()
        male[train.target == k] -= male[train.target == k].mean()
    assert scores["carries"]["Male"] == pytest.approx(np.corrcoef(tone, male)[0, 1], abs=1e-3)
    json.dumps(scores)
    named = Named(("Male",), train.spurious[:, None].astype(float), (found,), pd.DataFrame())
    read = direction_scores(setting, named)
    assert read["words"] == ["Male"] and read["pseudo_groups"]["Male"] == 1 and read["carries"] == scores["carries"]


def test_two_spurious_attributes_are_scored_one_by_one(setting):
    both = make_setting("Smiling", "Male&Young", 1 / 4, "quick", pool(2000), Lamps())
    axis = torch.eye(4)[2].view(1, 4)  # the patch of Young
    scores = direction_scores(both, Direction(axis, axis, 0.05, 0.5))
    assert scores["cosine"]["Young"] > 0.98 > scores["cosine"]["Male"]
    assert scores["pseudo_groups"]["Young"] > 0.98 > scores["pseudo_groups"]["Male"]


def test_a_cell_is_computed_as_it_says(setting, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, n, seed: pool(n, seed))
    monkeypatch.setattr(latent, "load", lambda name: Lamps())
    grids._setting.cache_clear()
    plain = Cell("erm", profile="quick", changes='{"lr": 0.01}', variant="trial 1", pool_seed=3, n_validation=40)
    made = grids.compute(plain)
    assert {name: getattr(made, name) for name in store.Result.KEY} == plain.key and made.case == "trial 1"
    assert made.version == plain.version and made.extra["cell"]["changes"] == '{"lr": 0.01}'
    edited = Cell(
        "diga-one-stage", profile="quick", changes='{"batch_size": 64}', strengths=(1e-4, 1.0), variant="strengths"
    )
    made = grids.compute(edited)
    assert set(made.extra["direction"]["cosine"]) == {"Male", "Smiling"} and "coefficient" in made.extra
    s = edited.setting()
    paper = replace(edited, row="diga-paper", changes='{"head_epochs": 1, "head_draws": 1}')
    told = directions.spurious_direction(
        s.codes,
        s.split.train.target,
        s.generator,
        lambda x: s.reader.zero_shot(x, "Smiling"),
        [strength * len(s.codes) for strength in edited.strengths],
        refined=False,
    )
    assert grids.compute(paper).extra["coefficient"] == told.coefficient, "c is the image-text model's choice"
    grids._setting.cache_clear()


def test_the_search_is_decided_by_biased_validation_alone(tmp_path):
    path = tmp_path / "search.jsonl"
    assert chosen("jtt", path) == "{}"
    values = {"accuracy": 0.5, "equalized_odds": 0.1, "groups": {}, "seconds": 1, "peak_memory_mb": 1}
    for k, (validation, worst) in enumerate([(0.90, 0.1), (0.93, 0.2), (0.93, 0.9), (0.91, 0.99)]):
        for row, changes in {"jtt": {"upweight": k}, "erm": {"lr": float(k)}}.items():
            cell = Cell(row, changes=json.dumps(changes), variant=f"trial {k}")
            more = {"method": row, "version": 1, "extra": {"validation": validation, "cell": asdict(cell)}}
            store.append(path, store.Result(**cell.key, **values, worst_group=worst, **more))
    assert chosen("jtt", path) == '{"upweight": 1}', "the first of the best"
    assert chosen("balanced", path) == chosen("erm", path) == '{"lr": 1.0}'
    assert chosen("lff", path) == "{}"


def test_photographs_overrule_drawn_faces_where_chance_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "chosen", lambda row: '{"upweight": 0}')
    values = {"accuracy": 0.5, "worst_group": 0.1, "equalized_odds": 0.1, "groups": {}, "seconds": 1}
    values |= {"peak_memory_mb": 1, "method": "", "version": 1, "dataset": "celeba", "generator_pool": store.POOLS[0]}

    def overruled(*validations):
        path = tmp_path / f"{validations}.jsonl"
        for k, validation in enumerate(validations):
            cell = Cell("jtt", changes=json.dumps({"upweight": k}), variant=f"trial {k}")
            extra = {"validation": validation, "cell": asdict(cell)}
            store.append(path, store.PhotoResult(**cell.key, **values, extra=extra))
        return grids.chosen_on_photographs("jtt", path)

    assert overruled() == '{"upweight": 0}', "there was no search"
    assert overruled(0.900, 0.905, 0.890) == '{"upweight": 0}', "by a few images"
    assert overruled(0.900, 0.905, 0.920) == '{"upweight": 2}'


@pytest.mark.parametrize("spoil", [lambda b: b[:-2] + bytes([b[-2] ^ 1]) + b[-1:], lambda b: b"", lambda b: b[:40]])
def test_what_is_damaged_on_disk_is_made_again(setting, spoil, tmp_path):
    kept, made = {"setting": 1}, []

    def compute():
        made.append(1)
        return torch.arange(6.0).view(2, 3)

    first = once(kept, "codes", compute)
    (file,) = (tmp_path / "shared").glob("codes-*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert torch.equal(once(kept, "codes", compute), first) and len(made) == 2
    assert torch.equal(once(kept, "codes", compute), first) and len(made) == 2


def test_grids_are_in_order_and_every_method_has_as_many_trials():
    table = grids.classification()
    assert [cell.seed for cell in table] == sorted(cell.seed for cell in table)
    assert {(cell.target, cell.spurious) for cell in table[: 9 * len(TABLE)]} == set(grids.PAIRS)
    trials = [cell.row for cell in grids.search()]
    assert {trials.count(row) for row in trials} == {4}
    assert set(trials) == {rows.ROWS[row].searched or row for row in TABLE}, "a row that was not tuned as the others"
    assert all(cell.pool_seed != table[0].pool_seed for cell in grids.search())


def test_strengths_of_the_directions_module_are_per_image():
    weak, strong = grids.STRENGTHS[1]
    assert [c.strengths for c in grids.strengths(seeds=(0,))][1] == (weak / 20_000, strong / 20_000)
    assert min(directions.STRENGTHS) > 0


@pytest.mark.parametrize("name", ["erm", "diga-one-stage", "balanced"])
def test_the_pool_of_a_cell_leaves_memory_with_it(setting, name):
    rows.run(setting, name, batch_size=64)  # what is imported on the first run leaves frames behind
    gc.collect()
    gc.disable()  # what is in a cycle stays
    try:
        made = make_setting("Smiling", "Male", 1 / 9, "quick", pool(), Lamps())
        seen = weakref.ref(made.pool)
        rows.run(made, name, batch_size=64)
        del made
        assert seen() is None
    finally:
        gc.enable()
