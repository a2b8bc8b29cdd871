"""The built book in a real browser: Debian's Chromium, the book from this machine, everything else cut off."""

import functools
import http.server
import shutil
import threading
import warnings
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

HTML = Path(__file__).resolve().parent.parent.parent / "_build" / "quick" / "html"
FLAGS = """--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync
--disable-quic --no-first-run""".split()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address():
    """The book's address, with a slash at its end."""
    handler = functools.partial(Quiet, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        words = "NO CHROMIUM HERE: the tests in a real browser are SKIPPED; `make browser` installs it on Debian."
        warnings.warn(words, stacklevel=1)
        pytest.skip(words)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Reader:
    """A browser's page that remembers its complaints and every address outside the book that it asked for."""

    def __init__(self, browser: Browser, address: str, **options):
        self.address, self.complaints, self.outside, self.asked = address, [], [], []
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.route("**/*", self._only_the_book)

    def _only_the_book(self, route):
        self.asked.append(route.request.url)
        if route.request.url.startswith(self.address):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def open(self, page: str) -> Page:
        self.page.goto(self.address + page, wait_until="load")
        return self.page


@pytest.fixture
def read(chromium, address):
    """Open a page: read("00_tour.html", has_touch=True, …) returns a Reader; all are closed in the end."""
    readers = []

    def opened(page: str, script: str = "", **options) -> Reader:
        reader = Reader(chromium, address, **options)
        readers.append(reader)
        if script:
            reader.page.add_init_script(script)
        reader.open(page)
        return reader

    yield opened
    for reader in readers:
        reader.context.close()
