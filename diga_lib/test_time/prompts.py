"""Learned prompts: CoOp and CoCoOp learn from a few labelled images, TPT and DiffTPT from each test image itself.

Each method maps uint8 images (n, 3, H, W) and the prompts of their classes to logits (n, C). Its model is an
image–text model whose text tower can be reached: it has `words` and `text_with_context`.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from diga_lib.methods.image_augmentation import Strength, augment

START = "a photo of a"  # what four learned tokens begin as
# TPT's views are crops and flips of any size. Ours keep half of a face or more and are not mirrored: left is a class.
VIEWS = Strength(scale=0.5, brightness=0.2, contrast=0.2, saturation=0.2)


def bare(prompts):
    """Return prompts without their first article, which the learned words replace."""
    return [prompt.removeprefix("an ").removeprefix("a ") for prompt in prompts]


def unit_text(model, prompts, context):
    """Return unit text features (n, d) of prompts with a learned context, with gradients."""
    return F.normalize(model.text_with_context(prompts, context), dim=-1)


# ---- learned from a few labelled images -----------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How CoOp and CoCoOp learn.

    Parameters
    ----------
    lr : float
        Peak learning rate of SGD with momentum 0.9; a cosine takes it to 0. CLIP's recipe has 0.002; a model whose
        word vectors and temperature have another size needs another.
    epochs, batch_size : int
    tokens : int
        Learned words; with a `start`, as many as that has.
    start : str
        What they begin as; "" for small random numbers.
    """

    lr: float = 0.002
    epochs: int = 50
    batch_size: int = 32
    tokens: int = 16
    start: str = ""

    def __post_init__(self):
        if not self.lr > 0 or min(self.epochs, self.batch_size, self.tokens) < 1:
            raise ValueError(f"{self}: lr must be above 0, epochs, batch_size and tokens at least 1.")


