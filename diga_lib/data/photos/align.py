"""Align photographs with the rendered faces: find two eyes, and turn, scale and shift them into place.

Points are continuous pixel coordinates, x to the right and y down, with (0, 0) at the corner of the picture
and (0.5, 0.5) at the centre of its first pixel. "Left" and "right" are the picture's, not the person's.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import cv2
import numpy as np
from PIL import Image

from diga_lib.data.painter import EYE_X, EYE_Y

MOST_PADDING = 2.0  # how far a crop may reach beyond the picture, in widths or heights of the picture
_SEARCH_SIZE = 384  # pixels on the longer side of the picture in which a face is looked for
_FACE_SIZE = 200  # pixels across the face in which eyes are looked for


class NoFaceFound(ValueError):
    """There is no face with two visible eyes in a photograph."""


def target_eyes(resolution: int) -> np.ndarray:
    """Where the eyes of rendered faces lie, shape (2, 2): rows (left, right), columns (x, y), in pixels."""
    return (np.array([[-EYE_X, EYE_Y], [EYE_X, EYE_Y]]) + 1) * resolution / 2


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that maps two points onto two others.

    Parameters
    ----------
    source, target : ndarray, shape (2, 2)
        Two points (x, y) each.

    Returns
    -------
    ndarray of float64, shape (2, 3)
        A with ``target = source @ A[:, :2].T + A[:, 2]``.

    Raises
    ------
    ValueError
        When the two source points coincide.
    """
    # As complex numbers the map is z -> a z + b: |a| scales, its angle turns, b shifts.
    (s0, s1), (t0, t1) = np.asarray(source, float) @ (1, 1j), np.asarray(target, float) @ (1, 1j)
    if s0 == s1:
        raise ValueError(f"The two eyes lie on one point {np.asarray(source)[0].tolist()}: valid are two points")
    a = (t1 - t0) / (s1 - s0)
    b = t0 - a * s0
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(image: Image.Image, eyes: np.ndarray, resolution: int) -> np.ndarray:
    """Crop a face so that its eyes lie where rendered faces have them, without aliasing.

    Beyond the picture's border its outermost pixels are repeated.

    Parameters
    ----------
    image : PIL.Image.Image
        An RGB picture.
    eyes : ndarray, shape (2, 2)
        The picture's left and right eye, (x, y) in pixels.
    resolution : int
        Height and width of the result in pixels.

    Returns
    -------
    ndarray of uint8, shape (3, resolution, resolution)

    Raises
    ------
    ValueError
        When the eyes coincide, or lie such that hardly any of the crop is inside the picture.
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
        raise ValueError(
            f"eyes at {np.round(eyes, 1).tolist()} put the face outside the picture of "
            f"{image.width}x{image.height} pixels"
        )
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
    """Find the two eyes of the largest face in a picture.

    OpenCV's cascades find the face, then eyes in its upper part, in the picture and in its mirror image. The
    pair most like an upright face wins, and each eye is the median of all finds that agree with it.

    Parameters
    ----------
    image : PIL.Image.Image
        An RGB picture with one roughly upright, frontal face.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        The picture's left and right eye, (x, y) in pixels.

    Raises
    ------
    NoFaceFound
        When no face, or no pair of eyes in the largest face, is found.

    References
    ----------
    P. Viola and M. Jones, "Rapid object detection using a boosted cascade of simple features", CVPR 2001.
    """
    scale = min(1, _SEARCH_SIZE / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    small = image.convert("L").resize(size, Image.Resampling.BOX)
    margin = max(small.size) // 5  # tightly cropped faces are found only with something around them
    gray = np.pad(np.asarray(small), margin, mode="edge")
    faces = _detect("haarcascade_frontalface_alt2.xml", gray, min(small.size) // 5)
    if not len(faces):
        raise NoFaceFound("no face is found")
    left, top, size, _ = max(faces, key=lambda box: box[2])
    zoom = _FACE_SIZE / size
    upper = cv2.resize(gray[top : top + int(0.6 * size), left : left + size], None, fx=zoom, fy=zoom)
    found = []
    for mirrored in (False, True):
        picture = np.ascontiguousarray(upper[:, ::-1]) if mirrored else upper
        for cascade in ("haarcascade_eye.xml", "haarcascade_eye_tree_eyeglasses.xml"):
            for x, y, width, height in _detect(cascade, picture, _FACE_SIZE // 6):
                x = x + width / 2
                found.append((upper.shape[1] - x if mirrored else x, y + height / 2))
    pair = _best_pair(np.array(found).reshape(-1, 2) / _FACE_SIZE)
    return (pair * size + (left, top) - margin) / (np.array(small.size) / image.size)


def _best_pair(found):
    """The two eyes among finds in units of the face box, by their distance from where eyes usually are."""
    usual = np.array([[0.31, 0.39], [0.69, 0.39]])
    near = [[point for point in found if np.abs(point - eye).max() < 0.14] for eye in usual]
    pairs = [np.array(pair) for pair in product(*near)]
    # A pair's tilt and width are surer than its place: the face box itself is off by a few percent.
    pairs = [pair for pair in pairs if abs(pair[1, 1] - pair[0, 1]) < 0.12]
    if not pairs:
        raise NoFaceFound("no pair of open eyes is found in its face")

    def agreeing(point):
        return found[np.hypot(*(found - point).T) < 0.06]

    def support(pair):
        return min(len(agreeing(eye)) for eye in pair), -np.hypot(*(pair - usual).T).sum()

    best = max(pairs, key=support)
    return np.array([np.median(agreeing(eye), axis=0) for eye in best])


@cache
def _cascade(name):
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


def _detect(name, gray, least):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the same finds in the same order on every machine
    try:
        return _cascade(name).detectMultiScale(gray, 1.1, 3, minSize=(least, least))
    finally:
        cv2.setNumThreads(threads)
