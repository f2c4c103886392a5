"""UDP from outside: the address that answers, and what the host may forbid."""

from __future__ import annotations

import platform
import socket
import sys
from pathlib import Path

import pytest

from tests.forbidding import NUMBERS
from tests.forbidding import __file__ as forbidding
from tests.running import PATIENCE, REACTORS, RunningSuite

WILDCARDS = """
[endpoints]
udp = "udp:0:interface=0.0.0.0"
udp6 = "udp6:0:interface=\\\\:\\\\:"
"""


def ask(host: str, port: int, *payloads: bytes) -> list[bytes]:
    """The replies to *payloads* that a client gets which is connected to *host* and *port*."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((host, port))
        replies = []
        for payload in payloads:
            client.send(payload)
            replies.append(client.recv(65_535))
        return replies


@pytest.mark.skipif(sys.platform != "linux", reason="needs IP_PKTINFO, and all of 127.0.0.0/8")
@pytest.mark.parametrize("reactor", REACTORS)
def test_on_a_wildcard_the_address_that_was_asked_answers(tmp_path: Path, reactor: str) -> None:
    suite = RunningSuite(tmp_path, WILDCARDS, "--reactor", reactor)
    port, port6 = (suite.addresses[name][1] for name in ("udp", "udp6"))
    payloads = [b"hola", b"", bytes(range(256)) * 100]
    for host, number in (("127.0.0.1", port), ("127.0.0.2", port), ("127.9.9.9", port), ("::1", port6)):
        assert ask(host, number, *payloads) == payloads
    assert suite.stop() == 0
    assert suite.errors == []


@pytest.mark.skipif(platform.machine() not in NUMBERS or sys.platform != "linux", reason="needs its numbers")
@pytest.mark.parametrize("calls", ["recvmmsg", "sendmmsg", "recvmmsg,sendmmsg"])
def test_where_a_filter_forbids_the_calls_for_many_udp_is_served_one_by_one(
    tmp_path: Path, calls: str
) -> None:
    command = [sys.executable, forbidding, calls, sys.executable, "-m", "suite"]
    suite = RunningSuite(tmp_path, WILDCARDS, command=command)
    for name, host in (("udp", "127.0.0.2"), ("udp6", "::1")):
        assert ask(host, suite.addresses[name][1], b"hola", b"", b"adios") == [b"hola", b"", b"adios"]
    assert suite.stop() == 0
    assert suite.errors == []
