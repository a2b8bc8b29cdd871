"""EIIL: environments where the answer is known, the IRMv1 penalty against derivatives, and the course of its weight."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diga_lib.data.dataset import LabelledImages
from diga_lib.methods import EIIL, ERM
from diga_lib.methods.eiil import infer_environments, irm_risk, scale_gradients


def random_margins(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    margin = 2 * torch.randn(n, dtype=torch.float64, generator=generator)
    return margin, torch.randint(0, 2, (n,), generator=generator)


def as_logits(margin):
    return torch.stack([torch.zeros_like(margin), margin], 1)


def same_division(one, other):
    return (one == other).all() or (one == 1 - other).all()


def test_scale_gradients_are_finite_differences():
    margin, y = random_margins(20)
    low, high = (
        F.binary_cross_entropy_with_logits(margin * s, y.double(), reduction="none") for s in (1 - 1e-6, 1 + 1e-6)
    )
    torch.testing.assert_close(scale_gradients(margin, y), (high - low) / 2e-6, atol=1e-8, rtol=1e-6)


def test_environments_are_where_a_shortcut_holds_and_where_it_fails():
    """A reference that looks at a colour alone, which agrees with the target for 80 % of the images."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 500)
    agrees = random.random(500) < 0.8
    colour = np.where(agrees, y, 1 - y)
    found = infer_environments(as_logits(torch.from_numpy(3.0 * (2 * colour - 1))), torch.from_numpy(y), steps=5000)
    assert same_division(found.numpy(), agrees.astype(int))


@pytest.mark.parametrize("seed", range(3))
def test_no_division_violates_the_principle_more(seed):
    """All 2^10 divisions of ten images, tried one by one; the objective is convex, so no soft one is better."""
    margin, y = random_margins(10, seed)
    d = scale_gradients(margin, y).numpy()

    def violation(division):
        q = np.array(division)
        return (np.mean(q * d) ** 2 + np.mean((1 - q) * d) ** 2) / 2

    found = infer_environments(as_logits(margin), y, rng=torch.Generator().manual_seed(seed))
    best = max(violation(division) for division in itertools.product((0, 1), repeat=10))
    assert violation(found.numpy()) == pytest.approx(best)


def test_the_closed_form_climbs_as_automatic_differentiation_does():
    margin, y = random_margins(60)
    w = torch.randn(60, generator=torch.Generator().manual_seed(5), dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([w], 0.005, eps=1e-12)
    for _ in range(80):  # few enough that many images have not reached their environment
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        losses = F.binary_cross_entropy_with_logits(margin * scale, y.double(), reduction="none")
        penalties = [
            torch.autograd.grad((losses * q).mean(), scale, create_graph=True)[0] ** 2
            for q in (w.sigmoid(), 1 - w.sigmoid())
        ]
        optimizer.zero_grad()
        (-sum(penalties) / 2).backward()
        optimizer.step()
    found = infer_environments(as_logits(margin), y, 80, 0.005, torch.Generator().manual_seed(5))
    assert (found == (w > 0)).all()
    assert not same_division(found, (scale_gradients(margin, y) > 0).long())


@pytest.mark.parametrize("weight", [0.0, 0.5, 50.0])
def test_irm_risk_and_its_gradient(weight):
    margin, y = random_margins(24)
    environment = (torch.arange(24) % 3 == 0).long()
    parts = []
    for e in (0, 1):
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        here = environment == e
        risk = F.cross_entropy(as_logits(margin[here]) * scale, y[here])
        penalty = torch.autograd.grad(risk, scale)[0] ** 2
        parts.append(risk.item() + weight * penalty.item())
    found = irm_risk(margin.requires_grad_(), y, environment, weight)
    assert found.item() == pytest.approx(np.mean(parts) / max(1, weight))
    assert torch.autograd.gradcheck(lambda m: irm_risk(m, y, environment, weight), margin)


def test_an_environment_that_does_not_occur_does_not_count():
    margin, y = random_margins(6)
    found = irm_risk(margin, y, torch.ones(6), 2.0)
    risk, penalty = F.binary_cross_entropy_with_logits(margin, y.double()), scale_gradients(margin, y).mean() ** 2
    torch.testing.assert_close(found, (risk + 2 * penalty) / 2)
    nothing_wrong = infer_environments(as_logits(6.0 * (2 * y - 1)), y)
    assert same_division(nothing_wrong, torch.zeros(6))


def test_the_penalty_is_annealed_and_both_environments_come_equally_often():
    weights = []

    class Watched(EIIL):
        def loss(self, index, logits, y):
            value = super().loss(index, logits, y)
            margin, environment = logits[:, 1] - logits[:, 0], self.environment[index]
            weights.append([w for w in (1.0, 100.0) if irm_risk(margin, y, environment, w) == value])
            return value

    random = np.random.default_rng(0)
    y = random.integers(0, 2, 200)
    train = LabelledImages(random.integers(0, 255, (200, 3, 8, 8)).astype(np.uint8), y, None, np.arange(200))
    model = Watched(penalty_weight=100.0, anneal=0.5, epochs=4, batch_size=50, inference_steps=2000).fit(train)
    assert weights == [[1.0]] * 8 + [[100.0]] * 8
    counts = torch.bincount(model.environment, minlength=2)
    assert counts.min() > 0 and abs(counts[0] - counts[1]) > 20
    drawn = torch.cat([model.sampler(train, torch.Generator().manual_seed(seed)) for seed in range(20)])
    assert abs(model.environment[drawn].double().mean() - 0.5) < 5 * 0.5 / len(drawn) ** 0.5


def test_learns_repeats_and_shares_a_reference(train, test):
    train = train.without_spurious()
    given = {"epochs": 4, "batch_size": 64, "penalty_weight": 10.0, "inference_steps": 500}
    one, again, other = (EIIL(**given).fit(train, seed).scores(test.images) for seed in (0, 0, 1))
    assert ((one > 0.5) == test.target).mean() > 0.95
    assert (one == again).all() and (one != other).any()
    reference = ERM(epochs=1, batch_size=64).fit(train, seed=0)
    assert (EIIL(**given, reference=reference).fit(train, seed=0).scores(test.images) == one).all()
