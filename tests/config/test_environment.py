"""Endpoints in environment variables, beside a file and without one, and what is said of bad ones."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from suite.cli import main
from suite.config import file as config
from suite.config.environment import Environment, Variable, read_variables
from suite.errors import ConfigError, Mistakes
from suite.server.plan import Plan
from tests.helpers import write_config
from tests.running import RunningSuite, echo, wait_until

#: What Kubernetes sets in the pods beside a Service that is called echo-suite (`kubectl exec … env`).
OF_A_SERVICE = {
    "ECHO_SUITE_SERVICE_HOST": "10.0.0.7",
    "ECHO_SUITE_SERVICE_PORT": "1234",
    "ECHO_SUITE_SERVICE_PORT_TCP": "1234",
    "ECHO_SUITE_PORT": "tcp://10.0.0.7:1234",
    "ECHO_SUITE_PORT_1234_TCP": "tcp://10.0.0.7:1234",
    "ECHO_SUITE_PORT_1234_TCP_PROTO": "tcp",
    "ECHO_SUITE_PORT_1234_TCP_PORT": "1234",
    "ECHO_SUITE_PORT_1234_TCP_ADDR": "10.0.0.7",
}


def read(directory: Path, text: str | None, environ: Mapping[str, str]) -> config.Config:
    """What the file *text* and *environ* say; without a file if *text* is None."""
    file = directory / "config.toml" if text is None else write_config(directory, text)
    mistakes = Mistakes()
    found = config.read(file, mistakes, Environment(read_variables(environ), needs_file=text is not None))
    mistakes.raise_any()
    return found


def test_a_variable_declares_an_endpoint_and_no_file_is_needed(tmp_path: Path) -> None:
    found = read(tmp_path, None, {"ECHO_SUITE_TCP": "tcp:1234", "ECHO_SUITE_MY_UDP": "udp:7", "HOME": "/"})
    assert [(endpoint.name, endpoint.listen) for endpoint in found.endpoints] == [
        ("my-udp", "udp:7"),
        ("tcp", "tcp:1234"),
    ]
    assert not found.has_file
    assert found.source == "environment"
    assert found.directory == tmp_path


@pytest.mark.parametrize("text", ["", "[endpoints]\n", 'drain = "5s"\n'])
def test_a_file_may_leave_endpoints_to_variables(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text, {"ECHO_SUITE_TCP": "tcp:1234"})
    assert [endpoint.name for endpoint in found.endpoints] == ["tcp"]
    assert found.has_file


def test_where_the_file_has_the_endpoint_its_other_settings_hold(tmp_path: Path) -> None:
    text = '[endpoints]\na = "tcp:1"\n[endpoints.My_tcp]\nlisten = "tcp:2"\nanswer = "discard"'
    first, second = read(tmp_path, text, {"ECHO_SUITE_MY_TCP": "tcp:3:interface=0.0.0.0"}).endpoints
    assert (first.name, first.listen, first.variable) == ("a", "tcp:1", "")
    assert (second.name, second.listen, second.answer) == ("My_tcp", "tcp:3:interface=0.0.0.0", "discard")
    assert second.variable == "ECHO_SUITE_MY_TCP"


def test_an_endpoint_of_a_variable_inherits_limits_and_tls(tmp_path: Path) -> None:
    text = '[limits]\nconnections = 7\n[tls]\nminimum = "1.3"'
    (endpoint,) = read(tmp_path, text, {"ECHO_SUITE_TLS": "ssl:4433"}).endpoints
    assert endpoint.limits.connections == 7
    assert endpoint.tls.minimum == "1.3"


def test_an_empty_variable_is_not_set() -> None:
    """As a compose file leaves it: ``ECHO_SUITE_TCP: ${ECHO_SUITE_TCP:-}``."""
    assert not read_variables({"ECHO_SUITE_TCP": "", "ECHO_SUITE_CONFIG": "a.toml"})


def test_what_kubernetes_sets_for_a_service_of_that_name_is_passed_over() -> None:
    variables = read_variables({**OF_A_SERVICE, "ECHO_SUITE_TCP": "tcp:1"})
    assert [variable.variable for variable in variables] == ["ECHO_SUITE_TCP"]
    of_another = {name.replace("SUITE_", "SUITE_UDP_", 1): value for name, value in OF_A_SERVICE.items()}
    assert not read_variables(of_another)


def test_without_such_a_service_port_is_the_name_of_an_endpoint() -> None:
    assert read_variables({"ECHO_SUITE_PORT": "tcp:1"}) == (Variable("ECHO_SUITE_PORT", "port", "tcp:1"),)


@pytest.mark.parametrize(
    ("environ", "text", "said"),
    [
        (
            {"ECHO_SUITE_TCP": "tcp:12x"},
            None,
            "ECHO_SUITE_TCP: port '12x' is not a number; expected 0 to 65535",
        ),
        (
            {"ECHO_SUITE_TCP": "tcp:12x"},
            '[endpoints]\ntcp = "tcp:0"',
            "ECHO_SUITE_TCP: port '12x' is not a number; expected 0 to 65535",
        ),
        (
            {"ECHO_SUITE_TCP": "tcp://localhost:1234"},
            None,
            "ECHO_SUITE_TCP: 'tcp://localhost:1234' is a URL; did you mean tcp:1234?",
        ),
        (
            {"ECHO_SUITE_SIX": "tcp6:1234:interface=::1"},
            None,
            "ECHO_SUITE_SIX: '::1' has colons, which separate parameters here; write them as \\:, such as"
            " interface=\\:\\:1",
        ),
        (
            {"ECHO_SUITE_TLS": "ssl:0:privateKey=no.key"},
            None,
            "ECHO_SUITE_TLS: no.key: no such file",
        ),
        (
            {"ECHO_SUITE_TLS": "ssl:0:sslmethod=TLSv1_2_METHOD"},
            '[tls]\nminimum = "1.3"',
            "ECHO_SUITE_TLS: sslmethod allows TLS 1.2 only; expected at least 1.3, the minimum",
        ),
        (
            {"ECHO_SUITE_TLS": "ssl:0"},
            None,
            "ECHO_SUITE_TLS: server.pem: no such file, and no privateKey is given; expected ssl:0:",
        ),
        (
            {"ECHO_SUITE_A": "tcp:1", "ECHO_SUITE_a": "tcp:2"},
            None,
            "ECHO_SUITE_a: names the endpoint a, as ECHO_SUITE_A does; expected one of the two",
        ),
        (
            {"ECHO_SUITE_WORKERS": "2"},
            None,
            "ECHO_SUITE_WORKERS: '2' is not an endpoint description, which a variable of this kind has; did"
            " you mean --workers 2?",
        ),
        (
            {"ECHO_SUITE_": "tcp:1"},
            None,
            "ECHO_SUITE_: cannot name an endpoint; expected 1 to 64 letters, digits or '_' after ECHO_SUITE_",
        ),
        (
            {"ECHO_SUITE_A_B": "tcp:1"},
            '[endpoints]\na_b = "tcp:1"\na-b = "tcp:2"',
            "ECHO_SUITE_A_B: the file has a_b and a-b, and both could be meant; expected other names there",
        ),
        (
            {"ECHO_SUITE_B": "tcp:1234"},
            '[endpoints]\na = "tcp:1234"',
            "ECHO_SUITE_B: 127.0.0.1:1234 is taken by endpoints.a; expected an address of its own",
        ),
    ],
)
def test_a_bad_variable_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    text: str | None,
    said: str,
) -> None:
    """In one line, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    if text is not None:
        write_config(tmp_path, text)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["check"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_check_shows_what_the_environment_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHO_SUITE_TCP", "tcp:1234:interface=0.0.0.0")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == (
        "tcp          TCP   0.0.0.0:1234\nenvironment: 1 endpoint, no errors\n"
    )


