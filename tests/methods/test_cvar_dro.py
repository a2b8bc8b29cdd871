"""CVaR against the linear program that defines it, and its limit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog

from diga_lib.methods import ERM, CVaRDRO
from diga_lib.methods.cvar_dro import cvar


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.25, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("m", [1, 2, 17, 40])
def test_value_and_gradient_are_those_of_the_linear_program(alpha, m):
    """Maximise <p, v> over p with sum 1 and 0 <= p_i <= 1 / (alpha m)."""
    v = np.random.default_rng(m).exponential(size=m)
    program = linprog(-v, A_eq=np.ones((1, m)), b_eq=[1], bounds=(0, 1 / (alpha * m)))
    losses = torch.from_numpy(v).requires_grad_()
    value = cvar(losses, alpha)
    value.backward()
    assert value.item() == pytest.approx(-program.fun, rel=1e-7)
    np.testing.assert_allclose(losses.grad, program.x, atol=1e-7)


def test_alpha_one_is_the_mean_and_a_tiny_one_the_maximum():
    losses = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cvar(losses, 1.0), losses.mean())
    torch.testing.assert_close(cvar(losses, 1 / 50), losses.max())


def test_the_loss_is_the_worst_share_of_the_cross_entropies():
    logits, y = torch.randn(20, 2, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 2
    worst = F.cross_entropy(logits, y, reduction="none").sort().values[-5:].mean()
    torch.testing.assert_close(CVaRDRO(alpha=0.25).loss(torch.arange(20), logits, y), worst)


def test_learns_repeats_and_at_alpha_one_is_erm(train, test):
    train = train.without_spurious()
    models = [CVaRDRO(alpha=0.5, epochs=3, batch_size=64).fit(train, seed) for seed in (0, 0, 1)]
    one, again, other = (model.scores(test.images) for model in models)
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()
    limit, erm = (method.fit(train).history[0]["loss"] for method in (CVaRDRO(alpha=1.0, epochs=1), ERM(epochs=1)))
    assert limit == pytest.approx(erm, rel=1e-3)
