"""`suite.server.service` in memory: the plan, opening and closing, and output for people."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import twisted.internet
from twisted.application import reactors
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from suite import certs
from suite.echo import EchoDatagram, EchoFactory
from suite.endpoints import parser
from suite.endpoints.descriptions import Description
from suite.errors import EXIT_OK, ConfigError, ListenError, MistakesError, UsageError
from suite.logs.log import Log, Settings
from suite.server import announce, process, switching
from suite.server.plan import Plan
from suite.server.service import EchoSuite
from tests.helpers import FakePort, SuiteReactor, config_of, described, write_config

HERE = Path("/srv/echo")

FOUR = """
[endpoints]
tcp  = "tcp:1234"
udp  = "udp:1234"
tls  = "ssl:4433:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:run/echo.sock"
"""

IN_USE = CannotListenError("127.0.0.1", 1234, OSError(98, "Address already in use"))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the test's directory, so that paths are shown relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clients(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients that are offered to try the suite with are installed."""
    programs = directory / "bin"
    programs.mkdir()
    for name in ("nc", "openssl", "socat"):
        (programs / name).touch(0o755)
    monkeypatch.setenv("PATH", str(programs))


def plan(text: str, *, mint: bool = False) -> Plan:
    return Plan(write_config(Path(), text), mint=mint)


class Started:
    """An `EchoSuite` that has been started on *reactor*.

    :ivar said: the lines that it has announced.
    :ivar results: the result of `EchoSuite.opened`, once it has fired.
    """

    def __init__(self, reactor: Any, plan: Plan) -> None:
        self.said: list[str] = []
        self.results: list[object] = []
        self.suite = EchoSuite(reactor, plan, self.said.append)
        self.suite.startService()
        self.suite.opened.addBoth(self.results.append)

    @property
    def error(self) -> object:
        """The error with which opening failed."""
        (result,) = self.results
        assert isinstance(result, Failure)
        return result.value


# The plan.


def test_a_plan_says_what_serving_would_do_and_does_nothing() -> None:
    assert plan(FOUR).lines() == [
        "tcp          TCP   127.0.0.1:1234",
        "udp          UDP   127.0.0.1:1234",
        "tls          TLS   127.0.0.1:4433",
        "unix         UNIX  run/echo.sock",
        "serving will make development certificates in certs",
        "config.toml: 4 endpoints, no errors",
    ]
    assert os.listdir() == ["config.toml"]


def test_a_plan_of_one_endpoint_speaks_of_one() -> None:
    assert plan('[endpoints]\na = "tcp:0"').lines()[-1] == "config.toml: 1 endpoint, no errors"


def test_a_plan_with_certificates_reads_them() -> None:
    certs.mint(Path("certs"))
    ready = plan(FOUR)
    assert ready.missing is None
    assert ready.minted == []
    assert not any("certificates" in line for line in ready.lines())
    assert [context is None for context in ready.contexts] == [True, True, False, True]


def test_a_plan_to_serve_makes_the_certificates_that_are_missing() -> None:
    ready = plan(FOUR, mint=True)
    assert sorted(path.name for path in ready.minted) == sorted(os.listdir("certs")) == sorted(certs.MINTED)
    assert [context is None for context in ready.contexts] == [True, True, False, True]
    assert plan(FOUR, mint=True).minted == []


def test_no_certificates_are_made_that_no_endpoint_needs() -> None:
    ready = plan('[endpoints]\na = "tcp:0"\n[tls]\nclient_ca = "certs/ca.pem"', mint=True)
    assert ready.minted == []
    assert os.listdir() == ["config.toml"]


def test_certificates_are_made_only_where_the_configuration_is() -> None:
    """Missing files elsewhere are the user's: perhaps a mistyped name."""
    with pytest.raises(MistakesError, match="no such file"):
        plan('[endpoints]\na = "ssl:0:keys/server.key:keys/server.pem"', mint=True)
    assert os.listdir() == ["config.toml"]


