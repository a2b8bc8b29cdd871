"""The layouts of images on disk: CelebA, UTKFace, Dogs vs Cats, a folder of images with a table, DISFA (`disfa.py`).

A layout's function checks the tables and lists the images; `reading.read` decodes them once, in several processes.
Files and folders whose name begins with a dot are passed over, and no link and no name leads out of the root.

CelebA, as its authors and as others ship it::

    root/img_align_celeba/000001.jpg …      178 x 218 pixels; also img_align_celeba/img_align_celeba, and below Img
    root/list_attr_celeba.txt               number of images (or not); attribute names; then "000001.jpg -1 1 …"
    root/list_eval_partition.txt            "000001.jpg 0": 0 training, 1 validation, 2 test
    root/identity_CelebA.txt                optional: "000001.jpg 2880": who it is
                                            the three also as .csv with commas, and below Anno and Eval

UTKFace::

    root/26_1_2_20170116184024662.jpg …     age, gender (0 male, 1 female), race (0 to 4), date; in any subfolders

Dogs vs Cats::

    root/train/cat.0.jpg … dog.12499.jpg    the word before the first dot is the label; or, in any subfolders,
    root/Cat/0.jpg …  root/Dog/0.jpg …      the folder's name (also cats, dogs)
    root/attributes.csv                     optional: image_id ("cat.0.jpg"), then columns of 0 and 1 such as Dark_Fur

A folder::

    root/images/…                           or the images beside the table
    root/attributes.csv                     image_id (a path below root/images or root), then a column each

In `attributes.csv`, columns that hold only 0 and 1 (or −1 and 1, true and false, yes and no) are attributes, and those
with CelebA's names must. The four columns left_eye_x, left_eye_y, right_eye_x, right_eye_y (pixels; the picture's left,
not the person's) say where the eyes are; without them, they are found. partition (train, validation, test) and identity
or subject (who it is) keep the parts of a split apart. All other columns are kept as text in `metadata`, and as
numbers in `factors` where they are numbers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.data.photos.disfa import disfa
from diga_lib.data.photos.reading import EYE_COLUMNS, Listing
from diga_lib.data.photos.tables import (
    binary,
    check_columns,
    check_unique,
    existing_file,
    existing_folder,
    image_files,
    image_paths,
    lines_of,
    read_csv,
)

CELEBA_SIZE = (178, 218)
CELEBA_EYES = np.array([[69.5, 111.5], [108.5, 111.5]])  # where its aligned crops have them, in pixels
_CELEBA_ATTRIBUTES = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young
"""
CELEBA_ATTRIBUTES = _CELEBA_ATTRIBUTES.split()
UTKFACE_NAME = re.compile(
    r"(\d{1,3})_([01])_([0-4])_(\d+)(\.jpe?g)?(\.chip)?\.(jpe?g|png|webp)", re.ASCII | re.IGNORECASE
)
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")  # the data set's own words
UTKFACE_ATTRIBUTES = ("Male", "Young", "Ethnicity")
UTKFACE_SIZE = (200, 200)  # of its aligned chips, in which the eyes lie near one point, measured on 360 of them
UTKFACE_EYES = np.array([[58.3, 58.4], [138.4, 58.4]])
YOUNG_BELOW, OLDEST = 35, 120  # years
DOGS_VS_CATS_NAME = re.compile(r"(cat|dog)[._ -]?(\d+)\.\w+", re.ASCII | re.IGNORECASE)
TEXT = ("image_id", "partition", "identity", "subject")  # columns that are no attributes whatever they hold


