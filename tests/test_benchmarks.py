"""The pure parts of ``benchmarks``: what is made of the numbers, and where servers say they listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import cores, idle, many, workers
from benchmarks.measure import KINDS, SUITE_CONFIG, RaceError, listening
from benchmarks.race import build_parser
from benchmarks.table import (
    MEMORY,
    MIB,
    WORKLOADS,
    Memory,
    Results,
    Run,
    Target,
    judged,
    memory_table,
    rotated,
    run_of,
    run_table,
    summary,
    verdict,
)
from suite.config import file as config
from suite.server.plan import Plan

SUITE_SAYS = """\
tcp          TCP   127.0.0.1:40001
udp          UDP   127.0.0.1:40002
tls          TLS   127.0.0.1:40003
unix         UNIX  suite.sock
ready; try: echo 'hola mundo...' | nc -N 127.0.0.1 40001
"""


def a_run(
    cpu: float,
    rate: float = 1000,
    *,
    turn: int = 0,
    errors: int = 0,
    noise: float = 0,
    load_busy: float = 0.5,
) -> Run:
    return Run(turn, cpu, rate, busy=0.9, load_busy=load_busy, errors=errors, lost=0, noise=noise)


def in_turns(*cpus: float) -> list[Run]:
    return [a_run(cpu, turn=turn) for turn, cpu in enumerate(cpus)]


def a_slice(messages: int, size: int, seconds: float, server_cpu: float, **more: float) -> dict[str, float]:
    return {
        "messages": messages,
        "bytes": size,
        "seconds": seconds,
        "errors": 0,
        "lost": 0,
        "load_cpu": 1.0,
        "server_cpu": server_cpu,
        "others": 0.0,
        "elapsed": seconds,
        **more,
    }


@pytest.mark.parametrize(
    ("text", "transport", "where"),
    [
        (SUITE_SAYS, "tcp", ("127.0.0.1", "40001")),
        (SUITE_SAYS, "udp", ("127.0.0.1", "40002")),
        (SUITE_SAYS, "tls", ("127.0.0.1", "40003")),
        (SUITE_SAYS, "unix", ("/race/suite.sock",)),
        ("ready 40004\n", "tls", ("127.0.0.1", "40004")),
        ("ready /race/peer.sock\n", "unix", ("/race/peer.sock",)),
    ],
)
def test_addresses(text: str, transport: str, where: tuple[str, ...]) -> None:
    """The load goes where a server says that it listens."""
    assert listening(text, transport, Path("/race")) == where


def test_no_address() -> None:
    """A server without the transport is a failure, not a guess."""
    with pytest.raises(RaceError, match="no unix address"):
        listening("ready; try: nothing\nx TCP 127.0.0.1:1\n", "unix", Path("/race"))


def test_suite_config(tmp_path: Path) -> None:
    """The suite's configuration has an endpoint for every workload."""
    (tmp_path / "config.toml").write_text(SUITE_CONFIG)
    names = {endpoint.name for endpoint in config.load(tmp_path / "config.toml").endpoints}
    assert names == {workload.transport for workload in (*WORKLOADS.values(), *MEMORY.values())}


def test_targets_name_peers() -> None:
    """Every target is about the suite's memory, or compares it with a server that takes part."""
    targets = [target for workload in (*WORKLOADS.values(), *MEMORY.values()) for target in workload.targets]
    assert all(target.peer in KINDS or target.of in {"each", "after"} for target in targets)


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("cpu", 1.3, "c"), 1.304, True),
        (Target("cpu", 1.3, "c"), 1.306, False),
        (Target("rate", 0.8, "c"), 0.8, True),
        (Target("rate", 0.8, "c"), 0.79, False),
        (Target("each", 26), 26.01, False),
    ],
)
def test_met(target: Target, value: float, met: bool) -> None:
    """A target is judged by the number that is shown; a rate has to be high, a cost low."""
    assert target.met(value) is met
    assert ("NOT MET" in verdict(target, value)) is not met


def test_units() -> None:
    """CPU time is shared out over messages, or over MiB where a message is large."""
    slices = [a_slice(8, 2 * MIB, 2.0, 0.5)]
    assert run_of(slices, "message", 0).cpu == pytest.approx(62_500)
    bulk = run_of(slices, "MiB", 0)
    assert (bulk.cpu, bulk.rate, bulk.busy, bulk.load_busy) == pytest.approx((250_000, 1, 0.25, 0.5))


