"""What people report of tools like this one, tried on ours: a line for each situation, and what must happen."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from diga_lib import data
from diga_lib.data.photos import files, layouts

ATTRIBUTES, PARTITION, IDENTITY = "list_attr_celeba", "list_eval_partition", "identity_CelebA"
drawn = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def picture(path, seed=0, size=(40, 40)):
    """A picture that no other seed gives, written to a path whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(coarse).resize(size).save(path)
    return path


def table(root, text, name="attributes.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


def album(root, n=6, header="image_id,Smiling", row=lambda i: f"{i}.png,{i % 2}", folder=""):
    for i in range(n):
        picture(root / folder / f"{i}.png", i)
    return table(root, "\n".join([header, *map(row, range(n))]) + "\n")


def read(root, name="folder", **parameters):
    return data.load(name, root=root, align=False, resolution=16, **parameters)


def ids(pool):
    return pool.metadata["image_id"].tolist()


# ------------------------------------------------------------------------------------------------------- CelebA
def celeba(
    root, n=6, csv=False, count=True, images="img_align_celeba", tables="", partition="", header=True, identity=None
):
    names = [f"{i:06d}.jpg" for i in range(1, n + 1)]
    for i, name in enumerate(names):
        picture(root / images / name, i, (178, 218))
    glue, ending = (",", ".csv") if csv else (" ", ".txt")
    head = [str(n)] * (count and not csv) + [glue.join(["image_id"] * csv + ["Male", "Smiling"])]
    rows = [glue.join([name, str(2 * (i % 2) - 1), "-1"]) for i, name in enumerate(names)]
    table(root / tables, "\n".join(head + rows) + "\n\n", ATTRIBUTES + ending)
    places = [f"image_id{glue}partition"] * (csv and header) + [f"{name}{glue}{i % 3}" for i, name in enumerate(names)]
    table(root / partition, "\n".join(places) + "\n \n", PARTITION + ending)
    if identity:
        table(
            root / tables,
            "".join(f"{name}{glue}{who}\n" for name, who in zip(names, identity, strict=True)),
            IDENTITY + ending,
        )
    return root


CELEBA = {
    "as its authors ship it": {},
    "with commas, as Kaggle ships it": {"csv": True, "images": "img_align_celeba/img_align_celeba"},
    "with commas and no header of the partition": {"csv": True, "header": False},
    "the attribute list without the count line": {"count": False},
    "nested img_align_celeba/img_align_celeba": {"images": "img_align_celeba/img_align_celeba"},
    "Anno, Eval, Img": {"images": "Img/img_align_celeba", "tables": "Anno", "partition": "Eval"},
    "all of it at once": {
        "csv": True,
        "images": "Img/img_align_celeba/img_align_celeba",
        "tables": "Anno",
        "partition": "Eval",
    },
    "with the identities": {"identity": [7, 7, 7, 8, 8, 9]},
}


@pytest.mark.parametrize("what", CELEBA)
def test_celeba_in_every_form(tmp_path, what):
    pool = read(celeba(tmp_path, **CELEBA[what]), "celeba")
    assert pool.attributes["Male"].tolist() == [0, 1] * 3 and pool.attributes["Smiling"].tolist() == [0] * 6
    assert pool.metadata["partition"].tolist() == ["train", "validation", "test"] * 2
    assert ids(pool) == [f"{i:06d}.jpg" for i in range(1, 7)]
    if "identity" in CELEBA[what]:
        assert pool.metadata["identity"].tolist() == ["7", "7", "7", "8", "8", "9"]


def test_only_a_part_of_the_images_on_disk(tmp_path, capsys):
    celeba(tmp_path)
    for gone in (2, 5):
        (tmp_path / "img_align_celeba" / f"{gone:06d}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no file for 2 of 6 images that .*000002.jpg, 000005.jpg in .*'drop'"):
        read(tmp_path, "celeba")
    pool = read(tmp_path, "celeba", missing="drop")
    assert ids(pool) == ["000001.jpg", "000003.jpg", "000004.jpg", "000006.jpg"]
    assert pool.attributes["Male"].tolist() == [0, 0, 1, 1] and "2 of 6 images" in capsys.readouterr().out


def test_no_list_of_partitions(tmp_path):
    (celeba(tmp_path) / f"{PARTITION}.txt").unlink()
    with pytest.raises(FileNotFoundError, match="list_eval_partition.txt.*nor Eval/list_eval_partition.csv"):
        read(tmp_path, "celeba")


# ------------------------------------------------------------------------------------------------- UTKFace, samples
def faces(root, n=60):
    names = sorted(f"{age}_{age % 2}_{age % 5}_2017{age:04d}.jpg.chip.jpg" for age in range(1, n + 1))
    for i, name in enumerate(names):
        picture(root / name, i, (200, 200))
    return root


@pytest.mark.parametrize("layout", ["utkface", "folder", "celeba", "dogs-vs-cats"])
def test_the_first_n_of_a_sorted_list_is_not_a_sample(tmp_path, layout):
    make = {"utkface": faces, "folder": lambda r: album(r, 40), "celeba": lambda r: celeba(r, 40)}
    if layout == "dogs-vs-cats":
        for i in range(20):
            picture(tmp_path / "train" / f"cat.{i}.jpg", i)
            picture(tmp_path / "train" / f"dog.{i}.jpg", 100 + i)
    else:
        make[layout](tmp_path)
    whole, few, more, other = (
        read(tmp_path, layout, **kind) for kind in ({}, {"n": 10}, {"n": 25}, {"n": 10, "seed": 1})
    )
    assert set(ids(few)) < set(ids(more)) < set(ids(whole)) and set(ids(few)) != set(ids(other))
    for pool in (few, more, other):
        rows = [ids(whole).index(name) for name in ids(pool)]
        assert (pool.images == whole.images[rows]).all() and (
            pool.attributes == whole.attributes.iloc[rows].reset_index(drop=True)
        ).all(axis=None)
    assert np.mean([ids(whole).index(name) < 10 for name in ids(few)]) < 0.8


def test_the_same_picture_twice_is_one(tmp_path, capsys):
    faces(tmp_path / "UTKFace", 8)
    shutil.copytree(tmp_path / "UTKFace", tmp_path / "crop_part1")
    (tmp_path / "linked").symlink_to(tmp_path / "UTKFace")
    faces(tmp_path / "utkface_aligned_cropped" / "UTKFace", 10)
    pool = read(tmp_path, "utkface")
    assert sorted(pool.factors["age"]) == list(range(1, 11))
    assert "Left out 16 of 26 files, which are copies of others" in capsys.readouterr().out


def test_the_same_picture_under_another_name_is_told(tmp_path, capsys):
    album(tmp_path / "a", 40)
    assert len(read(tmp_path / "a")) == 40 and "same as another" not in capsys.readouterr().out
    for original, copy in ((3, 20), (3, 31), (5, 8)):
        shutil.copy(tmp_path / "a" / f"{original}.png", tmp_path / "a" / f"{copy}.png")
    assert len(read(tmp_path / "a")) == 40
    assert "3 of 40 are the same as another" in (said := capsys.readouterr().out)
    assert all(f"{copy}.png" in said for copy in (20, 31, 8))


@pytest.mark.parametrize("second", ["./0.png", "images/0.png", "sub/../0.png", "linked.png"])
def test_a_table_that_names_one_file_twice_is_refused(tmp_path, second):
    album(tmp_path, folder="images")
    (tmp_path / "images" / "linked.png").symlink_to("0.png")
    table(tmp_path, f"image_id,Smiling\n0.png,0\n{second},1\n")
    with pytest.raises(ValueError, match="names one file twice, as '0.png' and"):
        read(tmp_path)


def test_known_alignments_need_no_detector(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_eyes", lambda image: pytest.fail("a face was looked for"))
    assert len(data.load("utkface", root=faces(tmp_path / "a", 3))) == 3
    assert len(data.load("celeba", root=celeba(tmp_path / "b"))) == 6


# ------------------------------------------------------------------------------------------------------ Dogs vs Cats
ANIMALS = {
    "as the competition ships it": lambda kind, i: f"train/{kind}.{i}.jpg",
    "Cat and Dog": lambda kind, i: f"PetImages/{kind.title()}/{i}.jpg",
    "train/cats": lambda kind, i: f"train/{kind}s/{kind}.{i}.jpg",
    "train/cats with numbers only": lambda kind, i: f"train/{kind}s/{i}.jpg",
    "train/train": lambda kind, i: f"train/train/{kind}.{i}.jpg",
    "capital endings": lambda kind, i: f"train/{kind}.{i}.JPG",
    "beside one another": lambda kind, i: f"{kind}_{i}.jpeg",
}


@pytest.mark.parametrize("what", ANIMALS)
def test_dogs_vs_cats_in_every_form(tmp_path, what, capsys):
    for i in range(4):
        for kind in ("cat", "dog"):
            path = picture(tmp_path / ANIMALS[what](kind, i), 10 * i + (kind == "dog"))
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")  # what a Mac leaves beside it
    picture(tmp_path / "__MACOSX" / ANIMALS[what]("cat", 9))
    pool = read(tmp_path, "dogs-vs-cats")
    assert pool.attributes["Dog"].tolist() == [0, 1] * 4 and not capsys.readouterr().out


def test_two_famous_broken_files_and_a_doubled_tree(tmp_path, capsys):
    for i in range(3):
        for kind in ("Cat", "Dog"):
            picture(tmp_path / "PetImages" / kind / f"{i}.jpg", 10 * i + (kind == "Dog"))
    shutil.copytree(tmp_path / "PetImages", tmp_path / "copy" / "PetImages")
    picture(tmp_path / "other" / "Cat" / "0.jpg", 99)  # another cat that bears the same number
    for path in ("Cat/666.jpg", "Dog/11702.jpg"):
        (tmp_path / "PetImages" / path).write_bytes(b"")
    with pytest.raises(ValueError, match=r"Cat/666.jpg is not an image.*Dog/11702.jpg is not an image"):
        read(tmp_path, "dogs-vs-cats")
    pool = read(tmp_path, "dogs-vs-cats", missing="drop")
    assert pool.attributes["Dog"].value_counts().to_dict() == {0: 4, 1: 3}
    said = capsys.readouterr().out
    assert (
        "Left out 6 of 15 files, which are copies of others" in said
        and "Left out 2 of 9 images, which are broken" in said
    )


# ------------------------------------------------------------------------------------------------- columns of a table
SPELLED = (("0", "1"), ("0.0", "1.0"), ("-1", "1"), ("-1.0", "+1"), ("False", "True"), ("no", "yes"), ("FALSE", "true"))


@drawn
@given(
    pair=st.sampled_from(SPELLED),
    values=st.lists(st.booleans(), min_size=4, max_size=4),
    name=st.sampled_from(["Male", "mine"]),
)
def test_a_column_of_two_values_is_an_attribute_however_it_is_spelled(tmp_path_factory, pair, values, name):
    root = album(
        tmp_path_factory.mktemp("album"), 4, f"image_id,{name},Fixed", lambda i: f"{i}.png,{pair[values[i]]},{i % 2}"
    )
    found = layouts.folder(root).attributes
    expected = (
        [int(value) for value in values] if pair[0].strip("+-.0") or pair[0][0] != "-" or not all(values) else [1] * 4
    )
    assert found[name].tolist() == expected


@drawn
@given(
    pair=st.sampled_from(SPELLED),
    odd=st.sampled_from(["", "?", "n/a", "unknown"]),
    row=st.integers(0, 5),
    name=st.sampled_from(["Young", "mine"]),
)
def test_one_cell_that_spoils_a_column_is_named(tmp_path_factory, capsys, pair, odd, row, name):
    cells = [odd if i == row else pair[i % 2] for i in range(6)]
    root = album(tmp_path_factory.mktemp("album"), 6, f"image_id,{name},Fixed", lambda i: f"{i}.png,{cells[i]},{i % 2}")
    capsys.readouterr()
    if name == "Young":  # it must be an attribute
        with pytest.raises(ValueError, match=rf"Young = {odd!r} for {row}.png: valid are 0 and 1".replace("?", r"\?")):
            layouts.folder(root)
    else:
        assert layouts.folder(root).metadata["mine"].tolist() == cells
        assert f"mine = {odd!r} for {row}.png" in capsys.readouterr().out


def test_numbers_with_a_gap_are_named_and_words_are_words(tmp_path, capsys):
    words = ["red", "green", "blue", "red", "", "green"]
    root = album(
        tmp_path, 6, "image_id,age,Smiling,colour", lambda i: f"{i}.png,{'' if i == 2 else 20 + i},{i % 2},{words[i]}"
    )
    found = layouts.folder(root)
    said = capsys.readouterr().out
    assert "age = '' for 2.png" in said and "colour" not in said
    assert found.factors is None and list(found.attributes) == ["Smiling"]


def test_who_it_is_and_the_partition_are_no_attributes(tmp_path):
    found = layouts.folder(
        album(tmp_path, 4, "image_id,identity,partition,Smiling", lambda i: f"{i}.png,{i // 2},{i % 2},{i % 2}")
    )
    assert list(found.attributes) == ["Smiling"] and found.metadata["identity"].tolist() == ["0", "0", "1", "1"]


@drawn
@given(mark=st.sampled_from("<>&\"'`$*[]{}|;\\=!?\u202e"), name=st.text("abcXYZ_ ", max_size=6))
def test_names_that_are_no_words_are_refused_at_reading(tmp_path_factory, mark, name):
    root = tmp_path_factory.mktemp("album")
    quoted = f"a{name}{mark}b".replace('"', '""')
    album(root, 2, f'image_id,Smiling,"{quoted}"', lambda i: f"{i}.png,{i},{i}")
    with pytest.raises(ValueError, match="has the column .*: valid are words"):
        layouts.folder(root)
    with pytest.raises(ValueError, match="has the attribute .*: valid are words"):
        layouts.celeba(table(celeba(root / "c"), f"1\nMale{mark}x Smiling\n000001.jpg 1 1\n", f"{ATTRIBUTES}.txt"))


def test_a_script_in_a_name(tmp_path):
    album(tmp_path, 2, "image_id,<script>alert(1)</script>", lambda i: f"{i}.png,{i}")
    with pytest.raises(ValueError, match="valid are words"):
        read(tmp_path)


def test_a_table_of_200_000_columns_is_refused_at_once(tmp_path):
    many = ",".join(f"c{i}" for i in range(200_000))
    album(tmp_path / "a", 2, f"image_id,{many}", lambda i: f"{i}.png" + ",1" * 200_000)
    began = time.process_time()
    with pytest.raises(ValueError, match="more than 1,000 columns"):
        layouts.folder(tmp_path / "a")
    table(celeba(tmp_path / "b"), f"{many.replace(',', ' ')}\n000001.jpg" + " 1" * 200_000 + "\n", f"{ATTRIBUTES}.txt")
    with pytest.raises(ValueError, match="200,000 attributes: valid are at most 1,000"):
        layouts.celeba(tmp_path / "b")
    assert time.process_time() - began < 5


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n  \n", "\n,\n", "\r\n\r\n"])
def test_blank_last_lines(tmp_path, end):
    album(tmp_path)
    text = (tmp_path / "attributes.csv").read_text().rstrip()
    (tmp_path / "attributes.csv").write_bytes((text + end).encode())
    assert len(read(tmp_path)) == 6


def test_a_path_from_the_root_beside_a_folder_of_images(tmp_path):
    album(tmp_path, 6, row=lambda i: f"images/{i}.png,{i % 2}", folder="images")
    assert ids(read(tmp_path)) == [f"images/{i}.png" for i in range(6)]


@drawn
@given(order=st.permutations(range(6)))
def test_the_order_of_a_table_is_kept_whatever_it_is(tmp_path_factory, order):
    root = album(tmp_path_factory.mktemp("album"), 6)
    table(root, "image_id,Smiling\n" + "".join(f"{i}.png,{i % 2}\n" for i in order))
    pool = read(root)
    assert ids(pool) == [f"{i}.png" for i in order] and pool.attributes["Smiling"].tolist() == [i % 2 for i in order]
    again = read(album(tmp_path_factory.mktemp("album"), 6))
    assert (pool.images == again.images[list(order)]).all()


# ------------------------------------------------------------------------------------------------------------- pictures
def spoil(path, how):
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-60])
    elif how == "text bomb":
        info = PngImagePlugin.PngInfo()
        info.add_text("x", "0" * (PngImagePlugin.MAX_TEXT_CHUNK + 10), zip=True)
        Image.new("RGB", (40, 40)).save(path, pnginfo=info)
    else:
        path.write_text("words")


