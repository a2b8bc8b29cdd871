"""Other people's generators: what is asked of them, and the two adapters against what they wrap."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from diga_lib import data, directions, latent, runtime
from diga_lib.data import faces
from diga_lib.latent.adapters import ConformanceError, PairGenerator, PCAGenerator, WPlusGenerator, check_generator
from diga_lib.methods import ERM, DiGAOneStage

ASKED = 14  # checks


@pytest.fixture(scope="module")
def images():
    return faces.render(71, range(160), 64)[0]


@pytest.fixture(scope="module")
def linear(images):
    return PCAGenerator(4, 16).fit(images)


class Plain(torch.nn.Module):
    """A linear map and a shape: enough of a network to be exported."""

    def __init__(self, weight, bias, shape):
        super().__init__()
        self.weight, self.bias = (torch.nn.Parameter(torch.from_numpy(v).float(), False) for v in (weight, bias))
        self.shape = shape

    def forward(self, x):
        return (x.flatten(1) @ self.weight + self.bias).view(-1, *self.shape)


@pytest.fixture(scope="module")
def networks(linear):
    """The principal components as two networks."""
    pca, spread = linear.pca, np.sqrt(linear.pca.explained_variance_)
    encoder = Plain(pca.components_.T / spread, -pca.mean_ @ (pca.components_.T / spread), (4, 16))
    return encoder, Plain(pca.components_ * spread[:, None], pca.mean_, (3, 64, 64))


@pytest.fixture(scope="module")
def onnx_files(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    examples = torch.zeros(2, 3, 64, 64), torch.zeros(2, 4, 16)
    files = [folder / "encoder.onnx", folder / "decoder.onnx"]
    for network, example, file in zip(networks, examples, files, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                network,
                (example,),
                str(file),
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
                dynamo=False,
            )
    return files


def test_ours_does_what_is_asked(images):
    generator = latent.load()
    assert isinstance(generator, WPlusGenerator)
    assert len(check_generator(generator, images)) == ASKED


def test_principal_components_are_those_of_numpy(images, linear):
    assert len(check_generator(linear, images)) == ASKED
    x = images.reshape(len(images), -1) / 255
    centred = x - x.mean(0)
    _, spread, basis = np.linalg.svd(centred, full_matrices=False)
    best = (centred @ basis[:64].T) @ basis[:64] + x.mean(0)  # no other 64 numbers do better (Eckart, Young)
    again = linear.decode(linear.encode(images)).numpy().reshape(len(images), -1)
    assert ((again - x) ** 2).mean() < 1.01 * ((best - x) ** 2).mean()
    codes = linear.encode(images).flatten(1).numpy()
    np.testing.assert_allclose(codes.std(0, ddof=1)[:16], 1, atol=0.02)
    first = centred @ basis[0] / (spread[0] / np.sqrt(len(x) - 1))
    assert abs(np.corrcoef(first, codes[:, 0])[0, 1]) > 0.9999


def test_principal_components_need_enough_images(images):
    with pytest.raises(ValueError, match="160 images do not have 4 x 64 components: valid are more than 256"):
        PCAGenerator(4, 64).fit(images)


def test_a_pair_of_files_is_what_was_exported(onnx_files, linear, images):
    pair = PairGenerator.from_onnx(*onnx_files, sha256=tuple(map(runtime.sha256, onnx_files)))
    assert len(check_generator(pair, images)) == ASKED
    codes = linear.encode(images)
    torch.testing.assert_close(pair.encode(images, batch_size=50), codes, atol=1e-3, rtol=0)
    torch.testing.assert_close(pair.decode(codes, batch_size=50), linear.decode(codes), atol=1e-4, rtol=0)
    assert pair.decode(codes[:0]).shape == (0, 3, 64, 64)


def test_another_file_than_the_one_that_is_meant(onnx_files):
    first = runtime.sha256(onnx_files[0])
    for hashes, name in (("0" * 64, "0" * 64), "encoder"), ((first, "0"), "decoder"), ((first, ""), "decoder"):
        with pytest.raises(ValueError, match=f"{name}.onnx is not the file that is meant"):
            PairGenerator.from_onnx(*onnx_files, sha256=hashes)
    for hashes in ((), (first,), (first, first, first), first):
        with pytest.raises(ValueError, match="two hashes, one of each file"):
            PairGenerator.from_onnx(*onnx_files, sha256=hashes)
    with pytest.raises(FileNotFoundError, match="There is no file .*nowhere.onnx"):
        PairGenerator.from_onnx("nowhere.onnx", onnx_files[1])


def test_files_that_are_something_else(tmp_path, onnx_files):
    (tmp_path / "x.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="x.onnx is not an ONNX network"):
        PairGenerator.from_onnx(tmp_path / "x.onnx", onnx_files[1])
    with pytest.raises(ValueError, match=r"decoder.onnx takes .*an encoder of images"):
        PairGenerator.from_onnx(onnx_files[1], onnx_files[0])


class Bent:
    """A good generator with one thing wrong."""

    def __init__(self, good, **wrong):
        self.good, self.resolution, self.calls = good, good.resolution, 0
        self.wrong = wrong
        if "resolution" in wrong:
            self.resolution = wrong["resolution"]

    def encode(self, images, batch_size=256):
        self.calls += 1
        return self.wrong.get("encode", lambda self, images: self.good.encode(images))(self, images)

    def decode(self, codes, batch_size=256):
        return self.wrong.get("decode", lambda self, codes: self.good.decode(codes))(self, codes)


def written_over(self, images):
    if isinstance(images, np.ndarray):
        images[:] = 0
    return self.good.encode(images)


BENT = {
    "another resolution": ({"resolution": 32}, "32 for images of 64x64"),
    "codes as an array": ({"encode": lambda s, x: s.good.encode(x).numpy()}, "found ndarray float32"),
    "codes without levels": ({"encode": lambda s, x: s.good.encode(x).flatten(1)}, r"found Tensor .*\(8, 64\)"),
    "codes in double": ({"encode": lambda s, x: s.good.encode(x).double()}, "found Tensor torch.float64"),
    "codes lost": ({"encode": lambda s, x: s.good.encode(x)[:-1]}, r"found Tensor .*\(7, "),
    "codes not finite": ({"encode": lambda s, x: s.good.encode(x) / 0}, "codes are finite"),
    "codes with gradient": ({"encode": lambda s, x: s.good.encode(x).requires_grad_()}, "requires_grad True"),
    "one code for all": ({"encode": lambda s, x: 0 * s.good.encode(x) + 1}, "different images have different codes"),
    "chance": ({"encode": lambda s, x: s.good.encode(x) + 0.1 * s.calls}, "the same codes again"),
    "batch": ({"encode": lambda s, x: (c := s.good.encode(x)) - c.mean(0)}, "other images of its batch"),
    "floats as bytes": (
        {"encode": lambda s, x: s.good.encode(x if isinstance(x, np.ndarray) else x / 255)},
        "float Tensors",
    ),
    "pictures in bytes": ({"decode": lambda s, c: (s.good.decode(c) * 255).byte()}, "found Tensor torch.uint8"),
    "pictures turned": ({"decode": lambda s, c: s.good.decode(c).permute(0, 2, 3, 1)}, r"found Tensor .*64, 64, 3\)"),
    "pictures beyond": ({"decode": lambda s, c: s.good.decode(c) * 2 - 1}, r"in \[0, 1\] is asked, but found -1.000"),
    "pictures by batch": (
        {"decode": lambda s, c: (p := s.good.decode(c)) / p.max() * 0.5 + 0.1 * len(c) / 8},
        "other codes",
    ),
    "pictures upside down": ({"decode": lambda s, c: 1 - s.good.decode(c)}, "nearer to their images"),
    "codes ignored": ({"decode": lambda s, c: 0 * s.good.decode(c) + 0.5}, "nearer to their images"),
    "writes over its input": ({"encode": written_over}, "read-only"),
}


@pytest.mark.parametrize("what", BENT)
def test_what_is_wrong_is_found(what, linear, images):
    wrong, sentence = BENT[what]
    with pytest.raises(ValueError, match=sentence):
        check_generator(Bent(linear, **wrong), images)


def test_something_else_than_a_generator(images):
    with pytest.raises(ConformanceError, match="str: methods encode and decode is asked, but found no decode"):
        check_generator("rendered-faces-64", images)
    with pytest.raises(ValueError, match="at least 8"):
        check_generator(None, images[:3])


def test_diga_from_end_to_end_on_principal_components():
    """A stripe on the left is the target, the brightness of the right half goes along with it."""
    rng = np.random.default_rng(0)

    def draw(n, agree):
        y = rng.integers(0, 2, n)
        s = np.where(rng.random(n) < agree, y, 1 - y)
        x = rng.normal(90, 12, (n, 3, 32, 32))
        x[:, :, 8:24, 2:10] += (50 * (2 * y - 1) * rng.normal(1, 0.3, n))[:, None, None, None]
        x[:, :, :, 16:] += (60 * s + rng.normal(0, 6, n))[:, None, None, None]
        return data.LabelledImages(x.clip(0, 255).astype(np.uint8), y, s, np.arange(n))

    train, test = draw(500, 0.92), draw(400, 0.5)
    generator = PCAGenerator(2, 16).fit(train.images)
    codes = generator.encode(train.images)
    found = directions.spurious_direction(codes, train.target, strengths=(1e-2 * len(codes), 1e2 * len(codes)))
    spurious, _ = directions.true_shifts(codes, train.target, train.spurious)
    assert abs(float((found.direction * spurious).sum())) > 0.9
    worst, budget = {}, {"epochs": 5, "batch_size": 25, "lr": 1e-3, "augment": "none"}
    for name, method in {"ERM": ERM(**budget), "DiGA": DiGAOneStage(generator, found, **budget)}.items():
        model = method.fit(dataclasses.replace(train, spurious=None), seed=0)
        right = model.predict(test.images) == test.target
        worst[name] = min(right[test.group == g].mean() for g in range(4))
    assert worst["DiGA"] > 0.9 and worst["DiGA"] >= worst["ERM"], worst
