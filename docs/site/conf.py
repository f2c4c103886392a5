"""How Sphinx builds the site; `make docs` runs it.

Rules: the site has the paths of the repository, so a link between Markdown files is right on a code host and
in the site alike. Any other file that a page links to is shown as a page of the site (`repository_files`).
Every page is in `navigation`, which also has the languages (`languages`). Warnings are errors.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexer_classes

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # what is documented; what is beside this file

from suite import __version__  # noqa: E402

project = "The echo suite"
release = __version__
language = "en"

root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/reference/*.rst",
    "deploy/**.md",
    "benchmarks/*.md",
    "certs/*.md",
]
exclude_patterns = [".*", "build", "dist", "suite", "tests", "**/__pycache__"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "languages", "navigation", "repository_files"]
myst_heading_anchors = 4

default_role = "py:obj"  # names in docstrings, such as `RunningSuite`, are links where that is documented
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("Address", "Configuration", "Fault", "Faults")}
python_maximum_signature_line_length = 88

highlight_language = "none"
for name in ("crontab", "haproxy"):  # languages of our examples that Pygments does not have
    lexer_classes[name] = TextLexer

pygments_dark_style = "a11y-dark"  # the theme's own underlines names, as if they were links

templates_path = ["templates"]
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_show_search_summary = False  # it would fetch the pages, which no browser allows for files on a disk
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_domain_indices = False


def name_aliases(
    _app: Sphinx,
    _what: str,
    _name: str,
    _object: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Sphinx says ``TypeAliasForwardRef('Faults') | None`` where the code says ``Faults | None``."""

    def plain(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)

    return plain(signature), plain(returns)


def name_languages(_app: Sphinx, doctree: nodes.document) -> None:
    """A block that has no language and begins with a prompt is a transcript of a terminal."""
    for block in doctree.findall(nodes.literal_block):
        if block.get("language", "none") in ("none", "default") and block.astext().startswith("$ "):
            block["language"] = "console"


def keep_short_code_whole(_app: Sphinx, doctree: nodes.document) -> None:
    """Mark what fits into a line of a phone, and has a hyphen at which browsers would break it."""
    for literal in doctree.findall(nodes.literal):
        if "-" in literal.astext() and len(literal.astext()) <= 24:
            literal["classes"].append("unbroken")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("doctree-read", name_languages)
    app.connect("doctree-read", keep_short_code_whole)
