"""MAPLE: the projection against quadratic programming, masks against their probabilities, the outer gradient against
finite differences, and a search whose answer is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq, minimize

from diga_lib.methods import MAPLE
from diga_lib.methods.eiil import irm_risk
from diga_lib.methods.maple import head_gradient, outer_risk, project, sample_mask, whiten


def problem(n=30, width=4, seed=0):
    """Random features (one constant), targets, environments and a head, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, width, dtype=torch.float64, generator=generator)
    features[:, -1] = 1
    y = torch.randint(0, 2, (n,), generator=generator)
    head = torch.randn(width, dtype=torch.float64, generator=generator)
    return features, y, (torch.arange(n) % 3 == 0).long(), head


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_projection_is_that_of_a_quadratic_program(seed, share):
    scores = np.random.default_rng(seed).normal(0.5, 1.0, 7)
    found = project(torch.from_numpy(scores), 7 * share).numpy()
    program = minimize(
        lambda x: ((x - scores) ** 2).sum(),
        np.full(7, share),
        jac=lambda x: 2 * (x - scores),
        bounds=[(0, 1)] * 7,
        constraints={"type": "ineq", "fun": lambda x: 7 * share - x.sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert program.success
    np.testing.assert_allclose(found, program.x, atol=1e-5)
    assert found.sum() <= 7 * share + 1e-9 and found.min() >= 0 and found.max() <= 1


def test_scores_that_sum_to_less_are_only_clamped():
    """The constraint is "at most K": a rejected score must not rise again."""
    scores = torch.tensor([-0.5, 0.0, 0.4, 1.7], dtype=torch.float64)
    assert project(scores, 2.0).tolist() == [0.0, 0.0, 0.4, 1.0]
    assert project(scores, 1.0).sum().item() == pytest.approx(1.0)


def test_projection_of_many_is_the_shift_that_a_root_finder_finds():
    scores = np.random.default_rng(0).normal(size=2000)
    shift = brentq(lambda v: (scores - v).clip(0, 1).sum() - 600, -5, 5, xtol=1e-13)
    np.testing.assert_allclose(project(torch.from_numpy(scores), 600), (scores - shift).clip(0, 1), atol=1e-9)


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_masks_come_with_their_probabilities(sharpness):
    scores = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    masks = sample_mask(scores.repeat_interleave(4000), sharpness, torch.Generator().manual_seed(0)).view(6, 4000)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    deviation = (scores * (1 - scores) / 4000).sqrt()
    assert ((masks.mean(1) - scores).abs() <= 5 * deviation + 1e-3).all()


def test_gradient_goes_straight_through_to_the_relaxation():
    """Finite differences of the Gumbel-sigmoid, written again in numpy with the same uniform numbers."""
    scores = torch.linspace(0.05, 0.95, 9, dtype=torch.float64).requires_grad_()
    sample_mask(scores, 2.0, torch.Generator().manual_seed(3)).sum().backward()
    u = torch.rand(2, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    gumbel = -np.log(-np.log(u))

    def soft(s):
        return 1 / (1 + np.exp(-2.0 * (np.log(s + 1e-6) - np.log(1 - s + 1e-6) + gumbel[1] - gumbel[0])))

    s = scores.detach().numpy()
    np.testing.assert_allclose(scores.grad, (soft(s + 1e-6) - soft(s - 1e-6)) / 2e-6, rtol=1e-5)


def test_outer_gradient_is_finite_differences():
    features, y, environment, head = problem()
    mask = (torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) < 0.6).double()

    def value(mask):
        return outer_risk(mask, head, features, y, environment, 0.3, 20.0)

    (found,) = torch.autograd.grad(value(mask.requires_grad_()), mask)
    for i in range(30):
        step = 1e-6 * torch.eye(30, dtype=torch.float64)[i]
        difference = (value(mask.detach() + step) - value(mask.detach() - step)) / 2e-6
        assert found[i].item() == pytest.approx(difference.item(), rel=1e-4, abs=1e-8)
    assert found.abs().max() > 1e-5


def test_inner_step_is_sgd_on_the_images_of_the_mask():
    features, y, environment, head = problem()
    kept = torch.arange(30) % 2 == 0
    start = head.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(features[kept] @ start, y[kept].double()).backward()
    torch.testing.assert_close(head_gradient(head, features, y, kept.double()), start.grad)
    after = irm_risk(features @ (head - 0.3 * start.grad), y, environment, 5.0)
    torch.testing.assert_close(outer_risk(kept.double(), head, features, y, environment, 0.3, 5.0), after)


def test_heads_are_trained_as_torch_trains_them():
    features, y, _, _ = problem(60)
    mask = (torch.arange(60) % 4 > 0).float()
    found = MAPLE().train_head(features.float(), y, mask)
    head = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([head], 0.1, momentum=0.9)
    for _ in range(100):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(features.float()[mask > 0] @ head, y[mask > 0].float()).backward()
        optimizer.step()
    torch.testing.assert_close(found, head.detach(), rtol=1e-3, atol=1e-4)


def test_whitened_features_have_unit_covariance_and_no_directions_of_noise():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1])
    found = whiten(torch.cat([x, x[:, :1] + x[:, 1:2], torch.full((400, 1), 7.0)], 1))
    assert found.shape == (400, 4) and (found[:, 3] == 1).all()
    torch.testing.assert_close(found[:, :3].T @ found[:, :3] / 400, torch.eye(3), atol=1e-3, rtol=0)


def test_the_search_keeps_images_against_a_shortcut():
    """The shortcut holds for 80 % of the images, and environments say for which; the scores then balance it."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 600)
    agrees = random.random(600) < 0.8
    shortcut, cue = np.where(agrees, y, 1 - y), y + random.normal(0, 0.7, 600)
    method = MAPLE(search_steps=100)
    method.environment = torch.from_numpy(agrees.astype(np.int64))
    features = whiten(torch.tensor(np.stack([shortcut, cue], 1), dtype=torch.float32))
    score = method.search(features, torch.from_numpy(y), torch.Generator().manual_seed(0)).numpy()
    assert 0 < score.sum() <= 0.3 * 600 * 1.001 and score.min() >= 0 and score.max() <= 1
    assert score[~agrees].sum() / score.sum() > 0.4


def test_learns_and_repeats(train, test):
    train = train.without_spurious()
    models = [MAPLE(share=0.5, epochs=3, batch_size=64).fit(train, seed) for seed in (0, 0, 1)]
    one, again, other = (model.scores(test.images) for model in models)
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()
