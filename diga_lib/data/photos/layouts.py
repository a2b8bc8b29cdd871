"""Readers for images on disk: CelebA, UTKFace, Dogs vs Cats, a folder of images with a table, and DISFA (`disfa.py`).

A reader checks the tables and lists the images; `reading.read` decodes them once, in several processes, into the
same store as rendered faces.

CelebA::

    root/img_align_celeba/000001.jpg …      178 x 218 pixels
    root/list_attr_celeba.txt               number of images; attribute names; then "000001.jpg -1 1 …"
    root/list_eval_partition.txt            "000001.jpg 0": 0 training, 1 validation, 2 test

UTKFace::

    root/26_1_2_20170116184024662.jpg …     age, gender (0 male, 1 female), race (0 to 4), date; or in subfolders

Dogs vs Cats::

    root/train/cat.0.jpg … dog.12499.jpg    the word before the first dot is the label
    root/attributes.csv                     optional: image_id ("cat.0.jpg"), then columns of 0 and 1 such as Dark_Fur

A folder::

    root/images/…                           or the images beside the table
    root/attributes.csv                     image_id (a path below root/images or root), then a column each

In a folder's `attributes.csv`, columns that hold only 0 and 1 are attributes, and those with CelebA's names must.
The four columns left_eye_x, left_eye_y, right_eye_x, right_eye_y (pixels; the picture's left, not the person's)
say where the eyes are; without them, they are found. All other columns are kept as text in `metadata`, and
as numbers in `factors` where they are numbers.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd

from diga_lib.data.photos.disfa import disfa
from diga_lib.data.photos.reading import (
    EYE_COLUMNS,
    Listing,
    check_unique,
    existing_file,
    existing_folder,
    image_paths,
    lines_of,
    read_csv,
)

CELEBA_SIZE = (178, 218)
CELEBA_EYES = np.array([[69.5, 111.5], [108.5, 111.5]])  # where its aligned crops have them, in pixels
CELEBA_ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)\.jpg(\.chip\.jpg)?", re.ASCII)
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")  # the data set's own words
UTKFACE_ATTRIBUTES = ("Male", "Young", "Ethnicity")
YOUNG_BELOW, OLDEST = 35, 120  # years
DOGS_VS_CATS_NAME = re.compile(r"(cat|dog)\.(\d+)\.jpg", re.ASCII)


def celeba(root: str | os.PathLike) -> Listing:
    """List CelebA's aligned images; the official partition is the column "partition" of `metadata`.

    Raises
    ------
    FileNotFoundError, ValueError
        When a file is missing or not in CelebA's format; the sentence names it.
    """
    root = existing_folder(root)
    path = existing_file(root / "list_attr_celeba.txt")
    lines = lines_of(path)
    names = lines[1].split() if len(lines) > 1 else []
    if len(lines) < 3 or not lines[0].strip().isdigit() or not names:
        raise ValueError(
            f"{path} does not begin as CelebA's does: valid are the number of images, a line of "
            "attribute names, and a line for each image."
        )
    if len(lines) - 2 != int(lines[0]):
        raise ValueError(f"{path} announces {int(lines[0])} images and lists {len(lines) - 2}: valid is the same.")
    check_unique(names, path, "attribute")
    ids, values = [], np.empty((len(lines) - 2, len(names)), np.int8)
    for number, line in enumerate(lines[2:]):  # row by row: 200,000 rows of words would fill the memory
        row = line.split()
        if len(row) != 1 + len(names) or not set(row[1:]) <= {"-1", "1"}:
            raise ValueError(
                f"Line {number + 3} of {path} is not valid: valid is a file name and "
                f"{len(names)} values that are -1 or 1."
            )
        ids.append(row[0])
        values[number] = [word == "1" for word in row[1:]]
    check_unique(ids, path, "image")
    attributes = pd.DataFrame(values, columns=names)

    path = existing_file(root / "list_eval_partition.txt")
    partition = {}
    for number, line in enumerate(lines_of(path), start=1):
        row = line.split()
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and 0, 1 or 2.")
        partition[row[0]] = ("train", "validation", "test")[int(row[1])]
    unplaced = [name for name in ids if name not in partition]
    if unplaced:
        raise ValueError(f"{path} does not place {unplaced[0]}: valid is a line for each of {len(ids)} images.")
    metadata = pd.DataFrame({"image_id": ids, "partition": [partition[name] for name in ids]})
    paths = image_paths(existing_folder(root / "img_align_celeba"), ids, root / "list_attr_celeba.txt")
    eyes = np.broadcast_to(CELEBA_EYES, (len(ids), 2, 2))
    return Listing("celeba", paths, attributes, None, metadata, eyes, CELEBA_SIZE)


def folder(root: str | os.PathLike) -> Listing:
    """List a folder of images with `attributes.csv`; this module's first lines describe the layout.

    Raises
    ------
    FileNotFoundError, ValueError
        When the table or an image is missing, or the table is not valid; the sentence names it.
    """
    root = existing_folder(root)
    path = existing_file(root / "attributes.csv")
    table = read_csv(path)
    if "image_id" not in table or not len(table):
        raise ValueError(
            f"{path} has {len(table)} rows and the columns {', '.join(table.columns)}: valid is "
            "at least one row, a column image_id and columns of 0 and 1."
        )
    check_unique(table["image_id"], path, "image_id")
    eyes = _eyes(table, path)
    table = table.drop(columns=EYE_COLUMNS, errors="ignore")

    binary = [name for name in table if name != "image_id" and table[name].isin(["0", "1"]).all()]
    for name in set(CELEBA_ATTRIBUTES) & set(table) - set(binary):
        row = int(np.argmin(table[name].isin(["0", "1"])))
        raise ValueError(f"{path} has {name} = {table[name][row]!r} for {table['image_id'][row]}: valid are 0 and 1.")
    if not binary:
        raise ValueError(f"{path} has no column that holds only 0 and 1: valid is at least one attribute.")
    metadata = table.drop(columns=binary)
    numbers = metadata.drop(columns="image_id").apply(pd.to_numeric, errors="coerce").astype(np.float32)
    numbers = numbers.loc[:, np.isfinite(numbers).all()]
    images = root / "images"
    paths = image_paths(images if images.is_dir() else root, metadata["image_id"], path)
    return Listing(
        "folder", paths, table[binary].astype(np.int8), numbers if numbers.shape[1] else None, metadata, eyes, None
    )


def utkface(root: str | os.PathLike) -> Listing:
    """List UTKFace: its labels are in the file names.

    The attributes are Male, Young (below 35 years) and Ethnicity (1 for every race but 0, "White"; the papers do
    not say how they made it binary). `factors` has age in years and race 0 to 4. A few of the published files lack
    a label in their name: files named otherwise are left out, and said so.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such folder or no file is named as UTKFace names them.
    """
    root = existing_folder(root)
    files = sorted(root.rglob("*.jpg"), key=lambda path: path.name)
    matches = [UTKFACE_NAME.fullmatch(path.name) for path in files]
    good = [(path, match) for path, match in zip(files, matches) if match and int(match[1]) <= OLDEST]
    if not good:
        raise ValueError(
            f"{root} has {len(files)} .jpg files, none named as UTKFace names them: valid is "
            "age_gender_race_date.jpg, such as 26_1_2_20170116184024662.jpg."
        )
    if len(good) < len(files):
        taken = {path for path, _ in good}
        others = [path.name for path in files if path not in taken]
        print(
            f"Left out {len(others)} of {len(files)} files, which are not named as UTKFace names them: "
            + ", ".join(others[:5])
            + (" …" if len(others) > 5 else "")
        )
    names = [str(path.relative_to(root)) for path, _ in good]
    age, gender, race = (np.array([int(match[part]) for _, match in good]) for part in (1, 2, 3))
    attributes = pd.DataFrame({"Male": gender == 0, "Young": age < YOUNG_BELOW, "Ethnicity": race != 0})
    factors = pd.DataFrame({"age": age, "race": race}, dtype=np.float32)
    metadata = pd.DataFrame({"image_id": names, "race": [UTKFACE_RACES[value] for value in race]})
    return Listing("utkface", image_paths(root, names, root), attributes.astype(np.int8), factors, metadata, None, None)


def dogs_vs_cats(root: str | os.PathLike) -> Listing:
    """List Dogs vs Cats: whether it is a dog is in the file name, fur colour in a table if there is one.

    With `attributes.csv`, the images are those that it names; without, all, and Dog is the only attribute. Pictures
    have any size, and their middle square is read.

    Raises
    ------
    FileNotFoundError, ValueError
        When the folder or an image is missing, or a name or the table is not valid.
    """
    root = existing_folder(root)
    images = root / "train" if (root / "train").is_dir() else root
    names = sorted(path.name for path in images.glob("*.jpg"))
    table, source = None, images
    if (root / "attributes.csv").exists():
        source = root / "attributes.csv"
        table = read_csv(source)
        if "image_id" not in table or not len(table) or table.shape[1] < 2:
            raise ValueError(
                f"{source} has {len(table)} rows and the columns {', '.join(table.columns)}: valid is at "
                "least one row, a column image_id and a column of 0 and 1, such as Dark_Fur."
            )
        names = table.pop("image_id").tolist()
        check_unique(names, source, "image_id")
        for column in table:
            if not table[column].isin(["0", "1"]).all() or column == "Dog":
                raise ValueError(
                    f"{source} has the column {column!r}: valid are columns of 0 and 1, and Dog is "
                    "read from the file names."
                )
    wrong = [name for name in names if not DOGS_VS_CATS_NAME.fullmatch(name)]
    if wrong or not names:
        raise ValueError(
            f"{source} has {wrong[0] if wrong else 'no .jpg files'}: valid are files named cat.0.jpg "
            "or dog.0.jpg, with any number."
        )
    if table is None:  # cats and dogs in turn, so that the first n hold both
        names.sort(key=lambda name: (int(name.split(".")[1]), name))
    attributes = pd.DataFrame({"Dog": [name.startswith("dog") for name in names]}, dtype=np.int8)
    if table is not None:
        attributes = attributes.join(table.astype(np.int8))
    paths = image_paths(images, names, source)
    return Listing("dogs-vs-cats", paths, attributes, None, pd.DataFrame({"image_id": names}), None, None, faces=False)


LAYOUTS = {"celeba": celeba, "utkface": utkface, "disfa": disfa, "dogs-vs-cats": dogs_vs_cats, "folder": folder}


def _eyes(table, path):
    given = [name for name in EYE_COLUMNS if name in table]
    if not given:
        return None
    if given != EYE_COLUMNS:
        raise ValueError(f"{path} has {', '.join(given)} only: valid are all of {', '.join(EYE_COLUMNS)}, or none.")
    eyes = table[EYE_COLUMNS].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = ~(np.isfinite(eyes).all(1) & (eyes[:, 0] < eyes[:, 2]))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path} has the eyes {table.loc[row, EYE_COLUMNS].tolist()} for "
            f"{table['image_id'][row]}: valid are four numbers, left_eye_x below "
            "right_eye_x (the picture's left)."
        )
    return eyes.reshape(-1, 2, 2)
