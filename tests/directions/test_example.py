"""The example by which the library is introduced runs as it is written, on fewer images."""

from functools import partial

from diga_lib import data, directions, latent, methods, metrics
from diga_lib.image_text import load


def test_the_example():
    image_text = partial(load("rendered-faces-text").zero_shot, attribute="Smiling")

    faces = data.load("rendered-faces", n=1_000, seed=0)
    split = data.biased_split(
        faces, target="Smiling", spurious="Male", bias=1 / 9, n_train=200, n_test_per_group=20, seed=0
    )
    generator = latent.load("rendered-faces-64")
    w = generator.encode(split.train.images)
    strong, weak = directions.biased_directions(w, split.train.target, strengths=[1e4, 1e-4])
    found = directions.spurious_direction(w, split.train.target, generator, scorer=image_text)
    model = methods.DiGA(generator, found, epochs=1, head_epochs=1, head_draws=1).fit(split.train, seed=0)
    measured = metrics.group_metrics(split.test.target, model.predict(split.test.images), split.test.spurious)

    # Both functions count strengths alike: the direction is the combination of just these two boundaries.
    again = directions.combine(strong, weak, found.coefficient)
    assert directions.cosine(found.direction, again) > 0.9999 and (found.strong, found.weak) == (1e4, 1e-4)
    assert set(measured.groups) == {"y0s0", "y0s1", "y1s0", "y1s1"}
