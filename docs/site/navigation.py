"""What is in the sidebar, and so in the order of "next" and "previous": every page of the site, in groups.

Rule: the pages themselves say nothing of it, because a code host would show that as text.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from sphinx.application import Sphinx

#: Home → heading → pages below it.
NAVIGATION: Final = {
    "README": {
        "Getting started": ["docs/tutorial/en/index", "docs/recipes"],
        "The server": [
            "docs/configuration",
            "docs/limits",
            "docs/answers",
            "docs/faults",
            "docs/running",
            "docs/logs",
            "docs/security",
            "docs/speed",
        ],
        "Tools": ["docs/clients", "docs/connect", "docs/probe", "docs/load"],
        "TLS": [
            "docs/gallery",
            "docs/gallery-score",
            "docs/gallery-certificates",
            "docs/tls-report",
            "certs/README",
        ],
        "In tests": ["docs/testing", "docs/reference/testing", "docs/reference/fixtures"],
        "Operating": [
            "docs/deploy",
            "deploy/systemd/README",
            "docs/deploy-kubernetes",
            "docs/load-balancers",
            "docs/admin",
            "docs/api",
            "docs/metrics",
        ],
        "Inside": ["docs/reference/answers", "benchmarks/README"],
        "The project": ["CONTRIBUTING", "CHANGELOG", "SECURITY"],
    },
    "docs/es/README": {
        "Primeros pasos": ["docs/tutorial/es/index", "docs/es/recipes"],
    },
}

#: Folders whose ``index`` has the other pages below it, in the order of their names.
BOOKS: Final = ("docs/tutorial/en", "docs/tutorial/es")


def toctree(pages: list[str], caption: str = "") -> str:
    """The directive for *pages*, which are names from the root, or patterns."""
    options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "", "```{toctree}", *options, "", *[f"/{page}" for page in pages], "```", ""])


def add(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Write at the end of a page what is below it."""
    for caption, pages in NAVIGATION.get(docname, {}).items():
        source[0] += toctree(pages, caption)
    if docname == "README":
        source[0] += toctree([home for home in NAVIGATION if home != docname])
    path = PurePosixPath(docname)
    if str(path.parent) in BOOKS and path.name == "index":
        source[0] += toctree([f"{path.parent}/[0-9]*"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
