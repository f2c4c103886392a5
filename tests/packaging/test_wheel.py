"""The wheel and the sdist, installed into a fresh environment and used from an empty directory."""

from __future__ import annotations

import re
import signal
import tarfile
import zipfile
from pathlib import Path

import pytest

from suite import __version__
from tests.helpers import ROOT
from tests.packaging.conftest import INSTALLING, run
from tests.running import RunningSuite, echo, wait_until

TCP = '[endpoints]\ntcp = "tcp:0"'

pytestmark = pytest.mark.timeout(3 * INSTALLING)


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """The package, all of it, and the plugin where Twisted looks for it."""
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/echo_suite.py"]
    assert {name.partition("/")[0] for name in names} == {
        "pytest_echo_suite.py",
        "suite",
        "twisted",
        f"echo_suite-{__version__}.dist-info",
    }
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "suite").rglob("*.py")}
    # What is put elsewhere is nothing that anybody imports.
    assert modules - set(names) == {"suite/dropin.py"}
    assert "suite/py.typed" in names
    static = {str(path.relative_to(ROOT)) for path in (ROOT / "suite/admin/page/static").iterdir()}
    assert static
    assert static <= set(names)


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
