"""The linear editors on codes in which the truth is known."""

import numpy as np
import pytest
import torch

from diga_lib.action_units import editors
from diga_lib.action_units.training import Films


@pytest.fixture(scope="module")
def planted():
    """Films in which each unit adds its own direction to a code (five levels of four numbers)."""
    random = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(20, 12, generator=random))[0].T.reshape(12, 5, 4)
    labels = torch.randint(0, 6, (60, 12, 12), generator=random).float()
    people = torch.randn(60, 1, 5, 4, generator=random)
    noise = 0.01 * torch.randn(60, 12, 5, 4, generator=random)
    return directions, Films(people + torch.einsum("fsk,klw->fslw", labels, directions) + noise, labels, np.arange(60))


def test_least_squares_finds_what_was_planted(planted):
    directions, films = planted
    torch.testing.assert_close(editors.joint_steps(films), directions, atol=0.02, rtol=0)


@pytest.mark.parametrize("projected", [False, True])
def test_boundaries_point_along_their_unit_and_are_scaled_to_one_intensity(planted, projected):
    directions, films = planted
    normals = editors.boundary_normals(films, 1e-3)
    steps = editors.scaled_steps(films, editors.project_out_others(normals) if projected else normals)
    cosine = torch.cosine_similarity(steps.flatten(1), directions.flatten(1))
    assert (cosine > 0.8).all(), cosine
    along = films.codes.flatten(2) @ (steps / steps.flatten(1).norm(dim=1)[:, None, None]).flatten(1).T
    for k in range(12):  # an independent look at the scale: numpy's regression within films
        x = (films.labels[..., k] - films.labels[..., k].mean(1, keepdim=True)).flatten()
        y = (along[..., k] - along[..., k].mean(1, keepdim=True)).flatten()
        assert np.polyfit(x, y, 1)[0] == pytest.approx(float(steps[k].norm()), rel=1e-3)


def test_projected_directions_are_orthogonal_to_the_other_normals():
    normals = torch.randn(12, 50, generator=torch.Generator().manual_seed(0))
    normals /= normals.norm(dim=1, keepdim=True)
    products = editors.project_out_others(normals) @ normals.T
    assert (products - torch.diag(products.diag())).abs().max() < 1e-5
    assert (products.diag() > 0).all()


def test_an_edit_is_the_sum_of_its_units(planted):
    directions, films = planted
    codes, source, target = films.codes[:3, 0], films.labels[:3, 0], films.labels[:3, 1]
    edited = editors.Linear(directions, gain=2.0)(codes, source, target)
    by_hand = [w + 2 * sum((t[k] - s[k]) * directions[k] for k in range(12)) for w, s, t in zip(codes, source, target)]
    torch.testing.assert_close(edited, torch.stack(by_hand))
    assert editors.no_edit(codes, source, target) is codes


def test_transfer_asks_the_reader_for_both_pictures(planted):
    directions, films = planted
    seen = []

    def read(images):
        seen.append(images)
        return np.full((2, 12), 9.0 if images == "target" else -1.0)  # out of the scale: readings are clipped

    edited = editors.transfer(editors.Linear(directions), read, films.codes[:2, 0], "source", "target")
    assert seen == ["source", "target"]
    torch.testing.assert_close(edited, films.codes[:2, 0] + 5 * directions.sum(0))
