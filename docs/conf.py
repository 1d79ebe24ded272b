"""How the documentation is built: `sphinx-build -W -n docs docs/_build/html`.

Pages are MyST Markdown; those with code cells are notebooks in text form (jupytext) and run while the pages are built.
`MECHDRIFT_DOCS=draft` builds them without running the notebooks, in seconds.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

project = "mechdrift"
author = "the mechdrift contributors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated", "jupyter_execute", "**.ipynb_checkpoints"]
nitpicky = True

html_theme = "furo"
html_title = "mechdrift"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "off" if os.environ.get("MECHDRIFT_DOCS") == "draft" else "cache"
nb_execution_timeout = 600  # seconds a cell
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars, and what libraries deprecate
nb_execution_show_tb = True

os.environ.setdefault("PLOTLY_RENDERER", "notebook_connected")  # figures in notebooks are interactive

default_role = "code"  # docstrings write `name` for code
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand in the docstring; the signature shows defaults
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source", ("Columns", "params_style")]


def setup(app) -> None:
    """Pages that are made from the package are written before the pages are read."""
    app.connect("builder-inited", lambda _: generated.write_pages(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", remember_attribute, priority=400)
    app.connect("autodoc-process-docstring", restore_attribute, priority=600)


ATTRIBUTES: dict[str, list[str]] = {}  # docstrings of attributes and properties, as written


def remember_attribute(app, what, name, obj, options, lines) -> None:
    if what in ("attribute", "property"):
        ATTRIBUTES[name] = list(lines)


def restore_attribute(app, what, name, obj, options, lines) -> None:
    """napoleon takes the beginning of "Such as: …" for the attribute's type; here no docstring names a type."""
    if name in ATTRIBUTES:
        lines[:] = ATTRIBUTES[name]
