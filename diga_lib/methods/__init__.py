"""Training methods: each has ``fit(train, seed)``, ``predict(images)`` and ``scores(images)``."""

from diga_lib.methods.erm import ERM, Settings
from diga_lib.methods.group_dro import GroupDRO

__all__ = ["ERM", "GroupDRO", "Settings"]
