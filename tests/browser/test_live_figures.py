"""Live figures in a real browser: they answer to mouse, finger, keys and numbers, and paint what Python paints."""

import base64
import json

import numpy as np
import pytest
import torch
from playwright.sync_api import Error

from diga_lib import latent
from diga_lib.latent.onnx_export import decoder_id
from diga_lib.pages import live

pytestmark = pytest.mark.built

FIGURES = {
    "live-edits": "00_tour.html",
    "live-turning": "02_biased_directions.html",
    "live-combination": "02_biased_directions.html",
    "live-units": "09_action_units.html",
    "live-london": "00_tour.html",
    "live-real": "12_real_photographs.html",
}
each_figure = pytest.mark.parametrize("name", FIGURES)
PLACES = {
    "desk": ("", {}),
    "phone": ("", {"viewport": {"width": 360, "height": 740}, "has_touch": True}),
    "no WebAssembly": ("delete window.WebAssembly", {}),
}
PIXELS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"


@pytest.fixture(scope="module")
def generators():
    some = [latent.load(name, device="cpu") for name in ("rendered-faces-64", "real-faces-64")]
    return {decoder_id(one): one for one in some}


@pytest.fixture(scope="module")
def at(open_book):
    """at("live-edits", "phone") leads to a figure as it began; its page is opened once, and again if it hangs."""
    readers = {}

    def figure(name: str, place: str = "desk"):
        key = (FIGURES[name], place)
        try:
            if key in readers:
                readers[key].ask("() => true", limit=3)
        except Error:
            readers.pop(key).context.close()
        if key not in readers:
            script, options = PLACES[place]
            readers[key] = open_book(FIGURES[name], script, **options)
        found = readers[key].page.locator(f"#{name}")
        shown(found, "frames" if place == "no WebAssembly" else "live")
        found.get_by_role("button", name="Reset").click()
        return found

    yield figure
    for reader in readers.values():
        reader.context.close()


def shown(figure, state="live"):
    """Scroll to a figure and wait for its first picture."""
    figure.scroll_into_view_if_needed()
    figure.page.wait_for_function("e => ['live', 'frames'].includes(e.dataset.state)", arg=figure.element_handle())
    assert figure.get_attribute("data-state") == state, figure.get_attribute("data-reason")


def painted(figure) -> np.ndarray:
    """The picture that a figure shows, (height, width, 3), once it has come to rest."""
    figure.page.wait_for_function("e => !e.live.busy && !e.live.stale", arg=figure.element_handle())
    pixels = np.array(figure.locator("canvas").evaluate(PIXELS)).reshape(-1, 4)
    side = int(len(pixels) ** 0.5)
    return pixels[:, :3].reshape(side, side, 3)


def from_python(figure) -> live.Figure:
    spec = json.loads(figure.locator(".live-data").text_content())
    arrays = {
        key: np.frombuffer(base64.b64decode(spec[key]), "<f4").reshape(-1, *spec["shape"][1:])
        for key in ("faces", "vectors")
    }
    controls = [live.Control(**control) for control in spec["controls"]]
    units, coordinates = None, arrays["faces"][0].size
    if "units" in spec:
        units = {key: np.frombuffer(base64.b64decode(text), "<f4").copy() for key, text in spec["units"].items()}
        units["into"] = units["into"].reshape(len(units["bias"]), -1)
        units["maps"] = units["maps"].reshape(len(arrays["faces"]), coordinates, -1)
    faces, vectors = arrays["faces"].copy(), arrays["vectors"].copy()
    rest = np.frombuffer(base64.b64decode(spec.get("rest", "")), np.int8).reshape(-1, 3, 64, 64)
    same = {"decoder": spec["decoder"], "units": units, "rest": rest if len(rest) else None}
    return live.Figure(spec["name"], "", spec["alt"], faces, vectors, controls, {}, **same)


def set_sliders(figure, values: dict) -> None:
    for name, value in values.items():
        figure.locator(f"input[type=range][id$='-{name}']").evaluate(
            "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')) }", value
        )


@each_figure
def test_the_page_paints_what_python_paints(at, generators, name):
    figure = at(name)
    spec, rng = from_python(figure), np.random.default_rng(0)
    seen = []
    for trial in range(6):
        values = {c.name: round(float(rng.uniform(c.low, c.high)) / c.step) * c.step for c in spec.controls}
        set_sliders(figure, values)
        face = trial % len(spec.faces)
        if trial:
            figure.get_by_role("button", name="Another face").click()
        with torch.no_grad():  # in full precision: decode() may compute in bfloat16 where that is fast
            code = live.compose(spec, values, face)
            expected = 255 * generators[spec.decoder].images_of(code).clamp(0, 1)[0].numpy()
        if spec.rest is not None:
            expected = (expected + spec.rest[face]).clip(0, 255)
        seen.append(painted(figure))
        difference = np.abs(seen[-1] - expected.transpose(1, 2, 0))
        assert difference.max() <= 2, f"{difference.max():.2f} of 255 at {values}"
    assert min(np.abs(one - other).max() for one, other in zip(seen, seen[1:], strict=False)) > 10


