"""Settings and cells: what is shared is computed once, every row runs, and directions are scored by hand-made truth."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib import data, directions, latent
from diga_lib.data import ImageDataset
from diga_lib.directions import Direction
from diga_lib.directions.words import Named
from diga_lib.methods.two_stages import TwoStages
from diga_lib.pages.profiles import SIZES, Sizes
from diga_lib.studies import cells, experiments, fingerprints, results, shared
from diga_lib.studies.cells import TRIALS, Cell, chosen
from diga_lib.studies.experiments import TABLE

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
    return experiments.setting("Smiling", "Male", 1 / 9, "quick", pool(), Lamps())


def test_what_is_not_asked_for_is_not_computed_and_what_is_is_computed_once(setting):
    result, _ = experiments.run(setting, "ERM")
    assert setting.generator.encoded == 0 and result.extra["n_train"] == TINY.n_train
    first = setting.refined
    assert setting.refined is first and setting.plain is setting.plain and setting.generator.encoded == 1
    assert (setting.balanced.test.index == setting.split.test.index).all()


def test_another_process_finds_codes_and_directions_on_disk(setting):
    kept = {"setting": 1}
    one, other = (replace(setting, generator=Lamps(), kept=kept) for _ in range(2))
    for name in ("codes", "plain", "refined"):
        made, found = getattr(one, name), getattr(other, name)
        if isinstance(made, Direction):
            assert torch.equal(made.direction, found.direction) and torch.equal(made.reader, found.reader)
            assert (made.scale, made.center, made.coefficient) == (found.scale, found.center, found.coefficient)
            pd.testing.assert_frame_equal(made.scores, found.scores, check_dtype=False)
        else:
            assert torch.equal(made, found)
    assert (one.generator.encoded, other.generator.encoded) == (1, 0)
    assert replace(one, generator=Lamps(), kept={"setting": 2}).codes is not None
    with pytest.raises(TypeError, match="center of a Direction is a set"):
        shared.once(kept, "bad", lambda: replace(one.plain, center={1}))


@pytest.mark.parametrize("name", ["EIIL", "JTT", "MAPLE"])
def test_methods_of_two_stages_share_a_reference_and_train_as_with_their_own(setting, name, monkeypatch):
    with_own = experiments.run(setting, name)[1]
    shares = replace(setting, kept={"setting": name})
    once = shares.reference(1)
    monkeypatch.setattr(
        TwoStages, "trained_reference", lambda self, train: self.reference
    )  # it has nothing to train with
    for value in (shares, replace(shares)):
        model = experiments.run(value, name)[1]
        assert all(
            torch.equal(a, b)
            for a, b in zip(model.reference.network.state_dict().values(), once.network.state_dict().values())
        )
        assert (model.scores(pool(40).images) == with_own.scores(pool(40).images)).all()


@pytest.mark.parametrize(
    "name", [name for name in TABLE if name not in ("DiGABYOL", "DiGAWords")]
)  # those need a real generator
def test_every_row_of_the_table_runs_with_each_trial_of_its_search(setting, name):
    for changes in TRIALS.get(name, [{}]):
        result, model = experiments.run(setting, name, 0, **changes, batch_size=64)
        assert model.settings.epochs == TINY.epochs and 0 <= result.extra["validation"] <= 1
        assert (result.method, result.variant) == (TABLE[name].method, TABLE[name].variant)


def test_stored_runs_tell_which_are_older_than_their_code_and_these_are_renewed(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, n, seed: pool(n, seed))
    monkeypatch.setattr(latent, "load", Lamps)
    store = tmp_path / "runs.jsonl"

    def command(*more):
        monkeypatch.setattr(
            "sys.argv", ["experiments", "--profile", "quick", "--rows", "erm", "--output", str(store), *more]
        )
        experiments.main()
        return len(results.read(store))

    assert command() == command() == command("--renew") == 1, "what is there is not run again"
    found = experiments.kept("Smiling", "Male", 1 / 9, store)
    assert found["row"].tolist() == ["erm"] and found["stale"].tolist() == [False]
    monkeypatch.setitem(SIZES, "quick", replace(TINY, n_train=150))
    assert experiments.kept("Smiling", "Male", 1 / 9, store)["stale"].tolist() == [True]
    assert command() == 1 and command("--renew") == 2
    found = experiments.kept("Smiling", "Male", 1 / 9, store)
    assert found["stale"].tolist() == [False] and found["extra"][0]["n_train"] == 150, "the newest counts"
    assert (
        experiments.kept("Smiling", "Young", 1 / 9, store).empty
        and experiments.kept("Smiling", "Male", 1 / 4, store).empty
    )
    assert experiments.kept("Smiling", "Male", 1 / 9, tmp_path / "none.jsonl").empty


def test_a_row_names_the_class_that_it_makes(setting):
    for row in (*experiments.ROWS.values(), *TABLE.values()):
        if not {"named", "judged"} & set(row.needs):  # those need a real generator
            assert type(row.make(setting)) is row.kind
    assert TABLE["JTT"].modules == ["diga_lib.methods.jtt", "diga_lib.methods.two_stages", "diga_lib.methods.erm"]


def test_an_unknown_row_is_one_sentence(setting):
    with pytest.raises(ValueError, match="There is no row 'Magic'; valid rows: erm, "):
        experiments.run(setting, "Magic")


def test_direction_scores_against_hand_made_truth(setting):
    axis = torch.eye(4)[1].view(1, 4)  # the patch of Male
    found = Direction(axis, axis, 0.05, 0.5)
    scores = experiments.direction_scores(setting, found)
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
    read = experiments.direction_scores(setting, named)
    assert read["words"] == ["Male"] and read["pseudo_groups"]["Male"] == 1 and read["carries"] == scores["carries"]


def test_two_spurious_attributes_are_scored_one_by_one(setting):
    both = experiments.setting("Smiling", "Male&Young", 1 / 4, "quick", pool(2000), Lamps())
    axis = torch.eye(4)[2].view(1, 4)  # the patch of Young
    scores = experiments.direction_scores(both, Direction(axis, axis, 0.05, 0.5))
    assert scores["cosine"]["Young"] > 0.98 > scores["cosine"]["Male"]
    assert scores["pseudo_groups"]["Young"] > 0.98 > scores["pseudo_groups"]["Male"]


def test_a_cell_is_computed_as_it_says(setting, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, n, seed: pool(n, seed))
    monkeypatch.setattr(cells, "_generator", Lamps)
    cells.setting_of.cache_clear()
    plain = Cell(
        "ERM", profile="quick", epochs=2, changes='{"lr": 0.01}', variant="trial 1", pool_seed=3, n_validation=40
    )
    made = cells.compute(plain)
    assert {name: getattr(made, name) for name in results.KEY} == plain.key and made.variant == "trial 1"
    assert made.fingerprint == plain.fingerprint and made.extra["cell"]["changes"] == '{"lr": 0.01}'
    edited = Cell("DiGA", profile="quick", changes='{"batch_size": 64}', strengths=(1e-4, 1.0), variant="strengths")
    made = cells.compute(edited)
    assert set(made.extra["direction"]["cosine"]) == {"Male", "Smiling"} and "coefficient" in made.extra
    cells.setting_of.cache_clear()


def test_the_search_is_decided_by_biased_validation_alone(tmp_path):
    path = tmp_path / "search.jsonl"
    assert chosen("JTT", path) == "{}"
    for k, (validation, worst) in enumerate([(0.90, 0.1), (0.93, 0.2), (0.93, 0.9), (0.91, 0.99)]):
        for row in ("JTT", "ERM"):
            changes = json.dumps({"upweight": k} if row == "JTT" else {"lr": float(k)})
            cell = {"row": row, "changes": changes}
            result = results.Result(
                method=row,
                variant=f"trial {k}",
                target="Smiling",
                spurious="Male",
                bias=1 / 9,
                seed=0,
                accuracy=0.5,
                worst_group=worst,
                equalized_odds=0.1,
                groups={},
                seconds=1,
                peak_memory_mb=1,
                profile="table",
                commit="x",
                versions={},
                extra={"row": row, "validation": validation, "cell": cell},
            )
            results.append(path, result)
    assert chosen("JTT", path) == '{"upweight": 1}', "the first of the best"
    assert chosen("Balanced", path) == chosen("ERM", path) == '{"lr": 1.0}'
    assert chosen("LfF", path) == "{}"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library's files that may be changed."""
    source = fingerprints.PACKAGE
    shutil.copytree(
        source,
        tmp_path / "diga_lib",
        ignore=lambda folder, names: [n for n in names if n.endswith((".safetensors", ".pyc"))],
    )
    monkeypatch.setattr(fingerprints, "PACKAGE", tmp_path / "diga_lib")
    fresh()
    yield tmp_path / "diga_lib"
    fresh()


