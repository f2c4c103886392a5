"""Asking an admin interface: what is an answer, and what is not."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from suite.client.admin.address import Address, Place
from suite.client.admin.interface import Interface, RefusedError
from suite.client.admin.unreachable import UnreachableError
from suite.errors import UsageError
from tests.client.admin.canned import canned, http

STRANGER = "it does not answer as an admin interface does; expected that of a running suite"

PROBLEM = "application/problem+json"


def error_of(place: Place, timeout: float = 60.0) -> UnreachableError:
    """What comes of asking at *place*."""
    with Interface(place, timeout=timeout) as interface, pytest.raises(UnreachableError) as raised:
        interface.ask("/api/v1/status")
    return raised.value


def test_an_answer(tmp_path: Path) -> None:
    with canned(tmp_path, http('{"a": [1]}')) as (place, server), Interface(place) as interface:
        assert interface.ask("/api/v1/faults", "POST", {"faults": ["stall"]}) == {"a": [1]}
    (asked,) = server.asked
    assert asked.startswith(b"POST /api/v1/faults HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Content-Type: application/json\r\n" in asked
    assert b"Authorization" not in asked


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("400 Bad Request", 2),
        ("401 Unauthorized", 2),
        ("404 Not Found", 2),
        ("409 Conflict", 1),
        ("429 Too Many Requests", 1),
        ("500 Internal Server Error", 1),
        ("503 Service Unavailable", 1),
    ],
)
def test_a_refusal_is_in_the_words_of_the_suite(tmp_path: Path, status: str, code: int) -> None:
    body = json.dumps({"detail": "no\nsuch \x1b[31mthing", "errors": ["one", "two\x00", 3]})
    with (
        canned(tmp_path, http(body, status, PROBLEM)) as (place, _),
        Interface(place) as interface,
        pytest.raises(RefusedError) as raised,
    ):
        interface.ask("/")
    assert raised.value.status == int(status[:3])
    assert raised.value.exit_code == code
    assert str(raised.value).splitlines() == [r"no\nsuch \x1b[31mthing", "one", r"two\x00"]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff\r\n\r\n",
        http("<html>", kind="text/html"),
        http("{", kind="application/json"),
        http("[" * 100_000),
        http('"x"', "404 Not Found", PROBLEM),
        http('{"detail": 7}', "404 Not Found", PROBLEM),
        http("not found", "404 Not Found", "text/html"),
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=["ssh", "binary", "html", "half", "deep", "text", "number", "other", "headers", "chunks"],
)
def test_somebody_else_answers(tmp_path: Path, answer: bytes) -> None:
    with canned(tmp_path, answer) as (place, _):
        error = error_of(place)
    assert error.exit_code == 1
    assert error.problem in (STRANGER, CUT_OFF)


CUT_OFF = "the connection was closed without an answer; perhaps the suite has ended, or is too busy"


@pytest.mark.parametrize(
    "answer",
    [b"", http("{}")[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"],
    ids=["no", "cut", "few"],
)
def test_an_answer_that_is_cut_off(tmp_path: Path, answer: bytes) -> None:
    with canned(tmp_path, answer) as (place, _):
        assert error_of(place).problem == CUT_OFF


def test_a_server_that_is_silent_has_its_time(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        error = error_of(Place((Address(path=path),)), 0.05)
    assert error.problem == "no answer within 0.05 s"


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        (tmp_path / "file").write_text("")
        nobody = (
            "no suite is listening there; expected one that has been started, or reloaded, with this admin"
        )
        for address, problem in (
            (Address(host="127.0.0.1", port=port), f"127.0.0.1:{port}: {nobody}"),
            (Address(path="none.sock"), f"none.sock: {nobody}"),
            (
                Address(path="./file"),
                "file: is not a socket; expected the admin interface of a running suite",
            ),
            (Address(path="x" * 200), f"{'x' * 200}: too long for a UNIX socket"),
            (Address(host="x" * 80, port=1), f"{'x' * 80}:1: is not the name of a host"),
        ):
            assert str(error_of(Place((address,)))).startswith(problem)


def test_who_may_not_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, who runs some tests, is never refused: the refusal is the kernel's, and made up here."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "admin.sock"
    with canned(tmp_path) as (place, _):
        path.chmod(0o600)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        with Interface(place) as interface, pytest.raises(UnreachableError) as raised:
            interface.ask("/")
    assert (
        raised.value.problem
        == f"permission denied; expected user {os.geteuid()}, or what its mode 600 permits"
    )


def test_the_next_address_is_asked_and_stays(tmp_path: Path) -> None:
    """Who may not use the UNIX socket may read over TCP; what is said is about the preferred one."""
    none = Address(path=str(tmp_path / "none.sock"))
    with (
        canned(tmp_path, http("{}"), http("{}")) as (place, server),
        Interface(Place((none, *place.addresses))) as interface,
    ):
        for _ in range(2):
            assert interface.ask("/") == {}
            assert interface.address == place.addresses[0]
            interface.close()
    assert len(server.asked) == 2
    assert error_of(Place((none, Address(path=str(tmp_path / "other.sock"))))).path == none.path


# Tokens.

UNAUTHORIZED = http('{"detail": "a change over TCP takes the token"}', "401 Unauthorized", PROBLEM)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    return tmp_path / "token"


class Forwarded(Interface):
    """An interface whose UNIX socket passes for a TCP address, so that it is shown tokens."""

    @property
    def address(self) -> Address:
        return Address(host="127.0.0.1", port=9901)


def test_a_token_that_is_named_is_sent_over_tcp_alone(tmp_path: Path, token_file: Path) -> None:
    with canned(tmp_path, http("{}"), http("{}")) as (place, server):
        for kind in (Forwarded, Interface):
            with kind(place, token_file) as interface:
                interface.ask("/")
    assert [b"Authorization: Bearer 0123456789abcdef\r\n" in asked for asked in server.asked] == [True, False]


def test_a_token_of_the_configuration_is_sent_when_it_is_asked_for(tmp_path: Path, token_file: Path) -> None:
    with canned(tmp_path, UNAUTHORIZED, http("{}"), UNAUTHORIZED) as (place, server):
        configured = Place(place.addresses, token_file)
        with Forwarded(configured) as interface:
            assert interface.ask("/") == {}
        with Forwarded(place) as interface, pytest.raises(RefusedError, match="takes the token"):
            interface.ask("/")
    assert [b"Bearer" in asked for asked in server.asked] == [False, True, False]


def test_a_token_that_cannot_be_read_is_missed_only_where_it_is_needed(tmp_path: Path) -> None:
    with canned(tmp_path, http("{}"), UNAUTHORIZED) as (place, _):
        configured = Place(place.addresses, tmp_path / "none")
        with Forwarded(configured) as interface:
            assert interface.ask("/") == {}
            interface.close()
            with pytest.raises(UsageError, match="none: cannot be read: No such file or directory"):
                interface.ask("/")