def test_slices_are_one_run() -> None:
    """What a server did in the slices of a round counts together."""
    slices = [a_slice(100, 0, 0.2, 0.1, others=0.1), a_slice(300, 0, 0.2, 0.2, errors=1, lost=2)]
    run = run_of(slices, "message", 3)
    assert (run.turn, run.errors, run.lost) == (3, 1, 2)
    assert (run.cpu, run.rate, run.busy, run.noise) == pytest.approx((750, 1000, 0.75, 0.25))


def test_nothing_came_back() -> None:
    """A server that echoes nothing is infinitely dear, not a division by zero."""
    assert run_of([a_slice(0, 0, 1, 0.5, errors=64)], "message", 0).cpu == float("inf")


def test_judged_by_rounds() -> None:
    """The suite is compared with each peer in the same round; what was not measured has no number."""
    results = Results(
        runs={
            # The machine was slow in the second round, for all.
            "tcp": {"suite": in_turns(11, 24, 9), "uvloop": in_turns(10, 20, 10), "c": in_turns(5)},
            "handshake": {"suite": [a_run(1, rate=900)], "c": [a_run(1, rate=1000)]},
        },
        memory={"tls-memory": {"suite": Memory(1024, before=10 * MIB, during=30 * MIB, after=12 * MIB)}},
    )
    assert [value for _, value in judged("tcp", results)] == [1.1, None, 2.2]
    assert [value for _, value in judged("handshake", results)] == [0.9, None]
    assert [value for _, value in judged("tls-memory", results)] == [20, 1.2]
    assert [value for _, value in judged("unix", results)] == [None, None, None]
    told = "\n".join(summary(results, ["tcp", "handshake", "tls-memory"]))
    assert told == "3 of 5 measured targets met"


def test_tables() -> None:
    """Tables show medians, ratios, and whatever makes a number doubtful."""
    lines = list(
        run_table(
            WORKLOADS["tcp"],
            {"suite": [a_run(12.34)], "C (epoll)": [a_run(10, errors=2), a_run(10, turn=1, load_busy=1)]},
        )
    )
    assert "12.3" in lines[2]
    assert "1.23" in lines[3]
    assert "2 ERRORS" in lines[3]
    memory = {"suite": Memory(10_000, before=50 * MIB, during=60 * MIB, after=55 * MIB)}
    assert "1.02" in list(memory_table(MEMORY["tcp-memory"], memory))[2]


def test_noise_is_told() -> None:
    """A race on a busy machine, or with failures, says so."""
    results = Results(
        runs={"tcp": {"suite": [a_run(1, noise=0.5), a_run(1)]}},
        failures=["udp, go: it broke"],
        left_out=["tls, c"],
    )
    told = "\n".join(summary(results, ["tcp"]))
    assert "0.50 CPUs in 1 of 2 runs" in told
    assert "FAILED: udp, go: it broke" in told
    assert "left out for lack of time: tls, c" in told


def test_turns() -> None:
    """Every server gets to run first."""
    assert [rotated("abc", turn)[0] for turn in range(4)] == ["a", "b", "c", "a"]


def test_command_line() -> None:
    """Only what exists can be chosen."""
    options = build_parser().parse_args(["--only", "tcp", "tls-memory", "--servers", "suite", "c"])
    assert options.only == ["tcp", "tls-memory"]
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--only", "http"])


# More cores, and many connections.


def test_loads_of_one_interval_are_one() -> None:
    """What two generators have done at the same time is added; the time is not."""
    both = [a_slice(100, 1000, 0.2, 0.3, load_cpu=0.1), {**a_slice(50, 500, 0.2, 0.0), "load_cpu": 0.2}]
    total = workers.summed(both)
    assert (total["messages"], total["bytes"], total["server_cpu"]) == (150, 1500, 0.3)
    assert (total["seconds"], total["load_cpu"]) == pytest.approx((0.2, 0.3))


