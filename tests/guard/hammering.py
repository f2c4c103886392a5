"""Processes that admit connections as fast as they can, to an endpoint that they share.

``python -m tests.guard.hammering`` prints one line of JSON. Whether there was ever a connection too many is
told from when each was open: by turns, of which the system gives each once, not by a clock.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator

from suite.guard.shared import EndpointShare, Numbers, Shared, make_counter

WORKERS = 4
CONNECTIONS = 20
PER_PEER = 6
SOURCES = 5
ROUNDS = 20_000


def most_at_a_time(intervals: list[tuple[int, int]]) -> int:
    """How many of *intervals* overlap, at the most."""
    most = now = 0
    for _, change in sorted([(begin, 1) for begin, _ in intervals] + [(end, -1) for _, end in intervals]):
        now += change
        most = max(most, now)
    return most


def hammer(share: EndpointShare, turn: Callable[[], int], number: int) -> Iterator[tuple[int, int, int, int]]:
    """Admit and end connections; what was open, as its number, source, begin and end."""
    opened: list[tuple[int, int, int]] = []
    by_source: Counter[int] = Counter()
    for each in range(ROUNDS):
        source = (each * 7 + number) % SOURCES
        if share.admits(len(opened) + 1, CONNECTIONS):
            if share.admits_from(source, by_source[source] + 1, PER_PEER):
                by_source[source] += 1
                opened.append((share.numbers.next(), source, turn()))
            else:
                share.set_open(len(opened))
        # Some are refused, or all places of a worker would soon be taken for good.
        if opened and each % 3:
            of, ended, began = opened.pop(each % len(opened))
            yield of, ended, began, turn()
            by_source[ended] -= 1
            share.set_open_from(ended, by_source[ended])
            share.set_open(len(opened))
    for of, ended, began in opened:
        yield of, ended, began, turn()
        by_source[ended] -= 1
        share.set_open_from(ended, by_source[ended])
    share.set_open(0)


def fork(what: Callable[[], object]) -> tuple[int, int]:
    """Do *what* in a process of its own; its number, and a descriptor to read from what it prints."""
    ours, its = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(its, sys.stdout.fileno())
        print(json.dumps(what()), flush=True)
        os._exit(0)
    os.close(its)
    return pid, ours


def hammered(shared: Shared, slot: int, counter: int, turns: int) -> dict[str, object]:
    """What the workers together have had open."""
    waits, gate = os.pipe()

    def work(number: int) -> list[tuple[int, int, int, int]]:
        share = shared.of(number).endpoint(slot, counter)
        os.close(gate)
        os.read(waits, 1)
        return [*hammer(share, Numbers(turns).next, number)]

    workers = [fork(lambda number=number: work(number)) for number in range(1, WORKERS + 1)]  # type: ignore[misc]
    os.close(gate)  # all at once
    found: list[list[int]] = []
    for pid, output in workers:
        with open(output) as lines:
            found += json.load(lines)
        os.waitpid(pid, 0)
    return {
        "numbers": sorted(number for number, *_ in found),
        "open": most_at_a_time([(begin, end) for *_, begin, end in found]),
        "by_source": [
            most_at_a_time([(begin, end) for _, of, begin, end in found if of == source])
            for source in range(SOURCES)
        ],
    }


def left_by_the_killed(shared: Shared, slot: int, counter: int) -> dict[str, object]:
    """What a worker may have beside one that has all connections, before that is killed, and after."""

    def take_all() -> bool:
        share = shared.of(1).endpoint(slot, counter)
        for opened in range(1, CONNECTIONS + 1):
            assert share.admits(opened, CONNECTIONS)
            assert share.admits_from(7, opened, CONNECTIONS)
        print("all", flush=True)
        signal.pause()
        return True

    pid, output = fork(take_all)
    share = shared.of(2).endpoint(slot, counter)
    with open(output) as lines:
        lines.readline()
    # Without and with room for one more that is not from there.
    before = [
        share.admits(1, CONNECTIONS),
        share.admits(1, CONNECTIONS + 1),
        share.admits_from(7, 1, CONNECTIONS),
    ]
    share.set_open(0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    shared.clear(1)
    after = 0
    while share.admits(after + 1, CONNECTIONS) and share.admits_from(7, after + 1, CONNECTIONS):
        after += 1
    return {"before": before, "after": after}


def main() -> None:
    """Do all of it."""
    shared = Shared(WORKERS, sources=64)
    report = hammered(shared, 1, make_counter(), make_counter())
    report["killed"] = left_by_the_killed(shared, 1, make_counter())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
