"""Test-time adaptation: TDA, and what its table compares it with, on ten class spaces."""

from diga_lib.test_time.class_spaces import SPACES, ClassSpace, Stream, class_weights, stream
from diga_lib.test_time.prompts import TPT, CoCoOp, CoOp, DiffTPT
from diga_lib.test_time.tda import TDA, Settings

__all__ = ["SPACES", "TDA", "TPT", "ClassSpace", "CoCoOp", "CoOp", "DiffTPT", "Settings", "Stream", "class_weights"]
__all__ += ["stream"]
