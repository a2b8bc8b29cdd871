"""The parameters of the notebooks: their names, their valid values, and one clear sentence when one is wrong.

A notebook declares its parameters by annotating them in the cell tagged `parameters`, and the next cell checks them::

    profile: str = "quick"    # quick: about a minute on two cores; full: larger samples

    from diga_lib.pages.parameters import check
    check(globals())

Papermill sets parameters by a cell of plain assignments between the two and only warns about a name that the
notebook does not have. Plain assignments leave no annotation, so a name without one is an unknown parameter.
"""

import ast
import difflib
import os
import re
import reprlib
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from diga_lib import data, latent, runtime
from diga_lib.data import shipped
from diga_lib.data.dataset import draw_rows
from diga_lib.data.photos import layouts, reading

LONGEST = 2_000  # characters of a parameter that are looked at; nobody types more
NUMBER = re.compile(r"\s*[+-]?(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,3})?\s*")
WORD = re.compile(r"[\w][\w .+-]*")  # what an attribute may be called, so that any page can print its name
LEAST = 2  # training images of the smallest group
LEAST_IMAGES = 150  # on disk, for any page


@dataclass(frozen=True)
class Sizes:
    """Sizes of one profile: quick for a page, full for page 04's table, table for the cells of the large tables."""

    pool: int  # rendered faces that splits are drawn from
    n_train: int
    n_test_per_group: int
    epochs: int  # of supervised training
    byol_epochs: int  # of the self-supervised stage of the paper's DiGA
    seeds: int  # repetitions of a training run


SIZES = {
    "quick": Sizes(pool=12_000, n_train=4_000, n_test_per_group=400, epochs=6, byol_epochs=2, seeds=1),
    "table": Sizes(pool=22_000, n_train=4_000, n_test_per_group=500, epochs=6, byol_epochs=6, seeds=3),
    "full": Sizes(pool=18_000, n_train=6_000, n_test_per_group=1_000, epochs=8, byol_epochs=6, seeds=3),
}
SEARCH_POOL_SEED = 50  # of another population, on which hyperparameters are chosen
POOL_SEED = 0  # of the population that splits are drawn from; generator and image-text model learn from another


