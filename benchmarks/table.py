"""What is raced, what has to be reached, and how what was reached is told. Plain functions and values."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

MIB: Final = 2**20

#: Other work on the machine, in CPUs, from which on a run is not to be trusted.
NOISE: Final = 0.1

#: From this share of its CPU on, a process is taken to have no more to give.
SATURATED: Final = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """What the suite has to reach.

    :ivar of: ``cpu`` or ``rate`` (as a multiple of the peer's), ``each`` (KiB a connection) or
        ``after`` (a multiple of the memory before).
    :ivar limit: at most this; for ``rate``, at least.
    """

    of: str
    limit: float
    peer: str = ""

    def met(self, value: float) -> bool:
        """Whether *value* is good enough, at the two decimals that it is shown with."""
        return round(value, 2) >= self.limit if self.of == "rate" else round(value, 2) <= self.limit

    def says(self) -> str:
        """The target, for people."""
        if self.of == "each":
            return f"≤ {self.limit:g} KiB a connection"
        if self.of == "after":
            return f"afterwards ≤ {self.limit:.2f} x before"
        return f"{'rate ≥' if self.of == 'rate' else '≤'} {self.limit:.2f} x {self.peer}"


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    :ivar title: for people.
    :ivar transport: what the server speaks.
    :ivar load: the load generator's arguments: its mode, then options.
    :ivar unit: what is counted: ``message``, ``MiB`` or ``handshake``.
    """

    title: str
    transport: str
    load: tuple[str, ...]
    unit: str
    targets: tuple[Target, ...]


BULK: Final = ("--connections", "4", "--size", "262144")

WORKLOADS: Final = {
    "tcp": Workload(
        "TCP, 64 connections, 1 KiB",
        "tcp",
        ("tcp",),
        "message",
        (Target("cpu", 1.00, "uvloop"), Target("cpu", 1.00, "go"), Target("cpu", 1.30, "c")),
    ),
    "unix": Workload(
        "UNIX, 64 connections, 1 KiB",
        "unix",
        ("unix",),
        "message",
        (Target("cpu", 1.05, "uvloop"), Target("cpu", 1.05, "go"), Target("cpu", 1.50, "c")),
    ),
    "udp": Workload(
        "UDP, 64 sockets, 64 B, two in flight on each",
        "udp",
        ("udp", "--size", "64", "--window", "2"),  # one by one, the load would be the limit
        "message",
        (Target("cpu", 0.75, "go"), Target("cpu", 0.65, "uvloop"), Target("cpu", 1.00, "c")),
    ),
    "tls": Workload(
        "TLS 1.3, 64 connections, 1 KiB",
        "tls",
        ("tls",),
        "message",
        (Target("cpu", 0.40, "uvloop"), Target("cpu", 0.50, "asyncio"), Target("cpu", 1.35, "go")),
    ),
    "handshake": Workload(
        "TLS 1.3 handshakes, 64 at a time",
        "tls",
        ("handshake",),
        "handshake",
        (Target("rate", 0.80, "c"), Target("rate", 1.00, "uvloop")),
    ),
    "tcp-bulk": Workload(
        "TCP, 4 connections, 256 KiB", "tcp", ("tcp", *BULK), "MiB", (Target("cpu", 1.00, "uvloop"),)
    ),
    "unix-bulk": Workload(
        "UNIX, 4 connections, 256 KiB", "unix", ("unix", *BULK), "MiB", (Target("cpu", 1.00, "uvloop"),)
    ),
}

MEMORY: Final = {
    "tcp-memory": Workload("TCP", "tcp", ("tcp",), "", (Target("each", 2), Target("after", 1.5))),
    "tls-memory": Workload("TLS 1.3", "tls", ("tls",), "", (Target("each", 26), Target("after", 1.5))),
}


@dataclass(frozen=True)
class Run:
    """One server, one workload, one round.

    :ivar turn: the number of the round.
    :ivar cpu: server CPU time for one unit, in µs.
    :ivar rate: units a second.
    :ivar busy: the share of its CPU that the server had.
    :ivar load_busy: the same of the load generator.
    :ivar noise: CPU time that others had meanwhile, in CPUs.
    """

    turn: int
    cpu: float
    rate: float
    busy: float
    load_busy: float
    errors: int
    lost: int
    noise: float


@dataclass(frozen=True)
class Memory:
    """What idle connections hold, in bytes of resident memory."""

    connections: int
    before: int
    during: int
    after: int

    @property
    def each(self) -> float:
        """KiB for one connection."""
        return (self.during - self.before) / self.connections / 1024

    @property
    def back(self) -> float:
        """Memory after they have closed, as a multiple of that before."""
        return self.after / self.before


@dataclass
class Results:
    """Everything measured, by workload and server."""

    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def every_run(self) -> Iterator[Run]:
        """All runs of all servers."""
        for servers in self.runs.values():
            for runs in servers.values():
                yield from runs

    def errors(self) -> int:
        """Bytes that came back wrong, or not at all, and connections that broke."""
        return sum(run.errors for run in self.every_run())


def run_of(slices: Sequence[Mapping[str, float]], unit: str, turn: int) -> Run:
    """A `Run` from what the load generator, and the operating system, say of its slices."""
    total: Counter[str] = Counter()
    for each in slices:
        total.update(each)
    count = total["bytes"] / MIB if unit == "MiB" else total["messages"]
    seconds = total["seconds"]
    return Run(
        turn=turn,
        cpu=total["server_cpu"] * 1e6 / count if count else float("inf"),
        rate=count / seconds,
        busy=total["server_cpu"] / seconds,
        load_busy=total["load_cpu"] / seconds,
        errors=total["errors"],
        lost=total["lost"],
        noise=total["others"] / total["elapsed"],
    )


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The same items in the same circle, started elsewhere: no server always runs first."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def ratio(of: str, ours: Sequence[Run], theirs: Sequence[Run]) -> float | None:
    """The median of the ratios in each round: what the machine does to one, it does to the other, too."""
    peers = {run.turn: getattr(run, of) for run in theirs}
    ratios = [getattr(run, of) / peers[run.turn] for run in ours if peers.get(run.turn)]  # or it did nothing
    return statistics.median(ratios) if ratios else None


# Saying it.


def median(runs: Sequence[Run], of: str) -> float:
    """The median of one number over several runs."""
    return float(statistics.median(getattr(run, of) for run in runs))


def cell(value: float, width: int) -> str:
    """A number with three digits that say something."""
    return f"{value:{width},.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def run_table(workload: Workload, servers: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """What was measured, line by line; *servers* by their titles."""
    rounds = max(map(len, servers.values()))
    yield f"{workload.title}: server CPU per {workload.unit} in µs, median of {rounds} rounds"
    yield (
        f"  {'':22}{'µs':>8}{'min':>8}{'max':>8}{'suite/it':>10}"
        f"{workload.unit + '/s':>14}{'server':>8}{'load':>6}"
    )
    suite = servers.get("suite")
    for title, runs in servers.items():
        cpu = median(runs, "cpu")
        compared = ratio("cpu", suite, runs) if suite and runs is not suite else None
        busy, load_busy = median(runs, "busy"), median(runs, "load_busy")
        notes = [
            f"{sum(run.errors for run in runs)} ERRORS" if any(run.errors for run in runs) else "",
            f"{sum(run.lost for run in runs)} lost" if any(run.lost for run in runs) else "",
            "the load was the limit" if load_busy >= SATURATED > busy else "",
        ]
        yield (
            f"  {title:22}{cell(cpu, 8)}{cell(min(run.cpu for run in runs), 8)}"
            f"{cell(max(run.cpu for run in runs), 8)}"
            f"{'' if compared is None else f'{compared:.2f}':>10}{median(runs, 'rate'):14,.0f}{busy:8.0%}"
            f"{load_busy:6.0%}  {', '.join(filter(None, notes))}".rstrip()
        )


def memory_table(workload: Workload, servers: Mapping[str, Memory]) -> Iterator[str]:
    """What was measured, line by line; *servers* by their titles."""
    count = next(iter(servers.values())).connections
    yield f"Memory of {count:,} idle {workload.title} connections"
    yield f"  {'':22}{'KiB each':>10}{'MiB before':>12}{'during':>8}{'after':>8}{'after/before':>14}"
    for title, memory in servers.items():
        yield (
            f"  {title:22}{memory.each:10.2f}{memory.before / MIB:12.1f}"
            f"{memory.during / MIB:8.1f}{memory.after / MIB:8.1f}{memory.back:14.2f}"
        )


def judged(name: str, results: Results) -> Iterator[tuple[Target, float | None]]:
    """Every target of the workload *name*, and what was reached, if it was measured."""
    if name in MEMORY:
        memory = results.memory.get(name, {}).get("suite")
        for target in MEMORY[name].targets:
            value = None
            if memory is not None:
                value = memory.each if target.of == "each" else memory.back
            yield target, value
        return
    servers = results.runs.get(name, {})
    for target in WORKLOADS[name].targets:
        suite, peer = servers.get("suite"), servers.get(target.peer)
        yield target, ratio(target.of, suite, peer) if suite and peer else None


def verdict(target: Target, value: float | None) -> str:
    """The target and whether it is met, for people."""
    if value is None:
        return f"  target {target.says()}: not measured"
    return f"  target {target.says()}: {value:.2f}, {'met' if target.met(value) else 'NOT MET'}"


def summary(results: Results, workloads: Sequence[str]) -> Iterator[str]:
    """The last lines."""
    judgements = [
        (target, value) for name in workloads for target, value in judged(name, results) if value is not None
    ]
    if judgements:
        met = sum(target.met(value) for target, value in judgements)
        yield f"{met} of {len(judgements)} measured targets met"
    noise = [run.noise for run in results.every_run()]
    noisy = sum(share > NOISE for share in noise)
    if noisy:
        yield (
            f"NOT TO BE TRUSTED: other work took up to {max(noise):.2f} CPUs in {noisy} of {len(noise)} runs;"
            " repeat it on a machine that does nothing else"
        )
    if results.left_out:
        yield f"left out for lack of time: {'; '.join(results.left_out)}"
    yield from (f"FAILED: {failure}" for failure in results.failures)
