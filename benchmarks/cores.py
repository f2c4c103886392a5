"""The races of a suite with workers: more cores, and many connections.

``python -m benchmarks.race --workers`` and ``--idle`` (or ``make bench BENCH=--workers``); see README.md
beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.idle import CONNECTIONS, measure_idle
from benchmarks.machine import machine
from benchmarks.measure import RaceError, build, no_go
from benchmarks.workers import WORK, race_workers

#: How often each server works in a round.
SLICES: Final = 5


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", allow_abbrev=False)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workers", action="store_true", help="one worker and two, beside Go and C")
    which.add_argument(
        "--idle",
        type=int,
        nargs="?",
        const=CONNECTIONS,
        metavar="N",
        help=f"memory of N idle connections, and the echo beside them (default: {CONNECTIONS:,})",
    )
    parser.add_argument("--quick", action="store_true", help="too short to judge by")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often all are started (default: 5)")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="measured in each round (default: 1; --idle: 10)"
    )
    parser.add_argument("--only", nargs="+", choices=WORK, metavar="WORK", help=" ".join(WORK))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command line; 0: everything ran, and every byte came back, however fast."""
    options = build_parser().parse_args(argv)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("there is one CPU here; expected two", file=sys.stderr)
        return 2
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        build(["suite", "c"] if no_go() else ["suite", "go", "c"])
        facts = dict(machine())
        print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
        with tempfile.TemporaryDirectory(prefix="race-") as directory:
            found, well = _measure(options, Path(directory), cpus, hard)
    except RaceError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    return 0 if well else 1


def _measure(
    options: argparse.Namespace, directory: Path, cpus: Sequence[int], descriptors: int
) -> tuple[dict[str, Any], bool]:
    if options.idle is not None:
        connections = min(options.idle, 400) if options.quick else options.idle
        found, lines = measure_idle(
            directory, connections, descriptors, options.seconds or (1 if options.quick else 10)
        )
        print("\n" + "\n".join(lines))
        return {"idle": found}, True
    slices = 1 if options.quick else SLICES
    rounds = options.rounds or (1 if options.quick else 5)
    return race_workers(
        directory, cpus[:2], options.only or [*WORK], rounds, slices, options.seconds or slices * 0.2
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
