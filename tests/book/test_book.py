"""The built book as a reader gets it (run after the build): nothing from the network, nothing broken."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from diga_lib.runtime import sha256

pytestmark = pytest.mark.built

ROOT = Path(__file__).resolve().parent.parent.parent
HTML = ROOT / "_build" / "quick" / "html"
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
CHAPTERS = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
NOTEBOOKS = [page["page"] for page in yaml.safe_load((ROOT / "book" / "runs.yml").read_text())["pages"]]
each_chapter = pytest.mark.parametrize("name", CHAPTERS)
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)

# <link> elements with these relations name another page; all others are loaded.
ONLY_NAMES = {"author", "canonical", "index", "next", "prev", "search"}


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def page(name: str) -> BeautifulSoup:
    return soup(HTML / f"{name}.html")


def loaded(document: BeautifulSoup) -> list[str]:
    """Return every address that a browser loads when it shows the document."""
    found = [tag["src"] for tag in document.find_all(src=True)]
    found += [tag["href"] for tag in document.find_all("link", href=True) if not set(tag["rel"]) & ONLY_NAMES]
    found += [tag["data"] for tag in document.find_all("object", data=True)]
    found += [part.split()[0] for tag in document.find_all(srcset=True) for part in tag["srcset"].split(",")]
    styles = [tag.text for tag in document.find_all("style")] + [tag["style"] for tag in document.find_all(style=True)]
    return found + [address for style in styles for address in in_stylesheet(style)]


def in_stylesheet(text: str) -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    addresses = re.findall(r"""url\(\s*["']?([^"')]+)""", text)
    return addresses + re.findall(r"""@import\s+["']([^"']+)""", text)


def is_external(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ws", "wss", "ftp")


@each_chapter
def test_a_page_loads_only_what_the_book_has(name):
    addresses = loaded(page(name))
    assert len(addresses) > 5  # the theme alone loads more
    for address in addresses:
        assert not is_external(address), address
        if not address.startswith("data:"):
            assert (HTML / unquote(urlsplit(address).path)).is_file(), address


@each_chapter
def test_no_output_is_the_name_of_an_object(name):
    """As of Markdown without a text, which has nothing else to show."""
    outputs = [output.text for output in page(name).select(".cell_output")]
    assert not [text for text in outputs if re.search(r"<[\w.]+ (object|at 0x)", text)]


def test_stylesheets_load_only_what_the_book_has():
    sheets = list(HTML.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert not [address for address in in_stylesheet(sheet.read_text()) if is_external(address)], sheet


@each_chapter
def test_scripts_in_a_page_name_no_address_to_load(name):
    for script in page(name).find_all("script", src=False):
        if script.get("type", "text/javascript") != "text/javascript":
            continue  # data, which no browser runs
        assert not re.findall(r"https?://[^\s\"']+", script.text)


@each_chapter
def test_every_picture_is_described(name):
    for image in page(name).find_all("img"):
        words = image.get("alt", "")
        described = len(words) > 10 and not re.search(r"\.(png|svg|jpe?g)$", words)
        logo = "logo" in " ".join(image.get("class", [])) or words.endswith(" logo")
        assert described or logo, f"{image.get('src')}: alt={words!r}"


@each_notebook
def test_every_picture_that_code_made_is_a_numbered_figure_with_a_caption(name):
    for image in page(name).select(".cell_output img"):
        figure = image.find_parent("figure")
        assert figure is not None, f"{image.get('src')} is in no figure"
        if "live-figure" in figure["class"]:  # these have their own caption, and no number
            assert len(figure.find("figcaption").text) > 20
            continue
        assert figure.select_one(".caption-number"), f"{image.get('src')} has no number"


@each_chapter
def test_links_inside_the_book_lead_somewhere(name):
    for link in page(name).find_all("a", href=True):
        address = urlsplit(link["href"])
        if address.scheme:
            continue
        target = HTML / unquote(address.path) if address.path else HTML / f"{name}.html"
        assert target.is_file(), link["href"]
        if address.fragment and target.suffix == ".html":
            assert soup(target).find(id=unquote(address.fragment)), link["href"]


@each_notebook
def test_no_cell_complains(name):
    for kind in ("traceback", "stderr"):
        assert not [tag.text for tag in page(name).select(f".cell_output .{kind}")]


@each_notebook
def test_what_cells_print_refers_as_the_text_does(name):
    printed = " ".join(tag.get_text(" ") for tag in page(name).select(".cell_output"))
    assert not (left := re.findall(r"\{(?:numref|ref|doc|term|cite\S*)\}.{0,40}", printed)), left


@each_notebook
def test_a_page_says_its_profile_and_hides_what_papermill_injected(name):
    assert "Profile: quick" in page(name).select_one(".profile-banner").text
    assert not [cell for cell in page(name).select(".cell_input") if cell.text.strip().startswith("# Parameters")]


@each_notebook
def test_a_page_opens_with_its_terms_and_closes_with_how_it_was_made(name):
    document = page(name)
    opening = document.select_one(".on-this-page")
    assert re.search(r"Time:.*to read.*to run", opening.text, re.DOTALL) and "Needs:" in opening.text
    rows = {row.td.text.strip(): row.find_all("td")[1].text for row in document.select(".how-made tr") if row.td}
    assert re.search(r"[1-9][\d,]* seconds.*[1-9][\d,]* MB", rows["took"])
    assert "torch" in rows["versions"] and rows["commit"].strip()
    command = document.select_one(".how-made pre").text
    assert re.match(rf"papermill notebooks/\S+\.ipynb {name}\.out\.ipynb -p profile quick", command)
    assert len(document.select(".how-made a.download")) == 2


@each_notebook
def test_a_page_can_be_opened_elsewhere(name):
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    repository = config.get("repository", {"url": ""})["url"].removeprefix("https://github.com/")
    links = [link["href"] for link in page(name).select(".dropdown-launch-buttons a[href]")]
    for service in ("mybinder.org", "colab.research.google.com"):
        here = [link for link in links if service in link]
        if not repository:
            assert not here, "a link to a repository that is not there"
        else:
            assert len(here) == 1 and repository in here[0] and f"notebooks/{name}.ipynb" in unquote(here[0])


def test_the_repository_is_named_in_one_place():
    text = (ROOT / "book" / "_config.yml").read_text()
    (name,) = re.findall(r"^#? *url: https://github.com/(\S+)", text, re.MULTILINE)
    places = [
        p
        for folder in ("book", "notebooks", ".github")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".yml", ".md", ".ipynb", ".py") and name in p.read_text()
    ]
    assert places == [ROOT / "book" / "_config.yml"]


def test_what_a_live_figure_loads_is_small_and_whole():
    live = HTML / "_static" / "live"
    editor = json.loads(page("09_action_units").select_one("#live-units .live-data").text)["units"]
    decoders = [
        sum(file.stat().st_size for file in place.glob("decoder.*")) for place in live.iterdir() if place.is_dir()
    ]
    assert len(decoders) == 2 and min(decoders) > 1e6
    assert max(decoders) + 0.75 * sum(map(len, editor.values())) <= 6e6
    table = (ROOT / "book" / "_assets" / "README.md").read_text()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm.gz"):
        assert f"| `{name}` | `{sha256(live / name)}` |" in table


@each_notebook
def test_a_page_has_the_number_that_the_text_gives_it(name):
    number = str(int(name[:2]))
    beside = page("intro").select_one(f".bd-sidebar-primary a[href='{name}.html']").text.strip()
    assert beside.startswith(f"{number}. ") and page(name).h1.text.startswith(f"{number}. ")
    figures = [tag.text for tag in page(name).select("figure .caption-number")]
    assert all(re.fullmatch(rf"Fig\. {number}\.\d+\s*", text) for text in figures), figures


@each_chapter
def test_a_page_tells_others_what_it_is(name):
    document = page(name)
    assert len(document.select("h1")) == 1
    assert document.title.text.count("Fair facial attributes") == 1
    said = {tag.get("name") or tag.get("property"): tag["content"] for tag in document.select("meta[content]")}
    assert len(said["description"]) > 40 and said["og:description"] == said["description"]
    assert said["og:title"].strip() in document.h1.text.replace("#", "")
    assert (HTML / said["og:image"]).is_file() and said["og:image:alt"]
    assert "MIT licence" in document.select_one(".extra_footer").text


def test_pictures_are_light():
    sizes = {path.name: path.stat().st_size for path in (HTML / "_images").iterdir()}
    assert sizes and max(sizes.values()) <= 6e5, sizes


def test_no_page_shows_a_machine_or_a_placeholder():
    for path in HTML.rglob("*.html"):
        text = path.read_text()
        for word in (str(ROOT), str(Path.home()) + "/", "OWNER/REPOSITORY"):
            assert word not in text, f"{path.name} shows {word}"


def test_every_reference_has_a_link_or_is_a_book():
    entries = page("references").select("div.citation")
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"\[?(van der )?[A-Z].* \d{4}[a-z]?\]?", entry.select_one(".label").text.strip()), entry.text
        assert entry.select("a.external") or "Press" in entry.text, entry.text


def test_functions_lead_to_the_pages_that_derive_them():
    document = page("api_directions")
    entry = document.find(id="diga_lib.directions.boundaries.boundary")
    links = [link["href"] for link in entry.find_parent("dl").find_all("a", href=True)]
    assert "02_biased_directions.html" in links
    documented = {tag["id"] for path in HTML.glob("api_*.html") for tag in soup(path).select("dt[id]")}
    assert {"diga_lib.pages.live.compose", "diga_lib.methods.erm.ERM", "diga_lib.metrics.group_metrics"} <= documented


def test_the_card_knows_all_weights_that_ship():
    tables = {table.find_all("th")[1].text.strip(): table for table in page("data_card").select("table") if table.th}
    described, files = (
        [row.td.text.strip() for row in tables[word].select("tr") if row.td] for word in ("made by", "MB")
    )
    ships = json.loads((ROOT / "diga_lib" / "weights" / "checkpoints.json").read_text())
    assert set(files) == set(ships)
    for name in ships:
        assert any(name.startswith(family) for family in described), f"the card is silent on {name}"


def test_the_map_leads_to_every_step():
    links = {link["href"] for link in page("map").select("svg a")}
    assert {f"{name}.html" for name in NOTEBOOKS if name < "05"} <= links


@each_chapter
def test_formulas_and_widgets_are_drawn_by_the_books_own_scripts(name):
    document = page(name)
    scripts = [urlsplit(tag["src"]).path for tag in document.find_all("script", src=True)]
    if document.select(".math"):
        assert "_static/mathjax/tex-chtml.js" in scripts
    if document.select("script[type='application/vnd.jupyter.widget-view+json']"):
        assert "_static/widgets/embed.js" in scripts
        assert scripts.index("_static/widgets/before_embed.js") < scripts.index("_static/widgets/embed.js")
