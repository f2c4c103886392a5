"""What many idle connections take of a suite with workers, and what they take from the echo beside them.

``python -m benchmarks.race --idle`` (or ``make bench BENCH=--idle``).

Rules: a process has as many descriptors as the system gives it, so there are as many workers, and as many
clients, as the connections need; each client has an address of its own, because one has some 28,000 ports.
Memory is that of all processes of the suite; what they share counts once. The echo is timed on a few
connections, in turns, first with nothing else there, then with all that is idle.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO, cast

from benchmarks.measure import (
    SUITE,
    SUITE_CONFIG,
    Kind,
    RaceError,
    Server,
    load_command,
    prepare,
    wait_for,
)
from benchmarks.table import MIB

CONNECTIONS: Final = 60_000

#: Descriptors of a worker that are not for connections, and room for those that come to one by chance.
SPARE: Final = 0.2

#: Descriptors of a client that are not connections.
OWN: Final = 64

#: Descriptors that a worker opens when it is first busy (its ring, for one), at the most.
WARM: Final = 8

#: Connections on which the echo is timed, and how often each is asked, in seconds.
PROBES: Final = 8
EVERY: Final = 0.01

MESSAGE: Final = bytes(range(256)) * 4


@dataclass(frozen=True)
class Idle:
    """What was measured; memory is in bytes, times are in seconds."""

    connections: int
    workers: int
    clients: int
    before: int
    during: int
    after: int
    alone: tuple[float, float]
    beside: tuple[float, float]


def shares(connections: int, most: int) -> list[int]:
    """*connections*, divided among as few as can have *most* each."""
    parts = -(-connections // most)
    return [connections // parts + (index < connections % parts) for index in range(parts)]


def workers_for(connections: int, descriptors: int) -> int:
    """How many workers can have *connections* that the kernel divides among them: two at the least."""
    return max(2, len(shares(connections, int(descriptors * (1 - SPARE)))))


def measure_idle(
    directory: Path, connections: int, descriptors: int, seconds: float
) -> tuple[dict[str, Any], Iterator[str]]:
    """Measure; what was, and the same for people, line by line.

    :param descriptors: how many a process may have.
    :param seconds: how long the echo is timed, each time.
    :raises RaceError: something does not run.
    """
    workers = workers_for(connections, descriptors)
    clients = shares(connections, min(descriptors - OWN, 25_000))
    room = str(connections + 2 * PROBES)
    prepare(directory, ["suite"], SUITE_CONFIG.replace("20000", room))
    kind = Kind(f"suite, {workers} workers", (*SUITE, "--workers", str(workers)))
    with Server(kind, "tcp", directory / "suite", *os.sched_getaffinity(0)) as server:
        alone = time_echo(server, seconds)
        descriptors_before, before = server.descriptors(), server.memory()
        with holding(server, clients):
            during = server.memory()
            beside = time_echo(server, seconds)
        most = descriptors_before + WARM * workers
        wait_for(lambda: server.descriptors() <= most, "connections are still open")
        found = Idle(connections, workers, len(clients), before, during, server.memory(), alone, beside)
    return asdict(found), said(found)


@contextmanager
def holding(server: Server, clients: Sequence[int]) -> Iterator[None]:
    """Hold so many connections in so many clients; each has echoed once."""
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        started = []
        for index, connections in enumerate(clients, 1):
            options = ("--connections", connections, "--from", f"127.0.{index}.1")
            command = load_command("idle", "tcp", *server.where, *options)
            started.append(stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)))
        for client in started:
            if not cast(TextIO, client.stdout).readline():
                raise RaceError(f"a client has ended; the server: {server.complaint()}")
        yield


def time_echo(server: Server, seconds: float) -> tuple[float, float]:
    """The median and the longest time of an echo."""
    host, port = server.where
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_connection((host, int(port)), 30)) for _ in range(PROBES)]
        for probe in probes:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for probe in probes:
                began = time.perf_counter()
                probe.sendall(MESSAGE)
                left = len(MESSAGE)
                while left:
                    data = probe.recv(left)
                    if not data:
                        raise RaceError(f"an echo did not come; the server: {server.complaint()}")
                    left -= len(data)
                times.append(time.perf_counter() - began)
                time.sleep(EVERY / PROBES)
    return statistics.median(times), max(times)


def said(idle: Idle) -> Iterator[str]:
    """*idle* for people, line by line."""
    yield (
        f"{idle.connections:,} idle TCP connections from {idle.clients} clients, {idle.workers} workers:"
        f" {(idle.during - idle.before) / idle.connections / 1024:.2f} KiB each"
    )
    yield (
        f"  memory in MiB: {idle.before / MIB:.1f} before, {idle.during / MIB:.1f} during,"
        f" {idle.after / MIB:.1f} after"
    )
    for what, (middle, worst) in (("alone", idle.alone), ("beside them", idle.beside)):
        yield f"  an echo of 1 KiB {what}: {middle * 1e3:.2f} ms (median), {worst * 1e3:.2f} ms (worst)"
