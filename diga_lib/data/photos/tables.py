"""What all layouts have in common: folders, the image files in them, and tables that name files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
MOST_COLUMNS = 1000
COLUMN = re.compile(r"\w[\w .()/-]*")  # no markup, and no "&", which joins attributes
BINARY = ({"0": 0, "1": 1}, {"-1": 0, "1": 1}, {"false": 0, "true": 1}, {"no": 0, "yes": 1})


def existing_folder(path: str | os.PathLike) -> Path:
    """The full path of a folder that can be read; else a sentence that says what is wrong with it."""
    try:
        found = Path(path).expanduser().resolve()
        is_folder = found.is_dir()
    except (TypeError, ValueError, RuntimeError, OSError) as fault:  # a number, a null byte, ~nobody, far too long
        said = repr(path) if len(repr(path)) < 100 else repr(path)[:80] + "…"
        raise ValueError(f"{said} cannot be a folder: valid is the path of the folder that holds the data.") from fault
    if not is_folder:
        raise FileNotFoundError(f"There is no folder {found}: valid is the folder that holds the data.")
    if not os.access(found, os.R_OK | os.X_OK):
        raise ValueError(f"The folder {found} may not be read by this user: valid is one that may.")
    return found


def existing_file(*paths: Path) -> Path:
    """The first of some places where a file may be."""
    for path in paths:
        if path.is_file():
            return path
    others = "".join(f", nor {path.relative_to(paths[0].parent)}" for path in paths[1:])
    raise FileNotFoundError(f"There is no file {paths[0]}{others}: it belongs to this layout.")


def image_files(root: Path) -> list[Path]:
    """All image files below a folder, sorted; what is hidden is passed over, and links that lead out are refused."""
    found = []

    def stop(fault):
        raise ValueError(f"The folder {fault.filename} may not be read by this user: valid is one that may.") from fault

    for folder, folders, names in os.walk(root, onerror=stop):
        folders[:] = [name for name in folders if not _hidden(name)]
        images = [Path(folder, name) for name in names if not _hidden(name) and name.lower().endswith(ENDINGS)]
        for path in [Path(folder, name) for name in folders] + images:
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise ValueError(f"{path} is a link, which leaves {root}: valid are files inside it.")
        found += images
    return sorted(found)


def _hidden(name):
    return name.startswith(".") or name == "__MACOSX"


def image_paths(bases: Sequence[Path], names: Sequence[str], table: Path) -> list[str | None]:
    """Full paths of the images that a table names, in the first of some folders that has each; None: in none.

    A name that leads out of the folders, and a file that is named twice, are a ValueError.
    """
    bases, paths, named = [base.resolve() for base in bases], [], {}
    plain = [{entry.name for entry in os.scandir(base) if entry.is_file(follow_symlinks=False)} for base in bases]
    for name in names:
        found = None
        for base, here in zip(bases, plain, strict=True):
            # Looking a name up is the fast way for 200,000 files; a null byte is in no path.
            path = f"{base}/{name}" if name in here else "" if "\0" in name else os.path.realpath(base / name)
            if not path.startswith(f"{base}/"):
                raise ValueError(f"{table} names {name!r}, which leaves {bases[0]}: valid are files inside it.")
            if name in here or os.path.isfile(path):
                found = path
                break
        if found and named.setdefault(found, name) != name:
            raise ValueError(f"{table} names one file twice, as {named[found]!r} and {name!r}: valid is once each.")
        paths.append(found)
    return paths


def lines_of(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path} is not a text file in UTF-8.") from fault
    except OSError as fault:
        raise ValueError(f"{path} cannot be read ({fault.strerror}).") from fault
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path) -> pd.DataFrame:
    """A table of words with one header, image_id and another column; rows without a word are left out."""
    try:
        with open(path, "rb") as file:
            if file.readline(1_000_000).count(b",") >= MOST_COLUMNS:
                raise ValueError(f"more than {MOST_COLUMNS:,} columns, the most that are valid")
        # Without `header`, pandas would rename columns that occur twice instead of telling.
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as fault:  # pandas' own errors and wrong encodings are of this kind
        reason = " ".join(str(fault).split())
        raise ValueError(f"{path} is not a table of comma-separated values in UTF-8 ({reason}).") from fault
    cells = cells.fillna("").map(str.strip)
    check_columns(cells.iloc[0], path)
    table = cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1)
    table = table[(table != "").any(axis=1)].reset_index(drop=True)
    if "image_id" not in table or not len(table) or table.shape[1] < 2:
        said = f"{path} has {len(table)} rows and the columns {', '.join(table)}"
        raise ValueError(f"{said}: valid is a row or more, a column image_id and one of 0 and 1, such as Dark_Fur.")
    check_unique(table["image_id"], path, "image_id")
    return table


def check_columns(names: Sequence[str], path: Path, what: str = "column") -> None:
    """Refuse names of columns that are empty, repeated, too many or not words."""
    check_unique(names, path, what)
    if len(names) > MOST_COLUMNS:
        raise ValueError(f"{path} has {len(names):,} {what}s: valid are at most {MOST_COLUMNS:,}.")
    for name in names:
        if not COLUMN.fullmatch(name) or len(name) > 100:
            raise ValueError(f"{path} has the {what} {name[:100]!r}: valid are words: letters, digits, _ - . / ( ).")


def check_unique(values: Sequence[str], path: Path, what: str) -> None:
    """Refuse values that are empty or repeated."""
    values = pd.Series(values)
    wrong = values[values.duplicated() | (values == "")]
    if len(wrong):
        raise ValueError(f"{path} has the {what} {wrong.iloc[0]!r} empty or more than once: valid is once each.")


def binary(cells: pd.Series) -> tuple[np.ndarray | None, np.ndarray]:
    """A column of words as 0 and 1 (int8; None: it is not binary), and which cells keep it from that.

    Binary are 0 and 1, −1 and 1, true and false, or yes and no; odd cells are not of the pair that most are of.
    """
    codes, spelled = pd.factorize(cells)
    words = pd.Series(spelled, dtype=str).str.lower().str.removeprefix("+")
    words = words.str.replace(r"^(-?\d+)\.0*$", r"\1", regex=True)
    often = np.bincount(codes, minlength=len(words))
    values = words.map(max(BINARY, key=lambda pair: often[words.isin(list(pair))].sum()))
    odd = values.isna().to_numpy()[codes]
    return (None, odd) if odd.any() or not len(codes) else (values.to_numpy(np.int8)[codes], odd)
