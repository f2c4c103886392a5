"""``probe --report``: what is shown of a report, and what is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.dial.failures import TargetError
from suite.client.probe.fetch import EXPECTED, MOST, parse_report
from suite.client.probe.shown import DEEPEST, UNKNOWN, WIDTH, lines_of
from tests.client.probe.probing import PATIENT
from tests.running import PATIENCE, run_suite

REPORT = {
    "endpoint": "tls",
    "peer": {"host": "127.0.0.1", "port": 5},
    "local": {"path": None},
    "rtt": 2.2e-05,
    "tls": {
        "resumed": False,
        "client_certificate": None,
        "client_hello": {
            "suites": [{"id": "0x1a1a", "grease": True}, {"id": "0x1301", "name": "TLS_AES_128_GCM_SHA256"}],
            "extensions": [
                {"id": "0x0000", "name": "server_name", "length": 14},
                {"id": "0xca34", "length": 2},
            ],
            "psk_modes": [],
        },
    },
}

LINES = [
    "  endpoint  tls",
    "  peer      127.0.0.1:5",
    f"  local     {UNKNOWN}",
    "  rtt       0.000022",
    "  tls",
    "    resumed             no",
    f"    client certificate  {UNKNOWN}",
    "    client hello",
    "      suites      GREASE (0x1a1a), TLS_AES_128_GCM_SHA256",
    "      extensions  server_name [14], 0xca34 [2]",
    "      psk modes   none",
]


def test_a_report_for_people() -> None:
    assert lines_of(REPORT) == LINES


def test_long_lists_are_wrapped() -> None:
    lines = lines_of({"suites": [{"id": "0x1301", "name": "TLS_AES_128_GCM_SHA256"}] * 20})
    assert len(lines) == 7
    assert all(len(line) <= WIDTH for line in lines)
    assert {line.index("TLS") for line in lines} == {len("  suites  ")}


def test_lines_end_between_entries_only() -> None:
    shares = [{"id": "0x0033", "name": "key_share", "length": 1258}] * 20
    first, *_ = lines = lines_of({"shares": shares, "ja3": "7-" * 100})
    assert first.endswith("key_share [1258],")
    assert lines[-1] == f"  ja3     {'7-' * 100}"


def test_lists_of_members() -> None:
    assert lines_of({"tlvs": [{"type": 1, "value": "h2"}, {"type": 2, "value": None}]}) == [
        "  tlvs",
        "    type   1",
        "    value  h2",
        "  tlvs",
        "    type   2",
        f"    value  {UNKNOWN}",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_anything_can_be_shown(report: dict[str, Any]) -> None:
    lines = lines_of(report)
    assert all(line.isprintable() for line in lines)
    assert len(lines) >= len(report)


@pytest.mark.parametrize("inner", ["[", '{"a":'])
def test_depth_is_bounded(inner: str) -> None:
    depth = 200
    close = "]" if inner == "[" else "}"
    text = '{"deep":' + inner * depth + "1" + close * depth + "}"
    assert len(lines_of(parse_report(text.encode()))) <= DEEPEST + 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "closed: end of stream without a report"),
        (b"HTTP/1.1 400 Bad Request\r\n", r"mismatch: 'HTTP/1.1 400 Bad Request\r\n' is not a report"),
        (b"[1]", "mismatch: '[1]' is not a report"),
        (b"\xff" * 100, "… is not a report"),
        (b"[" * 100_000, "… is not a report"),
        (b'{"a": 1', "is not a report"),
    ],
)
def test_what_is_no_report(data: bytes, says: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_report(data)
    assert says in str(caught.value)
    assert str(caught.value).endswith(EXPECTED)


# A process, and servers that share no code with it.


@contextmanager
def answering(answer: Callable[[socket.socket], object], kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    """The port of a server that answers one client."""
    with socket.socket(type=kind) as listening:
        listening.settimeout(PATIENCE)
        listening.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            listening.listen()

        def serve() -> None:
            if kind == socket.SOCK_DGRAM:
                answer(listening)
                return
            connection, _ = listening.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(PATIENCE)


def test_a_report_over_tcp(tmp_path: Path) -> None:
    with answering(lambda sock: sock.sendall(json.dumps(REPORT).encode())) as port:
        result = run_suite(tmp_path, "probe", "--report", *PATIENT, f"tcp:127.0.0.1:{port}")
    assert result.stdout.splitlines() == [f"report of tcp:127.0.0.1:{port}", *LINES]
    assert result.returncode == 0


def test_a_report_over_udp_and_none(tmp_path: Path) -> None:
    """One datagram asks, as long as the answer may be; the exit code tells of the other target."""
    sizes = []

    def answer(sock: socket.socket) -> None:
        question, source = sock.recvfrom(65536)
        sizes.append(len(question))
        sock.sendto(b'{"endpoint": "udp"}', source)

    with answering(answer, socket.SOCK_DGRAM) as port, answering(lambda sock: sock.sendall(b"x")) as other:
        targets = f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{other}"
        result = run_suite(tmp_path, "probe", "--report", "--json", *PATIENT, *targets)
    assert sizes == [1400]
    assert result.returncode == 1
    document = json.loads(result.stdout)
    first, second = document["targets"]
    assert (document["ok"], document["interrupted"]) == (False, False)
    assert first == {"target": targets[0], "report": {"endpoint": "udp"}, "failure": None}
    assert (second["report"], second["failure"]["word"]) == (None, "mismatch")


def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    def pour(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(bytes(65536))
        except OSError:
            pass

    with answering(pour) as port:
        result = run_suite(tmp_path, "probe", "--report", *PATIENT, f"tcp:127.0.0.1:{port}")
    assert result.returncode == 1
    assert f"more than {MOST:,} bytes" in result.stdout


@pytest.mark.parametrize(
    "option", [("--size", "9"), ("--deadline", "9s"), ("--handshake",), ("--min-days", "9")]
)
def test_what_does_not_go_with_it(tmp_path: Path, option: tuple[str, ...]) -> None:
    result = run_suite(tmp_path, "probe", "--report", "tls:127.0.0.1:1", *option, says=r"[^\n]*\n")
    assert result.returncode == 2
