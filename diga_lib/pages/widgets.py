"""Sliders that redraw faces, in a running notebook and on a published page that has no kernel.

The frames are painted once, when the widget is made. A link on the reader's side joins the slider to them, so a
drag (or the arrow keys, once the slider has the focus) is answered without Python.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from ipywidgets import HTML, Layout, SelectionSlider, Stack, VBox, jslink
from PIL import Image
from torch import Tensor

from diga_lib.directions import Direction, paper_direction

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
    frames : sequence of uint8 arrays (H, W, 3)
        One picture for each place of the slider.
    labels : sequence of str
        What the slider says at each place; all different.
    description : str
        Name of the slider.
    alt : str
        What the pictures show, in words, for who cannot see them; the slider's name and label are added.
    start : int, optional
        The first place shown; the middle if not given.
    zoom : float
        Pixels on the page for each pixel of the frames; on a narrow page they shrink to fit.

    Returns
    -------
    ipywidgets.VBox

    Raises
    ------
    ValueError
        If the frames, the labels or the start are not valid.
    """
    labels = [str(label) for label in labels]
    start = len(frames) // 2 if start is None else start
    if len(frames) == 0 or len(frames) != len(labels) or len(set(labels)) != len(labels):
        raise ValueError(f"{len(frames)} frames and labels {labels}: each frame needs its own label.")
    if not 0 <= start < len(frames):
        raise ValueError(f"start is {start}; valid is a whole number from 0 to {len(frames) - 1}.")
    pictures = [
        HTML(_picture(f, f"{alt}, {description} {label}", zoom)) for f, label in zip(frames, labels, strict=True)
    ]
    slider = SelectionSlider(
        options=labels,
        index=start,
        description=description,
        continuous_update=True,
        style={"description_width": "initial"},
        layout=Layout(width="95%", max_width="480px"),
    )
    stack = Stack(pictures, selected_index=start)
    jslink((slider, "index"), (stack, "selected_index"))
    return VBox([slider, stack])


def degree_slider(
    generator, found: Direction, codes: Tensor, degrees: Sequence[float] = np.linspace(-4, 4, 17)
) -> VBox:
    """Let a reader move faces along a direction.

    Parameters
    ----------
    generator : object with ``decode``
    found : Direction
    codes : Tensor (N, levels, width)
        The faces, shown in one row.
    degrees : sequence of float
        Places of the slider, in standard deviations.
    """
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
    generator : object with ``decode``
    codes : Tensor (N, levels, width)
        The faces, one row each, with a column for each degree.
    train_codes : Tensor (M, levels, width)
        A degree is a standard deviation of these.
    normals : sequence of Tensor (levels, width)
        One for each place of the slider.
    labels, description
        As for :func:`frames_slider`.
    degrees : sequence of float
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
    x = (images.detach().cpu() * 255).round().byte().numpy()
    count, channels, height, width = x.shape
    x = x.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(count // columns * height, columns * width, channels)


def _picture(frame: np.ndarray, alt: str, zoom: float) -> str:
    """HTML of a picture with its bytes inside; an Image widget has no alternative text."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError("A frame is not a picture: valid are uint8 arrays of shape (height, width, 3).")
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", quality=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{html.escape(alt)}" src="data:image/webp;base64,{data}" '
        f'style="width: {round(zoom * frame.shape[1])}px; max-width: 100%; height: auto">'
    )
