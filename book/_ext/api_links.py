"""Sphinx extension: in docstrings, the name of a notebook becomes a link to its page."""

import re

from sphinx.application import Sphinx

NOTEBOOK = re.compile(r"(?<![\w/`])(\d\d_[a-z0-9_]+)(?:\.ipynb)?\b")


def link(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    """Replace the names of notebooks that are pages of this book."""
    pages = app.env.found_docs
    lines[:] = [NOTEBOOK.sub(lambda m: f":doc:`{m[1]}`" if m[1] in pages else m[0], line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", link, priority=400)  # before numpydoc sections are rewritten
    return {"parallel_read_safe": True, "parallel_write_safe": True}
