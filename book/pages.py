"""Turn an executed notebook into the page that readers see: what to expect, how it was made, what to download."""

import base64
import io
import json
import re
import shlex
from pathlib import Path

import nbformat
from execution import ROOT, Run
from PIL import Image

LARGE = 400_000  # characters of a picture, above which it is kept as JPEG: pictures of faces are, charts are not
PROFILES = {
    "quick": "small samples and few seeds, so that the whole book can be made in minutes; "
    "`make book PROFILE=full` makes it from larger samples (hours)",
    "full": "larger samples; `make book` makes the same page from smaller ones in a minute",
}
OPENING = re.compile(
    r"\*\*You will learn:?\*\*\s*(?P<learn>.*?)\s*\*\*Time:?\*\*:?\s*(?P<time>.*?)\s*"
    r"\*\*Needs:?\*\*:?\s*(?P<needs>.*?)\s*(?:\n\s*\n|\Z)",
    re.DOTALL,
)

EMPTY_HEAD = re.compile(r"<th\b([^>]*)>(?:\s|&nbsp;)*</th>")  # of pandas' tables, in the corner: heads nothing


def page_from(run: Run, executed: Path) -> nbformat.NotebookNode:
    """Return the executed notebook as a page.

    The cell that papermill injected is left out and the defaults are folded away, since the banner under the title
    tells them. A notebook's own last words on how it was made are left out too: the box at the end says more.
    """
    notebook = nbformat.read(executed / f"{run.page}.ipynb", as_version=4)
    record = json.loads((executed / f"{run.page}.json").read_text())
    for cell in notebook.cells:
        tags = cell.metadata.setdefault("tags", [])
        if "injected-parameters" in tags or "made-here" in tags:
            tags.append("remove-cell")
        elif "parameters" in tags and "hide-input" not in tags:
            tags.append("hide-input")
        for data in (output.data for output in cell.get("outputs", []) if "data" in output):
            if len(data.get("image/png", "")) > LARGE:
                data["image/jpeg"] = as_jpeg(data.pop("image/png"))
            if "text/html" in data:
                data["text/html"] = EMPTY_HEAD.sub(r"<td\1></td>", data["text/html"])
    first, rest = notebook.cells[0], notebook.cells[1:]
    title, _, text = first.source.partition("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"the first cell of {run.notebook.name} must be Markdown that begins with a title, '# …'")
    first.source = title
    # Cell ids are random unless given: the same page must give the same bytes.
    before = [markdown(banner(run, record), "profile-banner")]
    if text.strip():
        before.append(markdown(OPENING.sub(opening_box, text.strip(), count=1), "introduction"))
    notebook.cells = [first, *before, *rest, markdown(made_box(run, record), "how-made")]
    return notebook


def as_jpeg(png: str) -> str:
    """Write a PNG, base64, as a JPEG of about a fifth of its size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def markdown(text: str, name: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text, id=name)


def opening_box(found: re.Match) -> str:
    """What a reader will learn, how long it takes and what it needs, in a box."""
    learn, time, needs = (found[name].strip() for name in ("learn", "time", "needs"))
    return (
        f":::{{admonition}} You will learn\n:class: tip on-this-page\n\n{learn[0].upper()}{learn[1:]}\n\n"
        f"**Time:** {time}\n\n**Needs:** {needs}\n:::\n\n"
    )


def banner(run: Run, record: dict) -> str:
    """Which profile a page shows, in a line."""
    profile = run.parameters["profile"]
    made = f"Made with {others}. " if (others := others_of(run)) else ""
    return (
        f":::{{admonition}} Profile: {profile}\n:class: note profile-banner\n"
        f"This page shows the **{profile}** profile: {PROFILES[profile]}. "
        f"{made}It ran for {record['seconds']:.0f} seconds.\n:::"
    )


def in_one_line(value: object) -> str:
    return " ".join(str(value).split())


def ticks(text: str, least: int) -> str:
    """Return as many backticks as fence what the text holds."""
    return "`" * max(least, *(len(found) + 1 for found in re.findall("`+", text)), 0)


def code(value: object) -> str:
    """Return a span of code that nothing in the value can end."""
    text = in_one_line(value)
    return f"{ticks(text, 2)} {text} {ticks(text, 2)}"


def others_of(run: Run) -> str:
    others = {name: value for name, value in run.parameters.items() if name != "profile" and value != ""}
    return ", ".join(code(f"{name} = {value}") for name, value in others.items())


def made_box(run: Run, record: dict) -> str:
    """How a page was made, how to make it again, and what to download."""
    given = [(name, in_one_line(value)) for name, value in run.parameters.items() if value != ""]
    words = " ".join(f"-p {name} {shlex.quote(value)}" for name, value in given)
    fence = ticks(words, 3)
    rows = {
        "profile": run.parameters["profile"],
        "parameters": others_of(run) or "the notebook's own",
        "took": f"{record['seconds']:.0f} seconds with {record['threads']} thread(s), "
        f"{record['peak_mb']:,.0f} MB of memory at most",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "commit": f"`{record['commit']}`",
        "to download": f"{{download}}`the notebook with its outputs <downloads/executed/{run.page}.ipynb>`, "
        f"{{download}}`without <downloads/clean/{run.page}.ipynb>`",
    }
    table = "\n".join(f"* - {name}\n  - {text}" for name, text in rows.items())
    return (
        "## How this page was made\n\n"
        f"::::{{admonition}} This copy of the page\n:class: note how-made\n\n:::{{list-table}}\n{table}\n:::\n\n"
        f"To make it again:\n\n{fence}sh\npapermill notebooks/{run.notebook.name} {run.page}.out.ipynb {words}\n"
        f"{fence}\n::::"
    )


def data_card(text: str, weights: Path = ROOT / "diga_lib" / "weights") -> str:
    """Fill in the table of the weights that ship: their names, sizes and digests."""
    table = json.loads((weights / "checkpoints.json").read_text())
    rows = [
        f"| `{name}` | {(weights / entry['file']).stat().st_size / 1e6:.1f} | `{entry['sha256'][:16]}…` |"
        for name, entry in sorted(table.items())
    ]
    return text.replace("<!-- weights -->", "\n".join(["| file | MB | sha256 |", "|---|---|---|", *rows]))


def api_pages(package: Path = ROOT / "diga_lib") -> dict[str, str]:
    """Return file name → text of the pages of all functions: one for each package, a section for each module."""
    pages: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__main__" or parts == (package.name, "__init__"):
            continue
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        directive = f".. automodule:: {module}\n   :members:\n   :ignore-module-all:\n"
        pages.setdefault(parts[1], []).append(f"## {module}\n\n```{{eval-rst}}\n{directive}```\n")
    return {f"api_{name}.md": f"# {package.name}.{name}\n\n" + "\n".join(found) for name, found in pages.items()}
