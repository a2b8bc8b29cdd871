"""Tell whether a result is older than the code that makes it: a hash of that code, stored with the result.

It covers the statements, not comments, docstrings or layout, of the files that decide a number: how faces are drawn
and split, the training loop, the method and whatever of the library it imports. Where the generator is used, it is
known by the hashes of its weights. Who names words (`words.py`) counts for the rows that use them, and these say so.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
ALWAYS = ("data/faces.py", "data/painter.py", "data/bias.py", "metrics.py", "methods/erm.py")
# Imported files that decide no number of a run: measuring, drawing, reading, and the judge, which no table uses.
ASIDE = (
    "runtime.py",
    "results.py",
    "plots.py",
    "image_text.py",
    "words.py",
    "data/__init__.py",
    "data/dataset.py",
    "methods/__init__.py",
    "__init__.py",
)
GENERATOR = "rendered-faces-64-"  # its weights; those of others decide no number of a table
WEIGHTS = PACKAGE / "weights" / "checkpoints.json"


def fingerprint(modules: list[str], config: Any = None, weights: tuple[str, ...] = ()) -> str:
    """Return twelve hexadecimal digits that change when the code behind a result does.

    Parameters
    ----------
    modules : list of str
        Names of modules of this library, such as "diga_lib.methods.diga".
    config : in JSON's types, optional
        The configuration of the run.
    weights : tuple of str
        Beginnings of the names of shipped weights that count, beside the generator's where it is used.
    """
    given = [name.removeprefix("diga_lib.").replace(".", "/") + ".py" for name in modules]
    files = _closure((*ALWAYS, *sorted(given)))
    parts = [[file, _code(file)] for file in files]
    used = (*weights, GENERATOR) if "directions.py" in files else weights
    if used:
        parts += [entry for entry in sorted(json.loads(WEIGHTS.read_text()).items()) if entry[0].startswith(used)]
    return hashlib.sha256(json.dumps([parts, config], sort_keys=True).encode()).hexdigest()[:12]


@lru_cache
def _closure(files: tuple[str, ...]) -> list[str]:
    """The files and those of the library that they import, directly or not, but for those aside."""
    found, todo = set(), [file for file in files if (PACKAGE / file).exists()]
    while todo:
        file = todo.pop()
        found.add(file)
        todo += [other for other in _imports(file) if other not in (*found, *ASIDE) and (PACKAGE / other).exists()]
    return sorted(found)


def _imports(file: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.split("/")[:-1]
            above = ["diga_lib", *package[: len(package) + 1 - node.level]] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    inside = [name.removeprefix("diga_lib.").replace(".", "/") for name in names if name.startswith("diga_lib.")]
    return [f"{name}.py" for name in inside] + [f"{name}/__init__.py" for name in inside]


@lru_cache
def _code(file: str) -> str:
    return hashlib.sha256(repr(_statements(ast.parse((PACKAGE / file).read_text()))).encode()).hexdigest()


def _statements(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings, positions and what only some Python versions write."""
    if isinstance(node, list):
        return [_statements(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [
        (name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name != "type_comment"
    ]
    return [type(node).__name__, *([name, _statements(value)] for name, value in parts)]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
