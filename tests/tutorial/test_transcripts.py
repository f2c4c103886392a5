"""Every transcript of the tutorial is what its commands show."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.tutorial.pages import CHAPTERS, LANGUAGES, STEPS, TUTORIAL, Command, transcripts
from tests.tutorial.replay import matches, replay

Transcripts = tuple[tuple[Command, ...], ...]


def distinct() -> dict[str, Transcripts]:
    """The transcripts of each chapter, once for all languages that have the same."""
    found = {}
    for chapter in CHAPTERS:
        languages: defaultdict[Transcripts, list[str]] = defaultdict(list)
        for language in LANGUAGES:
            languages[transcripts(TUTORIAL / language / chapter)].append(language)
        for sections, names in languages.items():
            if sections:
                found[f"{chapter.removesuffix('.md')}-{'-'.join(names)}"] = sections
    return found


@pytest.mark.parametrize("sections", distinct().values(), ids=distinct().keys())
def test_what_a_chapter_shows_is_so(sections: Transcripts, tmp_path: Path, reader: Path) -> None:
    replay(sections, tmp_path, reader)


def test_every_step_is_run() -> None:
    run = {
        Path(word).name
        for language in LANGUAGES
        for chapter in CHAPTERS
        for section in transcripts(TUTORIAL / language / chapter)
        for command in section
        for word in command.text.split()
    }
    assert {path.name for path in STEPS.glob("*.py")} <= run


@pytest.mark.parametrize(
    ("expected", "shown", "same"),
    [
        (["hola"], ["hola"], True),
        (["hola"], ["hola", "mundo"], False),
        (["hola"], [], False),
        ([], ["Traceback (most recent call last):"], False),
        (["port …."], ["port 40000."], True),
        (["port …."], ["port 40000"], False),
        (["first", "…", "last"], ["first", "last"], True),
        (["first", "…", "last"], ["first", "1", "2", "last"], True),
        (["first", "…", "last"], ["first", "1", "2"], False),
        (["a.c"], ["abc"], False),
    ],
)
def test_how_a_transcript_is_compared(expected: list[str], shown: list[str], same: bool) -> None:
    assert matches(expected, shown) is same


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (Command("python 02_client.py", ()), "ConnectionRefusedError"),
        (Command("python -c \"print('hola')\"", ("adiós",)), "it shows:\nhola\nand the page says:\nadiós"),
        (Command("python -c \"input('> ')\"", ()), "asks for more"),
    ],
    ids=["no server", "other output", "nothing typed"],
)
def test_a_wrong_transcript_is_noticed(
    command: Command, complaint: str, tmp_path: Path, reader: Path
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        replay([[command]], tmp_path, reader)
