"""Build the book: execute what changed, put the pages together, make HTML. `python book/build.py --help`

Everything goes to _build/<profile>/: executed/ (the notebooks with their outputs), source/ (what Sphinx reads),
html/ (the book). Nothing is fetched from the network, by the build or by the pages.
"""

import argparse
import base64
import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
from filelock import FileLock

from diga_lib.runtime import atomic_write, sha256

sys.path.insert(0, str(Path(__file__).resolve().parent))
from execution import ROOT, Executor, Run, fingerprint, last_fingerprint, plan, why
from pages import PROFILES, api_pages, data_card, page_from

NOT_PAGES = ("build.py", "execution.py", "lock.py", "pages.py", "runs.yml", "results", "__pycache__")
GENERATORS = ("rendered-faces-64", "real-faces-64")  # whose decoders live figures run


def assemble(runs: list[Run], folder: Path) -> None:
    """Put prose pages and executed notebooks into `folder/source`, new each time."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "book", source, ignore=lambda path, names: [n for n in names if n in NOT_PAGES])
    card = data_card((source / "data_card.md").read_text())
    for name, text in ({"data_card.md": card} | api_pages()).items():
        (source / name).write_text(text)
    for kind in ("executed", "clean"):
        (source / "downloads" / kind).mkdir(parents=True)
    for run in runs:
        nbformat.write(page_from(run, folder / "executed"), source / f"{run.page}.ipynb")
        shutil.copy(folder / "executed" / f"{run.page}.ipynb", source / "downloads" / "executed")
        shutil.copy(run.notebook, source / "downloads" / "clean" / f"{run.page}.ipynb")
    (source / "story.png").write_bytes(picture(folder / "executed" / "00_tour.ipynb", "fig-story"))


def picture(notebook: Path, name: str) -> bytes:
    """Return the picture of an executed notebook's figure, for the introduction."""
    cells = nbformat.read(notebook, as_version=4).cells
    cell = next(one for one in cells if one.metadata.get("mystnb", {}).get("figure", {}).get("name") == name)
    return base64.b64decode(next(o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})))


def add_decoders(source: Path) -> None:
    """Put the decoders that live figures run, as ONNX, among the assets."""
    from diga_lib import latent  # only here: these take seconds to import
    from diga_lib.latent.onnx_export import decoder_files, decoder_id

    for generator in (latent.load(name, device="cpu") for name in GENERATORS):
        place = source / "_assets" / "live" / decoder_id(generator)
        place.mkdir(parents=True)
        for name, content in decoder_files(generator).items():
            (place / name).write_bytes(content)


def digest_of(folder: Path) -> str:
    """Return one digest of all files in a folder and of the lock, which fixes what makes HTML of them."""
    digest = hashlib.sha256(sha256(ROOT / "requirements.lock").encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()


def make_html(folder: Path) -> int:
    """Run jupyter-book on `folder/source`, warnings as errors; return 0 if `folder/html` is the new book."""
    html, made = folder / "html", folder / "html.sha256"
    digest = digest_of(folder / "source")
    if made.exists() and made.read_text() == digest and (html / "index.html").exists():
        print("pages: unchanged")
        return 0
    # Always from nothing: Sphinx repeats no warning of a page that it does not read again.
    work = folder / "sphinx"
    shutil.rmtree(work, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(folder / "source"), "--path-output", str(work), "-W", "-n", "--keep-going"]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (folder / "sphinx.log").write_text(done.stdout)
    if done.returncode:
        troubles = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
        print("\n".join(troubles or done.stdout.splitlines()[-20:]))
        print(f"The pages could not be made without warnings: {folder / 'sphinx.log'}", file=sys.stderr)
        return 1
    made.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(work / "_build" / "html", html)
    with atomic_write(made) as temporary:
        temporary.write_text(digest)
    print("pages: made")
    return 0


def cores(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; valid is a whole number from 1 to 1024")
    return int(text)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Execute the notebooks that changed and build the book.")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--only", nargs="+", default=[], metavar="PAGE", help="execute only these pages")
    parser.add_argument("--cores", type=cores, help="cores to use (default: those that this process may use)")
    words = "a parameter for every notebook that has it, or for one as PAGE.NAME"
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", dest="overrides", help=words, **pair)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(arguments)
    overrides = dict(options.overrides)
    folder = ROOT / "_build" / options.profile
    try:
        runs = plan(options.profile, overrides, only=options.only)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    executor = Executor(folder / "executed", cores=options.cores)
    executor.execute(runs)
    if executor.failed:
        kept = len(runs) - len(executor.failed)
        print(f"The book was not built; {kept} of {len(runs)} notebooks are finished and kept.", file=sys.stderr)
        for page, sentence in executor.failed.items():
            print(f"{page} failed: {sentence}", file=sys.stderr)
        return 1
    everything = plan(options.profile, overrides, only=[])
    for run in everything if options.only else []:
        reason = why(last_fingerprint(run, executor.folder), fingerprint(run))
        if reason == "never executed":
            print(f"The book was not built: {run.page} was never executed.")
            return 0
        if reason:
            print(f"{run.page}: left as it was ({reason})")
    with FileLock(folder / ".lock"):
        assemble(everything, folder)
        add_decoders(folder / "source")
        status = make_html(folder)
    if status == 0:
        print(f"The book ({options.profile} profile): {(folder / 'html' / 'index.html').as_uri()}")
    return status


if __name__ == "__main__":
    sys.exit(main())
