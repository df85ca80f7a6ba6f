"""The documentation's site: `make docs`. Sphinx reads pages in Markdown (MyST) and the docstrings."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "docs")]

from made_pages import helps, make_pages, relinked  # noqa: E402

from neuro_ssl import __version__ as release  # noqa: E402

project = "neuro_ssl"
author = copyright = "The neuro_ssl developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings name code in single backquotes

html_theme = "furo"
html_title = f"neuro_ssl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4  # GitHub's anchors, so that a link works there and here
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # a study's page may begin a level lower

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]

make_pages(REPOSITORY)


def complete(app, name, source):
    """Turn a page's links to files of the repository into links to their pages; add what `--help` shows."""
    page = Path(app.srcdir, f"{name}.md")
    source[0] = relinked(source[0], page, page, REPOSITORY) + (helps(REPOSITORY) if name == "commands" else "")


def setup(app):
    """Complete each page as it is read."""
    app.connect("source-read", complete)
