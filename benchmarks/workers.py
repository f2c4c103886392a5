"""What more than one core brings: the suite with one worker and with two, and the same of Go and C.

``python -m benchmarks.race --workers`` (or ``make bench BENCH=--workers``).

Rules: one core is one process of the server, and the load that keeps it busy, on one CPU; two cores are two
of either, on two CPUs, so that what is compared has twice the means. "Apart" is one process with a CPU to
itself, and its load on the other one. Loads that share a CPU with a server sleep while they have nothing to
do. All that is compared takes turns in one run, and ratios are those of a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO, cast

from benchmarks.measure import (
    BUILD,
    SUITE,
    Kind,
    RaceError,
    Server,
    cpu_of_others,
    load_command,
    no_go,
    pinned,
    prepare,
    watching,
)
from benchmarks.table import NOISE, WORKLOADS, Run, Target, Workload, cell, median, ratio, rotated, run_of

CONNECTIONS: Final = 64

#: Addresses that a load connects from: each has some 28,000 ports, and a closed connection keeps one for a
#: while.
SOURCES: Final = 64

#: By name: what is done.
WORK: Final = {
    "tcp": WORKLOADS["tcp"],
    "udp": WORKLOADS["udp"],
    "connect": Workload(
        "TCP connections, 64 at a time: connect, echo 1 KiB, reset",
        "tcp",
        ("connect",),
        "connection",
        (),
    ),
    "handshake": WORKLOADS["handshake"],
}

#: What two workers have to do, as a multiple of what one does.
SCALES: Final = Target("rate", 1.70, "suite-1")


@dataclass(frozen=True)
class Entrant:
    """A server, and how the machine is shared between it and its load.

    :ivar processes: how many it has, and how many CPUs; so many loads as well.
    :ivar apart: whether the load has a CPU of its own.
    """

    kind: Kind
    processes: int
    apart: bool = False

    @property
    def title(self) -> str:
        """It for people."""
        return self.kind.title + (", load apart" if self.apart else "")


def entrants() -> dict[str, Entrant]:
    """All that take part, by name, such as ``suite-1``, ``suite-2`` and ``suite-apart``."""
    found = {}
    for count in (1, 2):
        many = "" if count == 1 else "s"
        found[f"suite-{count}"] = Entrant(
            Kind(f"suite, {count} worker{many}", (*SUITE, "--workers", str(count))), count
        )
        if not no_go():
            go = ("env", f"GOMAXPROCS={count}", str(BUILD / "echo_go"))
            found[f"go-{count}"] = Entrant(Kind(f"Go, GOMAXPROCS={count}", go), count)
        c = ("env", f"PROCESSES={count}", str(BUILD / "echo_c"))
        found[f"c-{count}"] = Entrant(Kind(f"C, {count} process{many and 'es'}", c), count)
    for name in [name for name in found if name.endswith("-1")]:
        found[name.replace("-1", "-apart")] = Entrant(found[name].kind, 1, apart=True)
    return found


class Loads:
    """The load generators of one entrant, which work at the same time."""

    def __init__(self, server: Server, loads: Sequence[subprocess.Popen[str]]) -> None:
        self.server = server
        self.loads = loads

    def measure(self) -> dict[str, float]:
        """What all of them say of the same interval, as one."""
        pids = [*self.server.pids, *(load.pid for load in self.loads)]
        start, others = time.monotonic(), cpu_of_others(*pids)
        for load in self.loads:
            with suppress(BrokenPipeError):  # `said` will tell
                os.write(cast(TextIO, load.stdin).fileno(), b"\n")
        reports = [json.loads(self.said(load)) for load in self.loads]
        total = summed(reports)
        return {
            **total,
            "others": cpu_of_others(*pids) - others,
            "elapsed": time.monotonic() - start,
        }

    def said(self, load: subprocess.Popen[str]) -> str:
        """The next line of *load*.

        :raises RaceError: it has ended.
        """
        line = cast(TextIO, load.stdout).readline()
        if not line:
            raise RaceError(f"a load has ended; the server: {self.server.complaint()}")
        return line


def summed(reports: Sequence[dict[str, float]]) -> dict[str, float]:
    """What several loads have done in the same interval; one of them has measured the server."""
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report)
    return {**total, "seconds": total["seconds"] / len(reports)}


class WorkersRace:
    """A whole race.

    :param directory: where servers run.
    :param cpus: two of them.
    :param seconds: measured in one slice.
    :ivar runs: what was measured, by workload and entrant.
    :ivar failures: what went wrong.
    """

    def __init__(self, directory: Path, cpus: Sequence[int], seconds: float, warmup: float) -> None:
        self.directory = directory
        self.cpus = cpus
        self.seconds = seconds
        self.warmup = warmup
        self.entrants = entrants()
        self.runs: dict[str, dict[str, list[Run]]] = {}
        self.failures: list[str] = []
        prepare(directory, self.entrants)

    def run(self, name: str, rounds: int, slices: int) -> Iterator[str]:
        """Everyone does the work *name*; what comes out, line by line."""
        runs = self.runs.setdefault(name, {})
        for turn in range(rounds):
            for entrant, measured in self._round(WORK[name], turn, slices).items():
                runs.setdefault(entrant, []).append(run_of(measured, WORK[name].unit, turn))
        return table(WORK[name], runs, {name: entrant.title for name, entrant in self.entrants.items()})

    def _round(self, workload: Workload, turn: int, slices: int) -> dict[str, list[dict[str, float]]]:
        measured: dict[str, list[dict[str, float]]] = {}
        ready: dict[str, Loads] = {}
        with ExitStack() as stack:
            for name in rotated([*self.entrants], turn):
                try:
                    ready[name] = stack.enter_context(self._loading(name, workload))
                except (RaceError, subprocess.SubprocessError) as error:
                    self.failures.append(f"{workload.title}, {name}: {error}")
            for _ in range(slices):
                for name, loads in [*ready.items()]:
                    try:
                        measured.setdefault(name, []).append(loads.measure())
                    except RaceError as error:
                        self.failures.append(f"{workload.title}, {name}: {error}")
                        del ready[name]
        return measured

    @contextmanager
    def _loading(self, name: str, workload: Workload) -> Iterator[Loads]:
        """The entrant *name*, and all of its loads, connected to it."""
        entrant = self.entrants[name]
        own = self.cpus[: entrant.processes]
        theirs = self.cpus[1:2] if entrant.apart else own
        with ExitStack() as stack:
            server = stack.enter_context(
                Server(entrant.kind, workload.transport, self.directory / name, *own)
            )
            loads = Loads(server, [])
            started = []
            for index, cpu in enumerate(theirs):
                # One of them measures the server, for the same interval.
                more = watching(server) if index == 0 else []
                command = self._command(workload, server, entrant, index, len(theirs))
                with pinned(cpu):
                    pipe = subprocess.PIPE
                    load = subprocess.Popen([*command, *more], stdin=pipe, stdout=pipe, text=True)
                started.append(stack.enter_context(load))  # its end ends its input, and so the load
            loads.loads = started
            for load in started:
                loads.said(load)  # that it is connected
            yield loads

    def _command(
        self, workload: Workload, server: Server, entrant: Entrant, index: int, of: int
    ) -> list[str]:
        mode, *options = workload.load
        if mode in {"connect", "handshake"}:
            options += ["--from", f"127.0.{index + 1}.1", "--sources", str(SOURCES)]
        if not entrant.apart:
            options.append("--sleep")
        times: list[object] = ["--seconds", self.seconds, "--warmup", self.warmup]
        many = ["--connections", CONNECTIONS // of]
        return load_command(mode, *server.where, *options, *many, "--turns", *times)


# Saying it.


def table(workload: Workload, runs: dict[str, list[Run]], titles: dict[str, str]) -> Iterator[str]:
    """What was measured, line by line."""
    unit, rounds = workload.unit, max(map(len, runs.values()), default=0)
    yield f"{workload.title}: {unit}s a second, median of {rounds} rounds"
    yield f"  {'':28}{unit + 's/s':>14}{'to its 1':>10}{'suite/it':>10}{'µs each':>9}{'server':>8}{'load':>6}"
    for name, of in runs.items():
        alone, suite = f"{name.partition('-')[0]}-1", f"suite-{name.partition('-')[2]}"
        shown = [
            "" if value is None else f"{value:.2f}"
            for value in (
                ratio("rate", of, runs[alone]) if alone in runs and alone != name else None,
                ratio("rate", runs[suite], of) if suite in runs and suite != name else None,
            )
        ]
        notes = [
            f"{sum(run.errors for run in of)} ERRORS" if any(run.errors for run in of) else "",
            f"{sum(run.lost for run in of)} lost" if any(run.lost for run in of) else "",
        ]
        yield (
            f"  {titles[name]:28}{median(of, 'rate'):14,.0f}{shown[0]:>10}{shown[1]:>10}"
            f"{cell(median(of, 'cpu'), 9)}{median(of, 'busy'):8.0%}{median(of, 'load_busy'):6.0%}"
            f"  {', '.join(filter(None, notes))}"
        ).rstrip()
    one, two = runs.get("suite-1"), runs.get("suite-2")
    if one and two and workload is WORK["tcp"]:
        value = ratio("rate", two, one)
        if value is not None:
            met = "met" if SCALES.met(value) else "NOT MET"
            yield f"  target: two workers {SCALES.says()}: {value:.2f}, {met}"


def summary(race: WorkersRace) -> Iterator[str]:
    """The last lines."""
    noise = [run.noise for runs in race.runs.values() for many in runs.values() for run in many]
    noisy = sum(share > NOISE for share in noise)
    if noisy:
        yield (
            f"NOT TO BE TRUSTED: other work took up to {max(noise):.2f} CPUs in {noisy} of {len(noise)} runs;"
            " repeat it on a machine that does nothing else"
        )
    yield from (f"FAILED: {failure}" for failure in race.failures)


def race_workers(
    directory: Path, cpus: Sequence[int], names: Sequence[str], rounds: int, slices: int, seconds: float
) -> tuple[dict[str, Any], bool]:
    """Race, and print; what was measured, and whether everything ran, and every byte came back.

    :param cpus: two.
    :param names: of `WORK`.
    :param seconds: measured of each in a round.
    """
    race = WorkersRace(directory, cpus, seconds / slices, warmup=0.1)
    for name in names:
        print("\n" + "\n".join(race.run(name, rounds, slices)), flush=True)
    print("\n" + "\n".join(summary(race)))
    every = [(name, who, runs) for name, by_who in race.runs.items() for who, runs in by_who.items()]
    found: dict[str, Any] = {}
    for name, who, runs in every:
        found.setdefault(name, {})[who] = [asdict(run) for run in runs]
    errors = sum(run.errors for _, _, runs in every for run in runs)
    return {"runs": found, "failures": race.failures}, not (race.failures or errors)