@pytest.mark.parametrize("how", ["empty", "cut", "text bomb", "words"])
def test_broken_files_are_told_all_at_once_and_named(tmp_path, how, capsys, monkeypatch):
    album(tmp_path, 12)
    for i in (2, 3, 5, 7, 11):
        spoil(tmp_path / f"{i}.png", how)
    with pytest.raises(ValueError, match=r"2.png .*3.png .*5.png .*As bad are 7.png, 11.png in .*missing='drop'"):
        read(tmp_path)
    decoded, picture_ = [], files.picture
    monkeypatch.setattr(files, "picture", lambda path, *rest: decoded.append(Path(path).name) or picture_(path, *rest))
    pool = read(tmp_path, missing="drop")
    assert ids(pool) == [f"{i}.png" for i in (0, 1, 4, 6, 8, 9, 10)]
    assert "Left out 5 of 12 images, which are broken: 2.png, 3.png, 5.png, 7.png, 11.png" in capsys.readouterr().out
    table(tmp_path, "image_id,Smiling\n" + "".join(f"{i}.png,{i % 2}\n" for i in (0, 1, 4, 6, 8, 9)))
    picture(tmp_path / "4.png", 77)
    again = read(tmp_path)
    assert set(decoded) <= {"2.png", "3.png", "5.png", "7.png", "11.png", "4.png"}, "whole files were decoded again"
    assert (again.images[[0, 1, 3, 4, 5]] == pool.images[[0, 1, 3, 4, 5]]).all()
    assert not (again.images[2] == pool.images[2]).all()


