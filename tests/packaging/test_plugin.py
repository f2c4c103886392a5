"""The installed pytest plugin in projects that have something called ``suite`` themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.conftest import INSTALLING, run

pytestmark = pytest.mark.timeout(3 * INSTALLING)

#: A test of a project, which uses the fixtures beside its own ``suite``.
TEST = """
import sys
import pytest
{imports}

def test_it(echo_suite):
    {check}
    with echo_suite.connect("tls") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
    assert echo_suite.received("tls") == b"hola"

def test_errors_have_names(make_echo_suite):
    from pytest_echo_suite import StartError
    with pytest.raises(StartError, match="'tpc' is not an endpoint type"):
        make_echo_suite({{"endpoints": {{"tcp": "tpc:0"}}}})
    {check}
"""

OURS = TEST.format(imports="", check="assert 'suite.cli' not in sys.modules")

#: What is called ``suite`` in a project, and the project's files.
PROJECTS = {
    "a module": {
        "suite.py": "VALUE = 'theirs'",
        "conftest.py": "",
        "test_it.py": TEST.format(imports="import suite", check="assert suite.VALUE == 'theirs'"),
    },
    "a package": {
        "suite/__init__.py": "VALUE = 'theirs'",
        "suite/testing.py": "OTHER = 'theirs'",
        "conftest.py": "",
        "tests/__init__.py": "",
        "tests/test_it.py": TEST.format(
            imports="import suite.testing", check="assert suite.testing.OTHER == suite.VALUE"
        ),
    },
    "a namespace package": {
        "suite/errors.py": "VALUE = 'theirs'",
        "conftest.py": "",
        "test_it.py": TEST.format(imports="from suite.errors import VALUE", check="assert VALUE == 'theirs'"),
    },
    "tests in a package": {
        "suite/__init__.py": "VALUE = 'theirs'",
        "suite/conftest.py": "from suite import VALUE",
        "suite/test_it.py": OURS,
    },
    "tests in a directory": {"suite/test_it.py": OURS, "suite/conftest.py": ""},
    "a directory of data": {"suite/data.txt": "", "test_it.py": OURS},
}


#: Each kind in two modes; the first two, whose tests import what they call ``suite``, in all.
RUNS = [
    (number, kind, mode)
    for number, kind in enumerate(PROJECTS)
    for mode in (
        ("prepend", "append", "importlib") if number < 2 else (("prepend", "append")[number % 2], "importlib")
    )
]


@pytest.mark.parametrize(("number", "kind", "mode"), RUNS, ids=[f"{kind}-{mode}" for _, kind, mode in RUNS])
def test_every_import_mode(bin_directory: Path, tmp_path: Path, number: int, kind: str, mode: str) -> None:
    """With ``pytest`` and ``python -m pytest`` in turn."""
    for name, text in {"pytest.ini": "[pytest]", **PROJECTS[kind]}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    arguments = [f"--import-mode={mode}", "-W", "error", "-p", "no:cacheprovider", "-q"]
    # In this mode, pytest does not put the project on the path, and `python -m` does.
    module = mode == "importlib" or (number + len(mode)) % 2
    command = ["python", "-m", "pytest"] if module else ["pytest"]
    run(bin_directory / command[0], *command[1:], *arguments, cwd=tmp_path)
