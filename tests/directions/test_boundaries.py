"""Stage 1 against closed forms, scipy and worlds whose truth is known."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from diga_lib import directions
from diga_lib.directions.clusters import fit_clusters

SHAPE = (2, 5)


def world(n=4000, bias=1 / 9, seed=0, gap=4.0):
    """Gaussian codes with a target shift, a spurious shift that goes with it, and an attribute split evenly."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    agree = rng.random(n) < 1 / (1 + bias)
    s = np.where(agree, y, 1 - y)
    glasses = rng.random(n) < 0.3
    z = rng.normal(size=(n, 10)) * np.linspace(0.6, 1.4, 10)
    shifts = np.zeros((3, 10))
    shifts[0, [0, 1]] = 1.2, 0.8  # target
    shifts[1, [4, 5, 6]] = gap * np.array([0.8, -0.5, 0.4])  # spurious
    shifts[2, 8] = 9.0  # glasses: clusters too, larger ones, but in equal shares
    z += np.c_[y, s, glasses] @ shifts

    def as_code(v):
        return torch.tensor(v / np.linalg.norm(v), dtype=torch.float32).view(SHAPE)

    return torch.tensor(z, dtype=torch.float32).view(n, *SHAPE), y, s, as_code(shifts[0]), as_code(shifts[1])


@pytest.mark.parametrize("strength", [0.1, 30.0, 3000.0])
def test_boundary_minimises_the_regularised_loss(strength):
    codes, y, *_ = world(300)
    z, sign = codes.flatten(1).double().numpy(), 2 * y - 1

    def loss(w):
        return np.logaddexp(0, -sign * (z @ w[:-1] + w[-1])).sum() + strength / 2 * (w[:-1] ** 2).sum()

    best = minimize(loss, np.zeros(11)).x[:-1]
    found = directions.boundary(codes, y, strength).flatten().numpy()
    assert found @ best / np.linalg.norm(best) > 0.9995
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_strong_regularisation_tends_to_the_difference_of_the_class_means():
    codes, y, *_ = world()
    difference = codes[y == 1].mean(0) - codes[y == 0].mean(0)
    strong, weak = directions.biased_directions(codes, y, [1e7, 1e-2])
    assert directions.cosine(strong, difference) > 0.999
    assert directions.cosine(weak, difference) < 0.95


def test_combining_with_the_cosine_leaves_nothing_of_the_weak_boundary():
    strong, weak = directions.biased_directions(*world()[:2], [1e5, 1.0])
    rest = directions.combine(strong, weak, directions.cosine(strong, weak))
    assert abs(directions.cosine(rest, weak)) < 1e-5


def test_moving_and_placing_are_counted_in_standard_deviations():
    codes, y, _, _, spurious = world()
    found = directions.paper_direction(codes, spurious)
    before = found.coordinate(codes)
    assert float(before.std()) == pytest.approx(1, abs=1e-4) and float(before.mean()) == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(found.coordinate(found.move(codes, 2.5)), before + 2.5, atol=1e-4, rtol=0)
    goal = torch.linspace(-3, 3, len(codes))
    placed = found.place(codes, goal)
    torch.testing.assert_close(found.coordinate(placed), goal, atol=1e-4, rtol=0)
    across = placed - codes
    across = across - torch.einsum("nlw,lw->n", across, spurious)[:, None, None] * spurious
    assert float(across.abs().max()) < 1e-4  # nothing but the coordinate changed


def test_clusters_are_those_that_made_the_data():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 20_000)
    upper = rng.random(len(y)) < np.where(y == 1, 0.85, 0.15)
    t = rng.normal(size=len(y)) * 0.7 + 2.6 * upper + 1.1 * y
    fit = fit_clusters(t, y)
    assert fit.gap == pytest.approx(2.6, abs=0.1) and fit.spread == pytest.approx(0.7, abs=0.03)
    np.testing.assert_allclose(fit.share, [0.15, 0.85], atol=0.02)
    np.testing.assert_allclose(fit.offset, [1.3, 2.4], atol=0.1)
    assert ((fit.probability > 0.5) == upper).mean() > 0.95
    assert fit.gain > 0.05


def test_one_cloud_a_class_has_no_clusters_to_gain_from():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 5000)
    assert abs(fit_clusters(rng.normal(size=5000) + 2 * y, y).gain) < 0.01


