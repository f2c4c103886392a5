"""The servers, and how they are started, loaded and measured.

Rules: the server has one CPU, the load another; CPU time is read from the operating system, by the load
generator, at both ends of the measured interval; a server that fails is named with what it said.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, cast

from benchmarks.table import Memory, Workload

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE / "build"

#: How long anything may take to start or to end, in seconds.
PATIENCE: Final = 60

SUITE_CONFIG: Final = """\
[endpoints]
tcp  = "tcp:0"
udp  = "udp:0"
tls  = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:suite.sock:mode=660"

[limits]
connections = 20000
per_peer = 20000  # the load is one peer
"""


class RaceError(Exception):
    """Something does not run; the text says what."""


# Building.


def compile_program(output: str, *sources: str) -> None:
    """Compile C.

    :raises RaceError: there is no compiler, or it fails.
    """
    if not shutil.which("cc"):
        raise RaceError("no C compiler, no load (Debian: apt-get install gcc libc6-dev libssl-dev)")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(BUILD / output), *sources, "-lssl", "-lcrypto"]
    built = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        hint = " (Debian: apt-get install libssl-dev)" if "openssl/" in built.stderr else ""
        raise RaceError(f"{' '.join(command)} failed{hint}:\n{built.stderr}")


def build(names: Sequence[str]) -> list[str]:
    """Build what the servers *names* need; return those that can run, and say why the others cannot."""
    BUILD.mkdir(exist_ok=True)
    compile_program("load", "load.c", "handshake.c")
    able = []
    for name in names:
        missing = KINDS[name].missing()
        if missing:
            print(f"skipped: {KINDS[name].title}: {missing}")
            continue
        if name == "c":
            compile_program("echo_c", "servers/echo.c")
        if name == "go":
            # One file, the standard library only: nothing to fetch.
            command = ["go", "build", "-o", str(BUILD / "echo_go"), "servers/echo.go"]
            environment = {**os.environ, "GO111MODULE": "off"}
            if subprocess.run(command, cwd=HERE, check=False, env=environment).returncode != 0:
                raise RaceError(f"{' '.join(command)} failed")
        able.append(name)
    return able


# Servers.


@dataclass(frozen=True)
class Kind:
    """A server that takes part.

    :ivar title: for people.
    :ivar command: its command line; peers get transport, address and certificate after it.
    :ivar missing: why it cannot run here, or an empty string.
    :ivar appetite: KiB that an idle connection may need.
    :ivar workloads: the ones that it takes part in; None: all.
    """

    title: str
    command: tuple[str, ...]
    missing: Callable[[], str] = lambda: ""
    appetite: int = 64
    workloads: tuple[str, ...] | None = None

    @property
    def is_suite(self) -> bool:
        """Whether it is configured by a file instead of arguments."""
        return "suite" in self.command


def python(script: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a peer in Python."""
    return (sys.executable, str(HERE / "servers" / script), *arguments)


def no_uvloop() -> str:
    """Why uvloop does not run, if so."""
    return "" if importlib.util.find_spec("uvloop") else "uvloop is not installed (requirements/bench.txt)"


def no_go() -> str:
    """Why Go does not run, if so."""
    return "" if shutil.which("go") else "there is no Go compiler (Debian: apt-get install golang-go)"


SUITE: Final = (sys.executable, "-m", "suite", "--config", "config.toml")

KINDS: Final = {
    "suite": Kind("suite", SUITE),
    "suite-epoll": Kind("suite --reactor epoll", (*SUITE, "--reactor", "epoll")),
    "twisted": Kind("stock Twisted", python("twisted_echo.py")),
    "loop": Kind("bare Python loop", python("python_loop.py"), workloads=("tcp", "unix")),
    "asyncio": Kind("asyncio", python("asyncio_echo.py"), appetite=400),
    "uvloop": Kind("uvloop", python("asyncio_echo.py", "--uvloop"), no_uvloop),
    "go": Kind("Go", (str(BUILD / "echo_go"),), no_go),
    "c": Kind("C (epoll)", (str(BUILD / "echo_c"),)),
}


