"""Test-time adaptation: TDA, and what its table compares it with, on ten class spaces."""

from diga_lib.test_time.class_spaces import SPACES, ClassSpace, Stream, class_weights, stream
from diga_lib.test_time.prompts import TPT, CoCoOp, CoOp, Training, Tuning, diff_tpt
from diga_lib.test_time.tda import TDA, Cache, Settings

__all__ = [
    "SPACES",
    "TDA",
    "TPT",
    "Cache",
    "ClassSpace",
    "CoCoOp",
    "CoOp",
    "Settings",
    "Stream",
    "Training",
    "Tuning",
    "class_weights",
    "diff_tpt",
    "stream",
]