def test_a_client_ca_alone_is_made_too() -> None:
    text = FOUR.replace("certs/server", "own/server") + '[tls]\nclient_ca = "certs/ca.pem"'
    certs.mint(Path("own"))
    assert plan(text).missing == Path("certs").absolute()


@pytest.mark.parametrize("mint", [False, True])
def test_the_way_to_the_configuration_may_have_dots_in_it(directory: Path, mint: bool) -> None:
    (directory / "elsewhere").mkdir()
    write_config(directory, FOUR)
    ready = Plan(Path("elsewhere/../config.toml"), mint=mint)
    if mint:
        assert sorted(os.listdir("certs")) == sorted(certs.MINTED)
    else:
        assert "serving will make development certificates in certs" in ready.lines()


def test_certificates_that_are_still_to_be_made_hide_no_mistake_in_others() -> None:
    """A configuration without errors can be served."""
    with pytest.raises(
        MistakesError, match=r"keys/absent\.pem: no such file.*\n.*keys/absent\.key: no such file"
    ):
        plan(FOUR + 'own = "ssl:0:keys/absent.key:keys/absent.pem"')


def test_nothing_is_made_for_a_configuration_with_a_mistake_in_it() -> None:
    with pytest.raises(ConfigError):
        plan(FOUR + 'wrong = "tcp:port"', mint=True)
    assert os.listdir() == ["config.toml"]


def test_a_path_with_control_characters_is_shown_on_one_line() -> None:
    """Control characters in a configuration are escaped."""
    lines = plan('[endpoints]\na = "unix:two\\nlines\\u001b[2J.sock"').lines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


# Output for people.


@pytest.mark.parametrize(
    ("listen", "line"),
    [
        ("tcp:1234", "e0           TCP   somewhere"),
        ("ssl:1234", "e0           TLS   somewhere"),
        ("udp6:1234", "e0           UDP   somewhere"),
        ("unix:a", "e0           UNIX  somewhere"),
        ("fd:3", "e0           fd    somewhere"),
        ("haproxy:tcp:1234", "e0           TCP   somewhere (behind a PROXY header)"),
    ],
)
def test_a_line_for_each_endpoint(listen: str, line: str) -> None:
    assert announce.listening_line(described(HERE, listen), "somewhere") == line


def port_at(address: object) -> Any:
    """A port with *address* as its host."""
    return SimpleNamespace(getHost=lambda: address)


@pytest.mark.parametrize(
    ("listen", "host", "shown"),
    [
        ("tcp:0", IPv4Address("TCP", "127.0.0.1", 50001), "127.0.0.1:50001"),
        ("tcp6:0", IPv6Address("TCP", "::1", 50001), "[::1]:50001"),
        ("tcp:0:interface=", IPv4Address("TCP", "0.0.0.0", 50001), "0.0.0.0:50001"),
        ("unix:/run/e.sock", UNIXAddress(b"/run/e.sock"), "/run/e.sock"),
        ("unix:/run/e.sock", UNIXAddress(b"/run/\xff.sock"), "/run/\\udcff.sock"),
        ("unix:\0echo", UNIXAddress(b"\0echo"), "@echo"),
        ("unix:/run/e.sock", UNIXAddress(None), "/run/e.sock"),
        ("fd:3", None, "fd:fileno=3"),
    ],
)
def test_an_endpoint_is_where_its_port_says(listen: str, host: object, shown: str) -> None:
    assert announce.bound_address(described(HERE, listen), port_at(host)) == shown


