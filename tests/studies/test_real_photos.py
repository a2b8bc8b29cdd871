"""The study of photographs, on pictures made up in memory: parts that share nobody, fur by the middle, what is kept."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from diga_lib import data
from diga_lib.data import ImageDataset
from diga_lib.pages.parameters import Sizes
from diga_lib.studies import real_photos, sampling, store, tables


def celeba(n=2400, people=480):
    """Pictures whose brightness is the smile, of people who lie each in one partition."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.integers(0, 2, n).astype(np.int8) for name in ("Smiling", "Male", "Young")})
    images = np.full((n, 3, 16, 16), 60, np.uint8) + (120 * table["Smiling"].to_numpy(np.uint8))[:, None, None, None]
    person = rng.integers(0, people, n)
    part = np.array(["train", "val", "test"])[np.digitize(person / people, (0.7, 0.85))]
    metadata = pd.DataFrame({"image_id": [f"{i}.webp" for i in range(n)], "identity": person, "partition": part})
    return ImageDataset(images, table, None, "folder", metadata.astype(str))


def pets(n=300):
    rng = np.random.default_rng(1)
    grey = rng.integers(20, 230, n)
    images = np.full((n, 3, 16, 16), 128, np.uint8)
    images[:, :, 4:12, 4:12] = grey[:, None, None, None]
    metadata = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(n)], "grey": grey})
    dog = pd.DataFrame({"Dog": rng.integers(0, 2, n).astype(np.int8)})
    return ImageDataset(images, dog, None, "dogs-vs-cats", metadata)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    for name in ("celeba", "dogs-vs-cats"):
        (tmp_path / name).mkdir()
    made = {"celeba": celeba(), "dogs-vs-cats": pets()}
    monkeypatch.setattr(data, "load", lambda name, root, align, missing: made[root.name])
    monkeypatch.setitem(real_photos.SIZES, "quick", Sizes(0, 300, 40, 1, 1, 1))
    for kept in (real_photos.pool_of, real_photos._setting):
        kept.cache_clear()
    yield str(tmp_path)
    for kept in (real_photos.pool_of, real_photos._setting):
        kept.cache_clear()


def test_nobody_is_in_two_parts_and_the_search_looks_at_no_test_person(folder):
    pool = real_photos.pool_of("celeba", folder)
    parts = pool.metadata.groupby("identity")["partition"].nunique()
    assert parts.max() == 1 and set(pool.metadata["partition"]) == {"train", "validation", "test", "words"}
    (cell,) = real_photos.cells(folder, [("Smiling", "Male")], ["erm"], [0], profile="quick")
    trial = real_photos.search(folder, ["erm"], "quick")[0]
    names = {}
    for name, one in (("table", cell), ("search", trial)):
        s = one.setting()
        people = s.pool.metadata["identity"].to_numpy()
        for part in ("train", "validation", "test"):
            names[name, part] = set(people[getattr(s.split, part).index])
    official = {
        part: set(pool.metadata.query("partition == @part")["identity"]) for part in set(pool.metadata["partition"])
    }
    for part in ("train", "validation", "test"):
        assert names["table", part] <= official[part]
    assert names["search", "test"] | names["search", "validation"] <= official["validation"]
    assert not (names["search", "train"] | names["search", "test"]) & official["test"]


def test_the_alignment_is_the_one_that_leaves_more_images(folder):
    pool = real_photos.pool_of("celeba", folder)
    pool = pool.select(np.flatnonzero(pool.metadata["partition"] != "words"))
    for pair in (("Smiling", "Male"), ("Smiling", "Male&Young")):
        n, aligned = real_photos.largest(pool, *pair, 1 / 4)
        data.biased_split(pool, *pair, 1 / 4, n, 10, 5, aligned=aligned)
        with pytest.raises(ValueError, match="Smiling"):
            data.biased_split(pool, *pair, 1 / 4, int(1.1 * n) + 10, 10, 5, aligned=aligned)
        other = {"opposite": "same", "same": "opposite"}[aligned]
        with pytest.raises(ValueError, match="Smiling"):
            data.biased_split(pool, *pair, 1 / 4, int(1.1 * n) + 10, 10, 5, aligned=other)


def test_fur_is_what_the_middle_shows_and_the_middle_third_is_left_out(folder):
    pool = real_photos.pool_of("dogs-vs-cats", folder)
    grey = pool.metadata["grey"].to_numpy(int)
    assert abs(len(pool) - 200) <= 6
    assert grey[pool.attributes["Dark_Fur"] == 1].max() < grey[pool.attributes["Dark_Fur"] == 0].min()
    assert set(pool.metadata["partition"]) == {"train", "validation", "test", "words"}


