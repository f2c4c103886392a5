"""The chapters, read: headings, fences, and the commands of ``console`` fences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.helpers import ROOT

TUTORIAL: Final = ROOT / "docs/tutorial"
STEPS: Final = TUTORIAL / "steps"
LANGUAGES: Final = ("en", "es")

#: The names of the pages, in order; `index.md` is the first.
CHAPTERS: Final = sorted({path.name for language in LANGUAGES for path in (TUTORIAL / language).glob("*.md")})


@dataclass(frozen=True)
class Heading:
    """A heading.

    :ivar level: 1 to 6.
    """

    level: int
    title: str


@dataclass(frozen=True)
class Fence:
    """A fenced block.

    :ivar info: what follows the opening fence: ``console``, ``{literalinclude} ../steps/01_echo.py``.
    """

    info: str
    lines: tuple[str, ...]

    @property
    def options(self) -> dict[str, str]:
        """The options of a directive, as in ``:language: python``."""
        found = (re.fullmatch(r":([\w-]+):\s*(.*)", line) for line in self.lines)
        return {match[1]: match[2] for match in found if match}


@dataclass(frozen=True)
class Command:
    """A command of a transcript.

    :ivar shows: what its terminal then shows, line by line, without spaces at the end of a line.
    """

    text: str
    shows: tuple[str, ...]

    @property
    def typed(self) -> tuple[str, ...]:
        """What the reader types, a line at each prompt."""
        return tuple(line[1:].strip() for line in self.shows if line.startswith(">"))


def parse(path: Path) -> list[Heading | Fence]:
    """The headings and fences of a page, in order.

    :raises ValueError: a fence is not closed.
    """
    found: list[Heading | Fence] = []
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if opening := re.match(r"(`{3,})(.*)", line):
            inside = []
            for content in lines:
                if content.rstrip() == opening[1]:
                    break
                inside.append(content)
            else:
                raise ValueError(f"{path}: a fence is not closed: {line}")
            found.append(Fence(opening[2].strip(), tuple(inside)))
        elif heading := re.match(r"(#{1,6}) (.*)", line):
            found.append(Heading(len(heading[1]), heading[2].strip()))
    return found


def commands(fence: Fence) -> list[Command]:
    """The commands of a ``console`` fence.

    :raises ValueError: it does not begin with a command.
    """
    found: list[tuple[str, list[str]]] = []
    for line in fence.lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line.rstrip())
        else:
            raise ValueError(f"a transcript begins with a command, not with {line!r}")
    return [Command(text, tuple(shows)) for text, shows in found]


def transcripts(path: Path) -> tuple[tuple[Command, ...], ...]:
    """The commands of a page, section by section."""
    sections: list[list[Command]] = [[]]
    for part in parse(path):
        if isinstance(part, Heading):
            sections.append([])
        elif part.info == "console":
            sections[-1] += commands(part)
    return tuple(tuple(section) for section in sections if section)