@pytest.mark.parametrize(
    ("listen", "host", "command"),
    [
        ("tcp:0", IPv4Address("TCP", "127.0.0.1", 5), "nc -N 127.0.0.1 5"),
        ("tcp:0:interface=", IPv4Address("TCP", "0.0.0.0", 5), "nc -N 127.0.0.1 5"),
        ("tcp:0", IPv4Address("TCP", "192.0.2.1", 5), "nc -N 192.0.2.1 5"),
        ("tcp6:0", IPv6Address("TCP", "::1", 5), "nc -N ::1 5"),
        ("tcp6:0", IPv6Address("TCP", "::", 5), "nc -N ::1 5"),
        ("udp:0", IPv4Address("UDP", "127.0.0.1", 5), "nc -u -W 1 127.0.0.1 5"),
        ("udp:0:interface=", IPv4Address("UDP", "0.0.0.0", 5), "nc -u -W 1 127.0.0.1 5"),
        ("udp6:0", IPv6Address("UDP", "::", 5), "nc -u -W 1 ::1 5"),
        ("unix:e", UNIXAddress(b"/run/e.sock"), "nc -NU /run/e.sock"),
        ("unix:e", UNIXAddress(b"/run/my echo's.sock"), "nc -NU " + shlex.quote("/run/my echo's.sock")),
        ("unix:\0e", UNIXAddress(b"\0my echo"), "socat - ABSTRACT-CONNECT:'my echo'"),
        ("systemd:UNIX:0", UNIXAddress(b"/run/e.sock"), "nc -NU /run/e.sock"),
        (
            "ssl:0",
            IPv4Address("TCP", "127.0.0.1", 5),
            "openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:5",
        ),
        (
            "ssl:0",
            IPv4Address("TCP", "0.0.0.0", 5),
            "openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:5",
        ),
        ("ssl:0", IPv6Address("TCP", "::", 5), "openssl s_client -quiet -no_ign_eof -connect [::1]:5"),
    ],
)
def test_a_command_to_try_an_endpoint_with(listen: str, host: object, command: str, clients: None) -> None:
    """It reaches the port from this machine, even if the port listens on every address."""
    said = announce.try_command(described(HERE, listen), port_at(host))
    assert said.endswith(f" | {command}")
    assert "echo 'hola mundo...'" in said


@pytest.mark.parametrize(
    ("listen", "host", "command"),
    [
        ("tcp:0", IPv4Address("TCP", "127.0.0.1", 5), "connect tcp:127.0.0.1:5"),
        ("tcp:0:interface=", IPv4Address("TCP", "0.0.0.0", 5), "connect tcp:127.0.0.1:5"),
        ("udp6:0", IPv6Address("UDP", "::", 5), "connect 'udp:[::1]:5'"),
        ("unix:e", UNIXAddress(b"/run/e.sock"), "connect unix:/run/e.sock"),
        ("unix:e", UNIXAddress(b"/run/a:b.sock"), r"connect 'unix:/run/a\:b.sock'"),
        ("unix:\0e", UNIXAddress(b"\0my echo"), "connect 'unix:@my echo'"),
        ("ssl:0", IPv4Address("TCP", "127.0.0.1", 5), "connect tls:127.0.0.1:5"),
    ],
)
def test_the_suites_own_client_is_offered_where_no_other_is_installed(
    listen: str, host: object, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["/srv/suite/__main__.py"])
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-m", "suite"])
    said = announce.try_command(described(HERE, listen), port_at(host))
    assert said == f"echo 'hola mundo...' | .venv/bin/python -m suite {command}"


def test_the_suites_own_client_trusts_the_ca_beside_the_certificate_too(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    certs.mint(directory / "pki")
    description = described(directory, "ssl:0:pki/server.key:pki/server.pem")
    said = announce.try_command(description, port_at(IPv4Address("TCP", "127.0.0.1", 5)))
    assert said.endswith(" connect tls:127.0.0.1:5 --ca pki/ca.pem")


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/echo-suite"], "/usr/bin/echo-suite"),
        (["echo-suite"], "echo-suite"),
        (["/srv/suite/__main__.py"], "python3.99 -m suite"),
        (["/usr/bin/twist"], f"{shlex.quote(sys.executable)} -m suite"),
    ],
)
def test_the_suite_is_called_as_it_was_started(
    argv: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["python3.99", "-m", "suite"])
    assert announce.suite_command() == command


