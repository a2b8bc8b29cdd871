"""Sliders that redraw faces, in a running notebook and on a published page that has no kernel.

The frames are painted once, when the widget is made. A link on the reader's side joins the slider to them, so a
drag (or the arrow keys, once the slider has the focus) is answered without Python.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from ipywidgets import HTML, Layout, SelectionSlider, Stack, VBox, jslink
from PIL import Image
from torch import Tensor

from diga_lib.directions import Direction, paper_direction
from diga_lib.pages.plots import as_pixels

DEGREES = (-3.0, -1.5, 0.0, 1.5, 3.0)


def frames_slider(
    frames: Sequence[np.ndarray],
    labels: Sequence[str],
    description: str,
    alt: str,
    start: int | None = None,
    zoom: float = 2.0,
) -> VBox:
    """Put a slider above pictures, of which it shows one.

    Parameters
    ----------
    frames, labels : sequences of uint8 arrays (H, W, 3) and of str
        One picture for each place of the slider, and what the slider says there; all labels are different.
    description, alt : str
        Name of the slider, and what the pictures show, in words; the slider's name and label are added.
    start, zoom : int, float
        The first place shown, by default the middle; pixels on the page for each pixel of the frames, if there is room.
    """
    labels = [str(label) for label in labels]
    start = len(frames) // 2 if start is None else start
    if len(frames) == 0 or len(frames) != len(labels) or len(set(labels)) != len(labels):
        raise ValueError(f"{len(frames)} frames and labels {labels}: each frame needs its own label.")
    if not 0 <= start < len(frames):
        raise ValueError(f"start is {start}; valid is a whole number from 0 to {len(frames) - 1}.")
    pictures = [  # an Image widget has no alternative text
        HTML(
            f'<img alt="{html.escape(f"{alt}, {description} {label}")}" src="data:image/webp;base64,{webp(frame)}" '
            f'style="width: {round(zoom * frame.shape[1])}px; max-width: 100%; height: auto">'
        )
        for frame, label in zip(frames, labels, strict=True)
    ]
    layout, style = Layout(width="95%", max_width="480px"), {"description_width": "initial"}
    slider = SelectionSlider(options=labels, index=start, description=description, style=style, layout=layout)
    stack = Stack(pictures, selected_index=start)
    jslink((slider, "index"), (stack, "selected_index"))
    return VBox([slider, stack])


def degree_slider(
    generator, found: Direction, codes: Tensor, degrees: Sequence[float] = np.linspace(-4, 4, 17)
) -> VBox:
    """Let a reader move faces, codes (N, levels, width) shown in one row, along a direction by standard deviations."""
    frames = [tile(generator.decode(found.move(codes, float(d))), len(codes)) for d in degrees]
    return frames_slider(frames, [f"{d:+.2g}" for d in degrees], "degree", f"{len(codes)} faces in a row")


def normals_slider(
    generator,
    codes: Tensor,
    train_codes: Tensor,
    normals: Sequence[Tensor],
    labels: Sequence[str],
    description: str,
    degrees: Sequence[float] = DEGREES,
) -> VBox:
    """Let a reader choose a boundary, by its strength or its c, and see the faces move along its normal.

    Parameters
    ----------
    generator, codes, train_codes : object with ``decode``, Tensors (N, levels, width)
        The faces, one row each, with a column for each degree, and those whose standard deviation is a degree.
    normals, labels, description : sequences of Tensor (levels, width) and of str, str
        One normal for each place of the slider; the others are as for :func:`frames_slider`.
    """
    repeated = codes.repeat_interleave(len(degrees), 0)
    steps = np.tile(np.asarray(degrees, np.float32), len(codes))
    found = [paper_direction(train_codes, normal) for normal in normals]
    frames = [tile(generator.decode(one.move(repeated, steps)), len(degrees)) for one in found]
    return frames_slider(frames, labels, description, f"{len(codes)} faces at {len(degrees)} degrees")


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Join float images (N, 3, H, W) in [0, 1], row by row, to one picture, uint8 (rows H, columns W, 3)."""
    if len(images) % columns:
        raise ValueError(f"{len(images)} images do not fill rows of {columns}: valid is a multiple.")
    pixels = as_pixels(images.detach().cpu())
    return np.vstack([np.hstack(pixels[k : k + columns]) for k in range(0, len(pixels), columns)])


def webp(pixels: np.ndarray) -> str:
    """Return a picture, uint8 (H, W, 3), as base64 text of a WebP file, for the address of an image on a page."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError("A frame is not a picture: valid are uint8 arrays of shape (height, width, 3).")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "WEBP", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()
