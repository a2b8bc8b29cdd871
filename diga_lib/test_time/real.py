"""Real data sets as streams: torchvision's by their names there, where they are on disk, or a folder of folders."""

from pathlib import Path

import numpy as np
from PIL import Image

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
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def real_stream(name, root, n=None, size=224, seed=0):
    """Read a stream of real images; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        One of ``TORCHVISION``, the data set's class in `torchvision.datasets`, or "folder": a folder for each
        class, named as the class, as in torchvision's ImageFolder.
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
        If there is no such data set.
    FileNotFoundError
        If it is not at `root`, or torchvision is not installed.
    """
    if name == "folder":
        names, count, get = _folder(Path(root))
        kind = ""
    elif name in TORCHVISION:
        names, count, get = _torchvision(name, root)
        kind = TORCHVISION[name][1]
    else:
        raise ValueError(f"There is no data set {name!r}; valid are folder, {', '.join(TORCHVISION)}.")
    rows = np.random.default_rng(seed).permutation(count)[:n]
    pairs = [get(int(row)) for row in rows]
    images = np.stack([_square(image, size) for image, _ in pairs])
    words = [label.replace("_", " ").lower() for label in names]
    prompts = {
        label: f"{'an' if word[0] in 'aeiou' else 'a'} {word}" + (f", {kind}" if kind else "")
        for label, word in zip(names, words)
    }
    space = ClassSpace(name, prompts, "none", 1.0)
    return Stream(images, np.array([label for _, label in pairs], np.int64), space)


def _folder(root):
    names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if len(names) < 2 or not files:
        raise FileNotFoundError(f"{root} does not hold a folder of images for each of two or more classes.")

    def get(row):
        path, label = files[row]
        with Image.open(path) as image:
            return image.convert("RGB"), label

    return names, len(files), get


def _torchvision(name, root):
    try:
        import torchvision.datasets
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"Reading {name} needs the package torchvision, which is not installed here; "
            "'folder' reads a folder for each class and needs nothing."
        ) from error
    arguments, _ = TORCHVISION[name]
    try:
        dataset = getattr(torchvision.datasets, name)(root=str(root), download=False, **arguments)
    except RuntimeError as error:  # how torchvision says so
        raise FileNotFoundError(f"{name} is not at {root}: {error}") from error
    names = getattr(dataset, "classes", None) or dataset.categories
    return list(names), len(dataset), lambda row: dataset[row]


def _square(image, size):
    """Resize the shorter side and cut the middle: uint8 (3, size, size)."""
    image = image.convert("RGB")
    factor = size / min(image.size)
    image = image.resize([max(size, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), np.uint8).transpose(2, 0, 1)
