"""Files of the repository that pages link to, as pages of the site: their text, with its syntax highlighted.

Rules: such a page has the path of the file, and ``.html``. A page links to a file, never to a folder. What is
no text, an image for instance, is copied, and the link leads to the copy, as always in Sphinx.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

#: What Pygments cannot know by the name of the file.
LEXERS: Final = {".service": "ini", ".socket": "ini", "Containerfile": "docker"}


class LinkToPage(SphinxTransform):
    """Makes of a link to a file, which is a download for MyST, a link to the page with its text."""

    default_priority = 400

    def apply(self, **_options: Any) -> None:
        """Do it, on one page."""
        for link in list(self.document.findall(addnodes.download_reference)):
            name, path = self.env.relfn2path(link["reftarget"], self.env.docname)
            if text_of(Path(path)) is None:
                continue
            shown = files(self.env)
            shown.add(name)
            uri = self.app.builder.get_relative_uri(self.env.docname, name)
            link.replace_self(nodes.reference("", "", *link.children, internal=True, refuri=uri))


def files(env: Any) -> set[str]:
    """The files that pages have linked to so far, by their paths from the root of the repository."""
    if not hasattr(env, "repository_files"):
        env.repository_files = set()
    found: set[str] = env.repository_files
    return found


def text_of(path: Path) -> str | None:
    """The text in the file at *path*; None: it is an image, or no text."""
    if path.suffix == ".svg":
        return None
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each of them."""
    builder: Any = app.builder
    for name in sorted(files(app.env)):
        path = Path(app.srcdir, name)
        text = text_of(path) or ""
        shown = builder.highlighter.highlight_block(text, lexer_of(path), location=name)
        yield (
            name,
            {"title": name, "body": f'<h1 class="file-name">{html.escape(name)}</h1>{shown}'},
            "page.html",
        )


def lexer_of(path: Path) -> str:
    """The name of the language that the file at *path* is written in, for Pygments."""
    for key in (path.suffix, path.name):
        if key in LEXERS:
            return LEXERS[key]
    try:
        return str(get_lexer_for_filename(path.name).aliases[0])
    except ClassNotFound:
        return "none"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_transform(LinkToPage)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
