import dataclasses
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diga_lib import data
from diga_lib.data.bias import group_sizes


def pool(n=4000, seed=0, p=(0.5, 0.5, 0.5)):
    draws = np.random.default_rng(seed).random((n, 3)) < p
    images = (np.arange(n)[:, None, None, None] % 256).astype(np.uint8) * np.ones((1, 3, 2, 2), np.uint8)
    attributes = pd.DataFrame(draws.astype(np.int8), columns=["Smiling", "Male", "Young"])
    return data.ImageDataset(images, attributes, None, "pool")


def crosstab(dataset, part, spurious="Male"):
    rows = dataset.attributes.iloc[part.index]
    return pd.crosstab(rows["Smiling"], [rows[name] for name in spurious.split("&")]).to_numpy()


@pytest.mark.parametrize("aligned, expected", [("opposite", [[50, 450], [450, 50]]), ("same", [[450, 50], [50, 450]])])
def test_group_counts_at_one_ninth(aligned, expected):
    faces = pool()
    split = data.biased_split(faces, bias=1 / 9, n_train=1000, n_test_per_group=300, aligned=aligned)
    assert crosstab(faces, split.train).tolist() == expected
    assert crosstab(faces, split.validation).tolist() == (np.array(expected) // 10).tolist()
    assert crosstab(faces, split.test).tolist() == [[300, 300], [300, 300]]


def test_parts_are_disjoint_and_carry_the_pools_labels_and_images():
    faces = pool()
    split = data.biased_split(faces, n_train=1000, seed=3)
    index = np.concatenate([part.index for part in (split.train, split.validation, split.test)])
    assert len(np.unique(index)) == len(index)
    for part in (split.train, split.validation, split.test):
        rows = faces.attributes.iloc[part.index]
        assert (part.target == rows["Smiling"]).all() and (part.spurious == rows["Male"]).all()
        assert (part.group == 2 * rows["Smiling"].astype(int) + rows["Male"]).all()
        assert (part.images == faces.images[part.index]).all()
        assert part.target.dtype == part.index.dtype == part.group.dtype == np.int64


def test_bias_sweep_shares_the_test_set_and_nests_training_sets():
    faces = pool()
    splits = {b: data.biased_split(faces, bias=b, n_train=1200, seed=5) for b in (1, 1 / 4, 1 / 49)}
    for split in splits.values():
        assert (split.test.index == splits[1].test.index).all()
    majority = [set(split.train.index[split.train.group == 1]) for split in splits.values()]
    assert majority[0] < majority[1] < majority[2]
    assert np.ptp(np.bincount(splits[1].train.group)) == 0


def test_seed_decides():
    faces = pool()
    first, again, other = (data.biased_split(faces, n_train=500, seed=seed) for seed in (0, 0, 1))
    for part in ("train", "validation", "test"):
        assert (getattr(first, part).index == getattr(again, part).index).all()
        assert set(getattr(first, part).index) != set(getattr(other, part).index)


def test_two_spurious_attributes_go_by_powers_of_b():
    faces = pool(8000)
    request = {"bias": 1 / 4, "n_train": 1000, "n_test_per_group": 50}
    split = data.biased_split(faces, spurious="Male&Young", **request)
    ideal = [[1, 4, 4, 16], [16, 4, 4, 1]]  # columns (Male, Young) = 00, 01, 10, 11
    assert crosstab(faces, split.train, "Male&Young").tolist() == (np.array(ideal) * 20).tolist()
    assert np.bincount(split.test.group).tolist() == [50] * 8
    assert split.spurious == "Male&Young" and split.train.n_spurious == 4
    as_list = data.biased_split(faces, spurious=["Male", "Young"], **request)
    assert (as_list.train.index == split.train.index).all()


@given(n=st.integers(1, 30_000), bias=st.fractions(Fraction(1, 100), 1), k=st.integers(1, 3))
def test_group_sizes_are_exact_in_total_and_off_by_less_than_one(n, bias, k):
    against = np.array([bin(i).count("1") for i in range(2**k)] * 2)
    sizes = group_sizes(n, float(bias), against)
    weights = [bias ** int(a) for a in against]
    assert sizes.sum() == n
    for size, weight in zip(sizes, weights, strict=True):
        assert abs(int(size) - n * weight / sum(weights)) < 1


@settings(max_examples=60, deadline=None)
@given(
    n_train=st.integers(1, 1500),
    b=st.floats(0.01, 1),
    n_validation=st.none() | st.integers(0, 400),
    n_test=st.none() | st.integers(1, 300),
    p=st.floats(0.1, 0.9),
    spurious=st.sampled_from(["Male", "Male&Young"]),
)
def test_any_request_is_met_exactly_or_refused_with_the_counts(n_train, b, n_validation, n_test, p, spurious):
    faces = pool(2000, p=(p, 0.5, 0.5))
    try:
        split = data.biased_split(
            faces, spurious=spurious, bias=b, n_train=n_train, n_validation=n_validation, n_test_per_group=n_test
        )
    except ValueError as error:
        rows = faces.attributes
        smallest = pd.crosstab(rows["Smiling"], [rows[name] for name in spurious.split("&")]).min(axis=None)
        assert "too few images" in str(error) and f": {smallest} exist" in str(error)
        return
    assert len(split.train) == n_train
    assert len(split.validation) == (n_train // 10 if n_validation is None else n_validation)
    counts = np.bincount(split.test.group)
    assert (counts == counts[0]).all() and (n_test is None or counts[0] == n_test)
    everything = np.concatenate([split.train.index, split.validation.index, split.test.index])
    assert len(set(everything)) == len(everything)


def test_default_test_leaves_room_for_every_bias():
    faces = pool(8000)
    tests = [data.biased_split(faces, bias=b, n_train=2000).test for b in (1, 1 / 9, 1e-3)]
    assert len(tests[0]) == len(tests[1]) == len(tests[2])
    natural = pd.crosstab(faces.attributes["Smiling"], faces.attributes["Male"]).to_numpy()
    # However small the bias, a majority group has at most half of the training and of the validation images.
    assert len(tests[0]) // 4 == min(natural[0, 1], natural[1, 0]) - 1000 - 100


def test_too_few_says_how_many_of_which_group():
    with pytest.raises(ValueError, match=r"Smiling=0 Male=1: 1,052 exist, 4,980 asked;.* of these 30 a group"):
        data.biased_split(pool(), n_train=10_000, n_test_per_group=30)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"target": "Smile"}, "'Smile' is not an attribute of pool: valid are Smiling, Male, Young"),
        ({"spurious": "Male&Old"}, "'Old' is not an attribute"),
        ({"spurious": "Smiling"}, "must all differ"),
        ({"spurious": []}, "at least one spurious attribute"),
        ({"spurious": "Male&Male"}, "must all differ"),
        ({"bias": 0}, "bias is 0: valid is a number above 0, at most 1"),
        ({"bias": float("nan")}, "bias is nan"),
        ({"bias": "1/9"}, "bias is '1/9'"),
        ({"bias": 9}, "bias is 9"),
        ({"n_train": 0}, "n_train is 0: valid is a whole number of at least 1"),
        ({"n_train": 10.5}, "n_train is 10.5"),
        ({"n_train": "many"}, "n_train is 'many'"),
        ({"n_validation": -1}, "n_validation is -1"),
        ({"n_test_per_group": 0}, "n_test_per_group is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"aligned": "yes"}, "aligned is 'yes': valid are 'opposite' and 'same'"),
    ],
)
def test_bad_parameters_are_named(wrong, sentence):
    with pytest.raises(ValueError) as error:
        data.biased_split(pool(100), **({"n_train": 20} | wrong))
    assert sentence in str(error.value)