def test_a_cell_is_kept_without_the_places_of_this_machine(folder, tmp_path):
    (cell,) = real_photos.cells(folder, [("Smiling", "Male")], ["erm"], [0], profile="quick")
    made = real_photos.compute(cell)
    assert (made.dataset, made.generator_pool, made.row) == ("celeba", "train partition", "erm")
    assert folder not in json.dumps(made.model_dump())
    assert {name: getattr(made, name) for name in cell.key} == cell.key
    pool = real_photos.pool_of("celeba", folder)
    theirs = pool.attributes[pool.metadata["partition"].isin(["validation", "words"]).to_numpy()]
    for group, share in made.extra["natural"].items():
        there = (theirs["Smiling"] == int(group[1])) & (theirs["Male"] == int(group[3]))
        assert share == pytest.approx(there.mean()) and 0.2 < share < 0.3
    store.append(tmp_path / "kept.jsonl", made)
    assert len(store.read(tmp_path / "kept.jsonl", store.PhotoResult)) == 1


def test_the_first_pair_comes_first_and_both_generators_are_asked_for(folder):
    cells = real_photos.cells(folder, seeds=(0, 1))
    first = [cell for cell in cells if cell.generator_pool == store.POOLS[0]]
    pairs = [(cell.target, cell.spurious) for cell in first]
    count = 2 * len(real_photos.ROWS)
    assert set(pairs[:count]) == {("Smiling", "Male")} and ("Smiling", "Male") not in pairs[count:]
    assert {cell.seed for cell in first[count : count + 8 * len(real_photos.ROWS)]} == {0}
    other = [cell for cell in cells if cell not in first]
    assert {cell.row for cell in other} == {"diga-paper", "diga-one-stage"}
    assert {(cell.target, cell.spurious) for cell in other} == {("Smiling", "Male"), ("Young", "Male")}
    assert not any(cell.generator for cell in other) and len(other) == 2 * 2 * 2
    with pytest.raises(ValueError, match="holds none of celeba"):
        real_photos.cells(folder + "/celeba")
    with pytest.raises(ValueError, match="No such pair"):
        real_photos.cells(folder, [("Smiling", "Dog")])


