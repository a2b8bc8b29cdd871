"""Training methods: each has ``fit(train, seed)``, ``predict(images)`` and ``scores(images)``."""

from diga_lib.methods.cvar_dro import CVaRDRO
from diga_lib.methods.diga import DiGA
from diga_lib.methods.diga_one_stage import DiGAOneStage, PseudoGroups
from diga_lib.methods.eiil import EIIL
from diga_lib.methods.erm import ERM, Settings
from diga_lib.methods.group_dro import GroupDRO
from diga_lib.methods.jtt import JTT
from diga_lib.methods.lff import LfF
from diga_lib.methods.maple import MAPLE

__all__ = ["EIIL", "ERM", "JTT", "MAPLE", "CVaRDRO", "DiGA", "DiGAOneStage", "GroupDRO", "LfF"]
__all__ += ["PseudoGroups", "Settings"]
