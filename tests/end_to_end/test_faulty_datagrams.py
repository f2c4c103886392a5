"""Faults on UDP from outside, with clients that share no code with the suite."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running import PATIENCE, RunningSuite, client_program, run_suite, running, running_on, wait_until
from tests.server.test_reload import reloaded

CONFIG = """
drain = "30s"

[endpoints]
udp-clean = "udp:0"

[endpoints.udp-lossy]
listen = "udp:0"
seed = 7
faults = [
  { loss = { p = 0.1, r = 0.3, 1-h = 0.8, 1-k = 0.05 } },
  { loss = 0.1, after = "4KiB" },
]

[endpoints.udp-mean]
listen = "udp:0"
seed = 7
faults = [
  { truncate = "20B", chance = 0.5 },
  { corrupt = 0.05 },
  { duplicate = 0.3 },
]

[endpoints.udp-late]
listen = "udp:0:interface=0.0.0.0"
faults = [{ delay = "300ms", every = 2 }]

[endpoints.udp-slow]
listen = "udp:0"
faults = [{ rate = "20KiB" }]

[endpoints.udp-swapped]
listen = "udp:0"
faults = [{ reorder = 1.0 }]

[endpoints.udp-short]
listen = "udp:0"
faults = [{ truncate = "4B" }, { duplicate = 1.0 }]

[endpoints.udp-asked]
listen = "udp:0"
faults = "requested"
"""

#: linux/udp.h
UDP_SEGMENT = 103

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs epoll")


@pytest.fixture(scope="module", params=["echo-engine", "epoll"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running_on(request.param, tmp_path_factory.mktemp("faults"), CONFIG) as suite:
        yield suite


def explained(suite: RunningSuite, endpoint: str, count: int, size: int) -> list[dict[str, object]]:
    """What the suite says beforehand about the first *count* datagrams of *endpoint*, of *size* bytes."""
    arguments = (
        f"faults explain --config config.toml --endpoint {endpoint} --datagrams {count} --size {size}B"
    )
    said = json.loads(run_suite(suite.directory, *arguments.split(), "--json").stdout)
    rows: list[dict[str, object]] = said["datagrams"]
    assert len(rows) == count
    return rows


def numbered(number: int, size: int) -> bytes:
    return b"%06d" % number + bytes(size - 6)


def all_replies(client: socket.socket) -> list[bytes]:
    """What has come back, up to the answer to a last datagram; a fault may hit that, so there are several."""
    found = []
    client.settimeout(0.05)
    for _ in range(PATIENCE * 20):
        client.send(b"end")
        try:
            while (data := client.recv(65_535)) != b"end":
                found.append(data)
        except TimeoutError:
            continue
        client.settimeout(PATIENCE)
        return found
    pytest.fail("no end")


def test_losses_are_those_that_were_predicted(suite: RunningSuite) -> None:
    """Fewer than the kernel's queue of a socket holds (``rmem_default``)."""
    rows = explained(suite, "udp-lossy", 200, 64)
    with suite.connect("udp-lossy") as client:
        for number in range(1, 201):
            client.send(numbered(number, 64))
        came = [int(data[:6]) for data in all_replies(client)]
    assert came == [row["datagram"] for row in rows if not row["lost"]]
    assert 20 < len(came) < 180


def test_what_is_truncated_corrupted_and_duplicated_was_predicted(suite: RunningSuite) -> None:
    rows = explained(suite, "udp-mean", 60, 50)
    with suite.connect("udp-mean") as client:
        for number, row in enumerate(rows):
            sent = bytes([number]) * 50
            client.send(sent)
            data = client.recv(100)
            assert len(data) == row["size"]
            assert [at for at, byte in enumerate(data) if byte != number] == row["corrupted"]
            if row["duplicated"]:
                assert client.recv(100) == data
    kinds = {str(kind) for row in rows for kind in row["faults"]}  # type: ignore[attr-defined]  # of JSON
    assert kinds == {"truncate", "corrupt", "duplicate"}


def lost(suite: RunningSuite, count: int) -> list[int]:
    """Which of *count* datagrams are not answered; what is answered comes in its order."""
    with suite.connect("udp") as client:
        for number in range(1, count + 1):
            client.send(numbered(number, 20))
        came = {int(data[:6]) for data in all_replies(client)}
    return [number for number in range(1, count + 1) if number not in came]


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_log_repeats_what_happened_to_datagrams(tmp_path: Path, style: str) -> None:
    """Another seed and other faults in the file make no difference."""
    log = tmp_path / "suite.log"
    text = '[endpoints.udp]\nlisten = "udp:0"\nseed = {}\nfaults = [{}]\n'
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    bursts = "{ loss = { p = 0.2, r = 0.3 }, chance = 0.9 }"
    with running(first, text.format(7, bursts), "--log", style, "--log-file", str(log)) as suite:
        before = lost(suite, 100)
    assert 10 < len(before) < 90
    with running(second, text.format(99, "{ loss = 1 }"), "--replay", str(log)) as suite:
        assert lost(suite, 100) == before


def test_a_delay_is_not_shorter(suite: RunningSuite) -> None:
    """The second one is late, and what is asked afterwards of the undisturbed endpoint comes before it."""
    with suite.connect("udp-late") as late, suite.connect("udp-clean") as clean:
        late.send(b"one")
        assert late.recv(10) == b"one"
        began = time.monotonic()
        late.send(b"two")
        clean.send(b"undisturbed")
        assert clean.recv(20) == b"undisturbed"
        undisturbed = time.monotonic() - began
        assert late.recv(10) == b"two"
        assert time.monotonic() - began >= 0.3
        assert undisturbed < time.monotonic() - began


