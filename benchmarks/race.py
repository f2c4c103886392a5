"""The race: what an echo costs the server, here and elsewhere.

``python -m benchmarks.race`` (or ``make bench``) builds the load generator and the peers, lets every
server do the same work in turns, and prints what a message costs each of them. What is not measured
is said, never left out. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from benchmarks.machine import machine
from benchmarks.measure import KINDS, RaceError, Track, build, prepare
from benchmarks.table import (
    MEMORY,
    WORKLOADS,
    Results,
    judged,
    memory_table,
    rotated,
    run_of,
    run_table,
    summary,
    verdict,
)

#: In `--quick`, nothing new is started after this many seconds.
QUICK_BUDGET: Final = 52

IDLE_CONNECTIONS: Final = 10_000

#: How often each server works in a round. This many turns later, a machine may be another one.
SLICES: Final = 5

#: What a race of `benchmarks.cores` begins with, and one of `benchmarks.many`.
CORES: Final = ("--workers", "--idle")
MANY: Final = "--endpoints"

#: Before each of them, in seconds.
WARMUP: Final = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class Race:
    """A whole race.

    :param track: where it takes place.
    :param servers: who takes part.
    :param rounds: how often each of them is started.
    :param slices: how often it works in each round.
    :param deadline: nothing is started after it.
    """

    def __init__(
        self, track: Track, servers: Sequence[str], rounds: int, slices: int, deadline: float
    ) -> None:
        self.track = track
        self.servers = servers
        self.rounds = rounds
        self.slices = slices
        self.deadline = deadline
        self.results = Results()

    def run(self, name: str) -> Iterator[str]:
        """Everyone does the workload *name*; what comes out, line by line."""
        if name in MEMORY:
            yield from self._measure_memory(name)
        else:
            yield from self._measure_speed(name)
        for target, value in judged(name, self.results):
            yield verdict(target, value)

    def _measure_speed(self, name: str) -> Iterator[str]:
        for turn in range(self.rounds):
            for server, slices in self._round(name, turn).items():
                run = run_of(slices, WORKLOADS[name].unit, turn)
                self.results.runs.setdefault(name, {}).setdefault(server, []).append(run)
        if name in self.results.runs:
            yield from run_table(WORKLOADS[name], self._titled(self.results.runs[name]))

    def _round(self, name: str, turn: int) -> dict[str, list[dict[str, float]]]:
        """All servers at once, each of which works while the others are idle: for a moment, and again."""
        workload = WORKLOADS[name]
        measures: dict[str, Callable[[], dict[str, float]]] = {}
        slices: dict[str, list[dict[str, float]]] = {}
        with ExitStack() as stack:

            def start(entrant: str) -> Callable[[], dict[str, float]]:
                server = stack.enter_context(self.track.start(entrant, workload.transport))
                return stack.enter_context(self.track.loading(server, workload))

            for entrant in rotated(self._entrants(name), turn):
                measure = self._attempt(f"{name}, {entrant}", start, entrant)
                if measure is not None:
                    measures[entrant] = measure
            for _ in range(self.slices):
                for entrant, measure in [*measures.items()]:
                    measured = self._attempt(f"{name}, {entrant}", measure)
                    if measured is None:
                        del measures[entrant]
                    else:
                        slices.setdefault(entrant, []).append(measured)
        return slices

    def _measure_memory(self, name: str) -> Iterator[str]:
        # Once: memory hardly differs from run to run.
        for server in self._entrants(name):
            memory = self._attempt(f"{name}, {server}", self.track.memory, server, MEMORY[name])
            if memory is not None:
                self.results.memory.setdefault(name, {})[server] = memory
        if name in self.results.memory:
            yield from memory_table(MEMORY[name], self._titled(self.results.memory[name]))

    def _entrants(self, name: str) -> list[str]:
        """Who takes part in the workload *name*."""
        return [server for server in self.servers if name in (KINDS[server].workloads or (name,))]

    def _attempt(
        self, what: str, measure: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs
    ) -> T | None:
        if time.monotonic() > self.deadline:
            self.results.left_out.append(what)
            return None
        try:
            return measure(*arguments, **keywords)
        except (RaceError, subprocess.SubprocessError) as error:
            self.results.failures.append(f"{what}: {error}")
            return None

    def _titled(self, by_server: Mapping[str, T]) -> dict[str, T]:
        return {KINDS[name].title: by_server[name] for name in self.servers if name in by_server}


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.race",
        description="Race the echo suite against stock Twisted, asyncio, uvloop, Go and C.",
        epilog="Other races begin with --workers (more cores), --idle (many connections) or --endpoints (many"
        " endpoints), with --help.",
        allow_abbrev=False,
    )
    workloads = (*WORKLOADS, *MEMORY)
    parser.add_argument("--quick", action="store_true", help="all of it in a minute; too short to judge by")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often all are started (default: 5)")
    parser.add_argument("--seconds", type=float, metavar="S", help="measured in each round (default: 1)")
    parser.add_argument("--only", nargs="+", choices=workloads, metavar="WORKLOAD", help=" ".join(workloads))
    parser.add_argument("--servers", nargs="+", choices=KINDS, metavar="NAME", help=" ".join(KINDS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw a chart (needs matplotlib)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0: everything ran, and every byte came back, however fast."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in CORES:
        from benchmarks import cores  # noqa: PLC0415  # a race of its own

        return cores.main(argv)
    if argv and argv[0].partition("=")[0] == MANY:
        from benchmarks import many  # noqa: PLC0415  # as well

        return many.main(argv)
    options = build_parser().parse_args(argv)
    started = time.monotonic()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("there is one CPU here; expected two: one for the server, one for the load", file=sys.stderr)
        return 2
    if options.chart and not importlib.util.find_spec("matplotlib"):
        print("no chart without matplotlib (requirements/bench.txt)", file=sys.stderr)
        return 2
    # 10,000 connections in each process; what is started from here inherits the limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = 200 if options.quick else min(IDLE_CONNECTIONS, hard - 100)
    if idle < IDLE_CONNECTIONS and not options.quick:
        print(f"only {idle} idle connections: `ulimit -Hn` is {hard}")
    try:
        servers = build(options.servers or list(KINDS))
    except RaceError as error:
        print(error, file=sys.stderr)
        return 2
    facts = dict(machine())
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)

    rounds = options.rounds or (1 if options.quick else 5)
    slices = 1 if options.quick else SLICES
    seconds = options.seconds or slices * 0.2
    workloads = options.only or [*WORKLOADS, *MEMORY]
    with tempfile.TemporaryDirectory(prefix="race-") as directory:
        prepare(Path(directory))
        track = Track(Path(directory), cpus[0], cpus[-1], seconds / slices, WARMUP, idle)
        deadline = started + QUICK_BUDGET if options.quick else float("inf")
        race = Race(track, servers, rounds, slices, deadline)
        for name in workloads:
            print("\n" + "\n".join(race.run(name)), flush=True)
    print("\n" + "\n".join(summary(race.results, workloads)))
    if options.quick:
        print("this was the quick race: it shows that everything runs, and roughly how fast")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        everything = {"machine": facts, "rounds": rounds, "seconds": seconds, **asdict(race.results)}
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
    if options.chart:
        from benchmarks.chart import draw  # noqa: PLC0415  # needs matplotlib, which nothing else does

        draw(asdict(race.results)["runs"], options.chart)
    return 1 if race.results.failures or race.results.errors() else 0


if __name__ == "__main__":
    sys.exit(main())
