"""Parsing TARGET arguments."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument

from suite.client.dial.target import Target, parse_target, targets_of_config
from suite.endpoints.descriptions import MAX_UNIX_PATH
from suite.errors import ConfigError, UsageError
from tests.helpers import write_config


@pytest.mark.parametrize(
    ("text", "transport", "host", "port", "path"),
    [
        ("tcp:localhost:1234", "tcp", "localhost", 1234, ""),
        ("tls:192.0.2.1:443", "tls", "192.0.2.1", 443, ""),
        ("udp:example.org:7", "udp", "example.org", 7, ""),
        ("TCP:localhost:1", "tcp", "localhost", 1, ""),
        ("tcp:port=1234:host=localhost", "tcp", "localhost", 1234, ""),
        ("tcp:localhost:port=65535", "tcp", "localhost", 65535, ""),
        (r"tcp:host=\:\:1:port=1234", "tcp", "::1", 1234, ""),
        (r"tcp:\:\:1:1234", "tcp", "::1", 1234, ""),
        ("tcp:[::1]:1234", "tcp", "::1", 1234, ""),
        ("tls:host=[2001:db8::1]:port=1", "tls", "2001:db8::1", 1, ""),
        ("udp:[fe80::1%eth0]:7", "udp", "fe80::1%eth0", 7, ""),
        ("unix:/run/echo.sock", "unix", "", 0, "/run/echo.sock"),
        ("unix:path=run/echo.sock", "unix", "", 0, "run/echo.sock"),
        (r"unix:a\:b", "unix", "", 0, "a:b"),
        ("unix:@echo", "unix", "", 0, "\0echo"),
        ("unix:./@echo", "unix", "", 0, "./@echo"),
        ("tcp:bücher.example:80", "tcp", "bücher.example", 80, ""),
    ],
)
def test_a_target_is_a_twisted_client_description(
    text: str, transport: str, host: str, port: int, path: str
) -> None:
    target = parse_target(text)
    assert (target.transport, target.host, target.port, target.path) == (transport, host, port, path)
    assert target.text == text


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        ("", "expected tcp:HOST:PORT"),
        ("localhost:1234", "'localhost' is not a kind of target; did you mean tcp:localhost:1"),
        ("ssl:localhost:1", "'ssl' is not a kind of target; did you mean tls:localhost:1?"),
        ("ssl:[::1]:1", "'ssl' is not a kind of target; did you mean tls:[::1]:1?"),
        ("1234", "'1234' is not a kind of target; did you mean tcp:localhost:1234? expected tcp:HOST"),
        ("tpc:localhost:1", "'tpc' is not a kind of target; did you mean tcp:localhost:1?"),
        ("tcp6:localhost:1", "did you mean tcp:localhost:1?"),
        ("tcp://localhost:1234", "is a URL; did you mean tcp:localhost:1234?"),
        ("https://localhost:4433/path", "is a URL; did you mean tls:localhost:4433?"),
        ("tls://[::1]:4433", "is a URL; did you mean tls:[::1]:4433?"),
        ("http://localhost", "is a URL; did you mean tcp:localhost:PORT?"),
        ("unix:///run/echo.sock", "is a URL; did you mean unix:/run/echo.sock?"),
        ("tcp:localhost:http", "port 'http' is not a number; expected 1 to 65535"),
        ("tcp", "has no host; expected"),
        ("tcp:localhost", "has no port; expected"),
        ("tcp::1", "has no host; expected"),
        ("tcp:localhost:0", "port '0' is out of range; expected 1 to 65535"),
        ("tcp:localhost:65536", "port '65536' is out of range"),
        ("tcp:localhost:-1", "port '-1' is out of range"),
        ("tcp:localhost:\u0661", "port '\u0661' is not a number"),
        ("tcp:::1:1234", "an IPv6 address goes in brackets"),
        ("tcp:localhost:1:30", "'30' is one part too many"),
        ("tcp:localhost:1:timeout=30", "'timeout' is not a parameter of tcp:; expected host or port"),
        ("tcp:localhost:1:prot=2", "did you mean port?"),
        ("tcp:localhost:1:port=2", "port is given twice; expected it once"),
        ("tcp:local host:1", "host 'local host' is neither a name nor an address; expected"),
        ("tcp:http\\://localhost:1", "is neither a name nor an address; expected"),
        ("tcp:[]:1", "is neither a name nor an address; expected"),
        ("unix:", "has no path; expected"),
        ("unix:@", "cannot be used; expected the path"),
        ("unix:a\0b", "cannot be used; expected the path"),
        ("unix:" + "x" * (MAX_UNIX_PATH + 1), f"expected {MAX_UNIX_PATH} at the most"),
        ("unix:a:b", "'b' is one part too many"),
        ("tcp:é=1", "has a parameter whose name is not ASCII; expected"),
        ("tcp:localhost:1\\", "ends in the middle of an escape; expected"),
    ],
)
def test_what_is_no_target_is_named_with_what_was_expected(text: str, expectation: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    message = str(caught.value)
    assert expectation in message
    assert "\n" not in message


@given(st.text())
def test_any_text_is_a_target_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        assert parse_target(text).text == text


PATHS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=50)


@given(PATHS.filter(lambda path: not path.startswith("@")))
def test_any_path_can_be_quoted(path: str) -> None:
    assert parse_target(f"unix:path={quoteStringArgument(path)}").path == path


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("tcp:localhost:1", True),
        ("tcp:LOCALHOST.:1", True),
        ("tcp:127.9.9.9:1", True),
        ("tcp:[::1]:1", True),
        ("unix:x", True),
        ("tcp:192.0.2.1:1", False),
        ("tcp:localhost.example.org:1", False),
    ],
)
def test_loopback_is_told_from_elsewhere(text: str, *, loopback: bool) -> None:
    assert parse_target(text).loopback is loopback


CONFIG = """
[endpoints]
tcp = "tcp:1234:interface=0.0.0.0"
tcp6 = "tcp6:1235"
all6 = "tcp6:1236:interface=\\\\:\\\\:"
udp = "udp:1234"
tls = "ssl:4433:privateKey=nowhere.key"
directory = "tls:certs:port=4434"
unix = "unix:run/echo.sock"
abstract = "unix:\\u0000echo"
colon = "unix:run/a\\\\:b"
free = "tcp:0"
balanced = "haproxy:tcp:1237"
inherited = "systemd:domain=INET:index=0"
"""


def test_a_configuration_is_a_list_of_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates in it need not exist: they are the server's."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    targets = targets_of_config(write_config(tmp_path, CONFIG), said.append)
    assert targets == [
        Target("tcp:127.0.0.1:1234", "tcp", "127.0.0.1", 1234),
        Target("tcp:[::1]:1235", "tcp", "::1", 1235),
        Target("tcp:[::1]:1236", "tcp", "::1", 1236),
        Target("udp:127.0.0.1:1234", "udp", "127.0.0.1", 1234),
        Target("tls:127.0.0.1:4433", "tls", "127.0.0.1", 4433),
        Target("tls:127.0.0.1:4434", "tls", "127.0.0.1", 4434),
        Target("unix:run/echo.sock", "unix", path=str(tmp_path / "run/echo.sock")),
        Target("unix:@echo", "unix", path="\0echo"),
        Target(r"unix:run/a\:b", "unix", path=str(tmp_path / "run/a:b")),
        Target("tcp:127.0.0.1:1237", "tcp", "127.0.0.1", 1237, proxied=True),
    ]
    assert [line.partition(": ")[2] for line in said] == [
        "endpoints.free: port 0 is a different port each time; name the current one in a TARGET",
        "endpoints.inherited: systemd: does not say where it listens; name its address as a TARGET",
    ]


def test_what_it_calls_a_target_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for target in targets_of_config(write_config(tmp_path, CONFIG), lambda _: None):
        again = parse_target(target.text)
        assert (again.transport, again.host, again.port) == (target.transport, target.host, target.port)
        if target.path and not target.path.startswith("\0"):
            assert Path(again.path).absolute() == Path(target.path)


def test_a_configuration_without_targets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="none of its endpoints can be reached; expected at least one that can"
    ):
        targets_of_config(write_config(tmp_path, '[endpoints]\ntcp = "tcp:0"'), lambda _: None)
    with pytest.raises(ConfigError):
        targets_of_config(tmp_path / "nowhere.toml", lambda _: None)


def test_endpoints_with_another_answer_are_skipped(tmp_path: Path) -> None:
    file = write_config(tmp_path, '[endpoints]\ne = "tcp:7"\nd = { listen = "tcp:9", answer = "discard" }')
    said: list[str] = []
    (echoes,) = targets_of_config(file, said.append)
    assert (echoes.port, said) == (7, ["skipped: endpoints.d: its answer is discard, not echo"])
    (discards,) = targets_of_config(file, lambda _: None, "discard")
    assert discards.port == 9
    with pytest.raises(UsageError, match=r'can be reached; .*, with answer = "time"$'):
        targets_of_config(file, lambda _: None, "time")
