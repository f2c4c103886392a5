"""The wheel and the sdist, and a fresh environment in which the wheel is installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, once
from tests.running import PATIENCE, cannot_run

#: Installing takes as long as the network does.
INSTALLING = 300


def run(*command: str | Path, cwd: Path, timeout: float = PATIENCE) -> str:
    """What *command* prints; it must succeed, and have nothing to say on standard error."""
    result = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def build(kind: str, source: Path, directory: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` of what is in *source*, as pip does."""
    code = f"import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"
    name = run(sys.executable, "-c", code, directory, cwd=source).splitlines()[-1]
    return directory / name


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist: what is missing there is missing here."""
    directory = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xf", sdist, cwd=directory)  # Python 3.11.2 has no safe way, later ones no other
    (source,) = directory.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def requirements_of_pytest(directory: Path) -> Path:
    """What of the developers' requirements pytest needs, with its hashes."""
    dev = (ROOT / "requirements/dev.txt").read_text()
    names = "iniconfig|packaging|pluggy|pygments|pytest"
    blocks = re.findall(rf"^(?:{names})==[^\n]*\n(?:[ ]+[^\n]*\n)*", dev, re.MULTILINE)
    path = directory / "pytest.txt"
    path.write_text("".join(blocks))
    return path


def install(environment: Path, wheel: Path) -> None:
    """Make an *environment* with nothing in it but the wheel, what it needs, and pytest.

    Our pip installs them: its own would take as long to install as everything else.
    """
    venv = (sys.executable, "-m", "venv", "--without-pip", str(environment))
    subprocess.run(venv, check=True, timeout=INSTALLING)
    ours = environment / "wheel.txt"
    ours.write_text(f"{wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    # Most of it is never imported, so that compiling all of it would take longer than all else.
    options = ("--quiet", "--no-compile", "--disable-pip-version-check", "--require-hashes")
    command = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", *options]
    for file in (ROOT / "requirements/run.txt", requirements_of_pytest(environment), ours):
        command += ["-r", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING, check=False)
    if result.returncode:
        cannot_run(f"pip cannot install here: {result.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def bin_directory(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its programs; made once, whichever of several pytest-xdist workers comes first."""
    environment = once(tmp_path_factory, "wheel-environment", lambda path: install(path, wheel))
    return environment / "bin"
