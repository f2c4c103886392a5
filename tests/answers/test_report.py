"""Reports, as far as no other process is needed for them."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress

from suite.answers import ip_report, process_report
from suite.answers.host_report import host_report
from suite.answers.report import encoded, fitting, shown_address

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, None),
        (IPv6Address("TCP", "::1", 7), {"host": "::1", "port": 7}),
        (UNIXAddress(b"/run/x"), {"path": "/run/x"}),
        (UNIXAddress(b"\0abstract"), {"path": "@abstract"}),
        (UNIXAddress(b"/run/\xff"), {"path": "/run/\\xff"}),
        (UNIXAddress(None), {"path": None}),
    ],
)
def test_addresses(address: object, said: object) -> None:
    assert shown_address(address) == said  # type: ignore[arg-type]  # they are


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=40) | st.integers(), min_size=1, max_size=8),
    st.integers(0, 500),
)
def test_what_fits(members: dict[str, object], size: int) -> None:
    """As many members as possible, in their order; the others are named."""
    members.pop("left_out", None)
    if not members:
        return
    found = json.loads(fitting(members, size))
    left_out = found.pop("left_out", [])
    assert [*found, *left_out] == [*members]
    assert found.items() <= members.items()
    assert found
    if len(found) > 1:
        assert len(fitting(members, size)) <= size
    if len(encoded(members)) <= size:
        assert not left_out


def test_who_answers() -> None:
    environ = {"POD_NAME": "p", "NAMESPACE": "n", "NODE_NAME": "o", "SERVICE_NAME": "s", "INGRESS_NAME": ""}
    assert host_report(environ) == {
        "name": socket.gethostname(),
        "pod": "p",
        "namespace": "n",
        "node": "o",
        "service": "s",
    }
    assert host_report({}) == {"name": socket.gethostname()}


@linux
def test_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = process_report.process_report(ours)
    assert (found["pid"], found["uid"], found["gid"]) == (os.getpid(), os.getuid(), os.getgid())
    assert found["command"] == Path("/proc/self/comm").read_text().rstrip("\n")


def test_a_process_that_nobody_knows() -> None:
    unknown = dict.fromkeys(("pid", "uid", "gid", "groups", "command"))
    assert process_report.process_report(object()) == unknown
    with socket.socket() as sock:
        closed = sock
    assert process_report.process_report(closed) == unknown


@linux
def test_a_process_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(process_report, "Path", lambda path: Path("/proc/0/comm"))
    with ours, theirs:
        assert process_report.process_report(ours)["command"] is None


def test_nothing_is_known_of_what_is_no_tcp_socket() -> None:
    with socket.socket() as sock:
        closed = sock
    assert ip_report.tcp_report(closed) is None
    assert ip_report.stream_fields(closed) == dict.fromkeys(("tos", "dscp", "ecn", "ttl"))


@linux
def test_before_there_is_a_round_trip() -> None:
    with socket.socket() as sock:
        found = ip_report.tcp_report(sock)
    assert found is not None
    assert found["min_rtt"] is None
    assert (found["options"], found["window_scale"]) == ([], None)


@pytest.mark.parametrize(
    ("tos", "dscp", "ecn"),
    [(0, 0, "Not-ECT"), (1, 0, "ECT(1)"), (2, 0, "ECT(0)"), (3, 0, "CE"), (0xB8, 46, "Not-ECT")],
)
def test_tos(tos: int, dscp: int, ecn: str) -> None:
    control = [(socket.IPPROTO_IP, ip_report.IP_TOS, bytes([tos]))]
    assert ip_report.fields(control) == {"tos": tos, "dscp": dscp, "ecn": ecn, "ttl": None}


@given(st.binary(max_size=200))
def test_whatever_the_kernel_says_can_be_read(packed: bytes) -> None:
    for _, _, data in ip_report.control_messages(packed):
        assert len(data) <= len(packed)


def test_control_messages() -> None:
    header, word = struct.Struct("@Nii"), struct.calcsize("@N")
    first = header.pack(header.size + 1, 0, 1) + b"\x05" + bytes(word - 1)
    second = header.pack(header.size + 4, 0, 2) + struct.pack("i", 64)
    found = [*ip_report.control_messages(first + second)]
    assert found == [(0, 1, b"\x05"), (0, 2, struct.pack("i", 64))]
