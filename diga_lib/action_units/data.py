"""Expression sequences: subjects who are filmed while their faces move, with twelve action units in each frame.

The plan is DISFA's: 27 subjects, of whom 18 train and 9 test, intensities from 0 to 5. Training reads labels as a human
coder gives them, whole numbers; the true intensities of the test subjects score the edits.
"""

from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import pandas as pd

from diga_lib.data import faces
from diga_lib.data.store import open_store

UNITS = faces.ACTION_UNITS
POPULATION = 27  # seed of the renderer's population that the subjects come from; nothing else in the book uses it
TRAIN_SUBJECTS, TEST_SUBJECTS = 18, 9
SESSIONS, FRAMES = 4, 100  # sessions of each subject (light and place differ), frames of each session
EVENTS = 0.08  # of each kind (12 units, 8 groups) per four frames: each unit is at 1 or more in a third of the frames
VERSION = 1  # changes when the same frame is drawn with other intensities

# Units that faces move together: a raised brow, a frown, a smile, disgust, a sulk, surprise, a stretched mouth.
GROUPS = ["AU1 AU2", "AU4", "AU6 AU12", "AU4 AU9", "AU15 AU17", "AU25 AU26", "AU5", "AU20 AU25"]


@dataclass(frozen=True)
class Sequences:
    """Frames of expression sequences; those of one subject and session share the person, the light and the place."""

    images: np.ndarray  #: uint8 (N, 3, R, R)
    intensities: np.ndarray  #: float32 (N, 12), the true ones, in 0-5, columns ``UNITS``
    subject: np.ndarray  #: int (N,)
    session: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """What a coder writes down: the intensities as whole numbers 0-5, float32 (N, 12)."""
        return np.round(self.intensities)

    @property
    def film(self) -> np.ndarray:
        """A number (N,) for each pair of subject and session."""
        return self.subject * SESSIONS + self.session

    def select(self, keep: np.ndarray) -> Self:
        """Some of the frames, by positions or a mask."""
        return Sequences(self.images[keep], self.intensities[keep], self.subject[keep], self.session[keep])

    def __len__(self) -> int:
        return len(self.images)


def trajectories(frames: int, seed: list[int]) -> np.ndarray:
    """Draw how the twelve units rise and fall over a session: float32 (frames, 12), in 0-5.

    An event moves one unit, or a group of ``GROUPS`` together, along a smooth bump: onset, apex, offset. Where the
    bumps of a unit overlap, the higher one shows.
    """
    rng = np.random.default_rng(seed)
    time, course = np.arange(frames)[:, None], np.zeros((frames, len(UNITS)))
    for units in [[unit] for unit in UNITS] + [group.split() for group in GROUPS]:
        columns = [UNITS.index(unit) for unit in units]
        for _ in range(rng.poisson(EVENTS * frames / 4)):
            apex, width = rng.uniform(0, frames), rng.uniform(4, 12)
            height = 5 * rng.uniform(0.15, 1) * rng.uniform(0.7, 1, len(units))
            bump = height * np.exp(-(((time - apex) / width) ** 2))
            course[:, columns] = np.maximum(course[:, columns], bump)
    return course.astype(np.float32)


def subjects() -> np.ndarray:
    """The identities of the 27 subjects: the first of the population who wear no sunglasses, which hide five units."""
    candidates = np.arange(60)
    p, _, _ = faces.parameters(POPULATION, candidates)
    return candidates[p["glasses"] * p["sunglasses"] == 0][: TRAIN_SUBJECTS + TEST_SUBJECTS]


def draw(identities, intensities, expressions, cameras, population: int = POPULATION) -> np.ndarray:
    """Draw people with given intensities (N, 12), uint8 (N, 3, 64, 64): the oracle of every editor.

    The rest is (N,) as for :func:`diga_lib.data.faces.parameters`; the expression gives gaze and teeth only.
    """
    units = pd.DataFrame(np.asarray(intensities, np.float32), columns=UNITS)
    p, _, _ = faces.parameters(population, identities, expressions, cameras, 64, units)
    p["blink"] = np.zeros_like(p["blink"])  # a closed eye would hide the unit that is asked for
    return faces.draw(p)


def load(part: str = "train") -> Sequences:
    """Load the "train" or the "test" subjects' sequences, 400 frames each; they are drawn once and kept on disk."""
    if part not in ("train", "test"):
        raise ValueError(f"part is {part!r}; valid parts are 'train' and 'test'.")
    first, count = (0, TRAIN_SUBJECTS) if part == "train" else (TRAIN_SUBJECTS, TEST_SUBJECTS)
    rows = np.arange(count * SESSIONS * FRAMES)
    subject, session = first + rows // (SESSIONS * FRAMES), rows // FRAMES % SESSIONS
    identity = {"name": f"expression-sequences-{part}", "population": POPULATION, "resolution": 64}
    identity |= {"version": VERSION, "faces": faces.VERSION}
    arrays = open_store(identity, len(rows), partial(_frames, first=first), "filming subjects")
    return Sequences(arrays["images"], np.array(arrays["intensities"]), subject, session)


def redraw(like: Sequences, intensities: np.ndarray) -> np.ndarray:
    """Draw the people of some frames again, in their own light, with other intensities (N, 12): uint8 images."""
    return draw(subjects()[like.subject], intensities, like.film, like.film)


def _frames(rows: np.ndarray, first: int) -> dict[str, np.ndarray]:
    film = first * SESSIONS + rows // FRAMES
    courses = {number: trajectories(FRAMES, [POPULATION, int(number)]) for number in np.unique(film)}
    intensities = np.stack([courses[number][row % FRAMES] for number, row in zip(film, rows, strict=True)])
    return {"images": draw(subjects()[film // SESSIONS], intensities, film, film), "intensities": intensities}
