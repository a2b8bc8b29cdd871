"""Learned prompts: CoOp and CoCoOp learn from a few labelled images, TPT and DiffTPT from each test image itself.

Each method maps uint8 images (n, 3, H, W) and the prompts of their classes to logits (n, C). Its model is an
image–text model whose text tower can be reached: it has `words` and `text_with_context`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from diga_lib.methods.erm import require
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


# ---- learned from a few labelled images ----


class CoOp:
    """Learn words that come before every class's prompt; the `ImageText` model itself stays as it is.

    Of the original this leaves out the first epoch at a constant small learning rate and the random crops and flips
    of the shots (each image is encoded once), and its variants: words of each class, words behind the class's name.
    `tokens` is the number of learned words. The rate of SGD with momentum 0.9 falls from `lr` to 0 by a cosine. CLIP's
    recipe has 0.002; a model whose word vectors and temperature have another size needs another.

    References
    ----------
    Zhou, Yang, Loy and Liu, Learning to prompt for vision-language models, IJCV 2022.
    """

    def __init__(self, model, lr=0.002, epochs=50, batch_size=32, tokens=16):
        require(lr > 0, "lr", lr, "above 0")
        self.model, self.lr, self.epochs, self.batch_size, self.tokens = model, lr, epochs, batch_size, tokens
        self.parameters = None

    def build(self, rng):
        """Make what is learned: a list of tensors."""
        example = self.model.words(START)  # random words are as small, compared with a word, as CLIP's 0.02 is
        return [nn.Parameter(example.std() * torch.randn(self.tokens, example.shape[1], generator=rng))]

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
        prompts = bare(prompts)
        optimizer = torch.optim.SGD(self.parameters, self.lr, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        for _ in range(self.epochs):
            for index in torch.randperm(len(labels), generator=rng).split(self.batch_size):
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
    """CoOp whose words begin as "a photo of a" and are moved by a small network that looks at the image.

    References
    ----------
    Zhou, Yang, Loy and Liu, Conditional prompt learning for vision-language models, CVPR 2022.
    """

    def __init__(self, model, lr=0.002, epochs=10, batch_size=8):
        super().__init__(model, lr, epochs, batch_size)

    def build(self, rng):
        context = nn.Parameter(self.model.words(START).clone())
        dimension = self.model.encode_text([START]).shape[1]
        hidden = max(4, dimension // 16)
        self.meta = nn.Sequential(nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, context.shape[1]))
        return [context, *self.meta.parameters()]

    def class_features(self, prompts, features):
        context = self.parameters[0] + self.meta(features)[:, None]  # (n, m, width)
        text = unit_text(self.model, prompts * len(features), context.repeat_interleave(len(prompts), 0))
        return text.view(len(features), len(prompts), -1)


# ---- learned from each test image ----


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

    There are `count` views, 2 or more, the image itself and random ones; the share `keep` of them, those of lowest
    entropy, is used. AdamW takes `steps`, with `lr` in units of a word vector's standard deviation.

    References
    ----------
    Shu et al., Test-time prompt tuning for zero-shot generalization in vision-language models, NeurIPS 2022.
    """

    def __init__(self, model, lr=5e-3, steps=1, count=64, keep=0.1):
        require(lr > 0, "lr", lr, "above 0")
        require(count >= 2, "count", count, "at least 2")
        require(0 < keep <= 1, "keep", keep, "above 0 and at most 1")
        self.model, self.lr, self.steps, self.count, self.keep = model, lr, steps, count, keep

    def views(self, image, rng):
        """Make the views of a float image (3, H, W) in [0, 1]: their unit features (V, d), the image's own first."""
        return self.cropped(image, self.count - 1, rng)

    def cropped(self, image, count, rng):
        """Return unit features of an image and so many random crops of it."""
        crops = augment(image.expand(count, -1, -1, -1), VIEWS, rng)
        return self.model.encode_image(torch.cat([image[None], crops]))

    def views_of(self, images, seed=0):
        """Yield the features of the views of images uint8 (n, 3, H, W), one image after the other."""
        for number, image in enumerate(torch.from_numpy(np.array(images)).float() / 255):
            yield self.views(image, torch.Generator().manual_seed(1_000_003 * seed + number)).clone()

    def logits(self, images, prompts, seed=0):
        """Return logits (n, C) of images uint8 (n, 3, H, W), each with a prompt tuned for it alone."""
        return torch.cat([self.answer(views, prompts) for views in self.views_of(images, seed)])

    def answer(self, features, prompts):
        """Return logits (1, C) of an image, from its views' features, with the prompt tuned for it."""
        prompts, start = bare(prompts), self.model.words(START)
        scale, context, chosen = self.model.scale.item(), nn.Parameter(start.clone()), None
        optimizer = torch.optim.AdamW([context], self.lr * start.std().item())
        for _ in range(self.steps):
            logits = scale * features @ unit_text(self.model, prompts, context).T
            if chosen is None:
                chosen = confident_views(logits.detach(), self.keep)
            loss = mean_entropy(logits[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return scale * features[:1] @ unit_text(self.model, prompts, context).T


class DiffTPT(TPT):
    """TPT of whose views half are generated, by small random moves in our generator's W+ instead of a diffusion model.

    A `move` is in units of the standard deviation of the codes (n, levels, width), which are those of any faces; the
    share `alike` of the generated views, the most similar ones, is used.

    References
    ----------
    Feng et al., Diverse data augmentation with diffusions for effective test-time prompt tuning, ICCV 2023.
    """

    def __init__(self, model, generator, codes, lr=5e-3, steps=4, count=64, keep=0.1, alike=0.8, move=0.5):
        super().__init__(model, lr, steps, count, keep)
        self.generator, self.scatter, self.alike, self.move = generator, codes.std(0), alike, move

    def views(self, image, rng):
        made = self.count // 2
        features, code = self.cropped(image, self.count - made - 1, rng), self.generator.encode(image[None])
        moves = self.move * self.scatter * torch.randn((made, *code.shape[1:]), generator=rng)
        others = self.model.encode_image(self.generator.decode(code + moves).clamp(0, 1))
        nearest = (others @ features[0]).argsort(descending=True)[: max(1, round(made * self.alike))]
        return torch.cat([features, others[nearest]])
