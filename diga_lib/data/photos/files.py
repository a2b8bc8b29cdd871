"""Decode image files of any origin to small RGB pictures, refusing what is damaged or unreasonable."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from diga_lib.data.photos.align import NoFaceFound, align, find_eyes

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MOST_PIXELS = 50_000_000  # a small file can unpack to far more than fits in memory
LEAST_SIDE = 16


def open_rgb(path: str) -> Image.Image:
    """Open an image file as an upright RGB picture with 8 bits a channel.

    Grayscale, palette, CMYK and 16-bit pictures are converted; what is transparent becomes white.

    Raises
    ------
    ValueError
        When the file is empty, truncated, animated, too large, too small or not an image; the sentence
        names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the stricter
            image = Image.open(path, formats=FORMATS)
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{path} unpacks to {image.width}x{image.height} pixels: valid are at most {MOST_PIXELS:,}."
                )
            if min(image.size) < LEAST_SIDE:
                raise ValueError(
                    f"{path} has {image.width}x{image.height} pixels: valid are sides of at least {LEAST_SIDE}."
                )
            # Phones write several pictures into one MPO file; the first is the photograph.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ValueError(f"{path} holds {image.n_frames} frames: valid is a still picture.")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as fault:
        raise ValueError(f"{path} is not an image: valid are whole files of {', '.join(FORMATS)}.") from fault
    except (OSError, SyntaxError, Image.DecompressionBombError) as fault:
        raise ValueError(f"{path} cannot be decoded ({fault}): valid are whole image files.") from fault


def decode(
    paths: list[str], eyes: np.ndarray | None, size: tuple[int, int] | None, resolution: int, aligned: bool
) -> dict[str, np.ndarray]:
    """Decode image files to pictures of one size.

    Parameters
    ----------
    paths : list of str
        The m files.
    eyes : ndarray or None, shape (m, 2, 2)
        Eye points in pixels; None has them found.
    size : tuple of int or None
        Width and height that every picture must have, if they must.
    resolution : int
        Height and width of the result.
    aligned : bool
        Bring the eyes into place; otherwise crop the middle square.

    Returns
    -------
    dict
        "images" (uint8, (m, 3, resolution, resolution)) and "found" (bool, (m,)): False, and a black picture,
        where no face was found.

    Raises
    ------
    ValueError
        When a file is not a valid image, or has another size, or its eyes are not inside it.
    """
    images = np.zeros((len(paths), 3, resolution, resolution), np.uint8)
    found = np.ones(len(paths), bool)
    for i, path in enumerate(paths):
        image = open_rgb(path)
        if size is not None and image.size != tuple(size):
            raise ValueError(
                f"{path} has {image.width}x{image.height} pixels and not {size[0]}x{size[1]}: "
                "valid are images of one size, or a folder of faces with align=True."
            )
        if not aligned:
            square = ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)
            images[i] = np.asarray(square).transpose(2, 0, 1)
            continue
        try:
            images[i] = align(image, find_eyes(image) if eyes is None else eyes[i], resolution)
        except NoFaceFound:
            found[i] = False
        except ValueError as fault:
            raise ValueError(f"{path} cannot be aligned: {fault}.") from fault
    return {"images": images, "found": found}


def _to_rgb(image):
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits a channel: PIL would cut off everything above 255 instead of scaling it.
        values = np.asarray(image, np.float64)
        return Image.fromarray((np.clip(values / 65535, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