def with_column(faces, name, values):
    return dataclasses.replace(faces, metadata=pd.DataFrame({"image_id": np.arange(len(faces)), name: values}))


SPELLED = {
    "train": ("train", "Training", "0", " TRAIN "),
    "validation": ("validation", "val", "1", "Valid"),
    "test": ("test", "Testing", "2", "TEST"),
}


@settings(max_examples=25, deadline=None)
@given(spelling=st.integers(0, 3), seed=st.integers(0, 50), bias=st.sampled_from([1, 1 / 4, 1 / 9]))
def test_parts_come_from_their_official_partitions(spelling, seed, bias):
    official = np.random.default_rng(seed).choice(list(SPELLED), 6000, p=[0.6, 0.2, 0.2])
    faces = with_column(pool(6000), "partition", [SPELLED[part][spelling] for part in official])
    split = data.biased_split(faces, bias=bias, n_train=600, n_validation=200, n_test_per_group=150, seed=seed)
    for part, size in (("train", 600), ("validation", 200), ("test", 600)):
        rows = getattr(split, part).index
        assert set(official[rows]) == {part} and len(set(rows)) == size
    by_partition = pd.crosstab(official, [faces.attributes["Smiling"], faces.attributes["Male"]])
    default = data.biased_split(faces, bias=bias, n_train=600, seed=seed)
    assert len(default.test) == 4 * min(1000, by_partition.loc["test"].min())  # all that it has of the smallest group


