"""Real data sets as streams: torchvision's by their names there, where they are on disk, or a folder of folders."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diga_lib.data.photos.files import open_rgb
from diga_lib.test_time.class_spaces import ClassSpace, Stream

# What each of torchvision's classes wants to hear to give its test images, and what its classes are kinds of.
TORCHVISION = {
    "FGVCAircraft": ({"split": "test"}, "a type of aircraft"),
    "Caltech101": ({}, ""),
    "StanfordCars": ({"split": "test"}, ""),
    "DTD": ({"split": "test"}, "a texture"),
    "EuroSAT": ({}, "a satellite photo"),
    "Flowers102": ({"split": "test"}, "a type of flower"),
    "Food101": ({"split": "test"}, "a type of food"),
    "OxfordIIITPet": ({"split": "test"}, "a type of pet"),
    "SUN397": ({}, ""),
    "CIFAR10": ({"train": False}, ""),
    "CIFAR100": ({"train": False}, ""),
}


def real_stream(name, root, n=None, size=224, seed=0):
    """Read a stream of real images; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        One of ``TORCHVISION``, the data set's class in `torchvision.datasets`, or "folder": a folder for each
        class, named as the class, as in torchvision's ImageFolder; hidden files and folders are passed over.
    root : path
        Where the data set lies: what torchvision calls root.
    n : int, optional
        How many images, all by default.
    size : int
        Side in pixels to which images are resized and cut.
    seed : int
        Of the order.

    Returns
    -------
    Stream
        With prompts such as "a dalmatian, a type of pet"; its space has no shift.

    Raises
    ------
    ValueError
        If there is no such data set, or a file in a class's folder is not an image.
    FileNotFoundError
        If it is not at `root`, or torchvision is not installed.
    """
    if name != "folder" and name not in TORCHVISION:
        raise ValueError(f"There is no data set {name!r}; valid are folder, {', '.join(TORCHVISION)}.")
    names, count, get = _folder(Path(root)) if name == "folder" else _torchvision(name, root)
    kind = "" if name == "folder" else TORCHVISION[name][1]
    pairs = [get(int(row)) for row in np.random.default_rng(seed).permutation(count)[:n]]
    fit = partial(ImageOps.fit, size=(size, size), method=Image.Resampling.BICUBIC)
    images = np.stack([np.asarray(fit(image.convert("RGB"))).transpose(2, 0, 1) for image, _ in pairs])
    words = {label: label.replace("_", " ").lower() for label in names}
    prompts = {
        label: f"{'an' if word[0] in 'aeiou' else 'a'} {word}" + (f", {kind}" if kind else "")
        for label, word in words.items()
    }
    return Stream(images, np.array([label for _, label in pairs], np.int64), ClassSpace(name, prompts, "none", 1.0))


def _folder(root):
    """Names of the classes, number of images, and a function from a row to (picture, label)."""
    visible = [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]
    files = [(path, label) for label, folder in enumerate(visible) for path in sorted(folder.glob("[!.]*"))]
    files = [(path, label) for path, label in files if path.suffix.lower() in Image.registered_extensions()]
    if len(visible) < 2 or not files:
        raise FileNotFoundError(f"{root} does not hold a folder of images for each of two or more classes.")
    return [path.name for path in visible], len(files), lambda row: (open_rgb(str(files[row][0])), files[row][1])


def _torchvision(name, root):
    """As `_folder`, of one of torchvision's data sets, which opens its own files."""
    try:
        import torchvision.datasets
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"Reading {name} needs the package torchvision, which is not installed here; "
            "'folder' reads a folder for each class and needs nothing."
        ) from error
    try:
        dataset = getattr(torchvision.datasets, name)(root=str(root), download=False, **TORCHVISION[name][0])
    except RuntimeError as error:  # how torchvision says so
        raise FileNotFoundError(f"{name} is not at {root}: {error}") from error
    names = getattr(dataset, "classes", None) or dataset.categories
    return list(names), len(dataset), dataset.__getitem__