def test_what_two_workers_bring() -> None:
    """Each is compared with one of its kind, and the suite with others that have as many cores; by rounds."""
    runs = {
        "suite-1": [a_run(7, 1000), a_run(7, 2000, turn=1), a_run(7, 1000, turn=2)],
        "c-1": [a_run(6, 2000), a_run(6, 4000, turn=1), a_run(6, 2000, turn=2)],
        "suite-2": [a_run(7, 1800), a_run(7, 3500, turn=1), a_run(7, 1600, turn=2)],
        "c-2": [a_run(6, 3600), a_run(6, 3500, turn=1, errors=1)],
    }
    lines = [*workers.table(workers.WORK["tcp"], runs, {name: name for name in runs})]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:6]}
    assert rows["suite-1"][:2] == ["1,000", "7.00"]
    assert rows["c-1"][:2] == ["2,000", "0.50"]
    assert rows["suite-2"][:2] == ["1,800", "1.75"]
    assert rows["c-2"][1:3] == ["1.34", "0.75"]
    assert lines[5].endswith("1 ERRORS")
    assert lines[6] == "  target: two workers rate ≥ 1.70 x suite-1: 1.75, met"
    del runs["suite-2"]
    assert not any(
        "target" in line for line in workers.table(workers.WORK["tcp"], runs, dict.fromkeys(runs, ""))
    )


def test_who_races_for_cores() -> None:
    """One and two of each, and one whose load is elsewhere."""
    found = workers.entrants()
    for kind in ("suite", "c"):
        assert [found[f"{kind}-{which}"].processes for which in ("1", "2", "apart")] == [1, 2, 1]
        assert [found[f"{kind}-{which}"].apart for which in ("1", "2", "apart")] == [False, False, True]
    assert all(entrant.kind.is_suite is name.startswith("suite") for name, entrant in found.items())


@pytest.mark.parametrize(
    ("connections", "descriptors", "expected"),
    [(60_000, 20_000, 4), (60_000, 1_048_576, 2), (400, 20_000, 2), (16_000, 10_000, 2), (16_001, 10_000, 3)],
)
def test_workers_for_idle_connections(connections: int, descriptors: int, expected: int) -> None:
    """As many as have room for them all, also where chance gives some more than others."""
    assert idle.workers_for(connections, descriptors) == expected


def test_clients_for_idle_connections() -> None:
    """As few as can have them, and none of them left out."""
    assert idle.shares(60_000, 19_936) == [15_000] * 4
    assert idle.shares(10, 4) == [4, 3, 3]
    assert idle.shares(4, 4) == [4]


def test_command_line_of_cores() -> None:
    """Either race, with a number of connections or without."""
    parse = cores.build_parser().parse_args
    assert parse(["--idle"]).idle == 60_000
    assert parse(["--idle", "100", "--quick"]).idle == 100
    assert parse(["--workers", "--only", "connect"]).only == ["connect"]
    with pytest.raises(SystemExit):
        parse(["--workers", "--idle"])


# Many endpoints.


@pytest.mark.parametrize("transport", many.TRANSPORTS)
def test_many_endpoints_are_a_valid_configuration(tmp_path: Path, transport: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(many.config(transport, 3, 600))
    plan = Plan(file, mint=True)
    assert len(plan.descriptions) == 3
    assert {description.transport for description in plan.descriptions} == {transport.upper()}


@pytest.mark.parametrize(
    ("transport", "workers", "expected"),
    [("tcp", 1, 10_000), ("unix", 1, 9_900), ("tcp", 2, 4_096), ("unix", 2, 4_096)],
)
def test_as_many_endpoints_as_there_is_room_for(transport: str, workers: int, expected: int) -> None:
    assert many.room_for(transport, 10_000, 20_000, workers) == expected


def test_the_least_of_several_rounds_counts() -> None:
    rounds = [many.Found("tcp", 9, 1, 0.5, 1.0, 0.8, 0.02), many.Found("tcp", 9, 1, 0.6, 0.9, 0.7, 0.03)]
    found = many.Found.least(rounds)
    assert found == many.Found("tcp", 9, 1, 0.5, 0.9, 0.7, 0.02)
    assert found.together == pytest.approx(2.1)
    (_, line) = many.said([found])
    assert " ".join(line.split()) == "9 tcp 1 0.50 s 0.90 s 0.70 s 2.10 s 20 ms"


def test_an_echo_is_the_message_and_no_other() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(many.MESSAGE)
        assert many.echo(ours) > 0
        theirs.sendall(many.MESSAGE[::-1])
        with pytest.raises(RaceError, match="another message"):
            many.echo(ours)
