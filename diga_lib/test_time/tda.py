"""TDA, the training-free dynamic adapter: two small caches of test features that correct zero-shot predictions.

What the caches hold depends on pseudo-labels and entropies alone, which come from the zero-shot classifier. So a block
of the stream is first replayed on these few numbers, and the costly part is then done for the whole block in matrix
products: the predictions are those of one image at a time.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Cache:
    """Settings of one cache.

    Parameters
    ----------
    capacity : int
        Images kept for each pseudo-class; 0 switches the cache off.
    alpha, beta : float
        Weight of the cache, and how sharply its influence falls with distance.
    """

    capacity: int
    alpha: float
    beta: float

    def __post_init__(self):
        if not (isinstance(self.capacity, int) and self.capacity >= 0 and self.alpha >= 0 and self.beta >= 0):
            raise ValueError(f"{self}: capacity must be a whole number of at least 0, alpha and beta at least 0.")


@dataclass(frozen=True)
class Settings:
    """Settings of TDA; the defaults are those of its public code, with the positive cache's of ImageNet.

    Parameters
    ----------
    positive, negative : Cache
    entropy : tuple of float
        An image may enter the negative cache if its entropy divided by log2 of the number of classes lies between.
    mask : tuple of float
        A class is pushed down by a negative entry if the entry's probability of it lies between.
    """

    positive: Cache = Cache(3, 2.0, 5.0)
    negative: Cache = Cache(2, 0.117, 1.0)
    entropy: tuple = (0.2, 0.5)
    mask: tuple = (0.03, 1.0)

    def changed(self, **changes):
        """Return these settings with some fields changed; a field of a cache is named as "positive_alpha"."""
        result = self
        for name, value in changes.items():
            part, _, field = name.partition("_")
            new = replace(getattr(result, part), **{field: value}) if field else value
            result = replace(result, **{part: new})
        return result


class Rows:
    """Which rows a cache holds: of each pseudo-class the `capacity` ones of lowest entropy, in that order."""

    def __init__(self, capacity):
        self.capacity, self.held = capacity, {}

    def update(self, label, entropy, row):
        """Offer a row; return the row that it replaces, None if it is appended, or the row itself if refused."""
        if self.capacity == 0:
            return row
        kept, out = self.held.setdefault(label, []), None
        if len(kept) == self.capacity:
            if not entropy < kept[-1][0]:
                return row
            out = kept.pop()[1]
        kept.append((entropy, row))
        kept.sort(key=lambda entry: entry[0])
        return out

    def rows(self):
        """All rows that are held, class by class in ascending order of entropy (list of int)."""
        return [row for label in sorted(self.held) for _, row in self.held[label]]


def _check_unit(vectors, what):
    """Refuse rows that are not of length 1: with them, a cosine and its distance mean nothing."""
    if len(vectors) and not (vectors.norm(dim=1) - 1).abs().max() < 0.01:
        raise ValueError(
            f"The {what} must be finite and of length 1; normalise them with torch's F.normalize(x, dim=1)."
        )


class TDA:
    """Adapt zero-shot predictions to a stream, without training.

    Parameters
    ----------
    weights : torch.Tensor
        (C, d), unit text features of the classes.
    scale : float
        What multiplies cosines: 100 for CLIP, the model's own inverse temperature for a smaller one.
    settings : Settings

    Attributes
    ----------
    seen : int
        Images of the stream so far.

    Raises
    ------
    ValueError
        If weights or features have another shape, hold a NaN or are not of length 1.

    References
    ----------
    Karmanov et al., Efficient test-time adaptation of vision-language models, CVPR 2024, equations 4 to 7 and the
    public code; notebook 10_test_time_adaptation.
    """

    def __init__(self, weights, scale=100.0, settings=Settings()):
        if weights.ndim != 2 or len(weights) < 2:
            raise ValueError(
                f"The weights have shape {tuple(weights.shape)}; they must be (classes, d), 2 classes or more."
            )
        _check_unit(weights, "weights")
        self.weights, self.scale, self.settings = weights, float(scale), settings
        self.caches = (Rows(settings.positive.capacity), Rows(settings.negative.capacity))
        self.seen = 0
        empty = weights.new_empty(0, weights.shape[1])
        self._kept = [(empty, weights.new_empty(0, len(weights)), []) for _ in self.caches]  # features, values, rows

    def held(self):
        """Return the positions in the stream that the positive and the negative cache hold (two lists of int)."""
        return tuple(cache.rows() for cache in self.caches)

    def __call__(self, features):
        """Adapt the next images of the stream, as if they came one by one.

        Parameters
        ----------
        features : torch.Tensor
            (n, d), unit image features in the order of the stream.

        Returns
        -------
        torch.Tensor
            (n, C): adapted logits.
        """
        if features.ndim != 2 or features.shape[1] != self.weights.shape[1]:
            raise ValueError(
                f"The features have shape {tuple(features.shape)}; valid is (images, {self.weights.shape[1]})."
            )
        _check_unit(features, "features")
        settings, number = self.settings, self.weights.shape[0]
        logits = self.scale * features @ self.weights.T
        probabilities = logits.softmax(1)
        entropy = -(probabilities * logits.log_softmax(1)).sum(1)
        labels, entropies = logits.argmax(1).tolist(), entropy.tolist()
        low, high = settings.entropy
        uncertain = [low < share < high for share in (entropy / np.log2(number)).tolist()]
        mask = (probabilities > settings.mask[0]) & (probabilities < settings.mask[1])
        onehot = F.one_hot(logits.argmax(1), number)
        result = logits.clone()
        caches = ((settings.positive, 1, onehot, [True] * len(labels)), (settings.negative, -1, mask, uncertain))
        for which, (part, sign, values, offered) in enumerate(caches):
            spans = self._replay(which, labels, entropies, offered)
            if spans:
                result += sign * part.alpha * self._influence(which, part.beta, features, values.to(logits), spans)
        self.seen += len(features)
        return result

    def _replay(self, which, labels, entropies, offered):
        """Find for each row that a cache holds during the block when it came (its place in the block) and left."""
        came, left = dict.fromkeys(self._kept[which][2], 0), {}
        for place in np.flatnonzero(offered).tolist():
            row = self.seen + place
            out = self.caches[which].update(labels[place], entropies[place], row)
            if out != row:
                came[row] = place
                if out is not None:
                    left[out] = place
        return [(row, place, left.get(row, len(labels))) for row, place in came.items()]

    def _influence(self, which, beta, features, values, spans):
        """Sum what the entries say, each for the images between its coming and its leaving."""
        old_features, old_values, old_rows = self._kept[which]
        rows = [row for row, _, _ in spans]  # the kept ones come first, in their order
        new = [row - self.seen for row in rows[len(old_rows) :]]
        keys, values = torch.cat([old_features, features[new]]), torch.cat([old_values, values[new]])
        place = torch.arange(len(features))[:, None]
        begin, end = torch.tensor([span[1:] for span in spans]).T
        affinity = torch.exp(-beta * (1 - features @ keys.T)) * ((place >= begin) & (place < end))
        stays = [k for k, (_, _, leaves) in enumerate(spans) if leaves == len(features)]
        self._kept[which] = (keys[stays], values[stays], [rows[k] for k in stays])
        return affinity @ values