class ParameterError(ValueError):
    """A parameter that does not exist or has a bad value. A notebook shows its sentence and no traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"ParameterError: {self}"]


def _number(value: Any) -> Any:
    """Read "1/9" and "0.1" as numbers, since a command line gives strings."""
    parts = value.split("/") if isinstance(value, str) and len(value) < LONGEST else []
    if len(parts) not in (1, 2) or not all(NUMBER.fullmatch(part) for part in parts):
        return value
    above, below = float(parts[0]), float(parts[1]) if len(parts) == 2 else 1.0
    return above / below if below else value


def _list(value: Any) -> Any:
    """Read "['a', 'b']" as a list and a single value as a list of one, since a command line gives strings."""
    if isinstance(value, str) and value.strip().startswith("[") and len(value) < LONGEST:
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value if isinstance(value, list | tuple) else [value]


def _existing(value: str, is_it: str) -> str:
    """Return the absolute path of a file or folder that exists and can be read; "" is none."""
    if value == "":
        return value
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError("no path")
    try:
        path = Path(value).expanduser().resolve()
        if getattr(path, is_it)() and os.access(path, os.R_OK):
            return str(path)
    except (OSError, RuntimeError):  # a name that is too long, or ~ of somebody who is not there
        pass
    raise ValueError("no such path")


def _folder(value: Any) -> str:
    # Papermill's -p reads a name such as 2024 as a number; its -r leaves it as it was typed.
    return _existing(str(value) if type(value) is int else value, "is_dir")


def _generator(value: Any) -> Any:
    """Accept "", a file of weights (made absolute), and a generator that a cell has loaded from it already."""
    if not isinstance(value, str | bytes) and callable(getattr(value, "decode", None)):
        return value
    if value and not str(value).endswith(".safetensors"):
        raise ValueError("no file of weights")
    return _existing(value, "is_file")


Folder = Annotated[Any, AfterValidator(_folder)]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], AfterValidator(lambda name: runtime.device(name) and name)]


class Parameters(BaseModel):
    """Every parameter that a notebook may declare. The description says what is valid."""

    model_config = ConfigDict(strict=True)

    profile: Literal["quick", "full"] = "quick"
    dataset: Literal[data.NAMES] = "rendered-faces"
    data_root: Folder = Field("", description='the folder of a data set that exists, or ""')
    generator: Annotated[Any, AfterValidator(_generator)] = Field(
        "", description='a .safetensors file that `python -m diga_lib.latent` wrote, or "" for the one that is shipped'
    )
    target: str = "Smiling"
    spurious: str = "Male"
    bias: Annotated[float, BeforeValidator(_number)] = Field(
        1 / 9, gt=0, le=1, description="minority/majority above 0 and up to 1, such as 0.05 or 1/9"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="a whole number from 0 to 2147483647")
    seeds: int = Field(3, ge=1, le=100, description="how many seeds, a whole number from 1 to 100")
    photos: Folder = Field("", description='a folder of photographs that exists, or ""')
    device: Device = "auto"
    precision: Literal[runtime.PRECISIONS] = "auto"


def check(
    namespace: MutableMapping[str, Any],
    n_train: Callable[[int], int] | None = None,
    several: bool = False,
    **own: tuple | list,
) -> None:
    """Check a notebook's parameters, and put the values back in the type they are meant to have.

    What can be known without decoding an image or training anything is found out here; one sentence of a ParameterError
    says what is wrong and what is valid.

    Parameters
    ----------
    namespace, several : mapping, bool
        The notebook's ``globals()``, and whether two spurious attributes, "A&B", are valid.
    n_train : callable, optional
        The training images that the page needs, by how many images there are; those of the profile by default.
    **own
        What is valid for parameters that only this notebook has: ``(low, high)`` for a number between the two (a whole
        one if both are), a list for one of its values, or for several if the parameter is annotated as a list.
    """
    annotations = namespace.get("__annotations__", {})
    declared = [name for name in annotations if not name.startswith("_")]
    # Once a notebook has run, its own variables are there too: only a fresh one can be searched for strays.
    if "_parameters_checked" in namespace:
        declared = namespace["_parameters_checked"]
    else:
        _refuse_unknown(namespace, declared, set(Parameters.model_fields) | set(own))
    values = {name: namespace[name] for name in declared}
    fields = {name: _own_field(valid, annotations[name]) for name, valid in own.items() if name in values}
    model = create_model("NotebookParameters", __base__=Parameters, **fields)
    try:
        checked = model(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise ParameterError(_sentence(name, values[name], model)) from None
    try:
        _check_together(checked, declared, several)
        _check_data(checked, declared, n_train)
    except (ValueError, OSError) as error:  # of the library, which names what it refuses
        raise ParameterError(str(error)) from None
    namespace.update({name: getattr(checked, name) for name in declared})
    namespace["_parameters_checked"] = declared


def _refuse_unknown(namespace: MutableMapping[str, Any], declared: list[str], known: set[str]) -> None:
    """Raise if there is a plain value that is no declared parameter, or a declared one that nobody knows."""
    plain = (str, int, float, list, tuple, dict, type(None))  # what papermill can set; not modules, functions…
    strays = [
        name
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in ("In", "Out", *declared)
    ]
    for name in strays + [name for name in declared if name not in known]:
        hint = _meant(name, [] if name in declared else declared)
        valid = ", ".join(d for d in declared if d in known)
        raise ParameterError(f"this notebook has no parameter {name!r}{hint}; its parameters are {valid}")


def _meant(name: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _own_field(valid: tuple | list, annotation: Any) -> tuple[Any, Any]:
    """Return pydantic's (type, field) for a parameter that only one notebook has."""
    if isinstance(valid, list):
        words = ", ".join(map(str, valid))
        if (get_origin(annotation) or annotation) is not list:
            return Literal[tuple(valid)], Field(description=words)
        kind = Annotated[list[Literal[tuple(valid)]], BeforeValidator(_list), Field(min_length=1)]
        return kind, Field(description=f"a list from {words}")
    low, high = valid
    whole = isinstance(low, int) and isinstance(high, int)
    words = f"a {'whole ' if whole else ''}number from {low} to {high}"
    kind = int if whole else Annotated[float, BeforeValidator(_number)]
    return kind, Field(ge=low, le=high, description=words)


