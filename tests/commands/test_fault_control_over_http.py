"""``faults list|add|remove|clear`` over the admin interface: the same output, and the same exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningSuite, run_suite, running

ENDPOINTS = """
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

ADMIN = '[admin]\nlisten = ["tcp:0", "unix:run/admin.sock"]\ntoken_file = "token"\n'

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("suite")
    (directory / "token").write_text(TOKEN)
    (directory / "token").chmod(0o600)
    (directory / "wrong").write_text(TOKEN[::-1])
    with running(directory, ADMIN + ENDPOINTS) as suite:
        yield suite


def said(suite: RunningSuite, *words: str) -> list[str]:
    """What ``faults`` prints, which must be all."""
    result = run_suite(suite.directory, "faults", *words)
    assert result.returncode == 0
    return result.stdout.splitlines()


def test_from_the_first_to_the_last(suite: RunningSuite) -> None:
    """As `test_fault_control` has it of the control socket."""
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
                "requested": False,
                "replayed": False,
                "seed": 0,
                "faults": [{"id": 4, "fault": "refuse"}],
            }
        },
    }
    assert said(suite, "clear") == ["asked: what its clients request"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["list", "flakey"], 2, "'flakey' is not an endpoint; did you mean flaky?"),
        (["list", "../.."], 2, "'../..' is not an endpoint"),
        (["add", "clean", "latncy=1s"], 2, "latncy: is not a fault; did you mean latency?"),
        (["add", "clean", "loss=0.1"], 2, "loss: does not go with TCP; only UDP has it"),
        (["remove", "clean", "9"], 2, "ids: 9 is not a fault of clean; it has none"),
        (["remove", "clean", "x"], 2, "'x' is not the id of a fault; expected a number from `faults list`"),
        (["list", "--admin", "unix:none.sock"], 1, "none.sock: no suite is listening there; expected one"),
        (["list", "--admin", "unix:other.sock"], 1, "other.sock: it does not answer as an admin interface"),
        (["list", "--admin", "x"], 2, "--admin 'x' is not an admin interface; expected"),
        (["list", "--admin", "unix:a", "--control", "b"], 2, "--control does not go with --admin; expected"),
        (["list", "--control", "none.sock"], 1, "none.sock: no suite is listening there; expected one that"),
    ],
)
def test_what_goes_wrong_is_one_line(suite: RunningSuite, words: list[str], code: int, error: str) -> None:
    result = run_suite(suite.directory, "faults", *words, says=rf"{re.escape(error)}[^\n]*\n")
    assert (result.returncode, result.stdout) == (code, "")


def test_of_several_ids_all_go_or_none(suite: RunningSuite) -> None:
    ids = [line.split()[2] for line in said(suite, "add", "clean", "stall", "slice=7")[1:]]
    says = rf"ids: 999 is not a fault of clean; expected {ids[0]} or {ids[1]}\n"
    assert run_suite(suite.directory, "faults", "remove", "clean", *ids, "999", says=says).returncode == 2
    assert len(said(suite, "list", "clean")) == 3
    assert said(suite, "remove", "clean", *ids, ids[0]) == ["clean: no faults"]


def test_json_has_the_error_as_well(suite: RunningSuite) -> None:
    says = r"'x' is not an endpoint; expected [^\n]*\n"
    result = run_suite(suite.directory, "faults", "list", "x", "--json", says=says)
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["kind"]) == (False, "request")
    assert answer["error"].startswith("'x' is not an endpoint")
    assert result.returncode == 2


def test_over_tcp_it_takes_the_token(suite: RunningSuite) -> None:
    """That of the configuration goes to its own addresses; elsewhere it has to be named."""
    port = suite.admin[0][1]
    over_tcp = ["--admin", f"tcp:localhost:{port}"]
    assert said(suite, "list", "clean", *over_tcp) == ["clean: no faults"]
    says = r"a change over TCP takes the token in admin\.token_file; expected Authorization: Bearer\n"
    refused = run_suite(suite.directory, "faults", "clear", *over_tcp, says=says)
    assert refused.returncode == 2
    says = r"the token is not the one in admin\.token_file\n"
    wrong = run_suite(suite.directory, "faults", "clear", *over_tcp, "--token-file", "wrong", says=says)
    assert wrong.returncode == 2
    assert said(suite, "clear", "clean", *over_tcp, "--token-file", "token") == ["clean: no faults"]
    (suite.directory / "tcp.toml").write_text(
        f'[admin]\nlisten = "tcp:{port}"\ntoken_file = "token"\n{ENDPOINTS}'
    )
    assert said(suite, "clear", "clean", "--config", "tcp.toml") == ["clean: no faults"]


def test_a_suite_with_both_is_asked_over_its_control_socket(tmp_path: Path) -> None:
    config = f'control = "unix:run/control.sock"\n[admin]\nlisten = "unix:run/admin.sock"\n{ENDPOINTS}'
    with running(tmp_path, config) as suite:
        (line,) = said(suite, "list", "flaky", "--json")
        assert "transport" in json.loads(line)["endpoints"]["flaky"], "which the API has elsewhere"
        (line,) = said(suite, "list", "flaky", "--json", "--admin", "unix:run/admin.sock")
        assert "transport" not in json.loads(line)["endpoints"]["flaky"]