def test_the_command_for_tls_trusts_the_ca_beside_the_certificate(directory: Path, clients: None) -> None:
    (directory / "my certs").mkdir()
    description = described(directory, "ssl:0:my certs/server.key:my certs/server.pem")
    host = port_at(IPv4Address("TCP", "127.0.0.1", 5))
    assert "-CAfile" not in announce.try_command(description, host)
    (directory / "my certs" / "ca.pem").touch()
    assert announce.try_command(description, host).endswith(" 127.0.0.1:5 -CAfile 'my certs/ca.pem'")


def with_port(listen: str) -> tuple[Description, Any]:
    """A description, and a port that identifies it."""
    description = described(HERE, listen)
    if description.transport == "UNIX":
        return description, port_at(UNIXAddress(b"/run/e.sock"))
    number = {"TCP": 1, "TLS": 2, "UDP": 3}.get(description.transport, 4)
    return description, port_at(IPv4Address("UDP" if number == 3 else "TCP", "127.0.0.1", number))


@pytest.mark.parametrize(
    ("listens", "ending"),
    [
        (["udp:1", "ssl:2", "unix:a", "tcp:3"], "nc -N 127.0.0.1 1"),
        (["udp:1", "ssl:2", "unix:a"], "nc -NU /run/e.sock"),
        (["udp:1", "ssl:2"], "s_client -quiet -no_ign_eof -connect 127.0.0.1:2"),
        (["udp:1"], "nc -u -W 1 127.0.0.1 3"),
        (["haproxy:tcp:1", "udp:2"], "nc -u -W 1 127.0.0.1 3"),
    ],
)
def test_the_last_line_has_a_command_for_the_simplest_endpoint(
    monkeypatch: pytest.MonkeyPatch, listens: list[str], ending: str
) -> None:
    """Not one behind a PROXY header, where netcat would be refused."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    line = announce.ready_line([with_port(listen) for listen in listens])
    assert line.startswith("ready; try: ")
    assert line.endswith(ending)


@pytest.mark.parametrize("listens", [["haproxy:tcp:1"], ["fd:3"], []])
def test_without_an_endpoint_to_try_the_last_line_is_short(listens: list[str]) -> None:
    assert announce.ready_line([with_port(listen) for listen in listens]) == "ready"


def test_minted_files_are_named() -> None:
    line = announce.minted_line([Path("certs/ca.pem"), Path("certs/ca.key")])
    assert line == "made development certificates: certs/ca.pem certs/ca.key"


# Opening and closing.


def test_everything_is_opened_and_announced_in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    reactor = SuiteReactor()
    started = Started(reactor, plan(FOUR, mint=True))
    assert started.results == [None]
    assert len(reactor.open) == 4
    assert [port for endpoint in started.suite.endpoints.values() for port in endpoint.ports] == reactor.open
    assert started.suite.running
    minted, *lines, ready = started.said
    assert minted.startswith("made development certificates: certs/ca.pem certs/ca.key ")
    assert [line.split()[:2] for line in lines] == [
        ["tcp", "TCP"],
        ["udp", "UDP"],
        ["tls", "TLS"],
        ["unix", "UNIX"],
    ]
    assert ready == "ready; try: echo 'hola mundo...' | nc -N 127.0.0.1 1234"


def test_every_stream_has_a_factory_that_echoes_under_guard_and_tls_its_context() -> None:
    reactor = SuiteReactor()
    ready = plan(FOUR, mint=True)
    Started(reactor, ready)
    factories: list[Any] = [reactor.tcpServers[0][1], reactor.sslServers[0][1], reactor.unixServers[0][1]]
    assert all(isinstance(factory, EchoFactory) for factory in factories)
    assert [factory.guard.name for factory in factories] == ["tcp", "tls", "unix"]
    assert [factory.guard.handshakes for factory in factories] == [False, True, False]
    assert reactor.sslServers[0][2].getContext() is ready.contexts[2]


def test_no_udp_endpoint_answers_another_of_ours() -> None:
    reactor = SuiteReactor()
    Started(reactor, plan('[endpoints]\na = "udp:5001"\nb = "udp:5002"'))
    one, other = (protocol for _, protocol, _ in reactor.udpServers)
    for protocol in (one, other):
        assert isinstance(protocol, EchoDatagram)
        for port in (5001, 5002):
            assert not protocol.policy.admit(("127.0.0.1", port))
        assert protocol.policy.admit(("127.0.0.1", 5003))


def test_the_bound_port_is_announced_and_not_the_0_that_was_asked_for() -> None:
    started = Started(SuiteReactor(), plan('[endpoints]\na = "udp:0"'))
    assert started.said[0] == "a            UDP   127.0.0.1:50001"


def test_nothing_is_said_of_certificates_that_were_there() -> None:
    certs.mint(Path("certs"))
    started = Started(SuiteReactor(), plan(FOUR, mint=True))
    assert started.said[0].startswith("tcp ")


def test_stopping_closes_every_port() -> None:
    reactor = SuiteReactor()
    started = Started(reactor, plan(FOUR, mint=True))
    stopped: list[object] = []
    started.suite.stopService().addBoth(stopped.append)
    assert stopped == [None]
    assert reactor.open == []
    assert not started.suite.running


def test_stopping_waits_until_every_port_is_closed() -> None:
    reactor = SuiteReactor()
    started = Started(reactor, plan('[endpoints]\na = "tcp:1"\nb = "tcp:2"'))
    closing: list[Deferred[None]] = [Deferred(), Deferred()]
    for port, deferred in zip(reactor.open, closing, strict=True):
        port.stopListening = lambda deferred=deferred: deferred
    stopped: list[object] = []
    started.suite.stopService().addBoth(stopped.append)
    closing[1].callback(None)
    assert stopped == []
    closing[0].callback(None)
    assert stopped == [None]


def test_stopping_twice_closes_once() -> None:
    reactor = SuiteReactor()
    started = Started(reactor, plan('[endpoints]\na = "tcp:1"'))
    stopped: list[object] = []
    for _ in range(2):
        started.suite.stopService().addBoth(stopped.append)
    assert stopped == [None, None]


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("listenTCP", "endpoints.tcp: cannot listen on 127.0.0.1:1234: Address already in use"),
        ("listenUDP", "endpoints.udp: cannot listen on 127.0.0.1:1234: Address already in use"),
        ("listenSSL", "endpoints.tls: cannot listen on 127.0.0.1:4433: Address already in use"),
        ("listenUNIX", "endpoints.unix: cannot listen on run/echo.sock: Address already in use"),
    ],
)
def test_all_endpoints_open_or_none_does(refused: str, said: str) -> None:
    """Endpoints already open are closed again, and nothing is announced."""
    reactor = SuiteReactor()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise IN_USE

    setattr(reactor, refused, refuse)
    started = Started(reactor, plan(FOUR, mint=True))
    assert isinstance(started.error, ListenError)
    assert str(started.error) == said
    assert started.error.reason == "Address already in use"
    assert reactor.open == []
    assert started.suite.endpoints == {}
    assert started.said == []
    assert not started.suite.running


def test_the_opening_fails_only_when_everything_is_closed_again() -> None:
    reactor = SuiteReactor()
    closed: Deferred[None] = Deferred()
    opened = reactor.listenTCP

    def once(port: int, *args: Any, **kwargs: Any) -> Any:
        if reactor.open:
            raise IN_USE
        result = opened(port, *args, **kwargs)
        result.stopListening = lambda: closed
        return result

    setattr(reactor, "listenTCP", once)  # noqa: B010  # a method, says mypy
    started = Started(reactor, plan('[endpoints]\na = "tcp:1"\nb = "tcp:2"'))
    assert started.results == []
    closed.callback(None)
    assert isinstance(started.error, ListenError)
    assert started.error.endpoint == "b"


def test_an_endpoint_whose_directory_cannot_be_made_opens_nothing() -> None:
    reactor = SuiteReactor()
    started = Started(reactor, plan('[endpoints]\na = "tcp:1"\nb = "unix:no/such/e.sock"'))
    assert isinstance(started.error, ListenError)
    assert started.error.endpoint == "b"
    assert reactor.open == []


class Slow:
    """A plugin's endpoint that opens slowly.

    :ivar listening: fires when the port is open.
    """

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, _factory: object) -> Deferred[Any]:
        return self.listening


def test_a_port_that_opens_when_all_is_over_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr("suite.endpoints.listener.serverFromString", lambda *_args: slow)
    started = Started(SuiteReactor(), plan('[endpoints]\na = "tcp:1"'))
    assert started.results == []
    started.suite.stopService()
    closed: list[str] = []
    port: Any = FakePort("TCP", "127.0.0.1", 1)
    port.stopListening = lambda: closed.append("closed")
    slow.listening.callback(port)
    assert closed == ["closed"]
    assert started.said == []


# What stopping may meet.


def test_a_port_that_has_died_ends_neither_the_drain_nor_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is asked of it raises; the other three are closed all the same, and stopping has an end."""

    def fail(*_: object) -> None:
        raise ValueError("filedescriptor cannot be a negative integer (-1)")

    reactor = SuiteReactor()
    started = Started(reactor, plan(FOUR, mint=True))
    failures: list[LogEvent] = []
    monkeypatch.setattr(switching.log, "failure", lambda form, **fields: failures.append(fields))
    for name, method in (("tcp", "stopListening"), ("udp", "getHost")):
        monkeypatch.setattr(started.suite.endpoints[name].ports[0], method, fail)
    monkeypatch.setattr(started.suite.endpoints["tls"], "drain", fail)
    monkeypatch.setattr(started.suite.endpoints["unix"], "summary", fail)
    stopped: list[object] = []
    started.suite.stopService().addBoth(stopped.append)
    assert stopped == [None]
    assert [(event["endpoint"], event["done"]) for event in failures] == [
        ("tcp", "closed"),
        ("tls", "drained"),
        ("udp", "closed"),
        ("unix", "summed up"),
    ]
    assert len(reactor.open) == 2, "the two that could not be closed"