def test_refining_finds_the_spurious_shift_and_leaves_the_target_out():
    codes, y, s, target, spurious = world()
    start = directions.boundary(codes, y, 100.0 * len(codes))
    found, clusters = directions.refine(codes, y, start)
    assert directions.cosine(found.direction, spurious) > 0.98 > directions.cosine(start, spurious)
    assert abs(directions.cosine(found.direction, target)) < 0.1 < directions.cosine(start, target)
    assert ((clusters.probability > 0.5) == s).mean() > 0.97
    # A degree is one standard deviation inside a cluster, and 0 lies between the clusters.
    coordinate = found.coordinate(codes).numpy()
    assert coordinate[s == 1].mean() == pytest.approx(-coordinate[s == 0].mean(), abs=0.5)
    assert np.std(coordinate[(s == 1) & (y == 1)]) == pytest.approx(1, abs=0.1)


def test_along_a_refined_direction_the_targets_reading_stays():
    """Part of the start is the target's shift; Fisher's reading of the target, with the true groups, ends at 0."""
    codes, y, s, target, spurious = world(20_000)
    found, _ = directions.refine(codes, y, spurious + 0.5 * target)
    z, group = codes.flatten(1).double().numpy(), 2 * y + s
    means = np.stack([z[group == k].mean(0) for k in range(4)])
    shift = (means[2] + means[3] - means[0] - means[1]) / 2
    within_classes = z - np.stack([z[y == k].mean(0) for k in (0, 1)])[y]
    reader = np.linalg.solve(np.cov(within_classes.T), shift)
    moved = reader @ found.direction.flatten().numpy() / (reader @ shift)  # by a step of length 1
    assert abs(moved) < 0.01 < 0.1 < abs(reader @ (spurious + 0.5 * target).flatten().numpy() / (reader @ shift))


def combination(codes, y, coefficient=0.8):
    both = directions.biased_directions(codes, y, [len(y) * per_image for per_image in (1e-1, 1e-2)])
    return directions.paper_direction(codes, directions.combine(*both, coefficient))


def test_the_choice_without_a_judge_is_recorded_and_uses_no_truth():
    codes, y, s, target, spurious = world()
    strengths = [len(y) * per_image for per_image in (1e-3, 1e-1, 1e2)]
    plain = directions.spurious_direction(codes, y, strengths=strengths, coefficients=(0.0, 0.5, 1.0), refined=False)
    assert len(plain.scores) == 3 * 3 and plain.scores["agreement"].isna().all()
    assert {plain.strong, plain.weak} <= set(strengths) and plain.coefficient in (0.0, 0.5, 1.0)
    found = directions.sharpen(codes, y, plain)
    assert directions.cosine(found.direction, spurious) > 0.98
    # What was thrown away is not told of it.
    assert np.isnan([found.coefficient, found.strong, found.weak]).all() and found.scores.empty


def test_a_strong_bias_is_still_an_attribute():
    codes, y, s, _, spurious = world(6000, bias=1 / 30)
    plain = combination(codes, y, 0.3)
    found = directions.sharpen(codes, y, plain)
    assert found is not plain and directions.cosine(found.direction, spurious) > 0.95


def test_clusters_of_the_target_itself_are_not_followed():
    """Inside each class the target is weak or strong, most often strong in class 1, and nothing else goes along."""
    codes, y, _, target, _ = world(bias=1.0)
    strong = np.random.default_rng(5).random(len(y)) < np.where(y == 1, 0.9, 0.1)
    codes = codes + 4.0 * torch.from_numpy(strong.astype(np.float32))[:, None, None] * target
    plain = combination(codes, y, 0.0)
    assert directions.cosine(plain.direction, target) > 0.9
    assert fit_clusters(plain.coordinate(codes).numpy(), y).clear, "clusters there are"
    assert directions.sharpen(codes, y, plain) is plain


def test_clusters_of_which_both_classes_have_equal_shares_are_no_shortcut():
    """Glasses make the clearest clusters of all, but they do not go along with the target."""
    codes, y, *_ = world(bias=1.0)
    glasses = codes[:, 1, 3].numpy()
    fit = fit_clusters(glasses, y)
    assert fit.gain > 0.1 and abs(fit.gap) > 5 * fit.spread and not fit.clear
    plain = combination(codes, y, 0.0)
    assert directions.sharpen(codes, y, plain) is plain


