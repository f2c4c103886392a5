"""The reader's virtual environment: what the chapters install, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.tutorial.replay import python_of
from tests.tutorial.serving import Shell, opened

#: What chapters 1 and 14 install.
INSTALLS = ("twisted[tls]", "trustme")


def installed(*requirements: str) -> Iterator[Distribution]:
    """The distributions that are meant, and all that they require."""
    wanted, seen = [Requirement(requirement) for requirement in requirements], set()
    while wanted:
        current = wanted.pop()
        found = distribution(current.name)
        key = (found.name, frozenset(current.extras))
        if key in seen:
            continue
        seen.add(key)
        yield found
        for text in found.requires or ():
            needed = Requirement(text)
            extras = ("", *current.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with what ``pip install`` of `INSTALLS` installs."""
    files = {
        str(file): Path(str(found.locate_file(file)))
        for found in installed(*INSTALLS)
        for file in found.files or ()
        if ".." not in file.parts
    }
    return python_of(tmp_path_factory.mktemp("reader") / ".venv", files)


@pytest.fixture
def shell(tmp_path: Path, reader: Path) -> Iterator[Shell]:
    """A shell in which a test runs programs of the tutorial, and is their client."""
    with opened(tmp_path, reader) as shell:
        yield shell
