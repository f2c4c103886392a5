"""How much ``python -m suite load`` can do itself: its ceiling, against the echo server in C.

    python -m benchmarks.ceiling [SECONDS]

It needs what `benchmarks.race` needs: two CPUs with nothing else to do, and a C compiler. The server has one,
the load the other. Each number is the best of three: what else the machine does can only make it worse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import KINDS, RaceError, Server, build, pinned, prepare

ROUNDS: Final = 3

TRANSPORTS: Final = ("tcp", "unix", "tls", "udp")

#: What is tried: a message at a time on many connections, and several in flight at once.
MANNERS: Final = {
    "64 connections, 1 in flight": ("--connections", "64"),
    "8 connections, 8 in flight": ("--connections", "8", "--window", "8"),
}


def load(server: Server, directory: Path, cpu: int, seconds: str, manner: tuple[str, ...]) -> dict[str, Any]:
    """What one load of *server* says of itself."""
    where = ":".join(server.where)
    command = (sys.executable, "-m", "suite", "load", f"{server.transport}:{where}", "--json")
    with pinned(cpu):
        done = subprocess.run(
            [*command, "--duration", seconds, *manner],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RaceError(f"{done.stderr or done.stdout}; the server: {server.complaint()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> int:
    """Measure, and print a table."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "3"
    cpus = sorted(os.sched_getaffinity(0))
    build(["c"])
    print("| transport | manner | messages/s | CPU per message | of one CPU |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        prepare(directory)
        for transport in TRANSPORTS:
            for title, manner in MANNERS.items():
                results = []
                for _ in range(ROUNDS):
                    with Server(KINDS["c"], transport, directory, cpus[0]) as server:
                        results.append(load(server, directory, cpus[-1], seconds, manner))
                best = max(results, key=lambda result: float(result["rate"]))
                rate, busy = best["rate"], best["client"]["busy"]
                print(f"| {transport} | {title} | {rate:,.0f} | {busy / rate * 1e6:.1f} µs | {busy:.0%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
