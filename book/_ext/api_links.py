"""Sphinx extension: in docstrings, the name of a notebook becomes a link to its page, and short names are found."""

import importlib
import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

NOTEBOOK = re.compile(r"(?<![\w/`])(\d\d_[a-z0-9_]+)(?:\.ipynb)?\b")

PATH = re.compile(r"(?:Posix|Windows)Path\('[^']*?(diga_lib[^']*|book[^']*)'\)")


def link(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    """Replace the names of notebooks that are pages of this book."""
    pages = app.env.found_docs
    lines[:] = [NOTEBOOK.sub(lambda m: f":doc:`{m[1]}`" if m[1] in pages else m[0], line) for line in lines]


def shorten(app: Sphinx, what: str, name: str, it: object, options: object, signature: str | None, returns: str | None):
    """Give a default path from the package's folder on: where that lies on the building machine is nobody's concern."""
    return PATH.sub(r"Path('\1')", signature or ""), returns


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Find what a package offers under a short name, diga_lib.data.load, where it is defined."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("refdomain") != "py" or not module.startswith("diga_lib"):
        return None
    try:
        found = getattr(importlib.import_module(module), name)
        defined = f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError):
        return None  # the warning that follows names it
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], defined, node, content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", link, priority=400)  # before the sections are rewritten
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