def test_a_damaged_store_is_mended_from_the_files(tmp_path, cache):
    pool = np.array(read(album(tmp_path)).images)
    (file,) = cache.rglob("images.bin")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="images.bin is damaged"):
        assert (read(tmp_path).images == pool).all()
    assert (read(tmp_path).images == pool).all()


def test_a_photograph_of_50_megapixels(tmp_path):
    Image.new("1", (8192, 6144), 1).save(tmp_path / "x.png")
    assert files.open_rgb(tmp_path / "x.png").size == (8192, 6144)


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e7", "nan", "1e999"])
def test_eye_points_beyond_any_picture(tmp_path, number):
    eyes = "left_eye_x,left_eye_y,right_eye_x,right_eye_y"
    album(tmp_path, 2, f"image_id,Smiling,{eyes}", lambda i: f"{i}.png,{i},10,{number},20,12")
    with pytest.raises(ValueError, match="four numbers"):
        data.load("folder", root=tmp_path)


# ---------------------------------------------------------------------------------------------------- folders and links
NO_FOLDERS = ["~nosuchuser/x", "x" * 5000, "/".join(["x" * 200] * 100), 5, 2.5, "a\0b", b"\xff\xfe", ["a"], True]


@pytest.mark.parametrize("root", NO_FOLDERS, ids=lambda root: repr(root)[:12])
@pytest.mark.parametrize("name", ["folder", "celeba", "disfa"])
def test_what_is_no_folder_is_said_in_one_short_sentence(root, name):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        data.load(name, root=root)
    assert "older" in str(caught.value) and len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    faces(tmp_path / "open", 3)
    scan = os.scandir

    def refuse(path="."):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    (tmp_path / "open" / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="closed may not be read by this user"):
        read(tmp_path / "open", "utkface")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("closed"))
    with pytest.raises(ValueError, match="closed may not be read by this user"):
        read(tmp_path / "open" / "closed", "utkface")