def test_a_late_reply_comes_from_the_address_that_was_asked(suite: RunningSuite) -> None:
    with ExitStack() as stack:
        clients = []
        for host in ("127.0.0.1", "127.0.0.9"):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(PATIENCE)
            client.connect((host, suite.addresses["udp-late"][1]))
            clients.append(client)
        for client in clients:
            for data in (b"one", b"two"):
                client.send(data)
            assert {client.recv(10), client.recv(10)} == {b"one", b"two"}  # one of them is late


def test_a_rate_over_bytes(suite: RunningSuite) -> None:
    """Ten times 1 KiB at 20 KiB a second; the last one leaves half a second after the first one came."""
    with suite.connect("udp-slow") as client:
        began = time.monotonic()
        for number in range(10):
            client.send(numbered(number, 1024))
        came = []
        for number in range(10):
            assert client.recv(2000) == numbered(number, 1024)
            came.append(time.monotonic() - began)
        for number, when in enumerate(came, start=1):
            assert when >= number * 0.05


def test_neighbours_change_places(suite: RunningSuite) -> None:
    with suite.connect("udp-swapped") as client:
        for number in range(1, 7):
            client.send(b"%d" % number)
        assert [client.recv(10) for _ in range(6)] == [b"2", b"1", b"4", b"3", b"6", b"5"]


def test_trains_are_treated_datagram_by_datagram(suite: RunningSuite) -> None:
    """Ten datagrams in one call: every second one is late, and none of them is lost."""
    with suite.connect("udp-late") as client:
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        parts = [b"%d" % number * 100 for number in range(10)]
        client.send(b"".join(parts))
        found = [client.recv(2000) for _ in parts]
    assert sorted(found) == parts
    assert found in (parts[::2] + parts[1::2], parts[1::2] + parts[::2])


def test_a_client_chooses(suite: RunningSuite) -> None:
    with suite.connect("udp-asked") as client:
        for request, answer in (
            (b"latency=200ms              ", rb"error: latency: .*delay.*\n"),
            (b"loss=2", rb"error: loss: .{5}"),  # no longer than three times the request
            (b"truncate=2 seed=1\n", rb"ok\n"),
            (b"hello", rb"he"),
        ):
            client.send(request)
            assert re.fullmatch(answer, client.recv(1000))


@pytest.mark.parametrize("words", ["nc -u {host} {port}", "socat - UDP:{host}:{port}"])
def test_other_programs(suite: RunningSuite, words: str) -> None:
    host, port = suite.addresses["udp-short"]
    program, *arguments = words.format(host=host, port=port).split()
    pipe = subprocess.PIPE
    with subprocess.Popen([client_program(program), *arguments], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hola mundo\n")
            process.stdin.flush()
            assert process.stdout.read(8) == b"holahola"
        finally:
            process.kill()


# Reloads and the end.


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_reloads_lose_nothing(tmp_path: Path, reactor: str) -> None:
    """From no faults to some, to others, and back: one socket, and what is late comes when it is due."""
    plain = '[endpoints.udp]\nlisten = "udp:0"\n'
    with running_on(reactor, tmp_path, plain) as suite, suite.connect("udp") as client:
        port = suite.addresses["udp"][1]
        plain = plain.replace("udp:0", f"udp:{port}")
        client.send(b"plain")
        assert client.recv(10) == b"plain"
        assert "1 changed" in reloaded(suite, plain + 'faults = [{ delay = "2s" }]\n')
        client.send(b"late")
        # It is late before the next reload, if what is read after it has been answered.
        reloaded(suite, plain + "faults = [{ truncate = '2B' }]\n")
        client.send(b"short")
        assert client.recv(10) == b"sh"
        reloaded(suite, plain)
        client.send(b"plain again")
        assert client.recv(20) == b"plain again"
        assert client.recv(10) == b"late"
        for _ in range(3):
            for faults in ("faults = [{ truncate = '20B' }]\n", ""):
                for number in range(20):
                    client.send(b"%d" % number)
                reloaded(suite, plain + faults)
                assert [client.recv(10) for _ in range(20)] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("reactor", ["echo-engine", "epoll"])
def test_a_drain_lets_late_datagrams_leave(tmp_path: Path, reactor: str) -> None:
    with running_on(reactor, tmp_path, CONFIG) as suite, suite.connect("udp-late") as client:
        for data in (b"1", b"late", b"3"):
            client.send(data)
        assert [client.recv(10), client.recv(10)] == [b"1", b"3"]
        suite.process.send_signal(signal.SIGTERM)
        assert client.recv(10) == b"late"


def test_an_endless_delay_does_not_outlive_the_drain(tmp_path: Path) -> None:
    config = 'drain = "300ms"\n[endpoints.udp]\nlisten = "udp:0"\nfaults = [{ delay = "1h", every = 2 }]\n'
    with running_on("echo-engine", tmp_path, config) as suite, suite.connect("udp") as client:
        for data in (b"1", b"late", b"3"):
            client.send(data)
        assert [client.recv(10), client.recv(10)] == [b"1", b"3"]
        wait_until(lambda: any("faults so far: delay 1" in line for line in suite.errors), "it is logged")
        assert suite.stop() == 0
