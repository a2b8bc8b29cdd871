"""Print the built book to one PDF: `python book/pdf.py --profile quick`, after the build.

Sphinx joins all pages into one, and Chromium prints it as it would be read, formulas and figures included.
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from diga_lib.runtime import atomic_write

ROOT = Path(__file__).resolve().parent.parent
FOOTER = '<div style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></span></div>'


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def join(folder: Path) -> Path:
    """Make one HTML page of the whole book; returns its folder."""
    work = folder / "pdf"
    shutil.rmtree(work, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(folder / "source")]
    command += ["--path-output", str(work), "--builder", "custom", "--custom-builder", "singlehtml"]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}\nThe pages could not be joined.")
    return work / "_build" / "singlehtml"


def print_page(browser: Browser, page: Path, to: Path) -> None:
    """Print a page, served from this machine with everything else cut off, once its formulas are set."""
    handler = functools.partial(Quiet, directory=page.parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    tab = browser.new_page()
    tab.set_default_timeout(600_000)
    tab.route("**/*", lambda route: route.continue_() if route.request.url.startswith(home) else route.abort())
    tab.add_init_script("localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')")
    tab.goto(home + page.name)
    tab.evaluate("window.MathJax?.startup?.promise")
    tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    tab.evaluate("Promise.all([...document.images].map(e => (e.loading = 'eager', e.decode().catch(() => 0))))")
    options = {"format": "A4", "print_background": True, "outline": True, "tagged": True, "display_header_footer": True}
    options |= {"header_template": "<span></span>", "footer_template": FOOTER}
    made = tab.pdf(**options, margin=dict.fromkeys(("top", "bottom", "left", "right"), "15mm"))
    tab.close()
    server.shutdown()
    with atomic_write(to) as temporary:
        temporary.write_bytes(made)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the built book to one PDF.")
    parser.add_argument("--profile", choices=["quick", "full"], default="quick")
    folder = ROOT / "_build" / parser.parse_args().profile
    if not (folder / "source" / "_toc.yml").exists():
        raise SystemExit("There is no built book to print: `make book` first.")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("Printing needs Chromium, and none was found: `make browser` installs it on Debian.")
    joined = join(folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        print_page(browser, joined / "intro.html", folder / "book.pdf")
        browser.close()
    print(f"The book as PDF: {(folder / 'book.pdf').as_uri()}")


if __name__ == "__main__":
    main()
