"""The readers on small trees in both layouts, and on everything that can be wrong with one."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diga_lib import data
from diga_lib.data.photos import files as photos
from diga_lib.data.photos import layouts
from diga_lib.pages import parameters

NAMES = ["Male", "Smiling", "Young"]


def picture(seed, size=(178, 218)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def celeba(tmp_path):
    """Twelve images in CelebA's own layout, and their attributes."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 2, (12, 3))
    ids = [f"{i:06d}.jpg" for i in range(1, 13)]
    for i, name in enumerate(ids):
        picture(i).save(root / "img_align_celeba" / name, quality=95)
    lines = [f"{name}  {'  '.join(f'{2 * v - 1:2d}' for v in row)}" for name, row in zip(ids, values, strict=True)]
    (root / "list_attr_celeba.txt").write_text("\n".join(["12", " ".join(NAMES) + " ", *lines]) + "\n")
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {i // 4}\n" for i, name in enumerate(ids)))
    return root, pd.DataFrame(values, columns=NAMES)


@pytest.fixture
def folder(tmp_path):
    """Six images beside a table, with eyes given."""
    root = tmp_path / "folder"
    (root / "images").mkdir(parents=True)
    table = pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(6)],
            "Smiling": [0, 1] * 3,
            "Male": [0, 0, 1, 1, 0, 0],
            "age": [21, 35, 50.5, 18, 90, 44],
            "ethnicity": ["white", "black", "east asian", "", "a,b", "white"],
            "subject": [f"00{i}" for i in range(6)],
            "left_eye_x": 40,
            "left_eye_y": 50,
            "right_eye_x": 100,
            "right_eye_y": 55,
        }
    )
    for i, name in enumerate(table["image_id"]):
        picture(i, (140 + i, 150)).save(root / "images" / name)
    table.to_csv(root / "attributes.csv", index=False)
    return root, table


def rewrite(root, change, name="attributes.csv"):
    path = root / name
    path.write_text(change(path.read_text()))


def refused(*words, error=ValueError, **parameters):
    with pytest.raises(error) as caught:
        data.load(**parameters)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence


def test_celeba_keeps_labels_partition_and_order(celeba):
    root, values = celeba
    pool = data.load("celeba", root=root)
    assert pool.images.shape == (12, 3, 64, 64) and pool.images.dtype == np.uint8
    assert (pool.attributes == values).all(axis=None) and (pool.attributes.dtypes == np.int8).all()
    assert pool.metadata["partition"].tolist() == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    assert len(data.load("celeba", root=root, n=5)) == 5


def test_celeba_faces_land_on_the_renderers_eyes(celeba):
    root, _ = celeba
    spots = np.zeros((218, 178, 3), np.uint8)
    for x, y in layouts.CELEBA_EYES:
        spots[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 255
    Image.fromarray(spots).save(root / "img_align_celeba" / "000001.jpg", quality=95)
    image = data.load("celeba", root=root).images[0, 0].astype(float)
    for columns, x in ((slice(0, 32), 22.4), (slice(32, 64), 41.6)):
        weight = image[:, columns] / image[:, columns].sum()
        assert abs((weight.sum(0) * (np.arange(64)[columns] + 0.5)).sum() - x) < 0.3
        assert abs((weight.sum(1) * (np.arange(64) + 0.5)).sum() - 28.16) < 0.3


def test_celeba_without_alignment_is_the_middle_square(celeba):
    root, _ = celeba
    pool = data.load("celeba", root=root, align=False)
    for i in range(3):
        whole = Image.open(root / "img_align_celeba" / f"{i + 1:06d}.jpg")
        expected = whole.crop((0, 20, 178, 198)).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.abs(pool.images[i].astype(int) - np.asarray(expected).transpose(2, 0, 1)).max() <= 1


def test_a_notebooks_parameters_take_what_there_is(celeba, monkeypatch):
    root, values = celeba
    assert len(parameters.pool("celeba", str(root))) == len(values)  # fewer than the profile's pool
    with pytest.raises(ValueError, match="'selfies' is not a data set: valid are rendered-faces, celeba"):
        parameters.pool("selfies", str(root))
    with pytest.raises(ValueError, match="valid is root="):
        parameters.pool("celeba")


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("list_attr_celeba.txt", lambda t: t.replace("12\n", "13\n", 1), ["announces 13 images and lists 12"]),
        ("list_attr_celeba.txt", lambda t: "\n".join(t.splitlines()[2:]), ["does not begin as CelebA's"]),
        ("list_attr_celeba.txt", lambda t: "", ["does not begin as CelebA's"]),
        ("list_attr_celeba.txt", lambda t: t[:-4] + " 0\n", ["Line 14", "-1 or 1"]),
        ("list_attr_celeba.txt", lambda t: t.replace("Male", "Male Bald"), ["Line 3", "4 values"]),
        ("list_attr_celeba.txt", lambda t: t.replace("Male", "Young"), ["'Young'", "more than once"]),
        ("list_eval_partition.txt", lambda t: t.replace("000003.jpg 0\n", ""), ["does not place 000003.jpg"]),
        ("list_eval_partition.txt", lambda t: t.replace("000003.jpg 0", "000003.jpg 3"), ["Line 3", "0, 1 or 2"]),
    ],
)
def test_celeba_tables_that_are_wrong(celeba, name, change, words):
    root, _ = celeba
    rewrite(root, change, name)
    refused(name, *words, name="celeba", root=root)


