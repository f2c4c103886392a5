"""The chapters quote what is there, and both languages have the same chapters."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tutorial.pages import CHAPTERS, LANGUAGES, STEPS, TUTORIAL, Fence, Heading, parse

#: The info strings that a page may use, beside ``{literalinclude} FILE``: run, and not run.
INFOS = {"console", "text"}

#: Options of ``literalinclude``: those that take a text that a line of the file contains, and the others.
MARKERS = {"start-at", "end-at", "start-after", "end-before"}
OTHERS = {"language", "pyobject", "emphasize-lines"}

PAGES = [
    pytest.param(TUTORIAL / language / chapter, id=f"{language}/{chapter.removesuffix('.md')}")
    for language in LANGUAGES
    for chapter in CHAPTERS
]


def fences(page: Path) -> list[Fence]:
    return [part for part in parse(page) if isinstance(part, Fence)]


def quoted(page: Path) -> list[tuple[Path, Fence]]:
    """The files that *page* quotes."""
    return [
        ((page.parent / fence.info.split()[1]).resolve(), fence)
        for fence in fences(page)
        if fence.info.startswith("{literalinclude}")
    ]


def defined(source: str) -> set[str]:
    """The names that ``:pyobject:`` may have: functions, classes, and what is in these."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            names |= {
                f"{node.name}.{inner.name}"
                for inner in getattr(node, "body", ())
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names


def test_both_languages_have_the_same_chapters() -> None:
    english, spanish = ({path.name for path in (TUTORIAL / name).iterdir()} for name in LANGUAGES)
    assert english == spanish == set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_both_languages_have_the_same_shape(chapter: str) -> None:
    """The same levels of headings, the same quotations, the same transcripts, in the same order."""

    def shape(page: Path) -> list[object]:
        return [
            part.level if isinstance(part, Heading) else part.info if part.info == "text" else part
            for part in parse(page)
        ]

    english, spanish = (shape(TUTORIAL / language / chapter) for language in LANGUAGES)
    assert english == spanish


@pytest.mark.parametrize("page", PAGES)
def test_what_is_quoted_is_there(page: Path) -> None:
    for path, fence in quoted(page):
        assert path.is_relative_to(STEPS.parents[2]), path
        lines = path.read_text().splitlines()
        assert set(fence.options) <= MARKERS | OTHERS, fence
        assert fence.options["language"] == "python", fence
        begin = 0
        for option in ("start-at", "start-after", "end-at", "end-before"):
            if marker := fence.options.get(option):
                found = [number for number, line in enumerate(lines) if marker in line and number >= begin]
                assert found, f"{path}: no line has {marker!r}"
                begin = found[0]
        if name := fence.options.get("pyobject"):
            assert name in defined(path.read_text()), f"{path}: no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_is_of_another_kind(page: Path) -> None:
    """Code is quoted, a transcript is run, anything else is plain text."""
    for fence in fences(page):
        assert fence.info in INFOS or re.fullmatch(r"\{literalinclude\} \.\./\S+", fence.info), fence


def test_every_step_is_quoted() -> None:
    for language in LANGUAGES:
        found = {path for chapter in CHAPTERS for path, _ in quoted(TUTORIAL / language / chapter)}
        assert set(STEPS.glob("*.py")) <= found, language


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Within the repository; links to web sites are not followed."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        assert (page.parent / link.partition("#")[0]).exists(), link
    # The contents are before the first chapter and after the last.
    around = ["index.md", *(name for name in CHAPTERS if name != "index.md"), "index.md"]
    place = around.index(page.name)
    neighbours = [around[place - 1], around[place + 1]] if place else [around[1]]
    assert links[-len(neighbours) :] == neighbours


@pytest.mark.parametrize("page", PAGES)
def test_a_chapter_is_linked_by_its_title(page: Path) -> None:
    """In the contents, and as the previous or the next chapter: with its number and its title."""
    text = page.read_text()
    listed = re.findall(r"(?m)^(\d+)\. \[(.*)\]\((\S+)\)$", text)
    neighbours = re.findall(r"\[(?:← )?(\d+)\. ([^]]*?)(?: →)?\]\((\S+)\)", text)
    assert neighbours
    for number, title, name in listed + neighbours:
        first = parse(page.parent / name)[0]
        assert first == Heading(1, title)
        assert name.startswith(f"{int(number):02}-")
    if page.name == "index.md":
        assert [name for _, _, name in listed] == [name for name in CHAPTERS if name != "index.md"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_solution_is_linked(language: str) -> None:
    pages = "".join(path.read_text() for path in (TUTORIAL / language).glob("*.md"))
    for path in (STEPS / "solutions").glob("*.py"):
        assert f"](../steps/solutions/{path.name})" in pages, path.name
