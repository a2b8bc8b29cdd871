"""MAPLE: choose the training images such that a network trained on them has a low out-of-distribution risk."""

import torch

from diga_lib.methods.eiil import infer_environments, irm_risk
from diga_lib.methods.erm import require, require_whole
from diga_lib.methods.two_stages import TwoStages


def project(scores, total):
    """Return the point nearest to `scores` (n,) whose entries are in [0, 1] and sum to at most `total`.

    It is ``clip(scores - v, 0, 1)``, with v = 0 if that is small enough, else the v that gives the sum `total`.
    """
    if scores.clamp(0, 1).sum() <= total:
        return scores.clamp(0, 1)
    low, high = torch.zeros_like(scores.max()), scores.max()
    for _ in range(60):  # bisection
        middle = (low + high) / 2
        low, high = (middle, high) if (scores - middle).clamp(0, 1).sum() > total else (low, middle)
    return (scores - (low + high) / 2).clamp(0, 1)


def sample_mask(scores, sharpness, rng=None):
    """Draw a mask of 0 and 1 (n,) with probabilities `scores`, with the gradient of its Gumbel-sigmoid relaxation."""
    u = torch.rand(2, len(scores), generator=rng, dtype=scores.dtype, device=scores.device).clamp(1e-6, 1 - 1e-6)
    logit = torch.log(scores + 1e-6) - torch.log(1 - scores + 1e-6)
    soft = (sharpness * (logit + torch.log(u[0].log() / u[1].log()))).sigmoid()
    return (soft > 0.5).to(soft) + (soft - soft.detach())


def head_gradient(head, features, y, mask):
    """Return the gradient, (D,), of a linear head's mean cross-entropy over the images of the mask (n,)."""
    return ((features @ head).sigmoid() - y) * mask @ features / mask.sum().clamp(min=1)


def outer_risk(mask, head, features, y, environment, lr, weight):
    """Return the `irm_risk` after one step of SGD, of rate `lr`, with each image weighted by the mask (n,): a scalar.

    It can be differentiated by the mask. The head (D,) is linear, on features (n, D), one of which is constant.
    """
    return irm_risk(features @ (head - lr * head_gradient(head, features, y, mask)), y, environment, weight)


class MAPLE(TwoStages):
    """Learn which images to train on, by a bilevel search on the features of a reference; then train on them.

    Every image has a score, the probability that it is kept. In each step of the search a mask is drawn from the
    scores, a head is trained on the images of the mask, and its risk over two environments is differentiated through
    the head's last step to the mask and, straight through its Gumbel-sigmoid relaxation, to the scores; these move by
    Adam and are projected so that they are in [0, 1] and sum to at most ``share * n``. Afterwards a new network is
    trained on images that are drawn in proportion to their scores.

    The authors train a whole (small) network in each step of the search and know the environments. Here the search
    trains a linear head only, on the reference's frozen and whitened features, and the environments are inferred as in
    `EIIL`. An image that is kept is met more often, for the final network is trained as long as every other method's.
    After `fit`, `environment` and `score` (n,) are those of each training image.

    Parameters
    ----------
    share, penalty_weight : float
        At most this share of the images is kept, (0, 1]; weight, at least 0, of the IRMv1 penalty in the outer risk
        (the authors' code has the penalty alone).
    search_steps, search_lr : int, float
        Of the outer problem: at least 1 step, and the rate of Adam, above 0.

    References
    ----------
    Zhou et al., Model agnostic sample reweighting for out-of-distribution learning, ICML 2022; the defaults are those
    of the authors' run on coloured digits.
    """

    inner_steps, inner_lr, momentum = 100, 0.1, 0.9

    def __init__(self, share=0.3, penalty_weight=1e4, search_steps=30, search_lr=1.5, **changes):
        super().__init__(**changes)
        require(0 < share <= 1, "share", share, "above 0 and at most 1")
        require(penalty_weight >= 0, "penalty_weight", penalty_weight, "at least 0")
        require(search_lr > 0, "search_lr", search_lr, "above 0")
        require_whole("search_steps", search_steps)
        self.share, self.penalty_weight = share, penalty_weight
        self.search_steps, self.search_lr = search_steps, search_lr

    def prepare(self, train):
        """Infer the environments and search for the scores."""
        reference, y = self.trained_reference(train), torch.from_numpy(train.target)
        rng = torch.Generator().manual_seed(self.rng.initial_seed())
        self.environment = infer_environments(torch.from_numpy(reference.logits(train.images)), y, rng=rng)
        self.score = self.search(whiten(torch.from_numpy(reference.features(train.images))), y, rng)

    def search(self, features, y, rng):
        """Return the scores (n,) of images with whitened features (n, D), a constant one included."""
        total = self.share * len(y)
        scores = torch.full((len(y),), self.share, requires_grad=True)
        optimizer = torch.optim.Adam([scores], self.search_lr)
        for step in range(self.search_steps):
            sharpness = 1 / (1 - 0.97 * step / self.search_steps)  # the masks become less random
            mask = sample_mask(scores, sharpness, rng)
            head = self.train_head(features, y, mask.detach())
            optimizer.zero_grad()
            outer_risk(mask, head, features, y, self.environment, self.inner_lr, self.penalty_weight).backward()
            torch.nn.utils.clip_grad_norm_(scores, 3.0)
            optimizer.step()
            with torch.no_grad():
                scores.copy_(project(scores, total))
        return scores.detach()

    def train_head(self, features, y, mask):
        """Return a linear head (D,) trained by SGD with momentum, from zero, on the images of the mask."""
        kept, velocity = mask > 0, torch.zeros(features.shape[1])
        features, y, head, mask = features[kept], y[kept], torch.zeros_like(velocity), mask[kept]
        for _ in range(self.inner_steps):
            velocity = self.momentum * velocity + head_gradient(head, features, y, mask)
            head = head - self.inner_lr * velocity
        return head

    def sampler(self, train, rng):
        weight = self.score.double() if self.score.any() else torch.ones(len(self.score))  # none kept: as they come
        return torch.multinomial(weight, len(weight), replacement=True, generator=rng)


def whiten(features):
    """Return features (n, D) rotated and scaled to the identity as covariance, and a constant one: (n, <= D + 1)."""
    u, s, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    vary = s > 1e-3 * s[0]  # directions that hardly do are left out
    return torch.cat([u[:, vary] * len(features) ** 0.5, torch.ones(len(features), 1)], 1)
