"""The maps: the docstring of each package names what is in its folder: all of it, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Every folder of the package, by what stands in its map.
PACKAGES = sorted((ROOT / "suite").rglob("__init__.py"))


NAME = re.compile(r"`(?:[a-z_]+\.)*([a-z_]+)`")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_map_names_what_is_there(package: Path) -> None:
    folder = package.parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    there = files | {path.parent.name for path in folder.glob("*/__init__.py")}
    text = ast.get_docstring(ast.parse(package.read_text())) or ""
    assert there - {*NAME.findall(text)} == set()
    entries = [line.partition(":")[0] for line in text.splitlines() if line.startswith("- ")]
    assert {name for entry in entries for name in NAME.findall(entry)} - there == set()
