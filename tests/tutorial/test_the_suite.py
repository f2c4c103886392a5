"""Chapter 20 says where each idea lives in the suite, and which tests hold it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.running import PATIENCE
from tests.tutorial.pages import LANGUAGES, TUTORIAL

CHAPTER = "20-the-suite.md"

#: Chapters that have no row: they are about installing, running and naming.
ELSEWHERE = {1, 8, 9}


def rows(language: str) -> list[list[str]]:
    """The cells of the table, without its header."""
    lines = (TUTORIAL / language / CHAPTER).read_text().splitlines()
    table = [line for line in lines if line.startswith("| [")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def names_of(path: Path) -> set[str]:
    """The functions in a file, and in its classes."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_file_and_test_of_the_table_exists(language: str) -> None:
    for _, idea, file, test in rows(language):
        path, name = re.fullmatch(r"`([\w/]+\.py)`: `(\w+)`", test).groups()  # type: ignore[union-attr]
        assert name in names_of(ROOT / "tests" / path), idea
        (place,) = re.fullmatch(r"`([\w/]+\.py)`", file).groups()  # type: ignore[union-attr]
        assert (ROOT / "suite" / place).is_file(), idea


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_chapter_has_a_row(language: str) -> None:
    chapters = [re.fullmatch(r"\[(\d+)\]\((\d\d-[\w-]+\.md)\)", row[0]) for row in rows(language)]
    numbers = []
    for chapter in chapters:
        assert chapter
        assert chapter[2].startswith(f"{int(chapter[1]):02}-")
        numbers.append(int(chapter[1]))
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 20)) - ELSEWHERE


def test_both_languages_name_the_same_files_and_tests() -> None:
    english, spanish = ([[row[0], *row[2:]] for row in rows(language)] for language in LANGUAGES)
    assert english == spanish


def test_the_tests_that_the_exercise_names_fail(tmp_path: Path) -> None:
    """And no others, when the three calls are removed."""
    shutil.copytree(ROOT / "suite", tmp_path / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "helpers.py", "test_echo.py"):
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    echo = tmp_path / "suite/echo.py"
    text = echo.read_text()
    removed = re.findall(r"^\d\. `(\w+)`$", (TUTORIAL / "en" / CHAPTER).read_text(), re.MULTILINE)
    for call in removed:
        text, count = re.subn(rf"^( +)(?:cast\(.*\)|\w+)\.{call}\(.*$", r"\1pass", text, flags=re.MULTILINE)
        assert count == 1, call
    echo.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "tests/test_echo.py"]
    result = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    failed = set(re.findall(r"^FAILED \S+::(\w+)", result.stdout, re.MULTILINE))
    for language in LANGUAGES:
        solution = (TUTORIAL / language / CHAPTER).read_text().rpartition("`unregisterProducer`")[2]
        assert failed == set(re.findall(r"`(test_\w+)`", solution)), result.stdout