def _sentence(name: str, value: Any, model: type[BaseModel]) -> str:
    field = model.model_fields[name]
    valid = field.description or ", ".join(getattr(field.annotation, "__args__", ("a word",)))
    return f"{name} = {reprlib.repr(value)} is not valid; valid is {valid}"


def _check_together(checked: BaseModel, declared: list[str], several: bool) -> None:
    """Raise if parameters do not fit one another, the data on disk or this machine."""
    runtime.cache_folder()  # raises if made data cannot be kept
    if "data_root" in declared:
        root, on_disk, valid = checked.data_root, checked.dataset in layouts.LAYOUTS, ", ".join(layouts.LAYOUTS)
        if on_disk and not root:
            raise ValueError(f"dataset = {checked.dataset!r} needs data_root, the folder in which its images are")
        if root and not on_disk:
            raise ValueError(f"data_root = {root!r} belongs to no dataset; valid with it is dataset = {valid}")
    if "generator" in declared and isinstance(checked.generator, str) and checked.generator:
        side = latent.load_file(checked.generator, device="cpu").resolution
        if side != 64:
            raise ValueError(f"generator = {checked.generator!r} paints {side} x {side} pixels; valid is 64 x 64")
    if not {"target", "spurious"}.isdisjoint(declared):
        _check_attributes(checked, declared)
        if "&" in checked.spurious and not several:
            raise ValueError(f"spurious = {checked.spurious!r}: valid on this page is one attribute, such as Male")


def _check_attributes(checked: BaseModel, declared: list[str]) -> None:
    """Raise unless the target is an attribute and the spurious attributes (one, or "A&B") are others."""
    names = data.attribute_names(checked.dataset, checked.data_root or None)
    spurious = checked.spurious.split("&") if "spurious" in declared else []
    target = [checked.target] if "target" in declared else []
    for role, attribute in [("target", a) for a in target] + [("spurious", a) for a in spurious]:
        if not WORD.fullmatch(attribute):
            raise ValueError(f"{role} = {reprlib.repr(attribute)} is not an attribute; valid are words")
        if attribute not in names:
            said = f"{role} = {attribute!r} is not an attribute of {checked.dataset}{_meant(attribute, names)}"
            raise ValueError(f"{said}; valid are {', '.join(names)}")
    if len({*target, *spurious}) < len(target) + len(spurious):
        both = f"target = {checked.target!r} and spurious = {checked.spurious!r}"
        raise ValueError(f"{both} must name different attributes")


def _check_data(checked: BaseModel, declared: list[str], n_train: Callable[[int], int] | None) -> None:
    """Raise if there are too few images for the page, by what is known of them before one is decoded."""
    if "photos" in declared and checked.photos:
        _check_album(checked, [name for name in ("target", "spurious") if name in declared])
    has_split = {"target", "spurious", "bias"} <= set(declared)
    if not has_split and not checked.data_root:
        return
    found, root = labels(checked.dataset, checked.data_root, checked.profile, checked.spurious), checked.data_root
    if root and len(found) < LEAST_IMAGES:
        raise ValueError(f"data_root = {root!r} holds {len(found)} images; valid is at least {LEAST_IMAGES}")
    if not has_split:
        return
    sizes, k = SIZES[checked.profile], checked.spurious.count("&") + 1
    n, n_test = (n_train(len(found)), None) if n_train else (sizes.n_train, sizes.n_test_per_group)
    share = (LEAST * 2 / n) ** (1 / k)  # of the smallest group: b^k / (2 (1 + b)^k)
    if checked.bias < share / (1 - share):
        said = f"bias = {checked.bias:g} leaves fewer than {LEAST} of {n:,} training images to a group"
        least = np.ceil(1e5 * share / (1 - share)) / 1e5
        raise ValueError(f"{said}; valid with profile = {checked.profile} is at least {least:g}")
    try:
        for bias in {checked.bias, checked.bias if n_train else 1.0}:  # most pages also train on balanced data
            data.biased_split(found, checked.target, checked.spurious, bias, n, n_test_per_group=n_test)
    except ValueError as fault:
        said, few, _ = str(fault).partition("): valid")  # of the library's parameters: here, of the page's
        remedies = f"{few} are more images, another target or spurious, or another bias" if few else ""
        raise ValueError(said + remedies) from None


