"""The paper's two stages on pictures whose generator is known exactly; and one range of input for every method."""

import numpy as np
import pytest
import torch
from torch import nn

from diga_lib.data import LabelledImages
from diga_lib.methods import EIIL, ERM, JTT, MAPLE, CVaRDRO, DiGA, DiGAOneStage, GroupDRO, LfF, PseudoGroups, networks

FEW = {"epochs": 2, "batch_size": 64, "augment": "none", "precision": "fp32", "backbone": "small"}


@pytest.fixture(scope="module")
def few(world):
    return world.draw(256, 1 / 9, 0)


def paper(world, momentum=0.99, residual=False, **changes):
    settings = FEW | {"degrees": (2.0, 3.0), "head_degrees": (8.0, 16.0)}
    model = DiGA(world.generator, world.shortcut, **settings | {"head_epochs": 4, "head_draws": 2} | changes)
    model.momentum, model.residual = momentum, residual
    return model


def lit(world, images):
    """Brightness (B,) of the shortcut's lamp."""
    return world.generator.encode((images * 255).numpy())[:, 0, 1]


def test_pairs_are_edits_both_ways_drawn_anew(world, few):
    model = paper(world, epochs=1)
    model.represent(few)
    before, rows = model.faces.codes[:50, 0, 1], torch.arange(50)
    seen = []
    for _ in range(2):
        up, down = (lit(world, view) for view in model.pair(rows))
        steps = torch.stack([up - before, before - down]) / world.shortcut.scale
        inside = torch.stack([up < 0.99, down > 0.01])
        assert set(steps[inside].round().tolist()) == {2.0, 3.0}
        seen.append(steps)
    assert (seen[0] - seen[1]).abs().max() > 0.5


def test_each_edit_is_painted_once(world, few, monkeypatch):
    model, decode, painted = paper(world, epochs=3), world.generator.decode, []
    monkeypatch.setattr(world.generator, "decode", lambda codes: painted.append(len(codes)) or decode(codes))
    model.fit(few)
    assert sum(painted) <= 6 * len(few)  # two degrees up, two down, two against the label


def test_the_loss_falls_and_the_target_network_follows(world, few):
    """With momentum m and k steps, what the target has of its start is m^k; a third network is averaged by hand."""
    model = paper(world, epochs=8, lr=1e-3, momentum=0.9).represent(few)
    losses = [record["loss"] for record in model.history]
    assert len(losses) == 8 and losses[-1] < 0.7 * losses[0]
    fast = torch.cat([p.flatten() for p in model.network.backbone.parameters()])
    slow = torch.cat([p.flatten() for p in model.slow.backbone.parameters()])
    assert 0 < (fast - slow).norm() < 0.2 * fast.norm()
    still = paper(world, epochs=1, momentum=1.0).represent(few, seed=3)
    torch.manual_seed(3)
    start = networks.classifier()
    for kept, first in zip(still.slow.backbone.parameters(), start.backbone.parameters(), strict=True):
        torch.testing.assert_close(kept.detach(), first.detach())
    followed = paper(world, epochs=1, momentum=0.0).represent(few, seed=3)
    for one, other in zip(followed.slow.parameters(), followed.network.backbone.parameters(), strict=False):
        torch.testing.assert_close(one, other.detach())


def test_the_head_is_trained_on_the_rare_side_and_the_backbone_stays(world, few):
    test = world.draw(400, 1.0, 1)

    def gap(model):
        right = model.predict(test.images) == test.target
        return right[test.target == test.spurious].mean() - right[test.target != test.spurious].mean()

    few = world.draw(600, 1 / 9, 0)
    model = paper(world, head_epochs=40).represent(few)
    frozen = {name: value.clone() for name, value in model.network.backbone.state_dict().items()}
    against = gap(model.fit_head(few))
    for name, value in model.network.backbone.state_dict().items():
        torch.testing.assert_close(value, frozen[name])
    model.head_degrees = ()
    assert against < gap(model.fit_head(few))


def test_the_head_of_the_best_epoch_on_validation_is_kept_and_callbacks_hear_both_stages(world, few):
    heard, validation = [], world.draw(200, 1.0, 2)
    model = paper(world).fit(few, 0, [lambda method, record: heard.append(record)], validation)
    assert heard == model.history
    assert [record["stage"] for record in heard] == ["byol"] * 2 + ["head"] * 4
    right = model.predict(validation.images) == validation.target
    assert right.mean() == max(record["accuracy"] for record in heard[2:])