def test_a_test_partition_gives_what_it_has(capsys):
    official = np.array(["train", "validation", "test", "train", "train"])[np.arange(4000) % 5]
    faces = with_column(pool(), "partition", official)
    most = pd.crosstab(official, [faces.attributes["Smiling"], faces.attributes["Male"]]).loc["test"].min()
    split = data.biased_split(faces, n_train=500, n_test_per_group=1000)
    assert np.bincount(split.test.group).tolist() == [most] * 4
    assert f"{most} images a group, not 1,000" in capsys.readouterr().out


def test_without_a_validation_partition_it_is_taken_from_training():
    official = np.array(["train", "test"])[(np.arange(4000) % 4 == 0).astype(int)]
    split = data.biased_split(with_column(pool(), "partition", official), n_train=500)
    assert set(official[split.validation.index]) == set(official[split.train.index]) == {"train"}
    assert not set(split.validation.index) & set(split.train.index)


def test_a_partition_too_small_or_unheard_of_is_named():
    with pytest.raises(ValueError, match="'partition' leaves too few images for test .*Smiling=0 Male=0: 0 exist"):
        data.biased_split(with_column(pool(), "partition", ["train", "val"] * 2000), n_train=100)
    with pytest.raises(ValueError, match="'partition' of pool has 'disk 2': valid are train, validation and test"):
        data.biased_split(with_column(pool(), "partition", ["train"] * 3999 + ["Disk 2"]), n_train=100)


@settings(max_examples=40, deadline=None)
@given(
    each=st.integers(1, 40),
    seed=st.integers(0, 99),
    column=st.sampled_from(["identity", "subject"]),
    b=st.sampled_from([1, 1 / 9]),
)
def test_nobody_is_in_two_parts(each, seed, column, b):
    faces = pool(4000, seed=seed)
    who = np.random.default_rng(seed).permutation(4000 // each + 1).repeat(each)[:4000]
    # Real people keep their gender from picture to picture.
    faces = with_column(faces.with_attribute("Male", who % 2), column, [f"n{number:06d}" for number in who])
    split = data.biased_split(faces, bias=b, n_train=800, n_validation=80, n_test_per_group=40, seed=seed)
    people = pd.concat(
        [
            pd.DataFrame({"who": who[getattr(split, part).index], "part": part})
            for part in ("train", "validation", "test")
        ]
    )
    assert people.groupby("who")["part"].nunique().max() == 1
    assert people["part"].value_counts().to_dict() == {"train": 800, "validation": 80, "test": 160}
    minority, majority = (200, 200) if b == 1 else (40, 360)
    assert crosstab(faces, split.train).tolist() == [[minority, majority], [majority, minority]]
    other = data.biased_split(faces, bias=1 / 4, n_train=800, n_validation=80, n_test_per_group=40, seed=seed)
    assert (other.test.index == split.test.index).all()
    of_women = [set(one.train.index[one.train.group == 2]) for one in (split, other)]
    assert of_women[0] <= of_women[1] or of_women[1] <= of_women[0]  # nested, as without people


def test_people_are_shared_out_in_proportion():
    """With thousands of frames of each of few people, a part does not consist of the first that come."""
    who = np.arange(20).repeat(500)
    split = data.biased_split(with_column(pool(10_000), "subject", who), n_train=800, n_test_per_group=100)
    found = {part: len(set(who[getattr(split, part).index])) for part in ("train", "validation", "test")}
    assert found["train"] >= 8 and found["test"] >= 4 and found["validation"] >= 1 and sum(found.values()) == 20


def test_too_few_people_are_named():
    with pytest.raises(ValueError, match="The column 'identity' leaves too few images"):
        data.biased_split(with_column(pool(), "identity", ["a", "b"] * 2000), n_train=100)
    unknown = with_column(pool(), "identity", [""] * 1000 + [str(i) for i in range(3000)])
    split = data.biased_split(unknown, n_train=300, n_test_per_group=40)
    assert sum((getattr(split, part).index < 1000).any() for part in ("train", "validation", "test")) <= 1


def test_without_spurious_hides_the_groups():
    train = data.biased_split(pool(), n_train=100).train.without_spurious()
    assert train.spurious is None and len(train) == 100
    with pytest.raises(ValueError, match="no spurious attribute"):
        _ = train.group