def celeba(root: str | os.PathLike) -> Listing:
    """List CelebA's aligned images; the official partition is the column "partition" of `metadata`.

    Raises
    ------
    FileNotFoundError, ValueError
        When a file is missing or not in CelebA's format; the sentence names it.
    """
    root = existing_folder(root)
    path = _celeba_file(root, "list_attr_celeba")
    rows = _fields(path)
    announced = int(rows.pop(0)[1][0]) if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal() else None
    names = rows.pop(0)[1] if rows else []
    names = names[1:] if names[:1] in (["image_id"], [""]) else names
    if not rows or not names or set(names) & {"-1", "1"}:
        raise ValueError(
            f"{path} does not begin as CelebA's does: valid are the number of images, a line of "
            "attribute names, and a line for each image."
        )
    if announced not in (None, len(rows)):
        raise ValueError(f"{path} announces {announced} images and lists {len(rows)}: valid is the same.")
    check_columns(names, path, "attribute")
    ids, values = [], np.empty((len(rows), len(names)), np.int8)
    for place, (number, row) in enumerate(rows):  # row by row: 200,000 rows of words would fill the memory
        if len(row) != 1 + len(names) or not set(row[1:]) <= {"-1", "1"}:
            raise ValueError(
                f"Line {number} of {path} is not valid: valid is a file name and {len(names)} values that are -1 or 1."
            )
        ids.append(row[0])
        values[place] = [word == "1" for word in row[1:]]
    check_unique(ids, path, "image")
    metadata = pd.DataFrame({"image_id": ids})
    partition = _celeba_column(_celeba_file(root, "list_eval_partition"), ids, "partition", {"0", "1", "2"})
    metadata["partition"] = [("train", "validation", "test")[int(value)] for value in partition]
    if (people := _celeba_file(root, "identity_CelebA", optional=True)) is not None:
        metadata["identity"] = _celeba_column(people, ids, "identity", None)
    tops = [root / "img_align_celeba", root / "Img" / "img_align_celeba"]
    folders = [folder for top in tops for folder in (top / top.name, top) if folder.is_dir()]
    folder = folders[0] if folders else existing_folder(tops[0])
    attributes = pd.DataFrame(values, columns=names)
    return _present("celeba", [folder], path, attributes, None, metadata, CELEBA_EYES, size=CELEBA_SIZE)


def _celeba_file(root, stem, optional=False):
    places = [root / part / f"{stem}{ending}" for part in ("", "Anno", "Eval") for ending in (".txt", ".csv")]
    if optional and not any(place.is_file() for place in places):
        return None
    return existing_file(*places)


def _fields(path):
    """The numbers of a file's lines, and their fields between commas or spaces."""
    return [
        (number, [field.strip() for field in line.split(",")] if path.suffix == ".csv" else line.split())
        for number, line in lines_of(path)
    ]


def _celeba_column(path, ids, header, valid):
    """The second field of each line of a file, in the order of `ids`."""
    found = {}
    for number, row in _fields(path):
        if row[1:] == [header]:
            continue
        if len(row) != 2 or (row[1] not in valid if valid else not row[1]):
            right = "0, 1 or 2" if valid else "a number"
            raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and {right}.")
        found[row[0]] = row[1]
    unplaced = next((name for name in ids if name not in found), None)
    if unplaced is not None:
        raise ValueError(f"{path} does not place {unplaced}: valid is a line for each of {len(ids)} images.")
    return [found[name] for name in ids]