@pytest.mark.parametrize("gone", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/000007.jpg"])
def test_celeba_files_that_are_missing(celeba, gone):
    root, _ = celeba
    (root / gone).unlink()
    refused("There is no file", Path(gone).name, name="celeba", root=root, error=FileNotFoundError)


def test_celeba_names_cannot_leave_its_folder(celeba):
    root, _ = celeba
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        rewrite(root, lambda t: t.replace("000003.jpg", "../list_attr_celeba.txt"), name)
    refused("'../list_attr_celeba.txt', which leaves", name="celeba", root=root)


def test_celeba_of_another_size(celeba):
    root, _ = celeba
    picture(0, (200, 200)).save(root / "img_align_celeba" / "000002.jpg")
    refused("000002.jpg", "200x200", "178x218", name="celeba", root=root)


def test_folder_splits_the_table_into_attributes_factors_and_metadata(folder):
    root, table = folder
    pool = data.load("folder", root=root, resolution=32)
    assert pool.images.shape == (6, 3, 32, 32)
    assert (pool.attributes == table[["Smiling", "Male"]]).all(axis=None) and pool.attributes.shape[1] == 2
    assert pool.factors["age"].tolist() == table["age"].tolist() and "ethnicity" not in pool.factors
    assert pool.metadata["ethnicity"].tolist() == table["ethnicity"].tolist()
    assert pool.metadata["subject"].tolist() == table["subject"].tolist()
    assert not set(layouts.EYE_COLUMNS) & (set(pool.factors) | set(pool.metadata))


def test_folder_images_may_lie_beside_the_table(folder):
    root, _ = folder
    expected = np.array(data.load("folder", root=root).images)
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    (root / "images").rmdir()
    assert (data.load("folder", root=root).images == expected).all()


def test_a_changed_image_is_read_again(folder):
    root, _ = folder
    before = np.array(data.load("folder", root=root).images)
    picture(99, (141, 150)).save(root / "images" / "1.png")
    after = data.load("folder", root=root).images
    assert [bool((after[i] == before[i]).all()) for i in range(6)] == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: "", ["not a table", "No columns"]),
        (lambda t: t.splitlines()[0], ["0 rows"]),
        (lambda t: t.replace("image_id", "file"), ["file, Smiling", "a column image_id"]),
        (lambda t: t.replace("0.png,0", "0.png,2"), ["Smiling = '2' for 0.png", "0 and 1"]),
        (lambda t: t.replace("0.png,0", "0.png,-1"), ["Smiling = '-1'"]),
        (lambda t: t.replace("3.png,1", "3.png,"), ["Smiling = '' for 3.png"]),
        (lambda t: t.replace("3.png", "2.png"), ["'2.png'", "more than once"]),
        (lambda t: t.replace("3.png", "../attributes.csv"), ["'../attributes.csv', which leaves"]),
        (lambda t: t.replace("3.png", "\0.png"), ["\\x00.png', which leaves"]),
        (lambda t: t.replace("3.png", "/etc/hostname"), ["'/etc/hostname', which leaves"]),
        (lambda t: t.replace("left_eye_y", "eye"), ["left_eye_x, right_eye_x, right_eye_y only"]),
        (lambda t: t.replace("40,50,100,55", "40,,100,55", 1), ["for 0.png", "four numbers"]),
        (lambda t: t.replace("40,50,100,55", "100,50,40,55", 1), ["for 0.png", "left_eye_x below right_eye_x"]),
        (lambda t: t.replace("40,50,100,55", "4000,50,4100,55", 1), ["0.png cannot be aligned", "outside the picture"]),
        (lambda t: t.replace("Smiling", "Male"), ["column 'Male'", "more than once"]),
        (lambda t: t.replace("age,", ","), ["column ''", "empty"]),
        (lambda t: t + "x,1,1,1,1,1,1,1,1,1,1,1,1\n", ["not a table"]),
    ],
)
def test_folder_tables_that_are_wrong(folder, change, words):
    root, _ = folder
    rewrite(root, change)
    refused(str(root), *words, name="folder", root=root)


