"""Training methods: each has ``fit(train, seed)``, ``predict(images)`` and ``scores(images)``."""

from diga_lib.methods.byol import DiGABYOL
from diga_lib.methods.diga import DiGA, PseudoGroups
from diga_lib.methods.erm import ERM, Settings
from diga_lib.methods.group_dro import GroupDRO

__all__ = ["DiGA", "DiGABYOL", "ERM", "GroupDRO", "PseudoGroups", "Settings"]
