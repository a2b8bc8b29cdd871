"""Sphinx extension: take out jupyter-book's live-code extension, which would load a script from the network.

jupyter-book always loads sphinx-thebe. Without a button it does nothing but put its address on each page, twice,
which is an error in the browser's console.
"""

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    for listeners in app.events.listeners.values():
        for listener in [entry for entry in listeners if entry.handler.__module__ == "sphinx_thebe"]:
            listeners.remove(listener)
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
