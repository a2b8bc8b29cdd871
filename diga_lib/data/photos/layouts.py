"""The layouts of images on disk: CelebA, UTKFace, Dogs vs Cats, a folder of images with a table, DISFA (`disfa.py`).

A layout's function checks the tables and lists the images; what is missing or not valid is an error that names it.
Files and folders whose name begins with a dot are passed over, and no link and no name leads out of the root.

CelebA, as its authors and as others ship it::

    root/img_align_celeba/000001.jpg …      178 x 218 pixels; also img_align_celeba/img_align_celeba, and below Img
    root/list_attr_celeba.txt               number of images (or not); attribute names; then "000001.jpg -1 1 …"
    root/list_eval_partition.txt            "000001.jpg 0": 0 training, 1 validation, 2 test; also .csv, Anno, Eval
    root/identity_CelebA.txt                optional: "000001.jpg 2880": who it is

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

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from diga_lib.data.photos import tables
from diga_lib.data.photos.disfa import disfa
from diga_lib.data.photos.reading import EYE_COLUMNS, Listing
from diga_lib.data.photos.tables import existing_file, existing_folder, image_files

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
UTKFACE_NAME = (
    r"(?ia)^(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_(?P<date>\d+)(?:\.jpe?g)?(?:\.chip)?\.(?:jpe?g|png|webp)$"
)
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")  # the data set's own words
UTKFACE_SIZE = (200, 200)  # of its aligned chips, in which the eyes lie near one point, measured on 360 of them
UTKFACE_EYES = np.array([[58.3, 58.4], [138.4, 58.4]])
YOUNG_BELOW, OLDEST = 35, 120  # years
DOGS_VS_CATS_NAME = re.compile(r"(cat|dog)[._ -]?(\d+)\.\w+", re.ASCII | re.IGNORECASE)
TEXT = ("image_id", "partition", "identity", "subject")  # columns that are no attributes whatever they hold


def celeba(root: str | os.PathLike) -> Listing:
    """List CelebA's aligned images; the official partition is the column "partition" of `metadata`."""
    root = existing_folder(root)
    path = existing_file(*_celeba_places(root, "list_attr_celeba"))
    rows = _fields(path)
    announced = int(rows.pop(0)[1][0]) if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal() else None
    names = rows.pop(0)[1] if rows else []
    names = names[1:] if names[:1] in (["image_id"], [""]) else names
    if not rows or not names or set(names) & {"-1", "1"}:
        raise ValueError(f"{path} does not begin as CelebA's does: valid is a line of attribute names, then images.")
    if announced not in (None, len(rows)):
        raise ValueError(f"{path} announces {announced} images and lists {len(rows)}: valid is the same.")
    tables.check_columns(names, path, "attribute")
    ids, values = [], np.empty((len(rows), len(names)), np.int8)
    for place, (number, row) in enumerate(rows):  # row by row: 200,000 rows of words would fill the memory
        if len(row) != 1 + len(names) or not set(row[1:]) <= {"-1", "1"}:
            words = f"{len(names)} values that are -1 or 1"
            raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and {words}.")
        ids.append(row[0])
        values[place] = [word == "1" for word in row[1:]]
    tables.check_unique(ids, path, "image")
    metadata = pd.DataFrame({"image_id": ids})
    partition = _celeba_column(root, "list_eval_partition", ids, "partition", "[012]", "0, 1 or 2")
    metadata["partition"] = [("train", "validation", "test")[int(value)] for value in partition]
    if any(place.is_file() for place in _celeba_places(root, "identity_CelebA")):
        metadata["identity"] = _celeba_column(root, "identity_CelebA", ids, "identity", ".+", "a number")
    tops = [root / "img_align_celeba", root / "Img" / "img_align_celeba"]
    images = [images for top in tops for images in (top / top.name, top) if images.is_dir()]
    images = images[:1] or [existing_folder(tops[0])]
    attributes = pd.DataFrame(values, columns=names)
    return _present("celeba", images, path, attributes, None, metadata, CELEBA_EYES, size=CELEBA_SIZE)


def _celeba_places(root, stem):
    return [root / part / f"{stem}{ending}" for part in ("", "Anno", "Eval") for ending in (".txt", ".csv")]


