"""The built book in a real browser: Debian's Chromium, the book from this machine, everything else cut off."""

import functools
import http.server
import os
import shutil
import threading
import warnings
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

HTML = Path(__file__).resolve().parent.parent.parent / "_build" / "quick" / "html"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
] + ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
SECONDS = 45  # after which a page counts as hung


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
    """A function that gives the one browser of all tests, started again if a page took it down."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        words = "NO CHROMIUM HERE: the book was not read in a real browser; `make browser` installs it on Debian."
        if os.environ.get("CI"):  # there it can be installed, so its absence is a fault
            pytest.fail(words)
        warnings.warn(words, stacklevel=1)
        pytest.skip(words)
    with sync_playwright() as playwright:
        started: list[Browser] = []

        def browser() -> Browser:
            if not started or not started[-1].is_connected():
                started.append(playwright.chromium.launch(executable_path=path, args=FLAGS))
            return started[-1]

        yield browser
        if started and started[-1].is_connected():
            started[-1].close()


class Reader:
    """A browser's page that remembers its complaints and every address that it asked for."""

    def __init__(self, browser: Browser, address: str, page: str, script: str = "", **options):
        self.complaints, self.asked, self.address = [], [], address
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        self.context.set_default_timeout(1000 * SECONDS)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        if script:
            self.page.add_init_script(script)
        self.page.goto(address + page, wait_until="load")

    @property
    def outside(self) -> list[str]:
        return [url for url in self.asked if not url.startswith((self.address, "data:", "blob:" + self.address))]

    def ask(self, function: str, *arguments, limit: float = SECONDS):
        """What a JavaScript function returns; a page that hangs raises TimeoutError, while evaluate() would wait."""
        answer = self.page.wait_for_function(
            f"async all => ({{ value: await ({function})(...all) }})",
            arg=list(arguments),
            polling=50,
            timeout=1000 * limit,
        )
        return answer.json_value()["value"]


@pytest.fixture(scope="session")
def open_book(chromium, address):
    """Open a page: open_book("00_tour.html", has_touch=True, …) returns a Reader, for the caller to close."""
    return lambda page, script="", **options: Reader(chromium(), address, page, script, **options)


@pytest.fixture
def read(open_book):
    """As open_book, closed after the test."""
    readers = []

    def opened(*arguments, **options) -> Reader:
        readers.append(open_book(*arguments, **options))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.context.close()
