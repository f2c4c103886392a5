"""What thousands of endpoints take of the suite: to check them, to start, and to reload.

``python -m benchmarks.race --endpoints`` (or ``make bench BENCH=--endpoints``).

Rules: CPU time of all processes of the suite, because elapsed time depends on who else is there, and the
least of several rounds, because even that does; a reload changes every endpoint (another limit, the same
address); meanwhile one connection, or socket, echoes without a pause, and the longest time of an echo is what
the reload did to it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import machine
from benchmarks.measure import PATIENCE, SUITE, Kind, RaceError, Server, cpu_of

ENDPOINTS: Final = 10_000

#: Where they listen; no client has such a port.
HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 20_000

TRANSPORTS: Final = {
    "tcp": f"tcp:{{port}}:interface={HOST}",
    "udp": f"udp:{{port}}:interface={HOST}",
    "unix": "unix:run/{port}.sock",
    "tls": f"ssl:{{port}}:interface={HOST}:privateKey=certs/server.key:certKey=certs/server.pem",
}

#: Descriptors of an endpoint: a UNIX socket has a lock file.
DESCRIPTORS: Final = {"unix": 2}

#: Descriptors that are for no endpoint.
SPARE: Final = 200

#: Where UNIX sockets usually are, a file system in memory; None: there is none. Where thousands of files have
#: just been deleted, ext4 takes longer to make one than everything else together (`recently_deleted`).
SHORT_LIVED: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  # others cannot guess the name

#: How many sockets workers can share.
SHARED: Final = 4096

#: Seconds that all three may take together.
TARGET: Final = 3.0

MESSAGE: Final = bytes(range(256))

FIGURES: Final = ("check", "start", "reload", "echo")


@dataclass(frozen=True)
class Found:
    """What was measured; seconds of CPU time, and of `echo` the longest time of one during the reload."""

    transport: str
    endpoints: int
    workers: int
    check: float
    start: float
    reload: float
    echo: float

    @classmethod
    def least(cls, rounds: Sequence[Found]) -> Found:
        """The least of each figure of *rounds* about the same."""
        first = rounds[0]
        figures = {name: min(getattr(each, name) for each in rounds) for name in FIGURES}
        return cls(first.transport, first.endpoints, first.workers, **figures)

    @property
    def together(self) -> float:
        """CPU time of all three."""
        return self.check + self.start + self.reload


def config(transport: str, endpoints: int, idle: int) -> str:
    """A configuration with so many *endpoints*, all of which end what is *idle* for so many seconds."""
    limit = f"rate = {idle * 1000}" if transport == "udp" else f'idle = "{idle}s"'
    listen = TRANSPORTS[transport]
    lines = [f'e{number} = "{listen.format(port=FIRST_PORT + number)}"' for number in range(endpoints)]
    return "\n".join(["[limits]", limit, "[endpoints]", *lines, ""])


def room_for(transport: str, endpoints: int, descriptors: int, workers: int) -> int:
    """How many of *endpoints* so many *workers* can have, each of which has so many *descriptors*."""
    room = (descriptors - SPARE) // DESCRIPTORS.get(transport, 1)
    return min(endpoints, room, SHARED if workers > 1 else room)


def measure(directory: Path, transport: str, endpoints: int, workers: int) -> Found:
    """Check, start and reload *endpoints*.

    :raises RaceError: something does not run.
    """
    file = directory / "config.toml"
    file.write_text(config(transport, endpoints, 600))
    options = ("--workers", str(workers)) if workers > 1 else ()
    before = cpu_of_ended()
    check = [sys.executable, "-m", "suite", "check", "--config", "config.toml"]
    done = subprocess.run(check, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RaceError(f"check: {done.stderr.strip()}")
    checked = cpu_of_ended() - before
    with Server(Kind("suite", (*SUITE, *options)), transport, directory, *os.sched_getaffinity(0)) as server:
        started = sum(map(cpu_of, server.pids))
        with client(directory, transport) as sock:
            echo(sock)
            file.write_text(config(transport, endpoints, 700))
            before = sum(map(cpu_of, server.pids))
            longest = echo_while(sock, lambda: reload(server))
            reloaded = sum(map(cpu_of, server.pids)) - before
    return Found(transport, endpoints, workers, checked, started, reloaded, longest)


def cpu_of_ended() -> float:
    """CPU time in seconds of all processes that we have started, and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def client(directory: Path, transport: str) -> socket.socket:
    """A socket connected to the first endpoint."""
    where = (HOST, FIRST_PORT)
    if transport == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(directory / f"run/{FIRST_PORT}.sock"))
    elif transport == "udp":
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.connect(where)
    else:
        sock = socket.create_connection(where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if transport == "tls":
        context = ssl.create_default_context(cafile=directory / "certs/ca.pem")
        sock = context.wrap_socket(sock, server_hostname="localhost")
    sock.settimeout(30)
    return sock


def echo(sock: socket.socket) -> float:
    """Send a message, and take it back; return the seconds."""
    began = time.perf_counter()
    sock.sendall(MESSAGE)
    received = b""
    while len(received) < len(MESSAGE):
        data = sock.recv(len(MESSAGE))
        if not data:
            raise RaceError("the connection has ended")
        received += data
    if received != MESSAGE:
        raise RaceError(f"another message came back: {received!r}")
    return time.perf_counter() - began


def echo_while(sock: socket.socket, begin: Callable[[], Callable[[], bool]]) -> float:
    """Echo until what *begin* begins has been done; return the longest time of one, in seconds."""
    done = begin()
    longest = 0.0
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise RaceError(f"no reload after {PATIENCE} s")
        longest = max(longest, echo(sock))
    return longest


def reload(server: Server) -> Callable[[], bool]:
    """Have *server* reload; return what says whether it has.

    :raises RaceError: it has failed.
    """

    def done() -> bool:
        said = server.errors.read_text()
        if "not reloaded" in said:
            raise RaceError(server.complaint())
        return re.search(r"\breloaded: .*\n", said) is not None

    server.process.send_signal(signal.SIGHUP)
    return done


def said(found: Sequence[Found]) -> list[str]:
    """What was *found*, for people."""
    lines = ["endpoints         workers    check    start   reload   together   longest echo"]
    for each in found:
        name = f"{each.endpoints:,} {each.transport}"
        lines.append(
            f"{name:<17} {each.workers:>7} {each.check:>6.2f} s {each.start:>6.2f} s {each.reload:>6.2f} s"
            f" {each.together:>8.2f} s {each.echo * 1000:>11.0f} ms"
        )
    return lines


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", allow_abbrev=False)
    parser.add_argument(
        "--endpoints",
        type=int,
        nargs="?",
        const=ENDPOINTS,
        metavar="N",
        required=True,
        help=f"how many (default: {ENDPOINTS:,}, or what the limit on descriptors allows)",
    )
    parser.add_argument("--only", nargs="+", choices=TRANSPORTS, default=[*TRANSPORTS], metavar="TRANSPORT")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], metavar="N", help="default: 1")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the least counts (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command line; 0: one process has needed no more than `TARGET` of any transport."""
    options = build_parser().parse_args(argv)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    facts = dict(machine())
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    found: list[Found] = []
    try:
        with tempfile.TemporaryDirectory(prefix="race-", dir=SHORT_LIVED) as name:
            directory = Path(name)
            certs = [sys.executable, "-m", "suite", "certs", "certs"]
            subprocess.run(certs, cwd=directory, stdout=subprocess.DEVNULL, check=True)
            for workers in options.workers:
                for transport in options.only:
                    endpoints = room_for(transport, options.endpoints, hard, workers)
                    rounds = [
                        measure(directory, transport, endpoints, workers) for _ in range(options.rounds)
                    ]
                    found.append(Found.least(rounds))
    except RaceError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n" + "\n".join(said(found)))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": facts, "endpoints": [asdict(each) for each in found]}, indent=1) + "\n"
        )
    return 0 if all(each.together <= TARGET for each in found if each.workers == 1) else 1
