"""The parameters of the notebooks: their names, their valid values, and one clear sentence when one is wrong.

A notebook declares the parameters it has in its `parameters` cell, by annotating them, and the next cell checks::

    profile: str = "quick"    # quick: about a minute on two cores; full: the published numbers
    target: str = "Smiling"   # attribute to predict

    from diga_lib.pages.parameters import check
    check(globals())

Papermill sets parameters by a cell of plain assignments between the two and only warns about a name that the
notebook does not have. Plain assignments leave no annotation, so a name without one is an unknown parameter.
"""

import ast
import difflib
from collections.abc import MutableMapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from diga_lib import data
from diga_lib.data import ImageDataset
from diga_lib.pages.profiles import POOL_SEED, SIZES

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

ON_DISK = ("celeba", "utkface", "disfa", "dogs-vs-cats", "folder")  # data sets that need data_root


def pool(
    dataset: str,
    data_root: str = "",
    profile: str = "quick",
    most: int | None = None,
    resolution: int = 64,
    seed: int = POOL_SEED,
) -> ImageDataset:
    """Return the images that a notebook's parameters ask for.

    Parameters
    ----------
    dataset : str
        As `name` of :func:`diga_lib.data.load`.
    data_root : path
        The folder of images on disk; "" for rendered images.
    profile : {"quick", "table", "full"}
        Chooses the number of images; all, where there are fewer on disk.
    most : int, optional
        The number of images, in place of the profile's.
    resolution, seed : int
        As for :func:`diga_lib.data.load`.

    Returns
    -------
    ImageDataset
        Photographs in which no face is found are left out, and a printed line says which.
    """
    most = SIZES[profile].pool if most is None else most
    if dataset in data.RENDERED or not data_root:
        return data.load(dataset, most, seed=seed, resolution=resolution)
    from diga_lib.data.photos import layouts, reading

    if dataset not in layouts.LAYOUTS:
        raise ValueError(f"{dataset!r} is not a data set: valid are {', '.join(data.NAMES)}.")
    found = layouts.LAYOUTS[dataset](data_root)
    return reading.read(found, min(most, len(found.paths)), resolution, align=True, missing="drop")


def generator(chosen: Any = "", dataset: str = "rendered-faces") -> Any:
    """Return the generator that a notebook's parameters ask for.

    Parameters
    ----------
    chosen : path or object with ``encode`` and ``decode``
        A file that ``python -m diga_lib.latent`` wrote; "" for the one that is shipped; an object is returned as it
        is, so that a cell can be run again.
    dataset : str
        Chooses the shipped one: critters have one of their own.

    Raises
    ------
    FileNotFoundError, ValueError
        See :func:`diga_lib.latent.load_file`.
    """
    if callable(getattr(chosen, "decode", None)) and not isinstance(chosen, str):
        return chosen
    from diga_lib import latent  # imports torch

    shipped = "rendered-critters-64" if dataset in ("rendered-critters", "dogs-vs-cats") else "rendered-faces-64"
    return latent.load_file(chosen) if chosen else latent.load(shipped)


class ParameterError(ValueError):
    """A parameter that does not exist or has a bad value. A notebook shows its sentence and no traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"ParameterError: {self}"]


def _number(value: Any) -> Any:
    """Read "1/9" and "0.1" as numbers, since a command line gives strings."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def _list(value: Any) -> Any:
    """Read "['a', 'b']" as a list and a single value as a list of one, since a command line gives strings."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value if isinstance(value, list | tuple) else [value]


def _existing_folder(value: str) -> str:
    """Accept "" (none) and folders that exist, made absolute."""
    if value == "":
        return value
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise ValueError("no such folder")
    return str(folder.resolve())


def _generator(value: Any) -> Any:
    """Accept "", a file of weights (made absolute), and a generator that a cell has loaded from it already."""
    if value == "" or callable(getattr(value, "decode", None)) and not isinstance(value, str | bytes):
        return value
    file = Path(value).expanduser() if isinstance(value, str) else Path()
    if file.suffix != ".safetensors" or not file.is_file():
        raise ValueError("no such file of weights")
    return str(file.resolve())


def _available_device(value: str) -> str:
    if value in ("cuda", "mps"):  # torch is slow to import, and "auto" and "cpu" are always there
        from diga_lib import runtime

        runtime.device(value)
    return value


Folder = Annotated[str, AfterValidator(_existing_folder)]


class Parameters(BaseModel):
    """Every parameter that a notebook may declare. The description says what is valid."""

    model_config = ConfigDict(strict=True)

    profile: Literal["quick", "full"] = "quick"
    dataset: Literal["rendered-faces", "celeba", "utkface", "disfa", "dogs-vs-cats", "folder", "rendered-critters"] = (
        "rendered-faces"
    )
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
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], AfterValidator(_available_device)] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"


def attribute_names(dataset: str) -> list[str] | None:
    """Return the attributes of a data set by CelebA's names, or None where only its own table knows them."""
    if dataset == "celeba":
        return list(CELEBA_ATTRIBUTES)
    if dataset == "utkface":
        return ["Male", "Young", "Ethnicity"]
    if dataset == "disfa":
        from diga_lib.data.photos import disfa

        return [f"AU{unit}" for unit in disfa.UNITS]
    if dataset == "rendered-faces":
        from diga_lib.data import faces

        return list(faces.ATTRIBUTES)
    if dataset == "rendered-critters":
        from diga_lib.data import critters

        return list(critters.ATTRIBUTES)
    return None