def fresh():
    fingerprints._closure.cache_clear()
    fingerprints._code.cache_clear()


def test_a_fingerprint_changes_with_the_statements_that_decide_a_number_and_with_no_others(package):
    def prints():
        fresh()
        return {name: fingerprints.fingerprint([f"diga_lib.methods.{name}"]) for name in ("erm", "jtt", "diga")}

    def edit(name, change):
        path = package / name
        path.write_text(change(path.read_text()))

    before = prints()
    assert len(set(before.values())) == 3
    for name in ("methods/erm.py", "directions.py"):
        edit(name, lambda text: "# a comment\n" + text + '\n\n"""words"""\n')
    edit("methods/jtt.py", lambda text: text.replace('"""', '"""Reworded. ', 1))
    edit("plots.py", lambda text: text + "\nMORE = 1\n")
    assert prints() == before
    changed = lambda: {name for name, value in prints().items() if value != before[name]}
    edit("methods/jtt.py", lambda text: text + "\nMORE = 1\n")
    assert changed() == {"jtt"}
    edit("clusters.py", lambda text: text + "\nMORE = 1\n")
    assert changed() == {"jtt", "diga"}
    edit("methods/erm.py", lambda text: text + "\nMORE = 1\n")
    assert changed() == {"erm", "jtt", "diga"}


