"""Sphinx extension: page numbers that agree with the text, a description and a picture for those who link to a page,
readable keys of references, links from docstrings to pages, and nothing that would load a script from the network.
"""

import html
import importlib
import itertools
import re

from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PICTURE = "_static/social.png"
LONGEST = 200  # characters of a description
NOTEBOOK = re.compile(r"(?<![\w/`])(\d\d_[a-z0-9_]+)(?:\.ipynb)?\b")


class AuthorAndYear(BaseLabelStyle):
    """Labels such as "Zhang and others 2024"; a second one of the same name gets a letter."""

    def format_labels(self, entries):
        seen: dict[str, int] = {}
        for entry in entries:
            people = [" ".join(map(str, p.rich_prelast_names + p.rich_last_names)) for p in entry.persons["author"]]
            people[1:] = people[1:] if len(people) <= 2 else ["others"]
            names = " and ".join(people)
            label = f"{names} {entry.fields['year']}"
            seen[label] = seen.get(label, 0) + 1
            yield label + (chr(ord("a") + seen[label] - 1) if seen[label] > 1 else "")


class Readable(Style):
    default_label_style = AuthorAndYear
    default_sorting_style = "author_year_title"


def number_from_zero(app: Sphinx, env: BuildEnvironment) -> None:
    """Let the first numbered page be 0, as the notebooks' names have it; its sections and figures follow."""

    def earlier(number):
        return (number[0] - 1, *number[1:]) if number else number

    for anchors in env.toc_secnumbers.values():
        anchors.update({anchor: earlier(number) for anchor, number in anchors.items()})
    for kinds in env.toc_fignumbers.values():
        for figures in kinds.values():
            figures.update({name: earlier(at) for name, at in figures.items() if len(at) > 1})  # others: of no chapter
    numbered = itertools.chain(*(toc.findall(nodes.reference) for toc in env.tocs.values()), env.titles.values())
    for node in numbered:
        if "secnumber" in node:
            node["secnumber"] = earlier(node["secnumber"])


def describe(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Give a page its description: its first paragraph that is not in a banner."""
    if doctree is None:
        return
    title = html.unescape(re.sub(r"<[^>]*>", "", context.get("title", "")))
    if page == app.config.root_doc:
        context["title"] = "Introduction"  # in the browser's tab, where the book's own title follows
    found = [one for one in doctree.findall(nodes.paragraph) if "profile-banner" not in one.parent.get("classes", [])]
    words = next((text for text in (" ".join(one.astext().split()) for one in found) if len(text) > 40), title)
    if len(words) > LONGEST:
        words = words[:LONGEST].rsplit(" ", 1)[0] + " …"
    picture = (app.config.html_baseurl or context["pathto"]("", 1)) + PICTURE
    said = {"description": words, "twitter:card": "summary_large_image", "og:type": "article", "og:title": title}
    said |= {"og:description": words, "og:image": picture, "og:site_name": app.config.html_title}
    said["og:image:alt"] = "Drawn faces, each beside its counterfactual"
    for name, text in said.items():
        kind = "property" if name.startswith("og:") else "name"
        context["metatags"] = f'{context.get("metatags", "")}\n<meta {kind}="{name}" content="{html.escape(text)}">'


def link(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    """Replace the names of notebooks that are pages of this book."""
    pages = app.env.found_docs
    lines[:] = [NOTEBOOK.sub(lambda m: f":doc:`{m[1]}`" if m[1] in pages else m[0], line) for line in lines]


def leave_out(app: Sphinx, what: str, name: str, it: object, skip: bool, options: object) -> bool | None:
    """Leave out pydantic's own members, which may not even be asked, and a class that an attribute only names."""
    named = what == "class" and isinstance(it, type) and "." not in it.__qualname__
    return True if named or name.startswith("__pydantic") else None


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


def take_out(app: Sphinx, module: str, event: str = "") -> None:
    """Take out what a module listens to: everything, or one event."""
    for name, listeners in app.events.listeners.items():
        listeners[:] = [e for e in listeners if e.handler.__module__ != module or event not in ("", name)]


def take_out_live_code(app: Sphinx) -> None:
    """jupyter-book always loads sphinx-thebe, which puts an address outside on every page, twice."""
    take_out(app, "sphinx_thebe")
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def setup(app: Sphinx) -> dict[str, bool]:
    take_out_live_code(app)
    register_plugin("pybtex.style.formatting", "readable", Readable)
    app.connect("env-check-consistency", number_from_zero)
    app.connect("html-page-context", describe)
    app.connect("autodoc-process-docstring", link, priority=400)  # before the sections are rewritten
    app.connect("autodoc-skip-member", leave_out)
    # Napoleon asks members of pydantic's classes for their text, which some refuse.
    app.connect("builder-inited", lambda app: take_out(app, "sphinx.ext.napoleon", "autodoc-skip-member"))
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