def _fields(path):
    """The numbers of a file's lines, and their fields between commas or spaces."""
    between = "," if path.suffix == ".csv" else None
    return [(number, [*map(str.strip, line.split(between))]) for number, line in tables.lines_of(path)]


def _celeba_column(root, stem, ids, header, valid, words):
    """The second field of each line of a file, in the order of `ids`."""
    path, found = existing_file(*_celeba_places(root, stem)), {}
    for number, row in _fields(path):
        if row[1:] != [header]:
            if len(row) != 2 or not re.fullmatch(valid, row[1]):
                raise ValueError(f"Line {number} of {path} is not valid: valid is a file name and {words}.")
            found[row[0]] = row[1]
    for name in ids:
        if name not in found:
            raise ValueError(f"{path} does not place {name}: valid is a line for each of {len(ids)} images.")
    return [found[name] for name in ids]


def folder(root: str | os.PathLike) -> Listing:
    """List a folder of images with a table; a printed line names columns that few cells keep from being attributes."""
    root = existing_folder(root)
    path = existing_file(root / "attributes.csv")
    table = tables.read_table(path)
    eyes = _eyes(table, path)
    attributes, numbers, notes = {}, {}, []
    for name in table.columns.difference([*TEXT, *EYE_COLUMNS], sort=False):
        values, odd = tables.binary(table[name])
        if values is not None:
            attributes[name] = values
            continue
        if name in CELEBA_ATTRIBUTES:
            raise ValueError(f"{path} has {_cell(table, name, odd)}: valid are 0 and 1.")
        number = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float32)
        lacks = ~np.isfinite(number)
        if not lacks.any():
            numbers[name] = number
        elif min(odd.mean(), lacks.mean()) < 0.5:
            notes.append(_cell(table, name, odd if odd.mean() < 0.5 else lacks))
    if notes:
        print(f"{path} has columns that are kept as text, for some cells are no numbers or 0 and 1: {'; '.join(notes)}")
    if not attributes:
        raise ValueError(f"{path} has no column that holds only 0 and 1: valid is at least one attribute.")
    metadata = table.drop(columns=[*attributes, *EYE_COLUMNS], errors="ignore")
    bases = [root / "images", root] if (root / "images").is_dir() else [root]
    factors = pd.DataFrame(numbers) if numbers else None
    return _present("folder", bases, path, pd.DataFrame(attributes), factors, metadata, eyes)


def _cell(table, name, which):
    """Say what the first of some cells of a column holds."""
    row = int(np.argmax(which))
    return f"{name} = {table[name][row]!r} for {table['image_id'][row]}"


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
        said = f"{path} has the eyes {table.loc[row, EYE_COLUMNS].tolist()} for {table['image_id'][row]}"
        raise ValueError(f"{said}: valid are four numbers, left_eye_x below right_eye_x (the picture's left).")
    return eyes.reshape(-1, 2, 2)


def utkface(root: str | os.PathLike) -> Listing:
    """List UTKFace, whose labels are in the file names; files named otherwise, and copies, are left out and printed.

    The attributes are Male, Young (below 35 years) and Ethnicity (1 for every race but 0, "White"; the papers do
    not say how they made it binary). `factors` has age in years and race 0 to 4.
    """
    root = existing_folder(root)
    files = sorted(image_files(root), key=lambda path: (path.name, path))
    labels = pd.Series([path.name for path in files], dtype=str).str.extract(UTKFACE_NAME)
    named = (pd.to_numeric(labels["age"]) <= OLDEST).to_numpy()
    if not named.any():
        valid = "age_gender_race_date.jpg, such as 26_1_2_20170116184024662.jpg"
        raise ValueError(f"{root} has {len(files)} image files, none named as UTKFace names them: valid is {valid}.")
    copies = labels.duplicated().to_numpy() & named
    _left_out(files, ~named, "are not named as UTKFace names them")
    _left_out(files, copies, "are copies of others")
    kept = np.flatnonzero(named & ~copies)
    age, gender, race = labels.loc[kept, ["age", "gender", "race"]].to_numpy().astype(int).T
    attributes = pd.DataFrame({"Male": gender == 0, "Young": age < YOUNG_BELOW, "Ethnicity": race != 0}, dtype=np.int8)
    factors = pd.DataFrame({"age": age, "race": race}, dtype=np.float32)
    ids = [str(files[row].relative_to(root)) for row in kept]
    metadata = pd.DataFrame({"image_id": ids, "race": np.array(UTKFACE_RACES, object)[race]})
    return _present("utkface", [root], root, attributes, factors, metadata, UTKFACE_EYES, eyes_size=UTKFACE_SIZE)