@pytest.mark.parametrize("layout", ["utkface", "dogs-vs-cats"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_links_that_lead_out_of_the_root_are_refused(tmp_path, layout, what):
    outside = faces(tmp_path / "outside", 2)
    root = faces(tmp_path / "root", 2)
    picture(root / "cat.0.jpg")
    picture(outside / "dog.0.jpg")
    (root / ("more" if what == "folder" else "dog.1.jpg")).symlink_to(
        outside if what == "folder" else outside / "dog.0.jpg"
    )
    with pytest.raises(ValueError, match="is a link, which leaves"):
        read(root, layout)


def test_hidden_and_dangling_files_are_passed_over(tmp_path):
    faces(tmp_path, 3)
    picture(tmp_path / ".trash" / "9_0_0_2018.jpg")
    (tmp_path / ".#attributes.csv").symlink_to("nobody@nowhere.1234")
    (tmp_path / "._9_0_0_2017.jpg").write_bytes(b"\0")
    assert len(read(tmp_path, "utkface")) == 3


def test_the_attributes_of_a_folder_are_known_before_anything_is_decoded(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(files, "open_rgb", lambda path: pytest.fail("an image was opened"))
    assert data.attribute_names("folder", album(tmp_path / "a")) == ["Smiling"]
    assert data.attribute_names("celeba", celeba(tmp_path / "b")) == ["Male", "Smiling"]
    assert data.attribute_names("rendered-faces")[:2] == ["Smiling", "Male"]
    assert not cache.exists()


def test_pools_of_python_with_values_that_are_no_attribute():
    images = np.zeros((3, 3, 16, 16), np.uint8)
    for values in (["a", "b", "a"], [-1, 1, 1], [0.0, 1.0, np.nan], [0, 1, 2]):
        with pytest.raises(ValueError, match="attribute 'Male' .* 0 and 1"):
            data.ImageDataset(images, pd.DataFrame({"Male": values}), None, "mine")
    assert len(data.ImageDataset(images, pd.DataFrame({"Male": [True, False, True]}), None, "mine")) == 3