@pytest.mark.parametrize("pool", store.POOLS)
def test_a_generator_sees_the_train_partition_or_the_biased_images(pool, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(sampling, "trained_generator", lambda *given: seen.append(given) or torch.nn.Linear(2, 2))
    s = real_photos.PhotoCell("diga-one-stage", profile="quick", folder=folder, generator_pool=pool).setting()
    (images, shown), (most, passes) = seen[0], real_photos.GENERATOR["quick"]
    assert shown == most * passes
    if pool == store.POOLS[1]:
        np.testing.assert_array_equal(images, s.split.train.images)
    else:
        train = (real_photos.pool_of("celeba", folder).metadata["partition"] == "train").sum()
        assert len(images) == min(most, train) > len(s.split.train)


def test_the_numbers_of_a_published_line_agree_with_each_other():
    frame = tables.photographs()
    assert len(frame) and not frame.duplicated(list(store.PhotoResult.KEY)).any()
    for _, line in frame.iterrows():
        groups = np.array(list(line["groups"].values())).reshape(2, -1)
        assert line["worst_group"] == pytest.approx(groups.min())
        assert line["accuracy"] == pytest.approx(groups.mean(), abs=1e-6)  # the test set is balanced
        assert line["equalized_odds"] == pytest.approx(np.ptp(groups, axis=1).max())


def test_rows_of_one_pair_are_compared_at_one_size_and_bias(monkeypatch):
    same = {"dataset": "celeba", "case": "", "generator_pool": store.POOLS[0], "spurious": "Male"}
    lines = [("Smiling", 4_000, 1 / 9), ("Smiling", 10_000, 1 / 9), ("Smiling", 20_000, 0.25), ("Young", 4_000, 1 / 9)]
    frame = pd.DataFrame([same | {"target": t, "n_train": n, "bias": b, "row": "erm", "seed": 0} for t, n, b in lines])
    frame.loc[len(frame)] = {**frame.loc[0], "row": "jtt"}
    frame.loc[len(frame)] = {**frame.loc[0], "seed": 1}
    others = [{"dataset": "utkface"}, {"case": "a trial"}, {"generator_pool": store.POOLS[1]}]
    frame = pd.concat([frame, *(frame.assign(n_train=50_000, **other) for other in others)], ignore_index=True)
    frame["pair"] = frame["target"] + "/" + frame["spurious"]
    monkeypatch.setattr(tables, "photographs", lambda: frame)
    assert tables.on_celeba("Smiling", "Male")["n_train"].tolist() == [10_000]
    assert tables.on_celeba("Smiling", "Male", 0.25)["n_train"].tolist() == [20_000]
    shared = tables.on_celeba("Smiling", "Male", rows=["erm", "jtt"])
    assert shared[["n_train", "seed"]].values.tolist() == [[4_000, 0]] * 2, "a seed that one of them lacks is left out"
    assert tables.on_celeba("Smiling", "Male", rows=["erm", "lff"]).empty
    assert tables.on_celeba("Young", "Black_Hair").empty


def test_a_line_with_other_settings_than_the_search_has_chosen_is_old(folder, monkeypatch, tmp_path):
    """Like in the other tables: no row may stand beside the others untuned without a mark."""
    for module in (tables, store):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    values = {"accuracy": 0.5, "worst_group": 0.5, "equalized_odds": 0.1, "groups": {}, "seconds": 1}
    values |= {"peak_memory_mb": 1, "method": "", "dataset": "celeba", "generator_pool": store.POOLS[0]}
    for cell in real_photos.cells(folder, [("Smiling", "Male")], ["diga-paper", "jtt"], [0, 1]):
        if cell.generator_pool == store.POOLS[0]:
            changes = '{"other": 1}' if cell.seed else cell.changes
            extra = {"n_train": 1, "cell": {"changes": changes}}
            line = store.PhotoResult(**cell.key | values, version=cell.version, extra=extra)
            store.append(tmp_path / "real_photos.jsonl", line)
    frame = tables.photographs().set_index(["row", "seed"])["stale"]
    assert len(frame) == 4 and not frame[:, 0].any() and frame[:, 1].all()


def test_ablations_change_one_thing_each_and_leave_celeba_s_first_pair_but_once(folder):
    cells = real_photos.ablations(folder, profile="quick")
    assert len({tuple(cell.key.values()) for cell in cells}) == len(cells)
    assert {cell.dataset for cell in cells} == {"celeba"} and {cell.generator_pool for cell in cells} == {
        store.POOLS[0]
    }
    assert {(cell.target, cell.spurious) for cell in cells if cell.variant != "elsewhere"} == {("Smiling", "Male")}
    plain = real_photos.PhotoCell("erm")
    for cell in cells:
        changed = [name for name in ("bias", "strengths", "share") if getattr(cell, name) != getattr(plain, name)]
        assert len(changed) == 0 if cell.variant in real_photos.MORE else len(changed) == 1
    assert sorted(cell.share for cell in cells if cell.share != 1) == [0.1, 0.5]


def test_a_generator_learns_from_a_share_of_the_train_partition(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(sampling, "trained_generator", lambda images, shown: seen.update({len(images): shown}))
    for share in (1.0, 0.5):
        real_photos.PhotoCell("diga-one-stage", profile="quick", folder=folder, share=share).setting()
    (whole, shown), (half, as_many) = seen.items()
    assert half == round(whole / 2) and shown == as_many, "as many steps, on fewer images"


def test_features_of_a_network_that_reads_brightness_hold_the_smile_alone(folder):
    cell = real_photos.PhotoCell("erm", profile="quick", folder=folder, variant="representation")
    held = real_photos.compute(cell).extra
    assert np.shape(held["points"]) == (160, 2) and len(held["target"]) == len(held["spurious"]) == 160
    assert held["target purity"] == 1 and 0.3 < held["probe"] < 0.7
    points, smile = np.array(held["points"]), np.array(held["target"]) == 1
    apart = np.linalg.norm(points[smile].mean(0) - points[~smile].mean(0))
    assert apart > 2 * points[smile].std(), "and so does its picture"


def test_another_set_s_test_pictures_are_asked_about(folder, monkeypatch):
    other, load = celeba(600), data.load
    other = ImageDataset(255 - other.images, other.attributes, None, "folder", other.metadata)
    sets = {"utkface": lambda name, root, **how: other}
    monkeypatch.setattr(data, "load", lambda name, root, **how: sets.get(root.name, load)(name, root, **how))
    (Path(folder) / "utkface").mkdir()
    asked = SimpleNamespace(predict=lambda images: (images.mean((1, 2, 3)) < 120).astype(int))
    found = real_photos.elsewhere(real_photos.PhotoCell("erm", folder=folder), asked)["sets"]
    test = (other.metadata["partition"] == "test").to_numpy()
    assert set(found) == {"utkface"} and found["utkface"]["images"] == test.sum()
    assert found["utkface"]["accuracy"] == 1, "there a smile is dark"
    asked.predict = lambda images: np.ones(len(images), int)
    found = real_photos.elsewhere(real_photos.PhotoCell("erm", folder=folder), asked)["sets"]
    assert found["utkface"]["accuracy"] == pytest.approx(other.attributes["Smiling"][test].mean())