class CoOp:
    """Learn words that come before every class's prompt; the model itself stays as it is.

    Of the original this leaves out the first epoch at a constant small learning rate and the random crops and flips
    of the shots (each image is encoded once), and its variants: words of each class, words behind the class's name.

    Parameters
    ----------
    model : ImageText
    training : Training

    References
    ----------
    Zhou, Yang, Loy and Liu, Learning to prompt for vision-language models, IJCV 2022.
    """

    defaults = Training()

    def __init__(self, model, training=None):
        self.model, self.training, self.parameters = model, training or self.defaults, None

    def build(self, rng):
        """Make what is learned: a list of tensors."""
        example = self.model.words(START)
        if self.training.start:
            return [nn.Parameter(self.model.words(self.training.start).clone())]
        # As small, compared with a word, as CLIP's 0.02 is.
        return [nn.Parameter(example.std() * torch.randn(self.training.tokens, example.shape[1], generator=rng))]

    def class_features(self, prompts, features):
        """Map C prompts and image features (n, d) to unit text features (C, d), or (n, C, d) if images matter."""
        return unit_text(self.model, prompts, self.parameters[0])

    def fit(self, images, labels, prompts, seed=0):
        """Learn from labelled images: uint8 (n, 3, H, W), a few of each class, int64 (n,) and a prompt a class."""
        rng = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.parameters = self.build(rng)
        features, labels = self.model.encode_image(images).clone(), torch.from_numpy(np.array(labels))
        prompts, settings = bare(prompts), self.training
        optimizer = torch.optim.SGD(self.parameters, settings.lr, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        for _ in range(settings.epochs):
            for index in torch.randperm(len(labels), generator=rng).split(settings.batch_size):
                loss = F.cross_entropy(self._logits(features[index], prompts), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
        return self

    def _logits(self, features, prompts):
        text = self.class_features(prompts, features)
        cosines = features @ text.T if text.ndim == 2 else (text @ features[:, :, None])[:, :, 0]
        return self.model.scale.item() * cosines

    @torch.inference_mode()
    def logits(self, images, prompts, batch_size=64):
        """Return logits (n, C) of images uint8 (n, 3, H, W), for the prompts of any classes."""
        if self.parameters is None:
            raise ValueError(f"This {type(self).__name__} has not learned yet; call fit first.")
        features, prompts = self.model.encode_image(images), bare(prompts)
        return torch.cat([self._logits(part, prompts) for part in features.split(batch_size)])


class CoCoOp(CoOp):
    """CoOp whose words are moved by a small network that looks at the image.

    References
    ----------
    Zhou, Yang, Loy and Liu, Conditional prompt learning for vision-language models, CVPR 2022.
    """

    defaults = Training(tokens=4, start=START, epochs=10, batch_size=8)

    def build(self, rng):
        (context,) = super().build(rng)
        dimension = self.model.encode_text([START]).shape[1]
        hidden = max(4, dimension // 16)
        self.meta = nn.Sequential(nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, context.shape[1]))
        return [context, *self.meta.parameters()]

    def class_features(self, prompts, features):
        context = self.parameters[0] + self.meta(features)[:, None]  # (n, m, width)
        text = unit_text(self.model, prompts * len(features), context.repeat_interleave(len(prompts), 0))
        return text.view(len(features), len(prompts), -1)


# ---- learned from each test image -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuning:
    """How TPT and DiffTPT tune the prompt of one image.

    Parameters
    ----------
    views : int
        The image itself and random views of it.
    keep : float
        Share of the views, those of lowest entropy, that is used.
    steps : int
    lr : float
        Of AdamW, in units of a word vector's standard deviation.
    generated : float
        Share of the views that comes from the generator.
    alike : float
        Share of the generated views that is used, those most similar to the image.
    move : float
        Length of the generator's moves in W+, in standard deviations of the codes.
    """

    views: int = 64
    keep: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    generated: float = 0.0
    alike: float = 1.0
    move: float = 0.5

    def __post_init__(self):
        shares = 0 < self.keep <= 1 and 0 < self.alike <= 1 and 0 <= self.generated < 1
        if not (shares and self.views >= 2 and self.steps >= 1 and self.lr > 0 and self.move >= 0):
            raise ValueError(
                f"{self}: views must be at least 2, steps at least 1, lr above 0, move at least 0, "
                "keep and alike in (0, 1] and generated in [0, 1)."
            )


def confident_views(logits, keep):
    """Return the rows (at least one) of logits (V, C) with the lowest entropy, a share `keep` of them."""
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
    return entropy.argsort(stable=True)[: max(1, int(len(logits) * keep))]


def mean_entropy(logits):
    """Return the entropy, in nats, of the mean of the predictions (V, C)."""
    log_mean = logits.log_softmax(1).logsumexp(0) - np.log(len(logits))
    return -(log_mean.exp() * log_mean).sum()


class TPT:
    """Tune the prompt for each image, so that its confident views agree; then forget it.

    Parameters
    ----------
    model : ImageText
    tuning : Tuning
    generator : object with ``encode`` and ``decode``, optional
        Needed if part of the views is generated.
    scatter : torch.Tensor, optional
        Standard deviation of codes (levels, width), the unit of the moves in W+.

    References
    ----------
    Shu et al., Test-time prompt tuning for zero-shot generalization in vision-language models, NeurIPS 2022.
    """

    def __init__(self, model, tuning=Tuning(), generator=None, scatter=None):
        if tuning.generated and (generator is None or scatter is None):
            raise ValueError("Part of the views is generated: a generator and the scatter of its codes are needed.")
        self.model, self.tuning, self.generator, self.scatter = model, tuning, generator, scatter

    def views(self, image, rng):
        """Make the views of a float image (3, H, W) in [0, 1]: their unit features (V, d), the image's own first."""
        settings = self.tuning
        made = int(settings.views * settings.generated)
        crops = augment(image.expand(settings.views - made - 1, -1, -1, -1), VIEWS, rng)
        features = self.model.encode_image(torch.cat([image[None], crops]))
        if not made:
            return features
        code = self.generator.encode(image[None])
        moves = settings.move * self.scatter * torch.randn((made, *code.shape[1:]), generator=rng)
        others = self.model.encode_image(self.generator.decode(code + moves).clamp(0, 1))
        nearest = (others @ features[0]).argsort(descending=True)[: max(1, round(made * settings.alike))]
        return torch.cat([features, others[nearest]])

    def logits(self, images, prompts, seed=0):
        """Return logits (n, C) of images uint8 (n, 3, H, W), each with a prompt tuned for it alone."""
        return torch.cat([self.answer(views, prompts) for views in self.views_of(images, seed)])

    def views_of(self, images, seed=0):
        """Yield the features of the views of images uint8 (n, 3, H, W), one image after the other."""
        for number, image in enumerate(torch.from_numpy(np.array(images)).float() / 255):
            yield self.views(image, torch.Generator().manual_seed(1_000_003 * seed + number)).clone()

    def answer(self, features, prompts):
        """Return logits (1, C) of an image, from its views' features, with the prompt tuned for it."""
        prompts, settings, start = bare(prompts), self.tuning, self.model.words(START)
        scale, context = self.model.scale.item(), nn.Parameter(start.clone())
        optimizer = torch.optim.AdamW([context], settings.lr * start.std().item())
        chosen = None
        for _ in range(settings.steps):
            logits = scale * features @ unit_text(self.model, prompts, context).T
            if chosen is None:
                chosen = confident_views(logits.detach(), settings.keep)
            loss = mean_entropy(logits[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return scale * features[:1] @ unit_text(self.model, prompts, context).T


DIFF_TPT = Tuning(steps=4, generated=0.5, alike=0.8)


def diff_tpt(model, generator, codes, tuning=DIFF_TPT):
    """Build DiffTPT, with small random moves in our generator's W+ in the place of a diffusion model.

    Parameters
    ----------
    model : ImageText
    generator : object with ``encode`` and ``decode``
    codes : torch.Tensor
        (n, levels, width), of any faces: their standard deviation is the unit of the moves.
    tuning : Tuning

    References
    ----------
    Feng et al., Diverse data augmentation with diffusions for effective test-time prompt tuning, ICCV 2023.
    """
    return TPT(model, tuning, generator, codes.std(0))
