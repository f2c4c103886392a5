"""The pages under docs/ say what is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from suite.config.limits import LOOPBACK, Limits
from tests.helpers import ROOT

SECURITY = (ROOT / "docs/security.md").read_text()
LIMITS = (ROOT / "docs/limits.md").read_text()


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the tables whose header row begins with *header*."""
    found = []
    for table in page.split("\n\n"):
        lines = table.strip().splitlines()
        if lines and lines[0].startswith(f"| {header}"):
            found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return found


def test_every_test_that_security_names_exists() -> None:
    named = 0
    for _, held_by in rows(SECURITY, "promise"):
        tests = ""
        for word in re.findall(r"`([^`]+)`", held_by):
            if word.endswith(".py"):
                tests = (ROOT / "tests" / word).read_text()
            elif re.fullmatch(r"\w+", word):
                assert re.search(rf"def test_\w*{word}", tests), word
                named += 1
    assert named > 30


def test_the_page_has_every_limit_and_its_default() -> None:
    table = {
        key: default for keys, _, default, _ in rows(LIMITS, "key") for key in re.findall(r"`(\w+)`", keys)
    }
    assert list(table) == [field.name for field in fields(Limits)]
    defaults = Limits()
    for name, said in table.items():
        value = getattr(defaults, name)
        if value == LOOPBACK:
            assert said == "loopback"
        elif value is None:
            assert said == '`"none"`'
        elif isinstance(value, bool):
            assert said == f"`{value}`".lower()
        elif isinstance(value, float):
            seconds = {"s": 1, "m": 60}
            (number, unit) = re.findall(r"(\d+)([sm])", said)[0]
            assert int(number) * seconds[unit] == value
        elif isinstance(value, int):
            assert f"{value:,}" in said
        else:
            assert said.startswith("`[]`")


PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "benchmarks/*.md", "certs/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and in a page to a heading that is there."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200
