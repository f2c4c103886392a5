"""Checks a built site: every link inside it leads somewhere, and no page needs anything from elsewhere.

    python docs/site/check.py build/site

A link to another site is one that a reader may follow; a stylesheet, script, image, font or form elsewhere
would be asked for by the browser. Exit code 1, and a line for each, if something is wrong.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

#: Attributes with an address, of any element; that of ``a`` and ``area`` alone waits for a reader.
ADDRESSES: Final = ("action", "data", "formaction", "href", "poster", "src", "xlink:href")
FOLLOWED: Final = frozenset({"a", "area"})

#: What a stylesheet loads.
IN_CSS: Final = re.compile(r"""url\(\s*["']?([^"')]*)|@import\s+["']([^"']*)""")


class Page(HTMLParser):
    """The names and addresses of one page.

    :ivar names: what a fragment may name.
    :ivar links: what a reader may follow.
    :ivar needs: what the browser asks for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.needs: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the names and addresses of one element."""
        self._in_style = tag == "style"
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.names.add(value)
            elif name in ADDRESSES:
                (self.links if tag in FOLLOWED else self.needs).append(value)
            elif name in ("srcset", "imagesrcset"):
                self.needs += [candidate.split()[0] for candidate in value.split(",")]
            elif name == "style":
                self.needs += in_css(value)

    def handle_data(self, data: str) -> None:
        """Take the addresses of a stylesheet."""
        if self._in_style:
            self.needs += in_css(data)


def in_css(text: str) -> list[str]:
    """The addresses in a stylesheet."""
    return [first or second for first, second in IN_CSS.findall(text)]


def check(site: Path) -> list[str]:
    """What is wrong with the site in this directory, a line each."""
    site = site.resolve()
    pages: dict[Path, Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = Page()
        pages[path].feed(path.read_text())
    problems = [] if pages else [f"{site}: no page; `make docs` builds the site"]
    for path, page in pages.items():
        for address in page.needs:
            problems += trouble(site, path, address, pages, needed=True)
        for address in page.links:
            problems += trouble(site, path, address, pages, needed=False)
    for path in sorted(site.rglob("*.css")):
        for address in in_css(path.read_text()):
            problems += trouble(site, path, address, pages, needed=True)
    return problems


def trouble(site: Path, path: Path, address: str, pages: dict[Path, Page], *, needed: bool) -> list[str]:
    """What is wrong with *address* in the file at *path*: a line or none.

    :param needed: whether the browser asks for it by itself.
    """
    where = f"{path.relative_to(site)}: {address}"
    parts = urlsplit(address)
    if parts.scheme == "data":
        return []
    if parts.scheme or parts.netloc:
        return [f"{where}: a browser asks another site for it; expected a file of this one"] if needed else []
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site) or not target.is_file():
        return [f"{where}: no such file in the site"]
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
        return [f"{where}: {target.name} has nothing of that name"]
    return []


def main() -> int:
    """Check the site that the first argument names; return the exit code."""
    problems = check(Path(sys.argv[1]))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
