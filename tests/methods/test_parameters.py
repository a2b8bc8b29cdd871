"""A parameter that is not in its range is one sentence with its name, its value and what it must be."""

import re

import pytest

from diga_lib.methods import EIIL, ERM, JTT, MAPLE, CVaRDRO, DiGAOneStage, GroupDRO, LfF, PseudoGroups

WRONG = [
    (ERM, "epochs", (0, 1.5), "a whole number of at least 1"),
    (ERM, "batch_size", (1,), "a whole number of at least 2"),
    (ERM, "lr", (-1.0, float("nan")), "above 0"),
    (ERM, "weight_decay", (-0.1,), "at least 0"),
    (ERM, "backbone", ("vgg",), "one of small, resnet18"),
    (ERM, "augment", ("strong",), "one of none, "),
    (ERM, "schedule", ("step",), "one of one-cycle, constant"),
    (CVaRDRO, "alpha", (0, -0.5, 1.1, float("nan")), "above 0 and at most 1"),
    (EIIL, "penalty_weight", (-1,), "at least 0"),
    (EIIL, "anneal", (1.5, -0.1), "a share of the steps, 0 to 1"),
    (EIIL, "inference_steps", (0, 2.0), "a whole number of at least 1"),
    (LfF, "q", (0, 1.5), "above 0 and at most 1"),
    (LfF, "momentum", (1.0, -0.1), "at least 0 and below 1"),
    (JTT, "upweight", (0, 0.5), "a whole number of at least 1"),
    (JTT, "first_epochs", (0,), "a whole number of at least 1"),
    (EIIL, "first_epochs", (0,), "a whole number of at least 1"),
    (MAPLE, "first_epochs", (0,), "a whole number of at least 1"),
    (MAPLE, "share", (0, 1.1), "above 0 and at most 1"),
    (MAPLE, "penalty_weight", (-1,), "at least 0"),
    (MAPLE, "search_lr", (0,), "above 0"),
    (MAPLE, "search_steps", (0,), "a whole number of at least 1"),
    (GroupDRO, "step_size", (0,), "above 0"),
    (DiGAOneStage, "edit", ("turn",), "one of flip, shift, place"),
]


@pytest.mark.parametrize(
    "method, name, value, rule",
    [(method, name, value, rule) for method, name, values, rule in WRONG for value in values],
)
def test_a_value_out_of_range(method, name, value, rule):
    given = (None, None) if issubclass(method, PseudoGroups) else ()
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}; it must be {rule}")):
        method(*given, **{name: value})


def test_an_unknown_setting_and_an_unknown_device():
    with pytest.raises(ValueError, match="ERM has no setting 'epoch'; valid settings: epochs, batch_size"):
        ERM(epoch=3)
    with pytest.raises(ValueError, match="device 'abacus' is not available here"):
        ERM(device="abacus")


@pytest.mark.parametrize("method", [JTT, EIIL, MAPLE])
def test_a_reference_that_was_not_trained(method):
    with pytest.raises(ValueError, match="The reference has not been trained; call its fit first"):
        method(reference=ERM())