def test_the_naming_of_words_counts_for_the_rows_that_read_them_and_for_no_others(package):
    def prints():
        fresh()
        return {row: Cell(row).fingerprint for row in ("ERM", "DiGA", "DiGAWords")}

    before, words = prints(), package / "words.py"
    assert len(set(before.values())) == 3
    words.write_text(words.read_text() + "\nMORE = 1\n")
    after = prints()
    assert {row for row in before if after[row] != before[row]} == {"DiGAWords"}


def test_a_fingerprint_knows_the_weights_and_the_configuration(package, tmp_path, monkeypatch):
    weights = tmp_path / "checkpoints.json"
    weights.write_text(json.dumps({"rendered-faces-64-base": "a", "others": "b"}))
    monkeypatch.setattr(fingerprints, "WEIGHTS", weights)
    of = lambda name: fingerprints.fingerprint([f"diga_lib.methods.{name}"])
    before = of("diga"), of("erm")
    weights.write_text(json.dumps({"rendered-faces-64-base": "a", "others": "c"}))
    assert (of("diga"), of("erm")) == before
    weights.write_text(json.dumps({"rendered-faces-64-base": "new", "others": "c"}))
    assert of("diga") != before[0] and of("erm") == before[1]
    assert Cell("ERM").fingerprint != Cell("ERM", changes='{"lr": 1}').fingerprint


def test_strengths_of_the_directions_module_are_per_image():
    weak, strong = cells.STRENGTHS[1]
    assert [c.strengths for c in cells.strengths(seeds=(0,))][1] == (weak / 20_000, strong / 20_000)
    assert min(directions.STRENGTHS) > 0