def dogs_vs_cats(root: str | os.PathLike) -> Listing:
    """List Dogs vs Cats: whether it is a dog is in the file's or the folder's name, fur colour in a table if any.

    With `attributes.csv`, the images are those that it names; without, all, and Dog is the only attribute. Pictures
    have any size, and their middle square is read.
    """
    root = existing_folder(root)
    images, source = root / "train" if (root / "train").is_dir() else root, root / "attributes.csv"
    if source.exists():
        table = tables.read_table(source)
        names = table.pop("image_id").tolist()
        marks = {column: tables.binary(table[column])[0] for column in table}
        for column, values in marks.items():
            if values is None or column == "Dog":
                valid = "columns of 0 and 1, and Dog is read from the file names"
                raise ValueError(f"{source} has the column {column!r}: valid are {valid}.")
    else:
        source, marks, files = images, {}, image_files(images)
        known = np.array([_animal(path.relative_to(images)) is not None for path in files], bool)
        copies = np.zeros(len(files), bool)
        copies[known] = _copies([path for path, one in zip(files, known, strict=True) if one])
        kept = [files[row] for row in np.flatnonzero(known & ~copies)]
        kept.sort(key=lambda path: (int("0" + "".join(re.findall(r"\d+", path.stem)[-1:])), path.name, path))
        names = [str(path.relative_to(images)) for path in kept or files[:1]]
        if kept:
            _left_out(files, ~known, "have no name that says cat or dog")
            _left_out(files, copies, "are copies of others")
    animals = [_animal(Path(name)) for name in names]
    if None in animals or not names:
        said = names[animals.index(None)] if names else "no .jpg files"
        valid = "files named cat.0.jpg or dog.0.jpg, with any number, or in folders named Cat and Dog"
        raise ValueError(f"{source} has {said}: valid are {valid}.")
    attributes = pd.DataFrame({"Dog": [animal == "dog" for animal in animals], **marks}, dtype=np.int8)
    metadata = pd.DataFrame({"image_id": names})
    return _present("dogs-vs-cats", [images, root], source, attributes, None, metadata, None, faces=False)


def _animal(path):
    """Say "cat" or "dog" by the name of a file or the nearest folder that says it, else None."""
    match = DOGS_VS_CATS_NAME.fullmatch(path.name)
    words = [match[1]] if match else [part.rstrip("sS") for part in reversed(path.parts[:-1])]
    return next((word.lower() for word in words if word.lower() in ("cat", "dog")), None)


def _copies(files):
    """Whether each file has the name and the content of an earlier one."""
    earlier, found = {}, []
    for path in files:
        alike = earlier.setdefault((path.name, path.stat().st_size), [])
        found.append(any(other.read_bytes() == path.read_bytes() for other in alike))
        alike.append(path)
    return found


LAYOUTS = {"celeba": celeba, "utkface": utkface, "disfa": disfa, "dogs-vs-cats": dogs_vs_cats, "folder": folder}


def _present(name, bases, table, attributes, factors, metadata, eyes, **more):
    """The listing of those images that are there; `eyes` are those of each image, or the same for all."""
    paths = tables.image_paths(bases, metadata["image_id"], table)
    there = np.array([path is not None for path in paths], bool)
    absent = [str(bases[0] / image) for image in metadata["image_id"][~there]]
    eyes = None if eyes is None else np.broadcast_to(eyes, (len(paths), 2, 2))[there]
    parts = [part if part is None else part[there].reset_index(drop=True) for part in (attributes, factors, metadata)]
    return Listing(name, [path for path in paths if path], *parts, eyes, absent=absent, table=str(table), **more)


def _left_out(files, lost, why):
    names = [files[row].name for row in np.flatnonzero(lost)]
    if names:
        shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        print(f"Left out {len(names):,} of {len(files):,} files, which {why}: {shown}")
