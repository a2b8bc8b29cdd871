"""How soon a live figure of the built book paints, and how often while a slider moves, in Chromium: tools/live_speed.py"""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

HTML = Path(__file__).resolve().parent.parent / "_build" / "quick" / "html"
FIRST = """async figure => {
  const begin = performance.now();
  figure.scrollIntoView();
  while (!figure.live.painted && figure.dataset.state !== "frames") await new Promise(resolve => setTimeout(resolve, 5));
  return performance.now() - begin;
}"""
DRAG = """async figure => {
  const slider = figure.querySelector("input[type=range]"), begin = performance.now(), before = figure.live.painted;
  for (let k = 0; performance.now() < begin + 3000; k++) {
    await new Promise(requestAnimationFrame);
    slider.value = 5 * Math.sin(k / 15);
    slider.dispatchEvent(new Event("input"));
  }
  return (figure.live.painted - before) / (performance.now() - begin) * 1000;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(3):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/02_biased_directions.html")
            figure = page.locator("#live-turning")
            first, often = figure.evaluate(FIRST), figure.evaluate(DRAG)
            print(f"first picture after {first / 1000:.2f} s, then {often:.0f} pictures a second; load {os.getloadavg()[0]:.1f}")
            page.close()
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