def test_clusters_that_only_the_images_show_that_made_them_are_not_believed():
    """In hundreds of dimensions some direction splits any images in two; an attribute splits others, too."""
    rng = np.random.default_rng(5)
    y, noise = rng.integers(0, 2, 2000), rng.normal(size=(2000, 10, 32))
    noise[:, 0, :3] += 0.8 * y[:, None]
    agree = np.where(rng.random(2000) < 0.9, y, 1 - y)
    for shift, believed in ((0.0, False), (3.5, True)):
        codes = noise.copy()
        codes[:, 5, 7] += shift * agree
        codes = torch.tensor(codes, dtype=torch.float32)
        plain = combination(codes, y)
        assert directions.refine(codes, y, plain.direction)[1].clear
        assert (directions.sharpen(codes, y, plain) is not plain) is believed


def test_the_gain_of_images_left_out_is_that_of_two_known_clusters():
    """With images enough to find the direction, it is the gain of the true coordinate."""
    codes, y, s, _, spurious = world(20_000)
    z, group = codes.flatten(1).numpy(), 2 * y + s
    within = z - np.stack([z[group == k].mean(0) for k in range(4)])[group]
    expected = fit_clusters(z @ np.linalg.solve(np.cov(within.T), spurious.flatten().numpy()), y).gain
    assert directions.held_out_gain(codes, y, combination(codes, y).direction) == pytest.approx(expected, rel=0.05)


def test_booleans_are_labels_and_other_numbers_one_sentence():
    codes, y, *_ = world(600)
    found, same = (directions.spurious_direction(codes, kind, strengths=(1.0, 1e4)) for kind in (y, y == 1))
    torch.testing.assert_close(found.direction, same.direction)
    for wrong in (2 * y - 1, np.where(y == 1, "smile", "none"), np.ones_like(y)):
        with pytest.raises(ValueError, match="valid are 0 and 1, both 0 and 1 must occur"):
            directions.spurious_direction(codes, wrong)


class Plain:
    """A generator whose pictures are its codes."""

    @staticmethod
    def decode(codes):
        return codes.flatten(1)


def test_the_judge_chooses_the_combination_that_keeps_the_target():
    codes, y, _, target, _ = world()
    middle = float((codes * target).sum((1, 2)).mean())

    def judge(images):
        return ((images @ target.flatten() - middle) > 0).numpy().astype(float)

    strengths = [len(y) * per_image for per_image in (1e-1, 1e2)]
    found = directions.spurious_direction(codes, y, Plain(), judge, strengths, directions.COEFFICIENTS, 3.0, 400)
    assert found.scores["agreement"].max() == found.scores.set_index("coefficient").loc[found.coefficient, "agreement"]
    start = found.scores.iloc[0]
    assert start.coefficient == 0 and found.coefficient > 0 and found.scores["agreement"].max() > start.agreement


def test_flip_rates_by_hand():
    codes = torch.tensor([[-1.0, 5.0], [-1.0, -5.0], [1.0, 5.0], [1.0, 0.2]]).view(4, 1, 2)
    direction = torch.tensor([[1.0, 0.1]])
    found = directions.Direction(direction, torch.tensor([[1.0, 0.0]]), 1.0)

    def see(column):
        return lambda images: (images[:, column] > 0).numpy().astype(int)

    rates = directions.flip_rates(found, codes, [1, 0, 1, 1], [0, 0, 1, 1], Plain(), see(1), see(0), degree=3.0)
    assert rates == {"spurious": 1.0, "target": 0.25}  # only 0.2 - 0.3 changes the target's sign


def test_bad_requests_say_what_is_valid():
    codes, y, *_ = world(100)
    with pytest.raises(ValueError, match="above 0"):
        directions.boundary(codes, y, 0)
    with pytest.raises(ValueError, match="both 0 and 1"):
        directions.boundary(codes, np.zeros(100, int), 1)
    with pytest.raises(ValueError, match="at least two"):
        directions.spurious_direction(codes, y, strengths=[1.0])
    with pytest.raises(ValueError, match="needs the generator"):
        directions.spurious_direction(codes, y, scorer=lambda images: images)
