"""Disguises, the linear editors and the training of the networks, on codes in which the truth is known."""

import numpy as np
import pytest
import torch

from diga_lib.action_units.editors import AUEditNet, SingleBranch
from diga_lib.studies import editor_training as training
from diga_lib.studies.editor_training import Films


@pytest.fixture(scope="module")
def films():
    """Codes to which each unit adds its direction, a little more for some people than for others."""
    random = torch.Generator().manual_seed(0)
    directions = torch.randn(12, 5, 64, generator=random) / 8
    labels = torch.randint(0, 6, (40, 8, 12), generator=random).float()
    people = torch.randn(40, 1, 5, 64, generator=random)
    codes = people + torch.einsum("fsk,klw->fslw", labels, directions) * (1 + 0.3 * people[..., :1, :1].tanh())
    return Films(codes, labels)


@pytest.fixture(scope="module")
def trained(films):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STEPS", 150)
        patch.setattr(training, "READING_STEPS", 150)
        reader = training.train_reader(films)
        return reader, *(training.train_editor(kind, films, reader) for kind in (AUEditNet, SingleBranch))


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


def test_the_same_seed_gives_the_same_editor(films, monkeypatch):
    monkeypatch.setattr(training, "STEPS", 3)
    monkeypatch.setattr(training, "READING_STEPS", 3)
    made = (training.train_editor(AUEditNet, films, training.train_reader(films), seed=4) for _ in range(2))
    one, other = made
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
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


@pytest.fixture(scope="module")
def planted():
    """Films in which each unit adds its own direction to a code (five levels of four numbers)."""
    random = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(20, 12, generator=random))[0].T.reshape(12, 5, 4)
    labels = torch.randint(0, 6, (60, 12, 12), generator=random).float()
    people = torch.randn(60, 1, 5, 4, generator=random)
    noise = 0.01 * torch.randn(60, 12, 5, 4, generator=random)
    return directions, Films(people + torch.einsum("fsk,klw->fslw", labels, directions) + noise, labels)


def test_least_squares_finds_what_was_planted(planted):
    directions, films = planted
    torch.testing.assert_close(training.linear_steps(films, training.LINEAR[2]), directions, atol=0.02, rtol=0)


@pytest.mark.parametrize("projected", [False, True])
def test_boundaries_point_along_their_unit_and_are_scaled_to_one_intensity(planted, projected):
    directions, films = planted
    steps = training.linear_steps(films, training.LINEAR[projected], 1e-3)
    cosine = torch.cosine_similarity(steps.flatten(1), directions.flatten(1))
    assert (cosine > 0.8).all(), cosine
    along = films.codes.flatten(2) @ (steps / steps.flatten(1).norm(dim=1)[:, None, None]).flatten(1).T
    for k in range(12):  # an independent look at the scale: numpy's regression within films
        x = (films.labels[..., k] - films.labels[..., k].mean(1, keepdim=True)).flatten()
        y = (along[..., k] - along[..., k].mean(1, keepdim=True)).flatten()
        assert np.polyfit(x, y, 1)[0] == pytest.approx(float(steps[k].norm()), rel=1e-3)


def test_projected_directions_are_orthogonal_to_the_other_normals(planted):
    steps = (training.linear_steps(planted[1], name, 1e-3).flatten(1) for name in training.LINEAR[:2])
    normals, projected = (step / step.norm(dim=1, keepdim=True) for step in steps)
    products = projected @ normals.T
    assert (products - torch.diag(products.diag())).abs().max() < 1e-5
    assert (products.diag() > 0).all()


def test_a_training_is_kept_and_one_of_other_settings_is_another(films, tmp_path, monkeypatch):
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "disguised_films", lambda subjects: films)
    for name, value in {"READING_STEPS": 2, "STEPS": 2}.items():
        monkeypatch.setattr(training, name, value)
    made = []
    monkeypatch.setattr(training, "descend", lambda network, *_: made.append(network) or network.eval())
    first, again = (training.trained("dual", 0) for _ in range(2))
    assert len(made) == 2, "a reader and an editor, once"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    training.trained("dual", 0, subjects=15)
    assert len(made) == 4, "other subjects"
    monkeypatch.setattr(training, "NEUTRAL", 0.3)
    training.trained("dual", 0)
    assert len(made) == 6, "another weight of a loss"
