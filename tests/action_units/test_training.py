"""Disguises and the training of the two networks on codes in which the truth is known."""

import numpy as np
import pytest
import torch

from diga_lib.action_units import training
from diga_lib.action_units.training import Films


@pytest.fixture(scope="module")
def films():
    """Codes to which each unit adds its direction, a little more for some people than for others."""
    random = torch.Generator().manual_seed(0)
    directions = torch.randn(12, 5, 64, generator=random) / 8
    labels = torch.randint(0, 6, (40, 8, 12), generator=random).float()
    people = torch.randn(40, 1, 5, 64, generator=random)
    codes = people + torch.einsum("fsk,klw->fslw", labels, directions) * (1 + 0.3 * people[..., :1, :1].tanh())
    return Films(codes, labels, np.arange(40))


@pytest.fixture(scope="module")
def trained(films):
    torch.set_num_threads(1)
    reader = training.train_reader(films, steps=150)
    return reader, training.train_dual(films, reader, steps=150), training.train_single(films, reader, steps=150)


def error(edit, films):
    source, target, y_source, y_target = films.pairs(200, torch.Generator().manual_seed(9))
    return float((edit(source, y_source, y_target) - target).square().mean() / (source - target).square().mean())


@pytest.mark.parametrize("network", [1, 2], ids=["dual", "single"])
def test_editors_learn_to_meet_the_target(trained, films, network):
    assert error(trained[network], films) < 0.5  # of what no edit leaves


def test_the_reader_learns_to_read(trained, films):
    read = trained[0](films.codes[:, 0])
    assert (read - films.labels[:, 0]).abs().mean() < 0.6 * (
        films.labels[:, 0] - films.labels.mean((0, 1))
    ).abs().mean()


def test_frames_of_one_film_get_one_neutral_face(trained, films):
    neutral = trained[1].neutral(films.codes[:, :2].flatten(0, 1), films.labels[:, :2].flatten(0, 1)).view(40, 2, 5, 64)
    apart = (neutral[:, 0] - neutral[:, 1]).square().mean() / (films.codes[:, 0] - films.codes[:, 1]).square().mean()
    assert apart < 0.2


def test_the_same_seed_gives_the_same_editor(films):
    one, other = (training.train_dual(films, training.train_reader(films, steps=3), seed=4, steps=3) for _ in range(2))
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b)


def test_pairs_are_of_one_film(films):
    source, target, y_source, y_target = films.pairs(50, torch.Generator().manual_seed(0))
    flat = films.codes.flatten(0, 1).flatten(1)
    film = [torch.cdist(part.flatten(1), flat).argmin(1) // films.codes.shape[1] for part in (source, target)]
    assert (film[0] == film[1]).all() and len(set(film[0].tolist())) > 10


def test_a_disguise_is_one_look_for_all_frames():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)
    looks = [training.disguise(images, torch.Generator().manual_seed(k)) for k in (1, 1, 2)]
    assert (looks[0][0] == looks[0][1]).all() and (looks[0] == looks[1]).all()
    assert (looks[0] - looks[2]).abs().mean() > 0.02
    assert looks[0].shape == images.shape and looks[0].min() >= 0 and looks[0].max() <= 1


@pytest.mark.parametrize("name", ["STEPS", "READING_STEPS", "NEUTRAL", "READ", "BETWEEN", "DISGUISE"])
def test_a_training_of_other_settings_has_another_name(name, monkeypatch):
    before = training.settings()
    monkeypatch.setattr(training, name, 2 * getattr(training, name))
    assert training.settings() != before
