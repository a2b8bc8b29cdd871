"""Live figures: codes composed as directions say, frames for every slider, an ONNX decoder that paints alike."""

import base64
import gzip
import io
import json
import re

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from diga_lib.action_units import UNITS
from diga_lib.action_units.editors import AUEditNet
from diga_lib.directions import combine, paper_direction
from diga_lib.latent import LEVELS, WIDTH, Generator
from diga_lib.latent.onnx_export import decoder_files, decoder_id
from diga_lib.pages import live

WORDS = {"name": "live-x", "caption": "A face & sliders.", "alt": 'a "face"'}


class Painter:
    def decode(self, codes):
        return codes[:, :1, :1, None].sigmoid().expand(-1, 3, 8, 8)


@pytest.fixture
def codes():
    return torch.randn(80, LEVELS, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def normals(codes):
    return [torch.nn.functional.normalize(part.flatten(), dim=0).view(LEVELS, WIDTH) for part in codes[:3]]


@pytest.mark.parametrize("c", [0.0, 0.7, 1.5])
def test_a_degree_of_the_combination_is_a_standard_deviation_along_it(codes, normals, c):
    strong, weak, _ = normals
    figure = live.combination(Painter(), codes[3:5], codes, strong, weak, 0.5, **WORDS)
    values = {"combined": 2.0, "c": c, "strong": -1.0, "weak": 0.5}
    expected = paper_direction(codes, combine(strong, weak, c)).move(codes[4:5], 2.0)
    expected = paper_direction(codes, strong).move(expected, -1.0)
    expected = paper_direction(codes, weak).move(expected, 0.5)
    torch.testing.assert_close(live.compose(figure, values, face=1), expected, atol=1e-4, rtol=0)


def test_turning_and_edits_move_along_the_selected_direction(codes, normals):
    turned = live.turning(Painter(), codes[:2], codes, normals, "abc", **WORDS)
    expected = paper_direction(codes, normals[1]).move(codes[:1], -3.0)
    torch.testing.assert_close(live.compose(turned, {"strength": 1.0, "degree": -3.0}), expected, atol=1e-4, rtol=0)
    found = {name: paper_direction(codes, n) for name, n in zip("ab", normals[:2], strict=True)}
    edited = live.edits(Painter(), codes[:2], found, **WORDS, codes=codes)
    expected = found["b"].move(found["a"].move(codes[:1], 1.0), -2.0)
    torch.testing.assert_close(live.compose(edited, {"degree0": 1.0, "degree1": -2.0}), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(edited.spread[1], codes.numpy().std(0, ddof=1), rtol=1e-4)
    with pytest.raises(ValueError, match="3 normals and 2 labels"):
        live.turning(Painter(), codes[:2], codes, normals, "ab", **WORDS)


def test_expressions_are_what_the_editor_s_target_branch_adds(codes):
    torch.manual_seed(0)
    editor = AUEditNet().eval()
    torch.nn.init.normal_(editor.encoder.out.weight, 0, 0.3)
    figure = live.expressions(Painter(), codes[:2], editor, UNITS, **WORDS)
    y = torch.linspace(-1, 7, len(UNITS))
    values = {control.name: float(value) for control, value in zip(figure.controls, y, strict=True)}
    for face in range(2):
        with torch.no_grad():
            added = editor.change(codes[face : face + 1], y[None])
        assert added.abs().max() > 0.5
        torch.testing.assert_close(
            live.compose(figure, values, face), codes[face : face + 1] + added, atol=1e-4, rtol=0
        )
    still = live.compose(figure, dict.fromkeys(values, 0.0), 1)
    torch.testing.assert_close(still, codes[1:2], atol=1e-6, rtol=0)


def test_what_a_page_embeds_can_be_read_back(codes, normals):
    figure = live.turning(Painter(), codes[:2], codes, normals, ["1", "2", "</script>"], **WORDS)
    written = figure._repr_html_()
    assert written.count("</script>") == 1  # what it says cannot end the element early
    spec = json.loads(re.search(r'class="live-data">(.*)</script>', written).group(1))
    faces = np.frombuffer(base64.b64decode(spec["faces"]), "<f4").reshape(spec["shape"])
    np.testing.assert_array_equal(faces, codes[:2].numpy())
    assert [len(spec["frames"][name]) for name in ("strength", "degree")] == [3, live.FRAMES]
    degrees = np.linspace(-6, 6, live.FRAMES)
    for degree, frame in zip(degrees, spec["frames"]["degree"], strict=True):
        expected = Painter().decode(live.compose(figure, {"strength": 2.0, "degree": degree}))
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(frame))))
        np.testing.assert_allclose(pixels / 255, expected[0].permute(1, 2, 0).numpy(), atol=0.02)
    assert 'alt="a &quot;face&quot;"' in written and "A face &amp; sliders." in written


