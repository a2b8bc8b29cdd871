"""LfF (learning from failure): one network becomes biased, another learns from what the first gets wrong."""

import torch
import torch.nn.functional as F

from diga_lib.methods.erm import ERM, require
from diga_lib.methods.networks import Classifier, classifier


def generalised_cross_entropy(logits, y, q):
    """Return ``(1 - p_y^q) / q`` for each image, (B,): its gradient is p_y^q times that of the cross-entropy."""
    return (1 - (F.log_softmax(logits, 1).gather(1, y[:, None])[:, 0] * q).exp()) / q


class _Pair(Classifier):
    """Two classifiers of the same images; only the first is asked after training."""

    def __init__(self, debiased, biased):
        super().__init__(debiased.backbone, debiased.head)
        self.biased = biased

    def forward(self, x):
        logits = super().forward(x)
        return torch.cat([logits, self.biased(x)], 1) if self.training else logits


class LfF(ERM):
    """Train two networks at once: the biased one on what is easy, the debiased one on what that one fails at.

    The biased network minimises the generalised cross-entropy. The debiased network minimises the cross-entropy
    weighted by ``L_B / (L_B + L_D)``, where L_B and L_D are each image's cross-entropy under the two networks,
    averaged over the epochs (with a `momentum` of at least 0 and below 1) and divided by the largest of its class. A
    larger `q`, above 0 and at most 1, trusts the easy images more.

    References
    ----------
    Nam, Cha, Ahn, Lee and Shin, Learning from failure, NeurIPS 2020, algorithm 1; the moving averages and
    their division by the class's largest are in the authors' code only.
    """

    def __init__(self, q=0.7, momentum=0.7, **changes):
        super().__init__(**changes)
        require(0 < q <= 1, "q", q, "above 0 and at most 1")
        require(0 <= momentum < 1, "momentum", momentum, "at least 0 and below 1")
        self.q, self.momentum = q, momentum

    def build(self):
        # Both networks as one, so that one optimizer trains them.
        return _Pair(super().build(), classifier(self.settings.backbone)).to(memory_format=torch.channels_last)

    def prepare(self, train):
        """Start the averages; an image's first loss is its first average."""
        if len(set(train.target.tolist())) < 2:
            raise ValueError("LfF divides a loss by the largest of its class, so the training set needs both classes.")
        self.target = torch.as_tensor(train.target, device=self.device)
        self.average = torch.zeros(2, len(train), device=self.device)  # of the biased and of the debiased network
        self.met = torch.zeros(len(train), dtype=torch.bool, device=self.device)

    def loss(self, index, logits, y):
        """Return the sum of both networks' losses; neither network's loss reaches the other's weights."""
        debiased, biased = logits.chunk(2, 1)
        losses = F.cross_entropy(debiased, y, reduction="none")
        with torch.no_grad():
            weight = self.weights(index, torch.stack([F.cross_entropy(biased, y, reduction="none"), losses]))
        return (weight * losses).mean() + generalised_cross_entropy(biased, y, self.q).mean()

    def weights(self, index, losses):
        """Bring the averages of the images `index` (B,) up to date with `losses` (2, B); return their weights (B,)."""
        keep = self.momentum * self.met[index]
        self.average[:, index] = keep * self.average[:, index] + (1 - keep) * losses
        self.met[index] = True
        largest = torch.stack([self.average[:, self.target == label].amax(1) for label in (0, 1)], 1)
        biased, debiased = self.average[:, index] / largest[:, self.target[index]].clamp(min=1e-8)
        return biased / (biased + debiased + 1e-8)
