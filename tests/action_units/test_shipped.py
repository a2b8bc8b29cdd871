"""The shipped weights on people whom nothing was trained on."""

import numpy as np
import pytest
import torch

from diga_lib import action_units, latent
from diga_lib.action_units import UNITS, data, editors, judge
from diga_lib.action_units.measures import agreement
from diga_lib.latent import checkpoints

POPULATION = 2027  # used for nothing else


@pytest.fixture(scope="module")
def people():
    """Sixteen neutral people, with their codes."""
    rows = np.arange(16)
    images = data.draw(rows, np.zeros((16, 12)), rows, rows, population=POPULATION)
    return images, latent.load().encode(images)


@pytest.fixture(scope="module")
def shipped():
    return latent.load(), action_units.load()[0], latent.load_factor_network()


@pytest.mark.parametrize("unit", ["AU4", "AU5", "AU12", "AU26"])
def test_a_network_that_had_no_part_in_it_sees_the_unit_that_was_asked_for(shipped, people, unit):
    generator, editor, network = shipped
    nothing, asked = torch.zeros(16, 12), torch.zeros(16, 12)
    asked[:, UNITS.index(unit)] = 4
    before, after = (
        network.read(generator.decode(editor(people[1], nothing, y)))[list(UNITS)] for y in (nothing, asked)
    )
    change = (after - before).mean()
    assert change[unit] > 1 and change.abs().idxmax() == unit


def test_an_expression_travels_from_a_picture(shipped, people):
    generator, editor, network = shipped
    smile = np.zeros((16, 12))
    smile[:, UNITS.index("AU12")] = 4.5
    rows = np.arange(16)
    models = data.draw(rows + 16, smile, rows + 16, rows + 16, population=POPULATION)
    moved = editors.transfer(editor, lambda x: network.read(x)[list(UNITS)].to_numpy(), people[1], people[0], models)
    read = [network.read(generator.decode(codes))["AU12"] for codes in (people[1], moved)]
    assert ((read[1] - read[0]) > 0.5).mean() > 0.8


def test_every_shipped_editor_edits_64_faces_at_once(people):
    codes, random = people[1].repeat(4, 1, 1), torch.Generator().manual_seed(0)
    source, target = 9 * torch.rand(2, 64, 12, generator=random) - 2  # beyond the labels on both sides
    for name, edit in action_units.load_compared().items():
        edited = edit(codes, source, target)
        assert edited.shape == codes.shape and torch.isfinite(edited).all(), name


def test_the_judges_tell_people_apart_and_read_a_smile(people):
    judges, rows = judge.load(), np.arange(16)
    again = data.draw(rows, np.eye(12)[[6] * 16] * 5, rows, rows + 100, population=POPULATION)
    one, other = judges.recognise(people[0]), judges.recognise(again)
    assert ((one @ other.T).argmax(1) == rows).mean() > 0.6  # by chance 1 / 16
    resting = data.draw(rows, np.zeros((16, 12)), rows, rows + 100, population=POPULATION)
    units = judges.read(again, resting).mean(0)
    assert units[6] > 4 and np.delete(units, 6).max() < 1


def test_the_judge_reads_every_unit_as_drawn():
    rows, asked = np.arange(300), data.trajectories(300, [POPULATION])  # 300 people, with expressions as in the films
    images = data.draw(rows, asked, rows, rows, population=POPULATION)
    neutral = data.draw(rows, np.zeros((300, 12)), rows, rows, population=POPULATION)
    icc, _ = agreement(asked, judge.load().read(images, neutral))
    assert icc.mean() >= 0.9 and icc.min() > 0.7
    with pytest.raises(ValueError, match="300 pictures and 3 neutral faces"):
        judge.load().read(images, neutral[:3])


def test_weights_are_shipped_once():
    files = [checkpoints.path(name) for name in ("action-unit-editor", *judge.NAMES.values())]
    assert len({file.read_bytes() for file in files}) == 3
    assert max(file.stat().st_size for file in files) <= 4e6