def test_the_same_seed_gives_the_same_network_with_and_without_somebody_who_looks(world, few):
    def look(method, record):
        method.features(few.images[:10])

    one, again = (paper(world).fit(few, 1, callbacks=c).scores(few.images[:50]) for c in ((), [look]))
    np.testing.assert_array_equal(one, again)


def test_fewer_images_than_a_batch_are_one_batch(world):
    model = paper(world, batch_size=512).fit(world.draw(100, 1 / 9, 0))
    assert np.isfinite([record["loss"] for record in model.history]).all()


def test_an_edit_with_its_residual_is_the_image_where_nothing_moves(world, few):
    noisy = few.images.copy()
    noisy[:, :, 7:9] = np.random.default_rng(0).integers(0, 255, noisy[:, :, 7:9].shape)  # no code knows of these rows
    model = paper(world, residual=True, degrees=(0.0, 1.0))
    model.offer(LabelledImages(noisy, few.target, None, few.index))
    images = model.faces.shifted(torch.arange(20), torch.zeros(20, 1))
    np.testing.assert_allclose(images * 255, noisy[:20], atol=0.2)


# ---- one range of input ---------------------------------------------------------------------------------------------
class Watched(nn.Module):
    """A backbone that writes down what it is fed: whether in training, and the least and the largest value.

    It and its copies write into one list.
    """

    seen = []

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 128), nn.BatchNorm1d(128))

    def forward(self, x):
        self.seen.append((self.training, float(x.detach().min()), float(x.detach().max())))
        return self.layers(x)


METHODS = {
    "ERM": lambda w, **few: ERM(**few),
    "byol": lambda w, **few: ERM(**few | {"augment": "byol"}),
    "CVaR DRO": lambda w, **few: CVaRDRO(**few),
    "EIIL": lambda w, **few: EIIL(inference_steps=10, **few),
    "LfF": lambda w, **few: LfF(**few),
    "JTT": lambda w, **few: JTT(upweight=2, **few),
    "MAPLE": lambda w, **few: MAPLE(search_steps=2, **few),
    "GroupDRO": lambda w, **few: GroupDRO(**few),
    "pseudo groups": lambda w, **few: PseudoGroups(w.generator, w.shortcut, **few),
    "DiGA, one stage": lambda w, **few: DiGAOneStage(w.generator, w.shortcut, **few),
    "DiGA, one stage, shift": lambda w, **few: DiGAOneStage(w.generator, w.shortcut, "shift", **few),
    "DiGA, one stage, place": lambda w, **few: DiGAOneStage(w.generator, w.shortcut, "place", **few),
    "DiGA": lambda w, **few: DiGA(w.generator, w.shortcut, head_epochs=2, **few),
    "DiGA, head on images": lambda w, **few: DiGA(w.generator, w.shortcut, head_degrees=(), head_epochs=2, **few),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_network_is_trained_and_asked_on_one_range_of_input(name, world, monkeypatch):
    seen = []
    monkeypatch.setattr(Watched, "seen", seen)
    monkeypatch.setitem(networks.BACKBONES, "small", (Watched, 128))
    few = world.draw(128, 1 / 9, 0)
    images = few.images.copy()
    images[:, :, 0, 0], images[:, :, 15, 0] = 0, 255  # every batch has the whole range
    model = METHODS[name](world, **FEW | {"epochs": 1})
    model.fit(LabelledImages(images, few.target, few.spurious, few.index))
    trained, before = [row[1:] for row in seen if row[0]], len(seen)
    model.predict(images)
    asked = [row[1:] for row in seen[before:]]
    assert trained and asked and not any(row[0] for row in seen[before:])
    ranges = np.array(trained + [row[1:] for row in seen])
    low, high = np.array(asked).mean(0)
    assert high - low == pytest.approx(1.0, abs=1e-6)  # images in [0, 1], shifted by the same for all
    assert ranges[:, 0].min() >= low - 1e-6 and ranges[:, 1].max() <= high + 1e-6
    assert np.median(ranges[:, 1] - ranges[:, 0]) > 0.4
