"""Sphinx's settings for the documentation site; ``scripts/docs_site.py`` gathers its pages and calls Sphinx."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import fedumm

project = "FedUMM"
copyright = "the FedUMM authors"
version = release = fedumm.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
highlight_language = "text"
nitpicky = True  # With -W: a name in a docstring that leads nowhere is an error.

# Headings get the anchors that code-hosting sites give them, so that a link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
nb_execution_mode = "off"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = "FedUMM"
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # A browser fetches no texts from beside a page that was opened as a file.
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "default"
pygments_dark_style = "monokai"


def _there(name: str) -> bool:
    """Whether ``name`` is a module of ours, or is in one."""
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
        return True
    module, _, attribute = name.rpartition(".")
    return bool(module) and _there(module) and _has(name, module, attribute)


def _has(name: str, module: str, attribute: str) -> bool:
    owner: Any = sys.modules.get(module)
    if owner is None:  # A member of a class.
        home, _, cls = module.rpartition(".")
        owner = getattr(sys.modules.get(home), cls, None)
    return hasattr(owner, attribute) or attribute in getattr(owner, "__annotations__", {})


def _as_text(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """What is not described on this site is text: names of libraries, and ours if they exist. Others are an error."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") == "py" and (not target.startswith("fedumm.") or _there(target)):
        return contnode
    return None


def _signature(app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: Any) -> Any:
    """A protocol is no class to be called."""
    return ("", None) if what == "class" and signature == "(*args, **kwargs)" else None


def _no_type(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """What a property's text says before a colon is no type, as Napoleon, which comes next, would have it."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", _as_text)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _no_type, priority=400)