def test_folder_table_in_another_encoding(folder):
    root, _ = folder
    (root / "attributes.csv").write_bytes("image_id,Smiling\n0.png,é".encode("latin-1"))
    refused("attributes.csv", "UTF-8", name="folder", root=root)


def test_folder_files_that_are_missing(folder, tmp_path):
    root, _ = folder
    (root / "images" / "4.png").unlink()
    refused("4.png", "attributes.csv", name="folder", root=root, error=FileNotFoundError)
    (root / "attributes.csv").unlink()
    refused("attributes.csv", name="folder", root=root, error=FileNotFoundError)
    refused("nowhere", name="folder", root=tmp_path / "nowhere", error=FileNotFoundError)


def test_a_link_cannot_lead_out_of_the_folder(folder, tmp_path):
    root, _ = folder
    picture(0).save(tmp_path / "secret.png")
    (root / "images" / "2.png").unlink()
    (root / "images" / "2.png").symlink_to(tmp_path / "secret.png")
    refused("'2.png', which leaves", name="folder", root=root)


def test_mixed_sizes_need_alignment(folder):
    root, _ = folder
    refused("1.png has 141x150 pixels and not 140x150", name="folder", root=root, align=False)


def test_faces_not_found_stop_or_are_left_out(folder, capsys):
    root, table = folder
    table.drop(columns=layouts.EYE_COLUMNS).to_csv(root / "attributes.csv", index=False)
    refused("without a face", "6 of 6", "0.png", "missing='drop'", name="folder", root=root)
    face = data.load("rendered-faces", n=1, seed=905, resolution=256).images[0].transpose(1, 2, 0)
    Image.fromarray(face).save(root / "images" / "3.png")
    pool = data.load("folder", root=root, missing="drop")
    assert pool.metadata["image_id"].tolist() == ["3.png"] and len(pool.images) == 1
    assert "Left out 5 of 6 images" in capsys.readouterr().out


def broken(path, kind):
    image = picture(1, (140, 150))
    if kind == "truncated":
        image.save(path)
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "zero-byte":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "animated":
        image.save(path, "GIF", save_all=True, append_images=[picture(2, (140, 150))])
    elif kind in ("bomb", "huge"):
        # A header that announces far more pixels than follow.
        side = 30_000 if kind == "bomb" else 12_000
        image.save(path)
        whole = path.read_bytes()
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    elif kind == "tiny":
        image.resize((5, 5)).save(path)
    elif kind == "postscript":
        image.save(path, "EPS")


@pytest.mark.parametrize(
    "kind, word",
    [
        ("truncated", "cannot be decoded"),
        ("zero-byte", "is not an image"),
        ("text", "is not an image"),
        ("animated", "holds 2 frames"),
        ("bomb", "exceeds limit"),
        ("huge", "12000x12000 pixels"),
        ("tiny", "5x5 pixels"),
        ("postscript", "is not an image"),
    ],
)
def test_images_that_are_wrong(folder, kind, word):
    root, _ = folder
    broken(root / "images" / "5.png", kind)
    refused("5.png", word, "valid", name="folder", root=root)


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("L", (100, 100, 100)),
        ("1", (255, 255, 255)),
        ("P", (10, 20, 30)),
        ("RGBA", (133, 138, 143)),
        ("CMYK", (255, 0, 0)),
        ("LA", (255, 255, 255)),
        ("I;16", (100, 100, 100)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, expected):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    colour = {"L": 100, "1": 1, "RGBA": (10, 20, 30, 127), "CMYK": (0, 255, 255, 0), "LA": (7, 0)}
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 100 * 257, np.uint16))
    elif mode == "P":
        image = Image.new("RGB", (20, 20), (10, 20, 30)).quantize(4)
    else:
        image = Image.new(mode, (20, 20), colour[mode])
    image.save(path)
    assert Image.open(path).mode == mode
    pixels = np.asarray(photos.open_rgb(path)).astype(int)
    assert pixels.shape == (20, 20, 3) and np.abs(pixels - expected).max() <= 1