def prepare(directory: Path, names: Iterable[str] = KINDS, config: str = SUITE_CONFIG) -> None:
    """A directory for each of the servers *names*, with certificates, and *config* for the suite."""
    certs = [sys.executable, "-m", "suite", "certs", "certs"]
    subprocess.run(certs, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    for name in names:
        shutil.copytree(directory / "certs", directory / name / "certs")
        (directory / name / "config.toml").write_text(config)


@contextmanager
def pinned(*cpus: int) -> Iterator[None]:
    """Start processes on *cpus*: they inherit them, and never see others; Go's scheduler does not either."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """A running server; a context manager that ends it.

    :param cpus: what it may use.
    :ivar where: the load generator's arguments that reach it.
    """

    def __init__(self, kind: Kind, transport: str, directory: Path, *cpus: int) -> None:
        self.kind = kind
        self.transport = transport
        self.output = directory / "server.out"
        self.errors = directory / "server.err"
        command = kind.command
        if not kind.is_suite:
            socket = directory / "peer.sock"
            socket.unlink(missing_ok=True)
            command += (transport, str(socket) if transport == "unix" else "0")
            if transport == "tls":
                command += (str(directory / "certs/server.pem"), str(directory / "certs/server.key"))
        # To files, not pipes: a server that logs must never wait for us.
        with self.output.open("w") as output, self.errors.open("w") as errors, pinned(*cpus):
            self.process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=errors)
        self.pid = self.process.pid
        try:
            self.where = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> tuple[str, ...]:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise RaceError(f"{self.kind.title} ended: {self.complaint()}")
            return re.search(r"(?m)^ready\b.*\n", self.output.read_text()) is not None

        wait_for(ready, f"{self.kind.title} is not ready")
        return listening(self.output.read_text(), self.transport, self.output.parent)

    def complaint(self) -> str:
        """The end of what it has said to standard error."""
        return " / ".join(self.errors.read_text(errors="replace").splitlines()[-3:]) or "it said nothing"

    @property
    def pids(self) -> list[int]:
        """Its processes: the one that was started, and those that it has started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def memory(self) -> int:
        """Resident memory in bytes, once it no longer changes; what several processes share counts once."""
        pids, last = self.pids, -1
        what = "Rss" if len(pids) == 1 else "Pss"
        for _ in range(50):
            # Exact; VmRSS is batched.
            rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
            found = [re.findall(rf"(?m)^{what}:\s+(\d+) kB", rollup)[0] for rollup in rollups]
            size = sum(map(int, found)) * 1024
            if size == last:
                break
            last = size
            time.sleep(0.1)
        return last

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def listening(text: str, transport: str, directory: Path) -> tuple[str, ...]:
    """Where a server listens that has printed *text*: ``ready ADDRESS``, or the suite's table."""
    found = re.search(rf"(?m)^\S+ +{transport.upper()} +(\S+)|^ready (\d+|/\S+)$", text)
    if found is None:
        raise RaceError(f"no {transport} address in {text!r}")
    address = found[1] or found[2]
    if transport == "unix":
        return (str(directory / address),)
    return ("127.0.0.1", address.rpartition(":")[2])


def wait_for(condition: Callable[[], bool], problem: str, patience: float = PATIENCE) -> None:
    """Return once *condition* holds.

    :raises RaceError: it does not within *patience* seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise RaceError(f"{problem} after {patience:g} s")
        time.sleep(0.01)


# Measuring.


@dataclass(frozen=True)
class Track:
    """Where the race takes place.

    :ivar seconds: measured in one slice.
    :ivar warmup: seconds of it before that.
    :ivar idle: connections, where memory is measured.
    """

    directory: Path
    server_cpu: int
    load_cpu: int
    seconds: float
    warmup: float
    idle: int

    def start(self, name: str, transport: str) -> Server:
        """A server, afresh for every round.

        Where a process happens to lie in memory, and how it hashes, is worth some percent; the median
        over several processes evens that out. One that lived through all rounds would keep its luck,
        and what the round before has left behind.
        """
        return Server(KINDS[name], transport, self.directory / name, self.server_cpu)

    @contextmanager
    def loading(self, server: Server, workload: Workload) -> Iterator[Callable[[], dict[str, float]]]:
        """Connect the load to *server*, for as long as the context lasts.

        What it gives measures *server* for a moment, each time it is called: what the load generator says,
        and what others had of the CPUs meanwhile.
        """
        options = ("--turns", "--seconds", self.seconds, "--warmup", self.warmup, *watching(server))
        command = load_command(*workload.load[:1], *server.where, *workload.load[1:], *options)
        with pinned(self.load_cpu):
            load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def said() -> str:
            line = cast(TextIO, load.stdout).readline()
            if not line:
                raise RaceError(f"the load has ended; the server: {server.complaint()}")
            return line

        def measure() -> dict[str, float]:
            start, others = time.monotonic(), cpu_of_others(server.pid, load.pid)
            with suppress(BrokenPipeError):  # `said` will tell
                # Past the stream's buffer: what stays in there would fail once more when it is closed.
                os.write(cast(TextIO, load.stdin).fileno(), b"\n")
            report = json.loads(said())
            if report["errors"]:
                print(f"{server.kind.title} said: {server.complaint()}", file=sys.stderr)
            others = cpu_of_others(server.pid, load.pid) - others
            return {**report, "others": others, "elapsed": time.monotonic() - start}

        with load:  # ends its input, and so the load
            said()  # that it is connected
            yield measure

    def memory(self, name: str, workload: Workload) -> Memory:
        """Measure what idle connections hold."""
        needed = self.idle * KINDS[name].appetite
        available = re.findall(r"(?m)^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if int(available[0]) < needed:
            raise RaceError(f"{self.idle} connections may need {needed >> 10} MiB of memory")
        with self.start(name, workload.transport) as server:
            # One connection first: what is loaded on first use belongs to no connection.
            self._load(server, workload.load, "--connections", 1, "--seconds", 0.05, "--warmup", 0)
            descriptors, before = server.descriptors(), server.memory()
            with self._holding(server, workload):
                during = server.memory()
            # Some servers keep a descriptor or two of their own from then on.
            wait_for(lambda: server.descriptors() <= descriptors + 8, f"{name}: connections are still open")
            return Memory(self.idle, before, during, server.memory())

    def _load(self, server: Server, arguments: Sequence[str], *options: object) -> dict[str, Any]:
        """Run the load generator; return what it says."""
        with pinned(self.load_cpu):
            load = subprocess.run(
                load_command(*arguments[:1], *server.where, *arguments[1:], *options),
                capture_output=True,
                text=True,
                timeout=self.seconds + PATIENCE,
                check=False,
            )
        print(load.stderr, end="", file=sys.stderr)
        if load.returncode != 0:
            raise RaceError(f"{load.stderr.strip()}; the server: {server.complaint()}")
        report: dict[str, Any] = json.loads(load.stdout)
        return report

    @contextmanager
    def _holding(self, server: Server, workload: Workload) -> Iterator[None]:
        """Hold idle connections open."""
        command = load_command("idle", *workload.load, *server.where, "--connections", self.idle)
        pipe = subprocess.PIPE
        with (
            pinned(self.load_cpu),
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as load,
        ):
            assert load.stdout is not None  # noqa: S101  # for mypy
            opened = load.stdout.readline()
            if opened:
                yield
            _, complaint = load.communicate()  # ends its input, and so the connections
        if not opened:
            raise RaceError(f"{complaint.strip()}; the server: {server.complaint()}")


def load_command(*arguments: object) -> list[str]:
    """A command line of the load generator."""
    return [str(BUILD / "load"), *map(str, arguments)]


def watching(server: Server) -> list[str]:
    """What lets the load generator measure the CPU time of *server*."""
    return [word for pid in server.pids for word in ("--watch", str(pid))]


def cpu_of(pid: int) -> float:
    """CPU time in seconds of all threads of a process, ended ones too."""
    # What clock_getcpuclockid(3) would return.
    return float(time.clock_gettime(~pid << 3 | 2))


def cpu_of_others(*pids: int) -> float:
    """CPU time in seconds, since some time in the past, of everything but the processes *pids* and us."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - sum(map(cpu_of, pids)) - sum(os.times()[:4])
