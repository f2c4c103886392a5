"""UDP from outside: the address that answers, and what the host may forbid."""

from __future__ import annotations

import platform
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.forbidding import NUMBERS
from tests.forbidding import __file__ as forbidding
from tests.namespaces import command, lossy_cable
from tests.running import PATIENCE, REACTORS, RunningSuite, running, wait_until

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


def first_link_local(table: str) -> str:
    """The first link-local address in what ``ip -6 address`` prints; empty if there is none."""
    return next((word.partition("/")[0] for word in table.split() if word.startswith("fe80:")), "")


@pytest.mark.parametrize(
    "options", [*(("--reactor", reactor) for reactor in REACTORS), ("--workers", "2")], ids=" ".join
)
def test_what_a_neighbour_sends_to_all_is_not_answered(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every host is in the groups of all hosts, and every socket on a wildcard gets what is sent to them."""
    with lossy_cable(0) as (here, there), ExitStack() as stack:

        def link_locals() -> list[str]:
            ask = ("-6", "address", "show", "-tentative")
            return [first_link_local(command("ip", "-n", end.name, *ask)) for end in (here, there)]

        wait_until(lambda: all(link_locals()), "IPv6 has looked for duplicates")
        here6 = link_locals()[0]
        suite = stack.enter_context(
            running(tmp_path, WILDCARDS, *options, command=here.inside(sys.executable, "-m", "suite"))
        )
        port, port6 = (suite.addresses[name][1] for name in ("udp", "udp6"))
        client = stack.enter_context(there.socket(socket.SOCK_DGRAM))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client6 = stack.enter_context(there.socket(socket.SOCK_DGRAM, socket.AF_INET6))
        for sock in (client, client6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"cable")
        for _ in range(2):  # the source is known by then
            for host in ("192.0.2.255", "255.255.255.255", "224.0.0.1"):
                client.sendto(b"to all", (host, port))
            client6.sendto(b"to all", ("ff02::1", port6))
            # What comes first has been sent first.
            client.sendto(b"to one", (here.address, port))
            assert client.recv(100) == b"to one"
            client6.sendto(b"to one", (here6, port6))
            assert client6.recv(100) == b"to one"

        def refused() -> dict[str, int]:
            suite.process.send_signal(signal.SIGUSR2)
            return {
                event["endpoint"]: event["refused"]
                for event in suite.events
                if "accepted" in event and "endpoint" in event
            }

        workers = 2 if "--workers" in options else 1  # each of them gets what is sent to all
        wait_until(lambda: refused() == {"udp": 6 * workers, "udp6": 2 * workers}, "all of it is refused")
