"""The notebooks as they are kept: no outputs, checked parameters, short cells, captioned figures."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest
import yaml
from pages import OPENING

from diga_lib.pages.parameters import Parameters

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Code, formulas and addresses are no prose; these numbers are definitions, bounds that follow from them, or goals.
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)", re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?\s?(?:%|per cent)|\d+\.\d+")
DEFINED = re.compile(
    r"95 % (?:t |prediction |confidence )*interval|chance is 50 %|asked for a mean of at least 0\.8"
    r"|0 % is ERM, 100 % the oracle|10 % of the labels flipped|much more than 90 %|1\.5 lies between 0 and 3"
)
IMPORTS = (ast.Import, ast.ImportFrom)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_every_notebook_is_a_page_and_every_page_has_its_notebook():
    pages = yaml.safe_load((ROOT / "book" / "runs.yml").read_text())["pages"]
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    chapters = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]} | {toc["root"]}
    prose = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert {page.get("notebook", page["page"]) for page in pages} == {path.stem for path in NOTEBOOKS}
    assert {page["page"] for page in pages} | prose == chapters


@each_notebook
def test_has_a_title_a_kernel_and_cell_ids(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells without ids"
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")


def test_all_are_kept_without_outputs():
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-id", "--extra-keys"]
    command += ["metadata.papermill cell.metadata.papermill", *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"run `make strip`: {done.stdout}"


@each_notebook
def test_parameters_are_typed_commented_checked_and_used(path):
    cells = code_cells(path)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == cells[:1], "the first code cell, and no other, is tagged `parameters`"
    statements = ast.parse(cells[0].source).body
    assert all(isinstance(node, ast.AnnAssign) and node.value is not None for node in statements), "name: type = value"
    tokens = tokenize.generate_tokens(io.StringIO(cells[0].source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 5}
    assert {node.end_lineno for node in statements} <= commented, "a comment behind each parameter"

    calls = [n for n in ast.walk(ast.parse(cells[1].source)) if isinstance(n, ast.Call)]
    checks = [call for call in calls if ast.unparse(call).startswith("check(globals()")]
    assert len(checks) == 1, "the second code cell calls check(globals())"
    own = {keyword.arg for keyword in checks[0].keywords}
    types = {node.target.id: ast.unparse(node.annotation) for node in statements}
    assert "profile" in types
    assert types.keys() <= Parameters.model_fields.keys() | own
    for name in types.keys() - own:
        kind = type(Parameters.model_fields[name].default).__name__
        assert types[name] == kind, f"{name} is a {kind}"

    rest = "\n".join(cell.source for cell in cells[1:])
    names = {node.id for node in ast.walk(ast.parse(_without_magics(rest))) if isinstance(node, ast.Name)}
    assert types.keys() <= names, f"parameters that nothing uses: {types.keys() - names}"


@each_notebook
def test_code_cells_are_short(path):
    """Statements are counted, not lines, which depend on how they are wrapped; imports are only a list."""
    for cell in code_cells(path)[1:]:
        nodes = ast.walk(ast.parse(_without_magics(cell.source)))
        count = sum(isinstance(node, ast.stmt) and not isinstance(node, IMPORTS) for node in nodes)
        assert count <= 16, f"{count} statements in a cell: the library does, notebooks tell:\n{cell.source}"


@each_notebook
def test_figures_have_a_name_a_caption_and_words_for_who_cannot_see_them(path):
    names = []
    for cell in code_cells(path):
        extra = cell.metadata.get("mystnb", {})
        if "figure" in extra:
            names.append(extra["figure"]["name"])
            assert len(extra["figure"]["caption"]) > 20, cell.source
            assert len(extra.get("image", {}).get("alt", "")) > 20, f"no alt text: {cell.source}"
    assert all(name.startswith("fig-") for name in names), names
    assert len(names) == len(set(names))


@each_notebook
def test_opens_with_what_it_teaches_how_long_it_takes_and_what_it_needs(path):
    found = OPENING.search(nbformat.read(path, as_version=4).cells[0].source)
    assert found, "**You will learn** …, **Time:** … and **Needs:** … in the first cell"
    assert re.search(r"minutes? to read", found["time"]) and re.search(r"(minute|second)[a-z ]* to run", found["time"])


@each_notebook
def test_has_exercises_with_solutions_that_are_checked(path):
    cells = nbformat.read(path, as_version=4).cells
    tasks = [k for k, cell in enumerate(cells) if re.search(r"^\*\*Exercise \d+\.\*\*", cell.source, re.MULTILINE)]
    numbers = [int(n) for k in tasks for n in re.findall(r"^\*\*Exercise (\d+)\.\*\*", cells[k].source, re.MULTILINE)]
    assert len(numbers) >= 2 and numbers == list(range(1, len(numbers) + 1))
    for k in tasks:
        solutions = [cell for cell in cells[k + 1 : k + 3] if "solution" in cell.metadata.get("tags", [])]
        assert solutions, f"no solution: {cells[k].source[:60]}"
        solution = solutions[0]
        assert "hide-cell" in solution.metadata.tags
        assert solution.metadata.mystnb.code_prompt_show == "Show the solution"
        last = [node for node in ast.parse(_without_magics(solution.source)).body if isinstance(node, ast.Assert)]
        assert last, f"nothing checks the solution of {cells[k].source[:60]}"
        assert not any(isinstance(node.test, ast.Constant) for node in last)


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "book" / "intro.md"], ids=lambda path: path.stem)
def test_results_in_prose_come_from_variables(path):
    """A percentage or decimal that somebody typed is wrong after the next run, unless it defines something."""
    if path.suffix == ".md":
        texts = [path.read_text()]
    else:
        texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    for text in texts:
        text = DEFINED.sub("", " ".join(NOT_PROSE.sub(" ", text).split()))
        assert not (typed := NUMBER.findall(text)), f"{typed} in {text[:200]!r}"


def test_the_search_for_typed_numbers_finds_them():
    assert NUMBER.findall("It rose by 12 % to 0.93, from 1,234 faces (81.5%).") == ["12 %", "0.93", "81.5%"]
    harmless = "a 95 % interval, $0.5$, `-p bias 0.1` and [a page](a/0.5.md)"
    assert not NUMBER.findall(DEFINED.sub("", NOT_PROSE.sub(" ", harmless)))


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
