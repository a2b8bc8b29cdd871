"""Decode image files of any origin to small RGB pictures, refusing what is damaged or unreasonable."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from diga_lib.data.photos.align import NoFaceFound, align, find_eyes

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MOST_PIXELS = 110_000_000  # of a telephone; a small file can unpack to far more than fits in memory
LEAST_SIDE = 16
READ, NO_FACE, BROKEN = range(3)  # what became of a file


def open_rgb(path: str | Path) -> Image.Image:
    """Open an image file as an upright RGB picture with 8 bits a channel; what is transparent becomes white.

    What is empty, truncated, animated, too large, too small or not an image is a ValueError that names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the stricter
            image = Image.open(path, formats=FORMATS)
        with image:
            wrong = _unreasonable(image)
            if not wrong:
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as fault:
        raise ValueError(f"{path} is not an image: valid are whole files of {', '.join(FORMATS)}.") from fault
    except Exception as fault:  # of a damaged file decoders raise anything: TypeError, KeyError, struct.error, ...
        raise ValueError(f"{path} cannot be decoded ({fault}): valid are whole image files.") from fault
    raise ValueError(f"{path} {wrong}.")


def _unreasonable(image):
    if image.width * image.height > MOST_PIXELS:
        return f"unpacks to {image.width}x{image.height} pixels: valid are at most {MOST_PIXELS:,}"
    if min(image.size) < LEAST_SIDE:
        return f"has {image.width}x{image.height} pixels: valid are sides of at least {LEAST_SIDE}"
    # Phones write several pictures into one MPO file; the first is the photograph.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        return f"holds {image.n_frames} frames: valid is a still picture"
    return None


def _to_rgb(image):
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits a channel: PIL would cut off everything above 255 instead of scaling it.
        values = np.asarray(image, np.float64)
        return Image.fromarray((np.clip(values / 65535, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def picture(path: str, eyes: np.ndarray | None, how: dict) -> np.ndarray:
    """Read one file as uint8 (3, resolution, resolution); `eyes` (2, 2) in pixels are looked for if they are None.

    `how` has "resolution"; "align", whether to bring the eyes into place or to crop the middle square; "size", width
    and height that the picture must have, or None; and "eyes_size", those for which `eyes` hold, or None for all. What
    cannot be read or aligned is a ValueError, a picture without a face `NoFaceFound`.
    """
    image, resolution = open_rgb(path), how["resolution"]
    if how["size"] is not None and image.size != tuple(how["size"]):
        said = "{} has {}x{} pixels and not {}x{}".format(path, *image.size, *how["size"])
        raise ValueError(f"{said}: valid are images of one size, or a folder of faces with align=True.")
    if not how["align"]:
        square = ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)
        return np.asarray(square).transpose(2, 0, 1)
    if eyes is None or (how["eyes_size"] is not None and image.size != tuple(how["eyes_size"])):
        eyes = find_eyes(image)
    try:
        return align(image, eyes, resolution)
    except ValueError as fault:
        raise ValueError(f"{path} cannot be aligned: {fault}.") from fault


def decode(
    paths: list[str | None], eyes: list[np.ndarray | None], keys: np.ndarray, how: dict
) -> dict[str, np.ndarray]:
    """Decode m image files, some of which may be broken; None is a row that is left empty.

    `eyes` and `how` are as for :func:`picture`; `keys` (m, k) tell each file from all others. Returned are
    "images", black where nothing was read; "state" (m,): READ, NO_FACE or BROKEN; and "key", 0 for a broken file.
    """
    images = np.zeros((len(paths), 3, how["resolution"], how["resolution"]), np.uint8)
    state, keys = np.full(len(paths), BROKEN, np.uint8), keys.copy()
    for i, (path, points) in enumerate(zip(paths, eyes, strict=True)):
        try:
            if path is not None:
                images[i] = picture(path, points, how)
                state[i] = READ
        except NoFaceFound:
            state[i] = NO_FACE
        except ValueError:
            pass  # it stays BROKEN; the sentence is asked for once more when all are known
    keys[state == BROKEN] = 0
    return {"images": images, "state": state, "key": keys}