def test_a_photograph_is_shown_as_it_is_until_it_is_moved(codes, normals):
    photos = np.random.default_rng(0).integers(90, 165, (2, 3, 8, 8), dtype=np.uint8)
    figure = live.edits(Painter(), codes[:2], {"a": paper_direction(codes, normals[0])}, **WORDS, photos=photos)
    spec, decoded = figure.payload(), 255 * Painter().decode(torch.from_numpy(figure.faces)).numpy()
    rest = np.frombuffer(base64.b64decode(spec["rest"]), np.int8).reshape(photos.shape)
    near = np.abs(photos - decoded) < 127
    np.testing.assert_allclose((decoded + rest)[near], photos[near], atol=0.51)
    frames = [Image.open(io.BytesIO(base64.b64decode(one))) for one in spec["frames"]["degree0"]]
    middle = np.array(frames[live.FRAMES // 2], np.float32).mean((0, 1))
    np.testing.assert_allclose(middle, photos[0].mean((1, 2)), atol=4)
    assert np.abs(np.array(frames[0], np.float32).mean() - middle.mean()) > 4


def unpacked(files: dict[str, bytes]) -> bytes:
    """The content of ``decoder.bin``: the large arrays one after the other, float32."""
    packed, found = gzip.decompress(files["decoder.bin.gz"]), []
    for array in json.loads(files["decoder.json"])["arrays"]:
        rows, columns, run = array["rows"], array["columns"], array["run"]
        steps = np.frombuffer(packed, "<f4", rows, array["at"])
        low = np.frombuffer(packed, np.uint8, rows * columns, array["at"] + 4 * rows)
        if run:
            high = np.frombuffer(packed, np.uint8, rows * columns, array["at"] + 4 * rows + rows * columns)
            folded = low.astype(np.int32) | high.astype(np.int32) << 8
            whole = ((folded >> 1) ^ -(folded & 1)).reshape(-1, run).cumsum(1)
        else:
            whole = low.view(np.int8)
        found.append((whole.reshape(rows, columns) * steps[:, None]).astype("<f4").tobytes())
    return b"".join(found)


def test_the_onnx_decoder_paints_what_the_generator_paints(tmp_path):
    torch.manual_seed(0)
    generator = Generator(32)
    images = torch.randint(0, 256, (400, 3, 32, 32), dtype=torch.uint8).numpy()
    generator.base.fit(images)
    for parameter in generator.decoder.to_image.parameters():
        torch.nn.init.normal_(parameter, 0, 0.004)
    generator.eval()
    written = decoder_files(generator)
    assert written == decoder_files(generator)
    before = decoder_id(generator)
    assert (
        live.turning(
            generator,
            torch.zeros(1, LEVELS, WIDTH),
            torch.randn(9, LEVELS, WIDTH),
            [torch.ones(LEVELS, WIDTH)],
            "a",
            **WORDS,
        ).payload()["decoder"]
        == before
    )
    assert decoder_id(Generator(32)) != before == decoder_id(generator)
    (tmp_path / "decoder.onnx").write_bytes(written["decoder.onnx"])
    (tmp_path / "decoder.bin").write_bytes(unpacked(written))
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", providers=["CPUExecutionProvider"])
    codes = torch.randn(8, LEVELS, WIDTH)
    with torch.no_grad():
        expected = generator.images_of(codes).clamp(0, 1).numpy()
    found = np.concatenate([session.run(None, {"codes": code[None].numpy()})[0] for code in codes])
    assert np.abs(found - expected).max() < 1.5 / 255
    assert expected.std() > 0.1  # not a grey that anything would match
