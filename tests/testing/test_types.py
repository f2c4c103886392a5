"""The types of `suite.testing` and of its fixtures; `make check` type-checks this file, too."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import pytest

from suite.testing import (
    Address,
    Configuration,
    Connection,
    Counts,
    CrashError,
    MakeEchoSuite,
    RunningSuite,
    StartError,
    StillOpenError,
)
from tests.running import PATIENCE


def test_what_a_suite_gives(echo_suite: RunningSuite) -> None:
    assert_type(echo_suite.tcp, tuple[str, int])
    assert_type(echo_suite.udp, tuple[str, int])
    assert_type(echo_suite.tls, tuple[str, int])
    assert_type(echo_suite.unix, str)
    assert_type(echo_suite["tcp"], tuple[str, int] | str)
    assert_type(echo_suite.addresses, Mapping[str, Address])
    assert_type(echo_suite.ca, Path)
    assert_type(echo_suite.client_cert, tuple[Path, Path])
    assert_type(echo_suite.ssl_context, ssl.SSLContext)
    assert_type(echo_suite.client_context, ssl.SSLContext)
    assert_type(echo_suite.received("tcp"), bytes)
    assert_type(echo_suite.datagrams("udp"), list[bytes])
    assert_type(echo_suite.connections("tcp"), Counts)
    assert_type(echo_suite.connections("tcp").opened, int)
    assert_type(echo_suite.open_connections(), list[Connection])
    assert_type(echo_suite.wait_for("tcp", opened=0), Counts)
    assert_type(echo_suite.log, str)
    with echo_suite.connect("tcp") as sock:
        assert_type(sock, socket.socket)
    echo_suite.check()


def test_what_suites_are_made_of(make_echo_suite: MakeEchoSuite, tmp_path: Path) -> None:
    file = tmp_path / "echo.toml"
    file.write_text('[endpoints]\ntcp = "tcp:0"')
    configurations: list[Configuration] = [
        None,
        file,
        file.read_text(),
        {"endpoints": {"tcp": "tcp:0", "other": {"listen": "tcp:0"}}},
    ]
    for configuration in configurations:
        assert_type(make_echo_suite(configuration, patience=1), RunningSuite)
    with RunningSuite(file) as suite:
        assert_type(suite, RunningSuite)


def test_what_errors_carry() -> None:
    assert_type(StartError("why", 2).exit_code, int | None)
    assert_type(CrashError("what", "its log").log, str)
    assert_type(StillOpenError([]).connections, tuple[Connection, ...])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo_suite.tcp.split()", '"tuple[str, int]" has no attribute "split"'),
        ("echo_suite.received()", 'Missing positional argument "endpoint"'),
        ("echo_suite.wait_for('tcp', bytes=1)", 'Unexpected keyword argument "bytes"'),
        ("RunningSuite(5)", 'has incompatible type "int"'),
        ("echo_suite.nonsense", 'has no attribute "nonsense"'),
    ],
)
def test_a_users_mistake_is_found_by_mypy(mypy_cache: Path, tmp_path: Path, line: str, said: str) -> None:
    """This also shows that the installed package is marked as typed (PEP 561)."""
    (tmp_path / "test_users.py").write_text(
        "from suite.testing import RunningSuite\n\n\n"
        f"def test_it(echo_suite: RunningSuite) -> None:\n    {line}\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", mypy_cache, "test_users.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPY_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert said in result.stdout
    assert result.stdout.endswith("Found 1 error in 1 file (checked 1 source file)\n")


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")
