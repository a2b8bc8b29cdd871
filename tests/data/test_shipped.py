"""Photographs that ship: what is in them, who draws from them, and that nothing else is taken for them."""

import zipfile

import numpy as np
import pytest

from diga_lib import data
from diga_lib.data import shipped
from diga_lib.data.photos import align


@pytest.fixture(scope="module")
def sample():
    return data.load("fairface-sample")


def test_the_sample_is_balanced_and_shows_no_minors(sample):
    assert sample.images.shape == (6000, 3, 64, 64) and sample.images.dtype == np.uint8
    groups = sample.attributes.groupby(["Male", "Young"]).size()
    assert (groups == 1500).all() and len(groups) == 4
    races = sample.metadata["race_group"].value_counts()
    assert len(races) == 7 and races.min() > 0.85 * races.max()
    assert (sample.attributes["Ethnicity"] == (sample.metadata["race_group"] != "White")).all()
    young = sample.metadata["age_group"] == "20-29"
    assert (sample.attributes["Young"] == young).all()
    assert set(sample.metadata["age_group"][~young]) == {"40-49", "50-59", "60-69", "more than 70"}
    assert len({image.tobytes() for image in sample.images}) == 6000


def test_fewer_are_drawn_by_seed(sample):
    some, more, others = (data.load("fairface-sample", n, seed=seed) for n, seed in ((50, 1), (80, 1), (50, 2)))
    assert (some.images == more.images[:50]).all() and (some.images != others.images).any()
    where = sample.metadata.reset_index().set_index("image_id")["index"][some.metadata["image_id"]].to_numpy()
    assert (sample.images[where] == some.images).all()
    assert some.attributes.equals(sample.attributes.iloc[where].reset_index(drop=True))


def test_people_of_the_test_part_are_never_trained_on(sample):
    split = data.biased_split(sample, target="Male", spurious="Young", bias=1 / 9, n_train=2000, seed=0)
    part = sample.metadata["partition"].to_numpy()
    assert set(part[split.test.index]) == {"test"} and set(part[split.train.index]) == {"train"}


@pytest.mark.parametrize("resolution", [64, 160])
def test_the_london_volunteers_are_aligned_neutral_and_smiling(resolution):
    people = data.load("london-photos", resolution=resolution)
    assert len(people) <= 24 and people.images.shape[1:] == (3, resolution, resolution)
    assert people.attributes["Smiling"].tolist() == [0, 1] * 12
    assert people.metadata["subject"].value_counts().eq(2).all()
    for half in (slice(0, 12), slice(12, 24)):
        assert people.attributes["Male"][half].mean() == 0.5


def test_the_eyes_of_the_london_volunteers_lie_where_they_are_said_to_be():
    from PIL import Image

    for image in data.load("london-photos", 6, resolution=256).images:
        found = align.find_eyes(Image.fromarray(image.transpose(1, 2, 0)))
        assert np.abs(found - align.target_eyes(256)).max() < 6  # of 256 pixels


def test_what_is_not_to_be_had_is_said(tmp_path, monkeypatch):
    for wrong, sentence in (
        ({"name": "fairface-sample", "n": 6001}, "6,001, but fairface-sample has 6,000 images"),
        ({"name": "fairface-sample", "resolution": 32}, "valid is 64"),
        ({"name": "london-photos", "n": 25}, "25, but london-photos has 24"),
    ):
        with pytest.raises(ValueError, match=sentence):
            data.load(**wrong)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="london-photos.zip is missing or damaged"):
        data.load("london-photos")
    with zipfile.ZipFile(tmp_path / "london-photos.zip", "w") as archive:
        archive.writestr(shipped.TABLE, "image_id\n../../x.png\n")
    with pytest.raises(ValueError, match="london-photos.zip is missing or damaged"):
        data.load("london-photos")


def test_what_ships_is_small():
    sizes = {file.name: file.stat().st_size for file in shipped.FOLDER.iterdir()}
    assert sizes.keys() == {f"{name}.zip" for name in shipped.FILES} and max(sizes.values()) <= 6_000_000