def test_the_decoder_is_loaded_only_when_the_figure_comes_near(read):
    reader = read("02_biased_directions.html")
    reader.page.wait_for_load_state("networkidle")
    assert not [url for url in reader.asked if url.endswith((".bin.gz", ".wasm.gz"))]
    shown(reader.page.locator("#live-turning"))
    assert len([url for url in reader.asked if url.endswith((".bin.gz", ".wasm.gz"))]) == 2
    assert reader.outside == [] and reader.complaints == []
    shown(reader.page.locator("#live-combination"))
    assert len([url for url in reader.asked if url.endswith(".bin.gz")]) == 1, "one decoder for all figures"


def test_mouse_keys_and_typed_numbers_change_the_picture(at):
    figure = at("live-combination")
    page = figure.page
    pictures = [painted(figure)]
    slider = figure.locator("input[type=range]").first
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    pictures.append(painted(figure))
    assert float(slider.input_value()) > 3
    slider.press("Home")
    pictures.append(painted(figure))
    assert float(slider.input_value()) == -6
    for _ in range(10):
        slider.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(-5)
    figure.locator("input[type=number]").first.fill("2.5")
    pictures.append(painted(figure))
    assert float(slider.input_value()) == 2.5
    assert "2.5" in figure.locator("canvas").get_attribute("aria-label")
    for one, other in zip(pictures, pictures[1:], strict=False):
        assert np.abs(one - other).max() > 5
    figure.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(painted(figure), pictures[0])


def test_a_finger_moves_the_slider_on_a_phone(at):
    figure = at("live-turning", "phone")
    page = figure.page
    before, slider = painted(figure), figure.locator("input[type=range]").last
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function("e => Number(e.value) < -3", arg=slider.element_handle())
    assert np.abs(painted(figure) - before).max() > 5


def test_a_code_of_ones_own_and_random_ones(at, generators, tmp_path):
    figure = at("live-edits")
    page = figure.page
    first = painted(figure)
    figure.get_by_role("button", name="Random code").click()
    assert np.abs(painted(figure) - first).max() > 5
    spec = from_python(figure)
    own = torch.from_numpy(spec.faces[1:2]) * 0.5
    (tmp_path / "code.json").write_text(json.dumps(own[0].tolist()))
    figure.locator("input[type=file]").set_input_files(tmp_path / "code.json")
    page.wait_for_function(
        "e => e.textContent.startsWith('Your code')", arg=figure.locator(".live-message").element_handle()
    )
    with torch.no_grad():
        expected = 255 * generators[spec.decoder].images_of(own).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    assert np.abs(painted(figure) - expected).max() <= 2
    (tmp_path / "wrong.json").write_text("[1, 2, 3]")
    figure.locator("input[type=file]").set_input_files(tmp_path / "wrong.json")
    page.wait_for_function(
        "e => e.textContent.includes('5 × 64 numbers')", arg=figure.locator(".live-message").element_handle()
    )


@each_figure
def test_without_webassembly_sliders_show_stored_pictures(at, name):
    figure = at(name, "no WebAssembly")
    spec = json.loads(figure.locator(".live-data").text_content())
    for control in spec["controls"]:
        frames, still = spec["frames"][control["name"]], figure.locator(".live-stage img")
        for value, frame in ((control["low"], frames[0]), (control["high"], frames[-1])):
            set_sliders(figure, {control["name"]: value})
            assert still.is_visible() and still.get_attribute("src").endswith(frame)
    assert len(set(spec["frames"][spec["controls"][-1]["name"]])) > 3


def test_sliders_over_stored_frames_answer_on_the_page(at):
    page = at("live-combination").page
    page.wait_for_selector(".widget-slider .noUi-handle")
    slider = page.locator(".widget-slider .noUi-handle").first
    picture = page.locator(".jupyter-widgets.widget-stack img:visible, .widget-box img:visible").first
    slider.scroll_into_view_if_needed()
    before = picture.get_attribute("alt")
    slider.press("ArrowLeft")
    page.wait_for_function(
        "([e, before]) => ![...document.querySelectorAll('.cell_output img')]"
        ".some(i => i.offsetParent && i.alt === before)",
        arg=[None, before],
    )
    assert picture.get_attribute("alt") != before


@each_figure
def test_on_a_phone_the_face_stays_in_sight_beside_its_sliders(at, name):
    figure = at(name, "phone")
    for slider in figure.locator("input[type=range]").all():
        slider.scroll_into_view_if_needed()
        face, track = figure.locator(".live-stage").bounding_box(), slider.bounding_box()
        assert face["y"] >= 0 and face["y"] + face["height"] <= 740, "the face is out of sight"
        assert track["width"] >= 120
        beside = track["x"] >= face["x"] + face["width"] or track["y"] >= face["y"] + face["height"]
        assert beside or track["y"] + track["height"] <= face["y"], "the face covers a slider"
