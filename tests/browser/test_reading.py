"""Every page in a real browser: quiet, complete without a network, readable on a phone and in the dark."""

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.built

ROOT = Path(__file__).resolve().parent.parent.parent
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
CHAPTERS = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
RULES = ["color-contrast", "image-alt", "role-img-alt", "svg-img-alt", "label", "button-name", "link-name", "input-button-name"]
each_chapter = pytest.mark.parametrize("name", CHAPTERS)
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


def violations(page) -> list[str]:
    """What axe-core finds in the page as it is shown."""
    page.add_script_tag(path=ROOT / "tests" / "browser" / "axe.min.js")
    found = page.evaluate("rules => axe.run(document, {runOnly: {type: 'rule', values: rules}})", RULES)
    assert found["passes"], "axe looked at nothing"
    return [
        f"{each['id']}: {node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@each_chapter
def test_a_phone_shows_the_page_without_network_errors_or_sideways_scrolling(read, name):
    reader = read(f"{name}.html", **PHONE)
    reader.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    reader.page.wait_for_load_state("networkidle")
    assert reader.outside == []
    assert reader.complaints == []
    width, shown = reader.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown == 360
    body = "'main section > p', 'main section dd', 'main section p'"  # glossary and references have no plain paragraph
    first = f"[{body}].map(found => document.querySelector(found)).find(Boolean)"
    size = reader.page.evaluate(f"parseFloat(getComputedStyle({first}).fontSize)")
    assert size >= 14


@each_chapter
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_and_everything_has_words(read, name, theme):
    script = f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
    page = read(f"{name}.html", script, reduced_motion="reduce").page
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert violations(page) == []


def test_the_check_of_contrast_sees_grey_on_grey(read):
    page = read("intro.html").page
    page.evaluate("document.querySelector('main p').style.cssText = 'color: #999; background: #aaa'")
    assert any(found.startswith("color-contrast") for found in violations(page))


def test_the_theme_can_be_switched(read):
    page = read("intro.html", color_scheme="light").page
    colours = {}
    for _ in range(3):
        theme = page.evaluate("document.documentElement.dataset.theme")
        colours[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("button.theme-switch-button:visible").first.click()
    assert set(colours) == {"light", "dark"}
    brightness = {theme: sum(map(int, re.findall(r"\d+", colour)[:3])) for theme, colour in colours.items()}
    assert brightness["light"] > 600 > 200 > brightness["dark"]


def test_the_search_finds_a_word_of_the_text(read):
    reader = read("search.html?q=shortcut")
    results = reader.page.locator("#search-results li a")
    results.first.wait_for()
    assert any("00_tour" in link.get_attribute("href") for link in results.all())
    assert reader.outside == []


def test_a_solution_opens_when_asked_for(read):
    page = read("02_biased_directions.html").page
    solution = page.locator("details.hide", has_text="assert ").first
    assert not solution.locator(".cell_input").is_visible()
    solution.locator("summary").click()
    assert solution.locator(".cell_input").is_visible()


def test_the_notebook_can_be_downloaded_with_and_without_outputs(read):
    page = read("02_biased_directions.html").page
    links = page.locator(".how-made a.download")
    assert links.count() == 2
    for link, has_outputs in zip(links.all(), (True, False)):
        notebook = page.request.get(page.url.rsplit("/", 1)[0] + "/" + link.get_attribute("href")).json()
        outputs = [cell for cell in notebook["cells"] if cell.get("outputs")]
        assert bool(outputs) == has_outputs
