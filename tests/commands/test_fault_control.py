"""``faults list|add|remove|clear``: a running suite asked from the command line."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.client.admin.unreachable import UnreachableError
from suite.commands import fault_control
from tests.running import RunningSuite, run_suite, running

CONFIG = """
control = "unix:run/control.sock"

[endpoints]
clean = "tcp:0"
other = "unix:other.sock"

[endpoints.flaky]
listen = "tcp:0"
seed = 7
faults = [{ latency = "200ms", jitter = "50ms" }]

[endpoints.asked]
listen = "tcp:0"
faults = "requested"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), CONFIG) as suite:
        yield suite


def said(suite: RunningSuite, *words: str) -> list[str]:
    """What ``faults`` prints, which must be all."""
    result = run_suite(suite.directory, "faults", *words)
    assert result.returncode == 0
    return result.stdout.splitlines()


def test_from_the_first_to_the_last(suite: RunningSuite) -> None:
    """Ids are those of one suite, in order."""
    assert said(suite, "list") == [
        "endpoint  seed  id  fault",
        "flaky        7   1  latency=200ms jitter=50ms",
        "asked: what its clients request",
    ]
    assert said(suite, "list", "clean") == ["clean: no faults"]
    assert said(suite, "add", "flaky", "slice=1", "reset", "after=64kib", "chance=0.1", "seed=12") == [
        "endpoint  seed  id  fault",
        "flaky       12   1  latency=200ms jitter=50ms",
        "flaky       12   2  slice=1B",
        "flaky       12   3  reset chance=0.1 after=64KiB",
    ]
    assert said(suite, "remove", "flaky", "1", "3") == [
        "endpoint  seed  id  fault",
        "flaky       12   2  slice=1B",
    ]
    assert said(suite, "add", "other", "refuse")[1:] == ["other        0   4  refuse"]
    assert said(suite, "clear", "flaky") == ["flaky: no faults"]
    (line,) = said(suite, "list", "other", "--json")
    assert json.loads(line) == {
        "ok": True,
        "endpoints": {
            "other": {
                "transport": "UNIX",
                "requested": False,
                "seed": 0,
                "faults": [{"id": 4, "fault": "refuse"}],
            }
        },
    }
    assert said(suite, "clear") == ["asked: what its clients request"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["list", "flakey"], 2, "endpoint: 'flakey' is not an endpoint; did you mean flaky?"),
        (["add", "clean", "latncy=1s"], 2, "latncy: is not a fault; did you mean latency?"),
        (["add", "clean", "loss=0.1"], 2, "loss: does not go with TCP; only UDP has it"),
        (["remove", "clean", "9"], 2, "ids: 9 is not a fault of clean; it has none"),
        (["remove", "clean", "x"], 2, "'x' is not the id of a fault; expected a number from `faults list`"),
        (["list", "--control", "none.sock"], 1, "none.sock: no suite is listening there; expected one that"),
        (
            ["list", "--control", "config.toml"],
            1,
            "config.toml: is not a socket; expected the control socket",
        ),
        (["list", "--control", "unix:other.sock"], 1, "other.sock: it does not answer as a control socket"),
        (["list", "--control", "x" * 200], 1, "xxxx"),
        (["list", "--config", "none.toml"], 2, "none.toml: no such file"),
    ],
)
def test_what_goes_wrong_is_one_line(suite: RunningSuite, words: list[str], code: int, error: str) -> None:
    result = run_suite(suite.directory, "faults", *words, says=rf"{re.escape(error)}[^\n]*\n")
    assert (result.returncode, result.stdout) == (code, "")


def test_json_has_the_error_as_well(suite: RunningSuite) -> None:
    result = run_suite(suite.directory, "faults", "list", "x", "--json", says=r"endpoint: [^\n]*\n")
    assert json.loads(result.stdout)["kind"] == "request"
    assert result.returncode == 2


def test_without_a_control_socket_the_way_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"\n')
    says = r'config\.toml: control: missing; expected .*control = "unix:run/control\.sock" at the top.*\n'
    assert run_suite(tmp_path, "faults", "list", says=says).returncode == 2


def test_a_configuration_with_a_mistake_elsewhere_will_do(suite: RunningSuite) -> None:
    (suite.directory / "wrong.toml").write_text(CONFIG.replace("tcp:0", "tpc:0").replace("seed", "sed"))
    assert said(suite, "list", "clean", "--config", "wrong.toml") == ["clean: no faults"]


def test_a_control_socket_that_cannot_be_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('control = "tcp:1"\n[endpoints]\ntcp = "tcp:0"\n')
    says = r"config\.toml: control: 'tcp:1' is not a UNIX socket; [^\n]*\n"
    assert run_suite(tmp_path, "faults", "list", says=says).returncode == 2


def test_too_many_clients_are_a_failure_that_may_pass(suite: RunningSuite) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(16)]
    for client in clients:
        client.connect(str(suite.directory / "run/control.sock"))
    try:
        says = r"there are too many connections to the control socket; [^\n]*\n"
        assert run_suite(suite.directory, "faults", "list", says=says).returncode == 1
    finally:
        for client in clients:
            client.close()


def test_another_user_is_told_whose_it_is(suite: RunningSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, who runs some tests, is never refused: the refusal is the kernel's, and made up here."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    path = str(suite.directory / "run/control.sock")
    with pytest.raises(UnreachableError) as raised:
        fault_control.ask(path, {"do": "list"})
    assert raised.value.exit_code == 1
    owner = os.geteuid()
    assert raised.value.problem == f"permission denied; expected user {owner}, or what its mode 600 permits"
    with pytest.raises(UnreachableError, match="expected to be run by a user who can enter"):
        fault_control.ask("none.sock", {"do": "list"})