def test_a_photograph_lying_on_its_side_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, (40, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert photos.open_rgb(tmp_path / "x.jpg").size == (20, 40)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"name": "faces"}, ["'faces'", "rendered-faces, celeba, utkface, disfa, dogs-vs-cats, folder"]),
        ({"name": "celeba"}, ["root="]),
        ({"name": "rendered-faces", "n": 0}, ["n is 0", "at least 1"]),
        ({"name": "rendered-faces", "n": 2.5}, ["n is 2.5"]),
        ({"name": "rendered-faces", "seed": -1}, ["seed is -1"]),
        ({"name": "rendered-faces", "resolution": 4096}, ["resolution is 4096", "16", "512"]),
        ({"name": "folder", "root": ".", "missing": "maybe"}, ["missing is 'maybe'", "'error' and 'drop'"]),
    ],
)
def test_parameters_that_are_wrong(parameters, words):
    refused(*words, **parameters)


def test_more_images_than_there_are(folder):
    root, _ = folder
    refused("n is 7", "6 images", name="folder", root=root, n=7)


def test_rendered_faces_are_the_renderers_and_fewer_are_the_first(cache):
    from diga_lib.data import faces

    pool = data.load("rendered-faces", n=24, seed=905, resolution=32)
    images, attributes, factors = faces.render(905, [3, 17], 32)
    assert (pool.images[[3, 17]] == images).all()
    assert (pool.attributes.iloc[[3, 17]].to_numpy() == attributes.to_numpy()).all()
    pd.testing.assert_frame_equal(pool.factors.iloc[[3, 17]].reset_index(drop=True), factors)
    fewer = data.load("rendered-faces", n=10, seed=905, resolution=32)
    assert (fewer.images == pool.images[:10]).all() and len(list((cache / "data").iterdir())) == 1


@pytest.fixture
def utkface(tmp_path):
    """Faces named as UTKFace names them, in two folders, and three files whose names lack something."""
    root = tmp_path / "utkface"
    names = [
        "part1/26_1_2_20170116184024662.jpg.chip.jpg",
        "part1/9_0_0_20170109150557335.jpg",
        "part2/70_0_4_20170110182418864.jpg",
        "part2/34_1_1_20170116.jpg",
        "part2/35_0_3_20170117.jpg",
    ]
    others = ["part1/61_1_20170109142408075.jpg.chip.jpg", "part2/999_1_1_20170116.jpg", "part2/26_2_1_2017.jpg"]
    for i, name in enumerate(names + others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i, (200, 200)).save(root / name)
    return root


def test_utkface_reads_its_file_names(utkface, capsys):
    pool = data.load("utkface", root=utkface, align=False)
    table = pool.metadata.assign(age=pool.factors["age"], **pool.attributes).set_index("image_id")
    assert len(pool) == 5 and (pool.attributes.dtypes == np.int8).all()
    assert table.loc["part1/26_1_2_20170116184024662.jpg.chip.jpg"].tolist() == ["Asian", 26, 0, 1, 1]
    assert table.loc["part1/9_0_0_20170109150557335.jpg"].tolist() == ["White", 9, 1, 1, 0]
    assert table.loc["part2/70_0_4_20170110182418864.jpg"].tolist() == ["Others", 70, 1, 0, 1]
    assert table["Young"].loc[["part2/34_1_1_20170116.jpg", "part2/35_0_3_20170117.jpg"]].tolist() == [1, 0]
    said = capsys.readouterr().out
    assert "Left out 3 of 8 files" in said and "61_1_20170109142408075" in said and "999_1_1" in said


