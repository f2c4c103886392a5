"""What make says, and does, about the Python that it is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.running import PATIENCE, client_program, make


def prepare(directory: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Have make see to the environment in *directory*."""
    shutil.copy(ROOT / "Makefile", directory)
    return make(directory, f"PYTHON={python}", ".venv/python")


def pretend(directory: Path, script: str) -> str:
    """A program in *directory* that stands in for a Python: a shell *script*."""
    path = directory / "pretended-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac',
            " is Python 3.9.2; install",
        ),
        (
            f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"',
            " has no venv or ensurepip; install them (Debian: apt-get install python3-venv)",
        ),
    ],
    ids=["too old", "without venv"],
)
def test_a_python_that_will_not_do_is_one_line(tmp_path: Path, script: str, said: str) -> None:
    result = prepare(tmp_path, pretend(tmp_path, script))
    assert result.returncode == 2
    first, last = result.stderr.splitlines()  # the last is make's own
    assert said in first
    assert last.startswith("make: ")
    assert not (tmp_path / ".venv").exists()


def test_no_python_at_all(tmp_path: Path) -> None:
    result = prepare(tmp_path, "/nowhere/python3")
    assert result.stderr.startswith("/nowhere/python3 is missing; install Python 3.11 or later")


def test_an_environment_of_another_python_is_made_anew(tmp_path: Path) -> None:
    leftover = tmp_path / ".venv/lib/leftover"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    (tmp_path / ".venv/python").write_text("/usr 3.10.2 (main) [GCC 9]\n")
    assert prepare(tmp_path, sys.executable).returncode == 0
    assert not leftover.exists()
    leftover.touch()
    assert prepare(tmp_path, sys.executable).returncode == 0
    assert leftover.exists(), "this Python has made it: it stays"
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / ".venv").rename(moved / ".venv")
    assert prepare(moved, sys.executable).returncode == 0
    assert not (moved / ".venv/lib/leftover").exists(), "its scripts have the path that it had"


def test_an_environment_of_somebody_else_is_left_alone() -> None:
    """`make` by root, and later by a user, with another Python."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / ".venv").mkdir(mode=0o555)
        python = pretend(directory, "true")
        shutil.copy(ROOT / "Makefile", directory)
        user = [client_program("setpriv"), "--reuid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
        result = subprocess.run(
            [*user, client_program("make"), "--silent", f"PYTHON={python}", ".venv/python"],
            cwd=directory,
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 2
        said, _ = result.stderr.splitlines()  # the last is make's own
        assert said.startswith(".venv cannot be written by ")
        assert "; remove it, or name another: make VENV=.venv-" in said
        assert os.listdir(directory / ".venv") == []