def check(namespace: MutableMapping[str, Any], **own: tuple | list) -> None:
    """Check a notebook's parameters, and put the values back in the type they are meant to have.

    Parameters
    ----------
    namespace : mapping
        The notebook's ``globals()``.
    **own
        What is valid for parameters that only this notebook has: a tuple ``(low, high)`` for a number between
        the two (a whole number if both are), a list for one of its values, or for several of them if the
        notebook annotates the parameter as a list.

    Raises
    ------
    ParameterError
        With one sentence that says what was wrong and what is valid.
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
    if "data_root" in declared and checked.dataset in ON_DISK and not checked.data_root:
        raise ParameterError(f"dataset = {checked.dataset!r} needs data_root, the folder in which its images are")
    if {"data_root", "dataset"} <= set(declared) and checked.dataset not in ON_DISK and checked.data_root:
        raise ParameterError(
            f"data_root = {checked.data_root!r} belongs to no dataset; valid with it is dataset = {', '.join(ON_DISK)}"
        )
    if not {"target", "spurious"}.isdisjoint(declared):
        _check_attributes(checked, declared)
    namespace.update({name: getattr(checked, name) for name in declared})
    namespace["_parameters_checked"] = declared


def _refuse_unknown(namespace: MutableMapping[str, Any], declared: list[str], known: set[str]) -> None:
    """Raise if there is a plain value that is no declared parameter, or a declared one that nobody knows."""
    plain = (str, int, float, list, tuple, dict, type(None))  # what papermill can set; not modules, functions…
    of_ipython = {"In", "Out"}
    strays = [
        name
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in of_ipython and name not in declared
    ]
    for name in strays + [name for name in declared if name not in known]:
        close = difflib.get_close_matches(name, declared, n=1, cutoff=0.6)
        hint = f" (did you mean {close[0]}?)" if close and name not in declared else ""
        valid = ", ".join(d for d in declared if d in known)
        raise ParameterError(f"this notebook has no parameter {name!r}{hint}; its parameters are {valid}")


def _own_field(valid: tuple | list, annotation: Any) -> tuple[Any, Any]:
    """Return pydantic's (type, field) for a parameter that only one notebook has."""
    if isinstance(valid, list):
        choice = Literal[tuple(valid)]
        words = ", ".join(map(str, valid))
        if (get_origin(annotation) or annotation) is list:
            kind, words = Annotated[list[choice], BeforeValidator(_list), Field(min_length=1)], f"a list from {words}"
        else:
            kind = choice
        return kind, Field(description=words)
    low, high = valid
    whole = isinstance(low, int) and isinstance(high, int)
    kind = int if whole else Annotated[float, BeforeValidator(_number)]
    words = f"a {'whole ' if whole else ''}number from {low} to {high}"
    return kind, Field(ge=low, le=high, description=words)


def _sentence(name: str, value: Any, model: type[BaseModel]) -> str:
    field = model.model_fields[name]
    valid = field.description or ", ".join(getattr(field.annotation, "__args__", ("a word",)))
    return f"{name} = {value!r} is not valid; valid is {valid}"


def _check_attributes(checked: BaseModel, declared: list[str]) -> None:
    """Raise unless the target is an attribute and the spurious attributes (one, or "A&B") are others."""
    names = attribute_names(checked.dataset)
    spurious = checked.spurious.split("&") if "spurious" in declared else []
    target = [checked.target] if "target" in declared else []
    for role, attribute in [("target", a) for a in target] + [("spurious", a) for a in spurious]:
        if names is not None and attribute not in names:
            close = difflib.get_close_matches(attribute, names, n=1, cutoff=0.6)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ParameterError(
                f"{role} = {attribute!r} is not an attribute of {checked.dataset}{hint}; valid are {', '.join(names)}"
            )
    if len({*target, *spurious}) < len(target) + len(spurious):
        raise ParameterError(
            f"target = {checked.target!r} and spurious = {checked.spurious!r} must name different attributes"
        )
