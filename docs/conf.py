"""Builds the documentation: `make docs`. Offline; the pages read the same on GitHub."""

from __future__ import annotations

import os

import django
from django.conf import settings
from docutils import nodes
from sphinx.application import Sphinx

from django_pooled_pg import __version__

# autodoc imports middleware, which needs settings.
if not os.environ.get("DJANGO_SETTINGS_MODULE") and not settings.configured:
    settings.configure()
    django.setup()

project = "django_pooled_pg"
release = version = __version__
copyright = "the authors of django_pooled_pg"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
# Other projects' inventories aren't here: only this package's names can be looked up.
nitpick_ignore_regex = [("py:.*", r"(?!django_pooled_pg).*")]

# Anchors as GitHub makes them, and images that have a width.
myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]

# Docstrings are written for people in editors: backticks mark code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"django_pooled_pg {__version__}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = False


def _keep_github_anchors(app: Sphinx, doctree: nodes.document) -> None:
    # A link to checks.md#pooled_pgw007 on GitHub also works as checks.html#pooled_pgw007.
    for section in doctree.findall(nodes.section):
        slug = section.get("slug")
        if slug and slug not in section["ids"]:
            section["ids"].append(slug)


def _hide_constructors(
    app: Sphinx, what: str, name: str, obj: object, options: object, args: str, returns: str
) -> tuple[str, str] | None:
    # Of the classes that users construct, only these take arguments.
    takes = ("Collector", ".deadline", ".max_borrows", "_calling", "_session_state")
    made_here = what in ("class", "exception") and not name.endswith(takes)
    return ("", "") if made_here and args else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _hide_constructors)
    app.connect("doctree-read", _keep_github_anchors)