def drain_times(started: Started, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long an endpoint is given for its drain, from now on."""
    seconds: list[float] = []

    def drain(given: float) -> Deferred[None]:
        seconds.append(given)
        return succeed(None)

    monkeypatch.setattr(started.suite.endpoints["tcp"], "drain", drain)
    return seconds


@pytest.mark.parametrize(("waited", "left"), [(0, 8), (5, 3), (20, 0)])
def test_a_drain_is_counted_from_the_signal(monkeypatch: pytest.MonkeyPatch, waited: int, left: int) -> None:
    """A reload that is still at work takes of its time, which whoever has sent the signal is counting."""
    reactor = SuiteReactor()
    started = Started(reactor, plan(FOUR, mint=True))
    seconds = drain_times(started, monkeypatch)
    at_work: Deferred[None] = Deferred()
    started.suite._lock.run(lambda: at_work)
    started.suite.stopService()
    reactor.advance(waited)
    assert seconds == []
    at_work.callback(None)
    assert seconds == [left]


def test_forced_before_it_could_stop_it_drains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started(SuiteReactor(), plan(FOUR, mint=True))
    seconds = drain_times(started, monkeypatch)
    started.suite.force()
    started.suite.stopService()
    assert seconds == [0]


# The process.


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """Record signal handlers instead of setting them, and keep logging from starting."""
    seen: list[tuple[object, object]] = []

    def start_log(_reactor: object, settings: Settings) -> Log:
        seen.append(("logging", settings))
        return Log()

    monkeypatch.setattr(signal, "signal", lambda *args: seen.append(args))
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *args: None)
    monkeypatch.setattr(process, "start_log", start_log)
    monkeypatch.setattr(process, "fit_descriptor_limit", lambda _reactor: None)
    return seen


def test_running_ends_with_0(signals: list[tuple[object, object]]) -> None:
    reactor = SuiteReactor()
    said: list[str] = []
    settings = Settings("text", "warn")
    assert process.run(reactor, plan(FOUR, mint=True), said.append, settings) == EXIT_OK
    assert reactor.hasRun
    assert len(reactor.open) == 4
    assert said[-1].startswith("ready")
    assert ("logging", settings) in signals
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        *ours, last = [how for what, how in signals if what == number]
        assert len(ours) == 2, "before the reactor has set its own, and after"
        assert all(callable(how) for how in ours)
        assert last == signal.SIG_IGN


def test_the_end_of_the_reactor_closes_every_port(signals: list[tuple[object, object]]) -> None:
    reactor = SuiteReactor()
    process.run(reactor, plan(FOUR, mint=True), lambda _: None)
    ((stop, args, kwargs),) = reactor.triggers["before"]["shutdown"]
    stop(*args, **kwargs)
    assert reactor.open == []


def test_an_endpoint_that_cannot_be_opened_ends_the_run(signals: list[tuple[object, object]]) -> None:
    class Refusing(SuiteReactor):
        stops = 0

        def listenUDP(self, *_args: object, **_kwargs: object) -> Any:
            raise IN_USE

        def stop(self) -> None:
            self.stops += 1
            super().stop()

    reactor = Refusing()
    with pytest.raises(ListenError, match=r"endpoints\.udp: cannot listen on 127\.0\.0\.1:1234"):
        process.run(reactor, plan(FOUR, mint=True), lambda _: None)
    assert reactor.open == []
    assert reactor.stops == 2, "once by us, once by the memory reactor itself"


# Reactors.


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> SuiteReactor:
    """The installed reactor."""
    reactor = SuiteReactor()
    monkeypatch.setattr(twisted.internet, "reactor", reactor, raising=False)
    return reactor


@pytest.mark.skipif(sys.platform != "linux", reason="the engine needs epoll")
@pytest.mark.parametrize("name", [None, "echo-engine"])
def test_on_linux_the_engine_is_taken_without_a_name(
    reactor: SuiteReactor, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    installed: list[str] = []
    monkeypatch.setattr("suite.engine.reactor.install", lambda: installed.append("engine"))
    monkeypatch.setattr(reactors, "installReactor", None)
    assert process.install_reactor(name) is reactor
    assert installed == ["engine"]


def test_elsewhere_twisteds_own_choice_is_taken_without_a_name(
    reactor: SuiteReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(reactors, "installReactor", None)
    assert process.install_reactor(None) is reactor


def test_a_reactor_is_installed_by_its_name(reactor: SuiteReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(reactors, "installReactor", installed.append)
    assert process.install_reactor("poll") is reactor
    assert installed == ["poll"]


def test_an_unknown_reactor_is_a_wrong_command_line() -> None:
    with pytest.raises(UsageError, match="'epol': no such reactor; did you mean epoll"):
        process.install_reactor("epol")


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'gi'"), OSError(38, "Function not implemented")], ids=repr
)
def test_a_reactor_that_does_not_work_here_is_a_wrong_command_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(reactors, "installReactor", fail)
    with pytest.raises(UsageError) as caught:
        process.install_reactor("gtk3")
    assert str(caught.value) == f"--reactor 'gtk3': does not work here: {error}"


def test_a_plan_made_in_memory_is_as_good_as_one_from_a_file(directory: Path) -> None:
    """`config_of`, which the tests use, is what `load` makes of the same words."""
    from suite.config import file as config

    path = write_config(directory, '[endpoints]\ne0 = "tcp:1"\ne1 = "unix:a"')
    assert parser.parse(config.load(path)) == parser.parse(config_of(directory, "tcp:1", "unix:a"))