def _check_album(checked: BaseModel, declared: list[str]) -> None:
    """Raise unless the photographs show enough faces, with the attributes that the page looks at."""
    names = data.attribute_names("folder", checked.photos)
    wanted = [word for name in declared for word in getattr(checked, name).split("&")]
    for name in wanted:
        if name not in names:
            raise ValueError(f"photos = {checked.photos!r} has no attribute {name!r}; it has {', '.join(names)}")
    album = data.load("folder", root=checked.photos, missing="drop")
    if len(album) < 3 or (wanted and len(album.attributes[wanted].drop_duplicates()) < 2 ** len(wanted)):
        rest = f" that show every combination of {' and '.join(wanted)}" if wanted else ""
        raise ValueError(f"photos = {checked.photos!r} has {len(album)} faces; valid are at least 3{rest}")


@lru_cache(maxsize=2)
def _drawn_labels(module: str, n: int) -> pd.DataFrame:
    return import_module(f"diga_lib.data.{module}").parameters(POOL_SEED, np.arange(n))[1]


def labels(dataset: str, data_root: str, profile: str, spurious: str) -> data.ImageDataset:
    """Return what `pool` will, faceless photographs included, as pictures of one pixel: nothing is painted or read."""
    n, metadata = _size(dataset, profile, spurious), None
    if dataset in data.RENDERED:
        table = _drawn_labels(data.RENDERED[dataset], n)
    elif dataset in shipped.COUNTS:
        return data.load(dataset, n, seed=POOL_SEED)
    else:
        found = layouts.LAYOUTS[dataset](data_root)
        rows = draw_rows(dataset, min(n, len(found.paths)), len(found.paths), 0)
        table, metadata = (part.iloc[rows].reset_index(drop=True) for part in (found.attributes, found.metadata))
    return data.ImageDataset(np.broadcast_to(np.uint8(0), (len(table), 3, 1, 1)), table, None, dataset, metadata)


def _size(dataset: str, profile: str, spurious: str) -> int:
    most = SIZES[profile].pool * (2 if "&" in spurious else 1)
    return min(most, shipped.COUNTS.get(dataset, most))


def pool(dataset: str, data_root: str = "", profile: str = "quick", spurious: str = "") -> data.ImageDataset:
    """Return the images that a notebook's parameters ask for, `dataset` and `data_root` ("" for rendered ones).

    The profile, "quick", "table" or "full", says how many: all where there are fewer on disk, twice as many for two
    spurious attributes, "A&B". Photographs in which no face is found are left out, and a printed line says which.
    """
    most = _size(dataset, profile, spurious)
    if dataset not in layouts.LAYOUTS or not data_root:
        return data.load(dataset, most, seed=POOL_SEED)
    found = layouts.LAYOUTS[dataset](data_root)
    return reading.read(found, min(most, len(found.paths)), 64, align=True, missing="drop")


def generator(chosen: Any = "", dataset: str = "rendered-faces") -> Any:
    """Return the generator that a notebook's parameters ask for.

    It is a file that ``python -m diga_lib.latent`` wrote, "" for what ships for the data set, or one loaded already.
    """
    if not isinstance(chosen, str):
        return chosen
    own = dict.fromkeys(("rendered-critters", "dogs-vs-cats"), "rendered-critters-64")
    own |= dict.fromkeys(shipped.FILES, "real-faces-64")
    return latent.load_file(chosen) if chosen else latent.load(own.get(dataset, "rendered-faces-64"))