def test_the_environment_says_which_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless ``--config`` does; an empty variable says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("config", "other", "third"):
        write_config(tmp_path, f'[endpoints]\n{name} = "tcp:1"', f"{name}.toml")
    monkeypatch.setenv("ECHO_SUITE_CONFIG", "other.toml")
    assert main(["check"]) == 0
    assert main(["check", "--config", "third.toml"]) == 0
    monkeypatch.setenv("ECHO_SUITE_CONFIG", "")
    assert main(["check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[::2]] == ["other", "third", "config"]


@pytest.mark.parametrize("named", [["--config", "none.toml"], []])
def test_a_file_that_somebody_has_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHO_SUITE_TCP", "tcp:1")
    if not named:
        monkeypatch.setenv("ECHO_SUITE_CONFIG", "none.toml")
    assert main(["check", *named]) == 2
    assert capsys.readouterr().err.startswith("none.toml: no such file; ")


def test_a_file_that_was_there_must_be_there_at_a_reload(tmp_path: Path) -> None:
    """Otherwise all its endpoints would be gone; one that comes later is read."""
    environment = Environment(read_variables({"ECHO_SUITE_UDP": "udp:0"}), needs_file=False)
    file = tmp_path / "config.toml"
    plan = Plan(file, mint=True, environment=environment)
    assert len(plan.read_again().descriptions) == 1
    write_config(tmp_path, '[endpoints]\ntcp = "tcp:0"')
    plan = plan.read_again()
    assert [description.endpoint.name for description in plan.descriptions] == ["tcp", "udp"]
    assert len(plan.renewed().read_again().descriptions) == 2
    file.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        plan.read_again()


def hello(suite: RunningSuite) -> bytes:
    with suite.connect("from-outside") as sock:
        return echo(sock, b"hola mundo...", lambda: sock.shutdown(socket.SHUT_WR))


def test_a_running_suite_keeps_its_variables_at_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("ECHO_SUITE_FROM_OUTSIDE", "tcp:0")
        suite = RunningSuite(tmp_path, '[endpoints]\ntcp = "tcp:0"')
    try:
        assert hello(suite) == b"hola mundo..."
        (tmp_path / "config.toml").write_text("")
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("0 added, 1 removed" in line for line in suite.errors), "it has reloaded")
        assert hello(suite) == b"hola mundo..."
    finally:
        assert suite.stop() == 0
    assert not suite.complaints()
