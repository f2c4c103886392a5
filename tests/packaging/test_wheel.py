"""The wheel and the sdist, installed into a fresh environment and used from an empty directory."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from suite import __version__
from tests.helpers import ROOT
from tests.running import PATIENCE, RunningSuite, cannot_run, echo, wait_until

#: Installing takes as long as the network does.
INSTALLING = 300

TCP = '[endpoints]\ntcp = "tcp:0"'

pytestmark = pytest.mark.timeout(3 * INSTALLING)


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


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist: what is missing there is missing here."""
    directory = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xf", sdist, cwd=directory)  # Python 3.11.2 has no safe way, later ones no other
    (source,) = directory.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def pytest_requirements(directory: Path) -> Path:
    """What of the developers' requirements pytest needs, with its hashes."""
    dev = (ROOT / "requirements/dev.txt").read_text()
    names = "iniconfig|packaging|pluggy|pygments|pytest"
    blocks = re.findall(rf"^(?:{names})==[^\n]*\n(?:[ ]+[^\n]*\n)*", dev, re.MULTILINE)
    path = directory / "pytest.txt"
    path.write_text("".join(blocks))
    return path


def install(environment: Path, wheel: Path) -> None:
    """Make an *environment* with nothing in it but the wheel, what it needs, and pytest."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=INSTALLING)
    pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "-r", ROOT / "requirements/run.txt"],
        ["--require-hashes", "-r", pytest_requirements(environment)],
        ["--no-deps", "--no-index", wheel],
    ):
        command = [str(word) for word in [*pip, *arguments]]
        result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING, check=False)
        if result.returncode:
            cannot_run(f"pip cannot install here: {result.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def bin_directory(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its programs; made once, whichever of several pytest-xdist workers comes first."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    environment = root / "wheel-environment"
    done = root / "wheel-installed"
    with (root / "wheel-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            install(environment, wheel)
            done.touch()
    return environment / "bin"


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """The package, all of it, and the plugin where Twisted looks for it."""
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/echo_suite.py"]
    assert {name.partition("/")[0] for name in names} == {
        "suite",
        "twisted",
        f"echo_suite-{__version__}.dist-info",
    }
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "suite").rglob("*.py")}
    # What is put elsewhere is nothing that anybody imports.
    assert modules - set(names) == {"suite/dropin.py"}
    assert "suite/py.typed" in names


def test_what_is_in_the_sdist(sdist: Path) -> None:
    """Everything that is needed to build it and to run its tests, and no certificate."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "config.toml", "README.md", "pyproject.toml", "requirements/run.txt"} <= names
    assert "tests/packaging/test_wheel.py" in names
    assert not [name for name in names if re.search(r"\.(pem|key)$|\.venv|__pycache__", name)]


def test_the_command_line(bin_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TCP)
    for command in ([bin_directory / "echo-suite"], [bin_directory / "python", "-m", "suite"]):
        assert run(*command, "--version", cwd=tmp_path) == f"echo-suite {__version__}\n"
        assert run(*command, "check", cwd=tmp_path).endswith("1 endpoint, no errors\n")


@pytest.mark.parametrize(
    "words",
    [
        ["echo-suite"],
        ["python", "-m", "suite"],
        ["twist", "--log-format", "text", "echo-suite"],
        ["twist", "--reactor", "echo-engine", "--log-format", "text", "echo-suite"],
        ["twistd", "-n", "--pidfile=", "echo-suite"],
        ["twistd", "-n", "--pidfile=", "--reactor", "echo-engine", "echo-suite"],
    ],
    ids=" ".join,
)
def test_it_serves(bin_directory: Path, tmp_path: Path, words: list[str]) -> None:
    suite = RunningSuite(tmp_path, TCP, command=[str(bin_directory / words[0]), *words[1:]])
    try:
        with suite.connect("tcp") as sock:
            assert echo(sock, b"hola mundo...", lambda: sock.shutdown(1)) == b"hola mundo..."
    finally:
        code = suite.stop(signal.SIGTERM)
    assert code in ((0, -signal.SIGTERM) if words[0].startswith("twist") else (0,))
    assert not [line for line in suite.errors if "Traceback" in line]


def test_pytest_finds_the_fixtures(bin_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(echo_suite):\n"
        "    with echo_suite.connect('tls') as sock:\n"
        "        sock.sendall(b'hola')\n"
        "        assert sock.recv(4) == b'hola'\n"
    )
    said = run(bin_directory / "pytest", "-W", "error", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "1 passed" in said


def test_load_and_probe(bin_directory: Path, tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path, TCP, command=[str(bin_directory / "echo-suite")])
    try:
        target = "tcp:{}:{}".format(*suite.addresses["tcp"])
        wait_until(lambda: bool(suite.addresses), "it listens")
        assert "5 sent, 5 back" in run(bin_directory / "echo-suite", "probe", target, cwd=tmp_path)
        said = run(bin_directory / "echo-suite", "load", target, "--duration", "1s", "--json", cwd=tmp_path)
        assert '"errors": {}' in said
    finally:
        assert suite.stop() == 0
