"""EIIL: infer environments in which a reference network is right for other reasons, then learn what holds in both."""

import torch
import torch.nn.functional as F

from diga_lib.methods.erm import equally_often, require, require_whole
from diga_lib.methods.two_stages import TwoStages


def scale_gradients(margin, y):
    """Return the gradient (n,) of each image's loss with respect to a scale s of its logits, at s = 1.

    The margin (n,) is the logit of target 1 less that of target 0. Above 0 the prediction is wrong, below it is right.
    """
    return margin * (margin.sigmoid() - y)


def infer_environments(logits, y, steps=10_000, lr=1e-3, rng=None):
    """Divide images into two environments such that the reference violates the IRM principle most.

    Given are the reference's logits (n, 2) for the training images and their targets (n,). A soft assignment
    q = sigmoid(w), with a standard normal w to start from, maximises ``(mean(q d)^2 + mean((1 - q) d)^2) / 2`` by
    Adam, where d are the `scale_gradients`; the environment of an image, int64 (n,), is 1 where q ends above 0.5.
    The gradient is ``(mean(q d) - mean((1 - q) d)) d q (1 - q) / n`` in closed form; d is divided by its mean size and
    the gradient multiplied by n, so that Adam's epsilon does not matter.
    """
    d = scale_gradients((logits[:, 1] - logits[:, 0]).double(), y)
    d = d / d.abs().mean().clamp(min=1e-12)
    w = torch.randn(len(d), generator=rng, dtype=d.dtype, device=d.device).requires_grad_()
    optimizer = torch.optim.Adam([w], lr, maximize=True, fused=True)
    total = d.mean()
    with torch.no_grad():
        for _ in range(steps):
            q = w.sigmoid()
            w.grad = (2 * (q @ d) / len(d) - total) * d * q * (1 - q)
            optimizer.step()
    return (w.detach() > 0).long()


def irm_risk(margin, y, environment, weight):
    """Return the environments' mean risk plus `weight` times their mean IRMv1 penalty, a scalar.

    Margins (n,) are as for `scale_gradients`, targets and environments (n,) are 0 or 1; an environment that does not
    occur does not count. The penalty is the squared gradient of an environment's risk with respect to the logits'
    scale. Where its weight is above 1 the sum is divided by it, which keeps the gradients in a reasonable range.
    """
    here = [environment == e for e in (0, 1) if (environment == e).any()]
    losses = F.binary_cross_entropy_with_logits(margin, y.to(margin), reduction="none")
    gradients = scale_gradients(margin, y)
    risk = torch.stack([losses[e].mean() for e in here]).mean()
    penalty = torch.stack([gradients[e].mean().square() for e in here]).mean()
    return (risk + weight * penalty) / max(1.0, weight)


class EIIL(TwoStages):
    """Infer two environments from the errors of a reference, then minimise the IRMv1 risk over them.

    An epoch visits both environments equally often, since the risk is the mean of theirs and one of them is small.
    After `fit`, `environment` (n,) is that of each training image. The penalty's weight, at least 0, is at most 1 for
    the share `anneal` of the steps; `inference_steps`, at least 1, are Adam's in `infer_environments`.

    References
    ----------
    Creager, Jacobsen and Zemel, Environment inference for invariant learning, ICML 2021; the penalty is IRMv1 of
    Arjovsky et al., Invariant risk minimization, 2019. The weight and the steps of the inference are the defaults of
    the authors' code, the annealing (190 of 501 steps) that of their run on coloured digits.
    """

    def __init__(self, penalty_weight=1e4, anneal=0.4, inference_steps=10_000, **changes):
        super().__init__(**changes)
        require(penalty_weight >= 0, "penalty_weight", penalty_weight, "at least 0")
        require(0 <= anneal <= 1, "anneal", anneal, "a share of the steps, 0 to 1")
        require_whole("inference_steps", inference_steps)
        self.penalty_weight, self.anneal, self.inference_steps = penalty_weight, anneal, inference_steps

    def prepare(self, train):
        logits = torch.from_numpy(self.trained_reference(train).logits(train.images))
        rng = torch.Generator().manual_seed(self.rng.initial_seed())
        environment = infer_environments(logits, torch.from_numpy(train.target), self.inference_steps, rng=rng)
        self.environment = environment.to(self.device)
        steps = self.settings.epochs * (len(train) // min(self.settings.batch_size, len(train)))
        self.step, self.annealed_from = 0, self.anneal * steps

    def sampler(self, train, rng):
        return equally_often(self.environment, rng)

    def loss(self, index, logits, y):
        weight = self.penalty_weight if self.step >= self.annealed_from else min(1.0, self.penalty_weight)
        self.step += 1
        return irm_risk(logits[:, 1] - logits[:, 0], y, self.environment[index], weight)