def folder(root: str | os.PathLike) -> Listing:
    """List a folder of images with `attributes.csv`; this module's first lines describe the layout.

    Columns of which only a few cells keep them from being attributes or numbers are said in a printed line.

    Raises
    ------
    FileNotFoundError, ValueError
        When the table is missing or not valid; the sentence names it.
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
    attributes, numbers, notes = {}, {}, []
    for name in table.columns.difference([*TEXT, *EYE_COLUMNS], sort=False):
        cells = table[name]
        values, odd = binary(cells)
        if values is not None:
            attributes[name] = values
            continue
        where = f"{name} = {cells[np.argmax(odd)]!r} for {table['image_id'][np.argmax(odd)]}"
        if name in CELEBA_ATTRIBUTES:
            raise ValueError(f"{path} has {where}: valid are 0 and 1.")
        number = pd.to_numeric(cells, errors="coerce").to_numpy(np.float32)
        if np.isfinite(number).all():
            numbers[name] = number
        elif odd.mean() < 0.5:
            notes.append(where)
        elif np.isfinite(number).mean() > 0.5:
            row = int(np.argmin(np.isfinite(number)))
            notes.append(f"{name} = {cells[row]!r} for {table['image_id'][row]}")
    if notes:
        print(
            f"{path} has columns that are kept as text for cells that are no numbers or not 0 and 1: {'; '.join(notes)}"
        )
    if not attributes:
        raise ValueError(f"{path} has no column that holds only 0 and 1: valid is at least one attribute.")
    metadata = table.drop(columns=[*attributes, *EYE_COLUMNS], errors="ignore")
    bases = [root / "images", root] if (root / "images").is_dir() else [root]
    factors = pd.DataFrame(numbers) if numbers else None
    return _present("folder", bases, path, pd.DataFrame(attributes), factors, metadata, eyes)


def utkface(root: str | os.PathLike) -> Listing:
    """List UTKFace: its labels are in the file names.

    The attributes are Male, Young (below 35 years) and Ethnicity (1 for every race but 0, "White"; the papers do
    not say how they made it binary). `factors` has age in years and race 0 to 4. A few of the published files lack
    a label in their name: files named otherwise are left out, and so are copies in other folders (files of the same
    name); a printed line says which.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such folder or no file is named as UTKFace names them.
    """
    root = existing_folder(root)
    files = sorted(image_files(root), key=lambda path: (path.name, path))
    matches = {path: UTKFACE_NAME.fullmatch(path.name) for path in files}
    named = [path for path in files if matches[path] and int(matches[path][1]) <= OLDEST]
    if not named:
        raise ValueError(
            f"{root} has {len(files)} image files, none named as UTKFace names them: valid is "
            "age_gender_race_date.jpg, such as 26_1_2_20170116184024662.jpg."
        )
    first = {matches[path].group(1, 2, 3, 4): path for path in reversed(named)}
    good = [path for path in named if first[matches[path].group(1, 2, 3, 4)] == path]
    _left_out([path for path in files if path not in set(named)], files, "are not named as UTKFace names them")
    _left_out([path for path in named if path not in set(good)], files, "are copies of others")
    names = [str(path.relative_to(root)) for path in good]
    age, gender, race = (np.array([int(matches[path][part]) for path in good]) for part in (1, 2, 3))
    attributes = pd.DataFrame({"Male": gender == 0, "Young": age < YOUNG_BELOW, "Ethnicity": race != 0}, dtype=np.int8)
    factors = pd.DataFrame({"age": age, "race": race}, dtype=np.float32)
    metadata = pd.DataFrame({"image_id": names, "race": [UTKFACE_RACES[value] for value in race]})
    return _present("utkface", [root], root, attributes, factors, metadata, UTKFACE_EYES, eyes_size=UTKFACE_SIZE)


def dogs_vs_cats(root: str | os.PathLike) -> Listing:
    """List Dogs vs Cats: whether it is a dog is in the file's or the folder's name, fur colour in a table if any.

    With `attributes.csv`, the images are those that it names; without, all, and Dog is the only attribute. Pictures
    have any size, and their middle square is read.

    Raises
    ------
    FileNotFoundError, ValueError
        When the folder or an image is missing, or a name or the table is not valid.
    """
    root = existing_folder(root)
    images, source = root / "train" if (root / "train").is_dir() else root, root / "attributes.csv"
    if source.exists():
        table = read_csv(source)
        if "image_id" not in table or not len(table) or table.shape[1] < 2:
            raise ValueError(
                f"{source} has {len(table)} rows and the columns {', '.join(table.columns)}: valid is at "
                "least one row, a column image_id and a column of 0 and 1, such as Dark_Fur."
            )
        names = table.pop("image_id").tolist()
        check_unique(names, source, "image_id")
        marks = {column: binary(table[column])[0] for column in table}
        wrong = next((name for name, values in marks.items() if values is None or name == "Dog"), None)
        if wrong:
            raise ValueError(
                f"{source} has the column {wrong!r}: valid are columns of 0 and 1, and Dog is read from the file names."
            )
        unknown = [name for name in names if _animal(Path(name)) is None]
    else:
        source, marks, files = images, {}, image_files(images)
        known = [path for path in files if _animal(path.relative_to(images)) is not None]
        kept = _without_copies(known)
        kept.sort(key=lambda path: (int("0" + "".join(re.findall(r"\d+", path.stem)[-1:])), path.name, path))
        names = [str(path.relative_to(images)) for path in kept]
        unknown = [str(files[0].relative_to(images))] if files and not known else []
        if known:
            _left_out([path for path in files if path not in set(known)], files, "have no name that says cat or dog")
            _left_out([path for path in known if path not in set(kept)], files, "are copies of others")
    if unknown or not names:
        raise ValueError(
            f"{source} has {unknown[0] if unknown else 'no .jpg files'}: valid are files named cat.0.jpg "
            "or dog.0.jpg, with any number, or in folders named Cat and Dog."
        )
    attributes = pd.DataFrame({"Dog": [_animal(Path(name)) == "dog" for name in names], **marks}, dtype=np.int8)
    return _present(
        "dogs-vs-cats", [images, root], source, attributes, None, pd.DataFrame({"image_id": names}), None, faces=False
    )


def _animal(path):
    """Say "cat" or "dog" by the name of a file or the nearest folder that says it, else None."""
    match = DOGS_VS_CATS_NAME.fullmatch(path.name)
    words = [match[1]] if match else [part.rstrip("sS") for part in reversed(path.parts[:-1])]
    return next((word.lower() for word in words if word.lower() in ("cat", "dog")), None)


def _without_copies(files):
    """The files without those that have the name and the content of an earlier one."""
    seen, kept = {}, []
    for path in files:
        same_name = seen.setdefault((path.name, path.stat().st_size), [])
        content = path.read_bytes() if same_name else None
        if all(other.read_bytes() != content for other in same_name):
            kept.append(path)
        same_name.append(path)
    return kept


LAYOUTS = {"celeba": celeba, "utkface": utkface, "disfa": disfa, "dogs-vs-cats": dogs_vs_cats, "folder": folder}


def _present(name, bases, table, attributes, factors, metadata, eyes, **more):
    """The listing of those images that are there; `eyes` are those of each image, or the same for all."""
    paths = image_paths(bases, metadata["image_id"], table)
    there = np.array([path is not None for path in paths], bool)
    absent = [str(bases[0] / image) for image in metadata["image_id"][~there]]
    eyes = None if eyes is None else np.broadcast_to(eyes, (len(paths), 2, 2))[there]
    parts = [part if part is None else part[there].reset_index(drop=True) for part in (attributes, factors, metadata)]
    return Listing(name, [path for path in paths if path], *parts, eyes, absent=absent, table=str(table), **more)


def _left_out(lost, files, why):
    if lost:
        names = ", ".join(path.name for path in lost[:5]) + (" …" if len(lost) > 5 else "")
        print(f"Left out {len(lost):,} of {len(files):,} files, which {why}: {names}")


def _eyes(table, path):
    given = [name for name in EYE_COLUMNS if name in table]
    if not given:
        return None
    if given != EYE_COLUMNS:
        raise ValueError(f"{path} has {', '.join(given)} only: valid are all of {', '.join(EYE_COLUMNS)}, or none.")
    eyes = table[EYE_COLUMNS].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = ~((np.abs(eyes) < 1e6).all(1) & (eyes[:, 0] < eyes[:, 2]))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path} has the eyes {table.loc[row, EYE_COLUMNS].tolist()} for "
            f"{table['image_id'][row]}: valid are four numbers, left_eye_x below "
            "right_eye_x (the picture's left)."
        )
    return eyes.reshape(-1, 2, 2)
