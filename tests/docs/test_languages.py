"""What is there in Spanish has the same headings, code, outputs, tables and links as in English.

Rule: comments in code, and what stands for an output that is left out, are in the language of the page.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

DOCS = ROOT / "docs"
SPANISH = sorted((DOCS / "es").glob("*.md"))

#: Of a line of code.
COMMENT = re.compile(r"(?<=\S)( +)# .*$")
LEFT_OUT = re.compile(r"^( *)….*…$")


def english(page: Path) -> Path:
    """The page that *page* says in Spanish."""
    return ROOT / page.name if page.name == "README.md" else DOCS / page.name


def code(line: str) -> str:
    """*line* without what may be said in another language."""
    return LEFT_OUT.sub(r"\1…", COMMENT.sub(r"\1#", line))


def shape(page: Path) -> list[str]:
    """The headings as their level, the lines of code, the number of cells of each row; in order."""
    found: list[str] = []
    fence = ""
    before = ""
    for line in page.read_text().splitlines():
        indented = line.startswith("    ") and (not before or before.startswith("    "))
        if fence or line.startswith("```"):
            found.append(code(line))
            fence = "" if fence and line == fence else fence or "```"
        elif indented:
            found.append(code(line))
        elif heading := re.match(r"#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            found.append("|" * len(re.findall(r"(?<!\\)\|", line)))
        before = line if line or not indented else before
    return found


def links(page: Path) -> set[str]:
    """Where links lead, in the repository or outside it; to its own headings: how many do."""
    found = set()
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path = link.partition("#")[0]
        if link.startswith("http"):
            found.add(link)
        elif path:
            target = (page.parent / path).resolve()
            found.add(
                str(english(target) if target.parent == DOCS / "es" else target).replace("/es/", "/en/")
            )
    return found


def test_the_readme_and_the_recipes_are_there() -> None:
    assert {page.name for page in SPANISH} >= {"README.md", "recipes.md"}


@pytest.mark.parametrize("page", SPANISH, ids=lambda page: page.name)
def test_both_languages_have_the_same_shape(page: Path) -> None:
    ours, theirs = shape(page), shape(english(page))
    assert len([line for line in ours if line.startswith("#")]) > 5
    assert ours == theirs


@pytest.mark.parametrize("page", SPANISH, ids=lambda page: page.name)
def test_both_languages_link_to_the_same_pages(page: Path) -> None:
    ours = {str(page), str(english(page))}  # each may name itself in the other language
    assert links(page) - ours == links(english(page)) - ours


@pytest.mark.parametrize("page", SPANISH, ids=lambda page: page.name)
def test_every_heading_that_is_linked_to_in_english_is_linked_to_in_spanish(page: Path) -> None:
    own = re.compile(r"\]\(#")
    assert len(own.findall(page.read_text())) == len(own.findall(english(page).read_text()))
