"""TDA, the training-free dynamic adapter: two small caches of test features that correct zero-shot predictions.

What the caches hold depends on pseudo-labels and entropies alone, which come from the zero-shot classifier. So a block
of the stream is first replayed on these few numbers, and the costly part is then done for the whole block in matrix
products: the predictions are those of one image at a time.
"""

from bisect import insort
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Settings:
    """Settings of TDA; the defaults are those of its public code, with the positive cache's of ImageNet."""

    positive_capacity: int = 3  #: images that the cache keeps for each pseudo-class; 0 switches it off
    positive_alpha: float = 2.0  #: its weight
    positive_beta: float = 5.0  #: how sharply its influence falls with distance
    negative_capacity: int = 2
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    # An image may enter the negative cache if its entropy divided by log2 of the number of classes lies between ...
    entropy: tuple = (0.2, 0.5)
    mask: tuple = (0.03, 1.0)  #: ... and pushes down the classes whose probability lies between

    def __post_init__(self):
        numbers = [getattr(self, field.name) for field in fields(self)[:6]]
        whole = isinstance(self.positive_capacity, int) and isinstance(self.negative_capacity, int)
        if not (whole and all(number >= 0 for number in numbers)):
            raise ValueError(f"{self}: a capacity must be a whole number of at least 0, alpha and beta at least 0.")


class Rows:
    """Which rows a cache holds: of each pseudo-class the `capacity` ones of lowest entropy, in that order."""

    def __init__(self, capacity):
        self.capacity, self.held = capacity, {}

    def update(self, label, entropy, row):
        """Offer a row; return the row that it replaces, None if it is appended, or the row itself if refused."""
        kept = self.held.setdefault(label, [])
        insort(kept, (entropy, row), key=lambda entry: entry[0])
        return kept.pop()[1] if len(kept) > self.capacity else None

    def rows(self):
        """All rows that are held, class by class in ascending order of entropy (list of int)."""
        return [row for label in sorted(self.held) for _, row in self.held[label]]


def _check_unit(vectors, what):
    """Refuse rows that are not of length 1: with them, a cosine and its distance mean nothing."""
    if len(vectors) and not (vectors.norm(dim=1) - 1).abs().max() < 0.01:
        raise ValueError(f"The {what} must be finite and of length 1; normalise them with F.normalize(x, dim=1).")


class TDA:
    """Adapt zero-shot predictions to a stream, without training; `seen` counts its images so far.

    The weights (C, d) are unit text features of the classes, and cosines are multiplied by the scale: 100 for CLIP, the
    model's own inverse temperature for a smaller one.

    References
    ----------
    Karmanov et al., Efficient test-time adaptation of vision-language models, CVPR 2024, equations 4 to 7 and the
    public code; notebook 10_test_time_adaptation.
    """

    def __init__(self, weights, scale=100.0, settings=Settings()):
        if weights.ndim != 2 or len(weights) < 2:
            have = tuple(weights.shape)
            raise ValueError(f"The weights have shape {have}; they must be (classes, d), 2 classes or more.")
        _check_unit(weights, "weights")
        self.weights, self.scale, self.settings, self.seen = weights, float(scale), settings, 0
        self.caches = (Rows(settings.positive_capacity), Rows(settings.negative_capacity))
        self.entries = [{}, {}]  # of each cache, from a row that it holds to its feature and value

    def held(self):
        """Return the positions in the stream that the positive and the negative cache hold (two lists of int)."""
        return tuple(cache.rows() for cache in self.caches)

    def __call__(self, features):
        """Return adapted logits (n, C) of the next images of the stream, as if they came one by one.

        Their features (n, d) are of length 1 and in the order of the stream.
        """
        number, d = self.weights.shape
        if features.ndim != 2 or features.shape[1] != d:
            raise ValueError(f"The features have shape {tuple(features.shape)}; valid is (images, {d}).")
        _check_unit(features, "features")
        s, logits = self.settings, self.scale * features @ self.weights.T
        probabilities, labels = logits.softmax(1), logits.argmax(1)
        entropy = -(probabilities * logits.log_softmax(1)).sum(1)
        share = entropy / np.log2(number)
        uncertain = (share > s.entropy[0]) & (share < s.entropy[1])
        mask = (probabilities > s.mask[0]) & (probabilities < s.mask[1])
        onehot, everyone = F.one_hot(labels, number), torch.ones_like(uncertain)
        # Of each cache: which images are offered to it, what their entries say of the classes, its alpha and beta.
        positive = (everyone, onehot, s.positive_alpha, s.positive_beta)
        negative = (uncertain, mask, -s.negative_alpha, s.negative_beta)
        result = logits.clone()
        for which, (offered, values, alpha, beta) in enumerate((positive, negative)):
            entries = self._replay(which, features, values.to(logits), labels.tolist(), entropy.tolist(), offered)
            if entries:
                result += alpha * _influence(features, *zip(*entries, strict=True), beta)
        self.seen += len(features)
        return result

    def _replay(self, which, features, values, labels, entropies, offered):
        """Update a cache image by image; tell of each entry its feature, its value, and when it came and left."""
        cache, n = self.caches[which], len(features)
        entries = {row: [*entry, 0, n] for row, entry in self.entries[which].items()}
        for place in offered.nonzero()[:, 0].tolist():
            row = self.seen + place
            out = cache.update(labels[place], entropies[place], row)
            if out != row:
                entries[row] = [features[place], values[place], place, n]
                if out is not None:
                    entries[out][3] = place
        self.entries[which] = {row: entry[:2] for row, entry in entries.items() if entry[3] == n}
        return list(entries.values())


def _influence(features, keys, values, came, left, beta):
    """Sum what the entries of a cache say, each for the images (n, d) between its coming and its leaving."""
    place = torch.arange(len(features))[:, None]
    there = (place >= torch.tensor(came)) & (place < torch.tensor(left))
    affinity = torch.exp(-beta * (1 - features @ torch.stack(keys).T)) * there
    return affinity @ torch.stack(values)
