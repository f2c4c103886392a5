"""The documentation site: what checks it, and what a browser shows of it, from the disk, with no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.page.browsing import Browsing, browsing
from tests.helpers import ROOT, once
from tests.running import PATIENCE, cannot_run, make

pytestmark = pytest.mark.timeout(300)

#: How wide the page is, beyond the window.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

GOOD = '<link href="style.css" rel="stylesheet"><h1 id="top">A</h1><a href="b/c.html#there">C</a>'


def check(site: Path) -> tuple[int, str]:
    """The exit code of the check of *site*, and what it says."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs/site/check.py", site],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("page", "style", "complaint"),
    [
        (GOOD, "body { background: url(b/dot.png) }", ""),
        (GOOD + '<a href="https://example.org/#x">elsewhere</a><img src="data:image/png;base64,">', "", ""),
        (GOOD + '<a href="b/d.html">D</a>', "", "a.html: b/d.html: no such file in the site"),
        (GOOD + '<a href="../">up</a>', "", "a.html: ../: no such file in the site"),
        (
            GOOD + '<a href="b/c.html#gone">C</a>',
            "",
            "a.html: b/c.html#gone: c.html has nothing of that name",
        ),
        (GOOD + '<a href="#gone">A</a>', "", "a.html: #gone: a.html has nothing of that name"),
        (GOOD + '<img src="gone.png">', "", "a.html: gone.png: no such file in the site"),
        (
            GOOD + '<script src="https://cdn.example/x.js"></script>',
            "",
            "https://cdn.example/x.js: a browser",
        ),
        (GOOD + '<img srcset="//cdn.example/x.png 2x">', "", "//cdn.example/x.png: a browser"),
        (GOOD + "<style>@import 'https://fonts.example/x'</style>", "", "https://fonts.example/x: a browser"),
        (GOOD + '<form action="https://search.example/">', "", "https://search.example/: a browser"),
        (GOOD, '@font-face { src: url("https://fonts.example/f") }', "style.css: https://fonts.example/f: a"),
        (GOOD, "body { background: url(gone.png) }", "style.css: gone.png: no such file in the site"),
    ],
)
def test_the_check_finds_what_is_wrong(tmp_path: Path, page: str, style: str, complaint: str) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/dot.png").write_bytes(b"")
    (tmp_path / "b/c.html").write_text('<p id="there"><a href="../a.html#top">A</a>')
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "style.css").write_text(style)
    code, said = check(tmp_path)
    assert code == (1 if complaint else 0)
    assert said.count("\n") == (1 if complaint else 0)
    assert complaint in said


def test_the_check_wants_a_site(tmp_path: Path) -> None:
    code, said = check(tmp_path)
    assert code == 1
    assert "`make docs` builds the site" in said


def build(made: Path) -> None:
    """Run `make docs`, with the site in ``site`` in *made*, and with the environment as it is."""
    installed = Path(sys.prefix) / "docs/installed"
    if not installed.exists():
        cannot_run("Sphinx is not installed; `make docs` does that")
    arguments = [f"--old-file={installed}", "docs", f"VENV={sys.prefix}", f"SITE={made}/site"]
    done = make(ROOT, *arguments, patience=PATIENCE * 4)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "documentation", build) / "site"


def test_make_builds_it_without_a_warning(site: Path) -> None:
    assert (site / "index.html").is_file()


def from_elsewhere(site: Path, requests: list[str]) -> list[str]:
    """Those of *requests* that are for no file of the site."""
    return [request for request in requests if not request.startswith((site.as_uri(), "data:"))]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browsing]:
    with browsing() as browser:
        yield browser


def test_every_page_fits_a_phone_and_asks_nobody(site: Path, chromium: Browsing) -> None:
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert len(pages) > 50
    chromium.do("open", url=pages[0].as_uri(), width=390, height=844)
    for page in pages:
        chromium.do("go", url=page.as_uri())
        assert chromium.do("evaluate", expression=TOO_WIDE) == 0, page
        assert chromium.do("seen")["problems"] == [], page
    requests = chromium.do("seen")["requests"]
    assert {page.as_uri() for page in pages} <= set(requests)
    assert from_elsewhere(site, requests) == []


@pytest.mark.parametrize(
    ("home", "language", "other", "words"),
    [
        ("README.html", "en", "es", ["The echo suite", "Search", "On this page"]),
        (
            "docs/es/README.html",
            "es",
            "en",
            ["La suite de eco", "En esta página", "Siguiente", "Hecho con", "Enlace a"],
        ),
    ],
)
def test_each_language_leads_to_the_other(
    site: Path, chromium: Browsing, home: str, language: str, other: str, words: list[str]
) -> None:
    chromium.do("open", url=(site / home).as_uri())
    assert chromium.do("evaluate", expression="document.documentElement.lang") == language
    text = chromium.do("evaluate", expression="document.documentElement.outerHTML")
    assert [word for word in words if word not in text] == []
    chromium.do("click", selector=".language-switch a")
    chromium.wait(f"html[lang={other}]")


@pytest.mark.parametrize(
    ("home", "word", "first"),
    [("README.html", "latency", "docs/"), ("docs/es/README.html", "latencia", "docs/es/")],
)
def test_the_search_works_from_the_disk(
    site: Path, chromium: Browsing, home: str, word: str, first: str
) -> None:
    chromium.do("open", url=(site / home).as_uri())
    chromium.do("fill", selector=".sidebar-search", text=word)
    chromium.do("evaluate", expression="document.querySelector('[role=search]').requestSubmit()")
    chromium.wait("#search-results li a")
    found = chromium.do("evaluate", expression="document.querySelector('#search-results li a').href")
    assert found.startswith(f"{site.as_uri()}/{first}")
    assert ("/es/" in found) == ("/es/" in first)
    seen = chromium.do("seen")
    assert seen["problems"] == []
    assert from_elsewhere(site, seen["requests"]) == []


def test_it_is_light_or_dark_as_the_reader_prefers(site: Path, chromium: Browsing) -> None:
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)"
        ".reduce((sum, part) => sum + Number(part), 0)"
    )
    bright = {}
    for scheme in ("light", "dark"):
        chromium.do("open", url=(site / "index.html").as_uri(), scheme=scheme)
        bright[scheme] = chromium.do("evaluate", expression=brightness)
    assert bright["dark"] < 200
    assert bright["light"] > 600
