"""Files and folders of the repository that pages link to, as pages of the site.

Rules: the page of a file has the file's path and ``.html``, and shows its text, with its syntax highlighted;
that of a folder, a link to which has a slash, is its ``index.html``, and lists the files below it. What is no
text, an image for instance, is copied, and the link leads to the copy, as always in Sphinx.
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

#: The language of what is in none.
PLAIN: Final = "none"


class LinkToPage(SphinxTransform):
    """Makes links to pages of what is a download for MyST, or a reference to something unknown: a folder."""

    default_priority = 400

    def apply(self, **_options: Any) -> None:
        """Do it, on one page."""
        for link in list(self.document.findall(_is_link)):
            name, path = self.env.relfn2path(link["reftarget"], self.env.docname)
            page = page_of(self.app, Path(path))
            if page is None:
                continue
            linked_to(self.env).add(name)
            uri = self.app.builder.get_relative_uri(self.env.docname, page)
            link.replace_self(nodes.reference("", "", *link.children, internal=True, refuri=uri))


def _is_link(node: nodes.Node) -> bool:
    """Whether *node* is a link to a path that is no page, as far as MyST knows."""
    if isinstance(node, addnodes.pending_xref):
        return node["reftype"] == "myst" and node["refdomain"] is None and "/" in node["reftarget"]
    return isinstance(node, addnodes.download_reference)


def linked_to(env: Any) -> set[str]:
    """The files and folders that pages have linked to so far, by their paths from the root."""
    if not hasattr(env, "repository_files"):
        env.repository_files = set()
    found: set[str] = env.repository_files
    return found


def page_of(app: Sphinx, path: Path) -> str | None:
    """The name of the page for *path*; None: there is none."""
    if not path.is_relative_to(app.srcdir):
        return None
    name = path.relative_to(app.srcdir).as_posix()
    if path.is_dir():
        return f"{name}/index"
    docname: str | None = app.project.path2doc(name)
    if docname in app.project.docnames:
        return docname
    return None if text_of(path) is None else name


def text_of(path: Path) -> str | None:
    """The text in the file at *path*; None: it is an image, no text, or not there."""
    if path.suffix == ".svg" or not path.is_file():
        return None
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None


def files_below(folder: Path) -> list[Path]:
    """The files in *folder*, and in folders in it, that are in a language that Pygments knows.

    Such are the sources; what programs leave there, keys and certificates for instance, is none.
    """
    return sorted(path for path in folder.rglob("*") if path.is_file() and lexer_of(path) != PLAIN)


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each of them, and for each file of a folder."""
    linked = {Path(app.srcdir, name) for name in linked_to(app.env)}
    folders = {path for path in linked if path.is_dir()}
    files = (linked - folders).union(*map(files_below, folders))
    for path in sorted(folders | files):
        page = page_of(app, path)
        if page is not None and page not in app.project.docnames:
            name = path.relative_to(app.srcdir).as_posix()
            title = f'<h1 class="file-name">{html.escape(name)}</h1>'
            body = contents(app, path, page) if path in folders else text(app, path)
            yield page, {"title": name, "body": title + body}, "page.html"


def contents(app: Sphinx, folder: Path, page: str) -> str:
    """The list of the files below *folder*, whose page is *page*, in HTML."""
    items = []
    for path in files_below(folder):
        shown = page_of(app, path)
        if shown is not None:
            uri = app.builder.get_relative_uri(page, shown)
            name = html.escape(path.relative_to(folder).as_posix())
            items.append(f'<li><a href="{html.escape(uri)}">{name}</a></li>')
    return f"<ul>{''.join(items)}</ul>"


def text(app: Sphinx, path: Path) -> str:
    """The text of the file at *path*, in HTML."""
    builder: Any = app.builder
    shown: str = builder.highlighter.highlight_block(text_of(path), lexer_of(path), location=str(path))
    return shown


def lexer_of(path: Path) -> str:
    """The name of the language that the file at *path* is written in, for Pygments."""
    for key in (path.suffix, path.name):
        if key in LEXERS:
            return LEXERS[key]
    try:
        return str(get_lexer_for_filename(path.name).aliases[0])
    except ClassNotFound:
        return PLAIN


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_transform(LinkToPage)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