def test_utkface_without_a_single_such_name(tmp_path):
    picture(0).save(tmp_path / "me.jpg")
    refused("1 image files", "age_gender_race_date.jpg", name="utkface", root=tmp_path)


@pytest.fixture
def dogs_vs_cats(tmp_path):
    """Eight animals of different sizes in the competition's layout."""
    root = tmp_path / "dogs-vs-cats"
    (root / "train").mkdir(parents=True)
    for i in range(4):
        for k, kind in enumerate(("cat", "dog")):
            picture(2 * i + k, (90 + 20 * i, 120)).save(root / "train" / f"{kind}.{i * 5}.jpg", quality=95)
    return root


def test_dogs_vs_cats_come_in_turn_as_middle_squares(dogs_vs_cats):
    pool = data.load("dogs-vs-cats", root=dogs_vs_cats)
    expected = [f"{kind}.{i}.jpg" for i in (0, 5, 10, 15) for kind in ("cat", "dog")]
    assert pool.metadata["image_id"].tolist() == expected
    assert pool.attributes["Dog"].tolist() == [0, 1] * 4 and list(pool.attributes) == ["Dog"]
    whole = Image.open(dogs_vs_cats / "train" / "dog.15.jpg")
    middle = whole.crop((15, 0, 135, 120)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(pool.images[-1].astype(int) - np.asarray(middle).transpose(2, 0, 1)).max() <= 1


def test_dogs_vs_cats_take_the_fur_from_a_table(dogs_vs_cats):
    rows = {"dog.10.jpg": 1, "cat.0.jpg": 0, "cat.15.jpg": 1}
    (dogs_vs_cats / "attributes.csv").write_text(
        "image_id,Dark_Fur\n" + "".join(f"{name},{value}\n" for name, value in rows.items())
    )
    pool = data.load("dogs-vs-cats", root=dogs_vs_cats)
    assert pool.metadata["image_id"].tolist() == list(rows)
    assert pool.attributes["Dark_Fur"].tolist() == [1, 0, 1] and pool.attributes["Dog"].tolist() == [1, 0, 0]
    assert pool.attributes.dtypes.eq(np.int8).all()


@pytest.mark.parametrize(
    "table, words, error",
    [
        ("image_id,Dark_Fur\n", ["0 rows", "a column image_id"], ValueError),
        ("image_id\ncat.0.jpg\n", ["the columns image_id", "Dark_Fur"], ValueError),
        ("file,Dark_Fur\ncat.0.jpg,1\n", ["a column image_id"], ValueError),
        ("image_id,Dark_Fur\ncat.0.jpg,black\n", ["column 'Dark_Fur'", "0 and 1"], ValueError),
        ("image_id,Dog\ncat.0.jpg,1\n", ["column 'Dog'", "file names"], ValueError),
        ("image_id,Dark_Fur\ncat.0.jpg,1\ncat.0.jpg,0\n", ["'cat.0.jpg'", "more than once"], ValueError),
        ("image_id,Dark_Fur\nfox.0.jpg,1\n", ["fox.0.jpg", "cat.0.jpg or dog.0.jpg"], ValueError),
        ("image_id,Dark_Fur\n../cat.0.jpg,1\n", ["../cat.0.jpg", "which leaves"], ValueError),
        ("image_id,Dark_Fur\ncat.77.jpg,1\n", ["There is no file", "cat.77.jpg"], FileNotFoundError),
    ],
)
def test_tables_of_fur_that_are_wrong(dogs_vs_cats, table, words, error):
    (dogs_vs_cats / "attributes.csv").write_text(table)
    refused(*words, name="dogs-vs-cats", root=dogs_vs_cats, error=error)


def test_a_folder_without_cats_and_dogs(tmp_path):
    refused("no .jpg files", "cat.0.jpg", name="dogs-vs-cats", root=tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="image_id,Smilng01.p\n\"'\r\t-é\0", max_size=80) | st.binary(max_size=60))
def test_any_table_is_read_or_refused_in_a_sentence(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "attributes.csv").write_bytes(content)
    try:
        listing = layouts.folder(tmp_path)
    except (ValueError, FileNotFoundError) as error:
        assert str(tmp_path) in str(error)
    else:
        assert len(listing.paths) == len(listing.attributes)
