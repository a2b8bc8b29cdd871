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

__all__ = [
    "EIIL",
    "ERM",
    "JTT",
    "MAPLE",
    "CVaRDRO",
    "DiGA",
    "DiGAOneStage",
    "GroupDRO",
    "LfF",
    "PseudoGroups",
    "Settings",
]

# What each method's small search tries: as many trials for each, the published values first.
SEARCH = {
    "CVaRDRO": [{"alpha": 0.1}, {"alpha": 0.2}, {"alpha": 0.5}, {"alpha": 0.8}],
    "EIIL": [
        {"penalty_weight": 1e4},
        {"penalty_weight": 1e2},
        {"penalty_weight": 1.0},
        {"penalty_weight": 1.0, "first_epochs": 2},
    ],
    "LfF": [{"q": 0.7}, {"q": 0.5}, {"q": 0.3}, {"q": 0.9}],
    "JTT": [{"upweight": 20}, {"upweight": 5}, {"upweight": 5, "first_epochs": 2}, {"upweight": 20, "first_epochs": 2}],
    "MAPLE": [{"share": 0.3}, {"share": 0.5}, {"share": 0.8}, {"share": 0.5, "first_epochs": 2}],
}
