"""Every page in a real browser: quiet, complete without a network, readable on a phone and in the dark."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Error, TimeoutError

pytestmark = pytest.mark.built

ROOT = Path(__file__).resolve().parent.parent.parent
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
CHAPTERS = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
each_chapter = pytest.mark.parametrize("name", CHAPTERS)
each_theme = pytest.mark.parametrize("theme", ["light", "dark"])
WIDTHS = {"phone": 360, "desk": 1280}
each_width = pytest.mark.parametrize("place", WIDTHS)

# One visible element for each look that text has on the page: its colour, size, weight and all grounds behind it. A
# long page repeats a few looks thousands of times, and axe takes milliseconds for each.
LOOKS = """() => {
  const grounds = new Map();
  const ground = element => {
    if (!element) return "";
    if (!grounds.has(element)) {
      const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(element);
      const own = [backgroundColor.endsWith(", 0)") ? "" : backgroundColor, backgroundImage, opacity, filter].join();
      const below = ground(element.parentElement);
      grounds.set(element, own === ",none,1,none" ? below : `${below}|${own}`);
    }
    return grounds.get(element);
  };
  const looks = new Map();
  for (const element of document.body.querySelectorAll("*")) {
    const speaks = element.matches("input, textarea, select") ||
      [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!speaks || !element.checkVisibility({ visibilityProperty: true }) || !element.getClientRects().length) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const look = [color, fontSize, fontWeight, textShadow, ground(element)].join("; ");
    looks.set(look, [...(looks.get(look) ?? []), element]);
  }
  return [...looks.values()].flatMap(all => [...new Set([all[0], all[all.length >> 1], all.at(-1)])]);
}"""
VIOLATIONS = f"""async () => {{
  const run = (where, options) => axe.run(where, {{ ...options, preload: false }});
  const reports = [await run(document, {{ rules: {{ "color-contrast": {{ enabled: false }} }} }}),
    await run({{ include: ({LOOKS})() }}, {{ runOnly: {{ type: "rule", values: ["color-contrast"] }} }})];
  if (reports.some(({{ passes }}) => !passes.length)) return ["axe looked at nothing"];
  return reports.flatMap(({{ violations }}) => violations).flatMap(({{ id, nodes }}) => nodes.map(node =>
    `${{id}}: ${{node.html.slice(0, 160)}} ${{node.any[0]?.message ?? ""}}`));
}}"""


def violations(reader) -> list[str]:
    """What axe-core finds in the page as it is shown: every rule of it, contrast once for each look."""
    if not reader.ask("() => 'axe' in window"):
        reader.page.add_script_tag(path=ROOT / "tests" / "browser" / "axe.min.js")
    return reader.ask(VIOLATIONS)


# What is wider than the box that it lies in, equations under their number, and, of what scrolls, what has no sign.
CUT = """() => {
  const article = document.querySelector("main article"), cut = [], unsigned = [];
  const scrolls = box => box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible";
  const kinds = "table, pre, div.math, mjx-container[display=true], .live-figure";
  for (const element of article.querySelectorAll(kinds)) {
    if (!element.checkVisibility()) continue;
    const words = `${element.tagName} ${element.textContent.trim().replace(/\\s+/g, " ").slice(0, 60)}`;
    let box = element;
    while (box !== article && !scrolls(box)) box = box.parentElement;
    if (box !== article) {
      cut.push(words);
      if (!getComputedStyle(box).backgroundAttachment.includes("local")) unsigned.push(words);
    } else if (element.getBoundingClientRect().right > article.getBoundingClientRect().right + 1) cut.push(words);
  }
  for (const number of article.querySelectorAll("span.eqno")) {
    const { left, top, bottom } = number.getBoundingClientRect();
    for (const part of number.parentElement.querySelectorAll("mjx-math > *")) {
      const rect = part.getBoundingClientRect();
      if (rect.right > left + 1 && rect.bottom > top && rect.top < bottom)
        cut.push(`equation under ${number.textContent}`);
    }
  }
  return { cut, unsigned };
}"""
SLIDERS = """() => [...document.querySelectorAll("main input[type=range], main .noUi-target")]
  .filter(track => track.checkVisibility()).flatMap(track => {
    const handle = track.matches("input") ? track : track.querySelector("[role=slider]"), found = [];
    const width = Math.round(track.getBoundingClientRect().width), name = handle?.getAttribute("aria-label");
    if (width < 120) found.push(`${name}: ${width} pixels wide`);
    if (!name) found.push("a slider without a name");
    if (!/[^0-9]/.test(handle?.getAttribute("aria-valuetext") ?? "")) found.push(`${name} does not say its place`);
    return found;
  })"""
CHANGED_PICTURES = """() => {
  const found = [];
  for (const picture of document.querySelectorAll("main img, main canvas, main .live-figure, main .jupyter-widgets"))
    for (let box = picture; box !== document.body; box = box.parentElement) {
      const { filter, backgroundColor } = getComputedStyle(box);
      if (filter !== "none") found.push(`${filter}: ${picture.outerHTML.slice(0, 80)}`);
      const pale = (backgroundColor.match(/[\\d.]+/g) ?? []).map(Number);
      if (picture.matches(".live-figure, .jupyter-widgets") && pale[3] !== 0 && Math.min(...pale.slice(0, 3)) > 128)
        found.push(`pale: ${picture.id} ${picture.className}`);
    }
  return found;
}"""


@dataclass
class Visit:
    """What one visit to a page found out, on a phone and then on a desk."""

    asked_outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)  # place -> pixels that the page takes
    small: dict[str, list[str]] = field(default_factory=dict)  # place -> running text of fewer than 14 pixels
    tables: dict[str, list[str]] = field(
        default_factory=dict
    )  # place -> cells that run together, words that are broken
    cut: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # place -> what is cut, and what has no sign
    sliders: dict[str, list[str]] = field(default_factory=dict)  # place -> those that cannot be used
    changed_pictures: list[str] = field(default_factory=list)  # in the dark
    violations: dict[str, list[str]] = field(default_factory=dict)  # theme -> what axe says


SMALL = """() => [...document.querySelectorAll("main section p, main section li, main section dd, main section td")]
  .filter(e => e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 14)
  .map(e => e.outerHTML.slice(0, 160))"""

TABLES = """() => {
  const found = [], lines = node => {
    const range = document.createRange();
    return [...node.data.matchAll(/[^\\s\\/_]+/g)].map(({ 0: word, index }) => {
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      return [word, range.getClientRects()];
    });
  };
  for (const table of document.querySelectorAll("main .cell_output table, main .how-made table")) {
    if (!table.checkVisibility()) continue;
    let box = table;
    while (box.matches("main *") && getComputedStyle(box).overflowX !== "auto") box = box.parentElement;
    const { width } = table.getBoundingClientRect();
    if (width > document.querySelector("main article").clientWidth && !box.matches("main *"))
      found.push(`wider than the page, and does not scroll: ${table.id || table.className}`);
    for (const row of table.rows) {
      let before = -Infinity;
      for (const cell of row.cells) {
        const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), words = [];
        while (texts.nextNode()) words.push(...lines(texts.currentNode));
        if (!words.length) continue;
        const [left, right] = [Math.min(...words.map(([, [first]]) => first.left)),
          Math.max(...words.map(([, rects]) => [...rects].at(-1).right))];
        if (left < before + 8) found.push(`runs into its neighbour: ${cell.textContent}`);
        before = right;
        for (const [word, rects] of cell.cellIndex ? [] : words)
          if (rects.length > 1) found.push(`broken: ${word}`);
      }
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def visit(open_book):
    """visit("intro") opens a page once for all tests; where that failed, each of them says so at once."""
    visits = {}

    def see(name: str) -> Visit:
        seen, light = Visit(), "localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')"
        reader = open_book(f"{name}.html", light, viewport={"width": 360, "height": 740}, reduced_motion="reduce")
        try:
            reader.ask("() => { window.scrollTo(0, document.body.scrollHeight); return true }")
            reader.page.wait_for_load_state("networkidle")
            for place, width in WIDTHS.items():
                reader.page.set_viewport_size({"width": width, "height": 800})
                seen.widths[place] = reader.ask("() => document.documentElement.scrollWidth")
                seen.small[place] = reader.ask(SMALL)
                seen.tables[place] = reader.ask(TABLES)
                seen.cut[place] = reader.ask(CUT)
                seen.sliders[place] = reader.ask(SLIDERS)
            for theme in ("light", "dark"):
                assert reader.ask("theme => document.documentElement.dataset.theme = theme", theme) == theme
                seen.violations[theme] = violations(reader)
            seen.changed_pictures = reader.ask(CHANGED_PICTURES)
            seen.asked_outside, seen.complaints = reader.outside, reader.complaints
        finally:
            reader.context.close()
        return seen

    def seen(name: str) -> Visit:
        if name not in visits:
            try:
                visits[name] = see(name)
            except Error as error:  # also a hung page's TimeoutError
                visits[name] = error
        if isinstance(visits[name], Error):
            raise AssertionError(f"{name} could not be read: {visits[name]}") from visits[name]
        return visits[name]

    return seen


@each_chapter
def test_a_page_asks_for_nothing_outside_the_book(visit, name):
    assert visit(name).asked_outside == []


@each_chapter
def test_the_console_stays_quiet(visit, name):
    assert visit(name).complaints == []


@each_chapter
@each_width
def test_nothing_makes_the_page_scroll_sideways(visit, name, place):
    assert visit(name).widths[place] <= WIDTHS[place]


@each_chapter
@each_width
def test_running_text_is_large_enough(visit, name, place):
    assert visit(name).small[place] == []


@each_chapter
@each_width
def test_tables_can_be_read(visit, name, place):
    assert visit(name).tables[place] == []


@each_chapter
def test_on_a_desk_nothing_is_cut(visit, name):
    assert visit(name).cut["desk"]["cut"] == []


@each_chapter
def test_on_a_phone_what_scrolls_has_a_sign(visit, name):
    assert visit(name).cut["phone"]["unsigned"] == []


@each_chapter
@each_width
def test_sliders_are_wide_and_say_what_the_screen_shows(visit, name, place):
    assert visit(name).sliders[place] == []


@each_chapter
def test_the_dark_changes_no_picture(visit, name):
    assert visit(name).changed_pictures == []


@each_chapter
@each_theme
def test_axe_finds_nothing(visit, name, theme):
    assert visit(name).violations[theme] == []


def test_the_check_of_contrast_sees_grey_on_grey(read):
    reader = read("intro.html")
    reader.page.evaluate("document.querySelector('main p').style.cssText = 'color: #999; background: #aaa'")
    assert any(found.startswith("color-contrast") for found in violations(reader))


def test_the_check_of_what_is_cut_sees_it(read):
    page = read("intro.html").page
    page.evaluate(
        """() => {
          const article = document.querySelector("main article");
          const table = "<table><tr><td>" + "wide&nbsp;".repeat(200) + "</td></tr></table>";
          article.insertAdjacentHTML("beforeend", `<div style="overflow-x: auto">${table}</div>` +
            '<pre style="white-space: pre; overflow-x: auto">' + "x".repeat(900) + "</pre>");
        }"""
    )
    found = page.evaluate(CUT)
    assert [words.split()[0] for words in found["cut"]] == ["TABLE", "PRE"]
    assert any(words.startswith("TABLE") for words in found["unsigned"])


def test_a_page_that_hangs_fails_alone(read):
    reader = read("intro.html")
    with pytest.raises(TimeoutError):
        reader.ask("() => { while (true); }", limit=1)
    reader.context.close()
    assert read("map.html").ask("() => document.title").startswith("A map")


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


@pytest.mark.parametrize(("word", "page"), [("shortcut", "00_tour"), ("install", "start"), ("cite", "start")])
def test_the_search_finds_a_word_of_the_text(read, word, page):
    reader = read(f"search.html?q={word}")
    results = reader.page.locator("#search-results li a")
    results.first.wait_for()
    assert any(page in link.get_attribute("href") for link in results.all())
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
    for link, has_outputs in zip(links.all(), (True, False), strict=True):
        notebook = page.request.get(page.url.rsplit("/", 1)[0] + "/" + link.get_attribute("href")).json()
        outputs = [cell for cell in notebook["cells"] if cell.get("outputs")]
        assert bool(outputs) == has_outputs
