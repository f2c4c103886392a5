"""`suite.faults.replay`: what a log says that each connection got, and what was declared for datagrams."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.fault_text import words
from suite.config.faults import Fault, Faults, Recorded, Replay, belongs_together
from suite.errors import UsageError
from suite.faults.replay import read_log, said_of_datagrams
from tests.config.test_fault_text import faults

TEXT = "2026-01-02T03:04:05.678Z info {endpoint}#{number} {peer} faults: {said}"


def as_json(endpoint: str, number: int, said: str) -> str:
    event = {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "endpoint": endpoint,
        "connection": number,
        "peer": "127.0.0.1:40000",
        "faults": said,
        "message": f"faults: {said}",
    }
    return json.dumps(event)


def as_text(endpoint: str, number: int, said: str) -> str:
    return TEXT.format(endpoint=endpoint, number=number, peer="127.0.0.1:40000", said=said)


def as_message(endpoint: str, message: str) -> str:
    return f"2026-01-02T03:04:05.678Z info {endpoint} {message}"


def log_of(directory: Path, *lines: str) -> Path:
    path = directory / "suite.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["flaky", "a-b_c", "7"]),
            st.integers(1, 10**6),
            st.lists(faults(), min_size=1, max_size=4),
            st.integers(0, 2**32 - 1),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_whatever_was_decided_is_read_again(
    directory: Path, decisions: list[tuple[str, int, list[Fault], int, bool]]
) -> None:
    """From text, from JSON, and from a mix of both; of two decisions about one connection, the later one."""
    lines, expected = [], {}
    for endpoint, number, struck, seed, json_too in decisions:
        said = "; ".join(map(words, struck)) + f" seed={seed}"
        lines.append((as_json if json_too else as_text)(endpoint, number, said))
        expected[endpoint, number] = Recorded(tuple(struck), seed)
    found = read_log(log_of(directory, *lines))
    assert {
        (name, number): one for name, replay in found.items() for number, one in replay.connections.items()
    } == expected
    assert not any(replay.datagrams for replay in found.values())


@given(
    st.lists(st.tuples(faults(), st.integers(0, 3), st.sampled_from(["", "3g"])), max_size=5),
    st.sampled_from([0, 2**63 - 1]) | st.integers(0, 2**63 - 1),
    st.integers(1, 10**9),
    st.booleans(),
)
def test_what_was_declared_for_datagrams_is_read_again(
    directory: Path, declared: list[tuple[Fault, int, str]], seed: int, number: int, json_too: bool
) -> None:
    """In its order, and with what belongs together."""
    entries = tuple(replace(fault, place=place, profile=name) for fault, place, name in declared)
    said = said_of_datagrams(number, Faults(entries, seed))
    line = json.dumps({"endpoint": "udp", "message": said}) if json_too else as_message("udp", said)
    recorded = read_log(log_of(directory, line))["udp"].datagrams[number]
    assert recorded.faults == entries
    assert recorded.seed == (seed if entries else 0)
    assert [belongs_together(*two) for two in pairwise(recorded.faults)] == [
        belongs_together(*two) for two in pairwise(entries)
    ]


def test_a_count_that_begins_again_leaves_nothing_of_what_was_said_before(tmp_path: Path) -> None:
    told = [(1, "loss=0.1 seed=1"), (5, "loss=0.2 seed=1"), (9, "none"), (1, "loss=0.3 seed=1"), (7, "none")]
    lines = [as_message("udp", f"faults from datagram {number}: {said}") for number, said in told]
    replay = read_log(log_of(tmp_path, *lines))["udp"]
    assert {number: [*map(words, one.faults)] for number, one in replay.datagrams.items()} == {
        1: ["loss=0.3"],
        7: [],
    }
    assert not replay.connections


GOOD = as_text("flaky", 3, "latency=213ms seed=5")

OTHERS = [
    "",
    "ready; try: nc localhost 1234",
    "2026-01-02T03:04:05.678Z info flaky#3 127.0.0.1:40000 closed (done, faults: latency 213 ms)",
    "2026-01-02T03:04:05.678Z info flaky 127.0.0.1:40000 faults: loss=0.1 seed=5",
    json.dumps({"message": "closed", "connection": 3, "endpoint": "flaky", "faults": "x; faults: y"}),
    json.dumps({"message": "faults: loss=0.1 seed=5", "endpoint": "udp"}),
    "2026-01-02T03:04:05.678Z info flaky#3 closed: reset at 4; faults: reset at 4 (fault, 10 bytes, 0.0 s)",
    "2026-01-02T03:04:05.678Z info flaky#3 closed; faults: latency 213 ms (closed, 10 bytes, 0.0 s)",
    "2026-01-02T03:04:05.678Z info flaky#3 local closed; faults: latency 213 ms (closed, 10 bytes, 0.0 s)",
    "{not JSON, and no decision}",
    "somebody writes about faults: reset seed=1",
]


def test_other_lines_are_passed_over(tmp_path: Path) -> None:
    found = read_log(log_of(tmp_path, *OTHERS, GOOD, *OTHERS))
    recorded = found["flaky"].connections[3]
    assert found == {"flaky": Replay({3: Recorded(recorded.faults, 5)}, {})}
    assert list(map(words, recorded.faults)) == ["latency=213ms"]


def test_a_connection_may_have_lost_its_faults_while_it_was_open(tmp_path: Path) -> None:
    found = read_log(log_of(tmp_path, GOOD, as_text("flaky", 3, "none"), as_json("flaky", 4, "none")))
    assert found == {"flaky": Replay({3: Recorded((), 0), 4: Recorded((), 0)}, {})}


@pytest.mark.parametrize(
    "line",
    [
        f"Jan 02 03:04:05 host echo-suite[77]: {GOOD}",
        f"echo-1  | {as_json('flaky', 3, 'latency=213ms seed=5')}",
        as_text("flaky", 3, "latency=213ms seed=5") + "\r",
        TEXT.format(endpoint="flaky", number=3, peer="[::1]:40000", said="latency=213ms seed=5"),
        "2026-01-02T03:04:05.678Z info flaky#3 faults: latency=213ms seed=5",
    ],
)
def test_what_a_collector_adds_is_no_matter(tmp_path: Path, line: str) -> None:
    assert list(read_log(log_of(tmp_path, line))["flaky"].connections) == [3]


DAMAGED = [
    (as_text("flaky", 3, "latency=213"), "latency: '213' is not a duration"),
    (as_text("flaky", 3, "latency=213ms"), "it has no seed; expected one at its end"),
    (as_text("flaky", 3, "latancy=213ms seed=5"), "latancy: is not a fault; did you mean latency?"),
    (as_text("flaky", 3, ""), "no fault is named"),
    (as_text("flaky", 3, "latency=213ms [1,000 characters cut] seed=5"), "[1,000: is not a fault"),
    (as_json("flaky", 3, "latency=213ms"), "it has no seed"),
    (as_json("flaky", 3, "latency=213ms seed=5")[:-5], "it is not JSON; expected a whole line"),
    (as_message("udp", "faults from datagram 1: loss=0.1"), "it has no seed; expected one at its end"),
    (as_message("udp", "faults from datagram one: loss=0.1 seed=5"), "expected `faults from datagram NUMBER"),
    (as_message("udp", "faults from datagram 1: loss=2 seed=5"), "loss: 2 is out of range"),
]


@pytest.mark.parametrize(("line", "said"), DAMAGED, ids=[said for _, said in DAMAGED])
def test_a_damaged_line_is_named_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = log_of(tmp_path, GOOD, "", line, GOOD)
    with pytest.raises(UsageError, match=r"suite\.log: line 3 is damaged: ") as refused:
        read_log(path)
    assert said in str(refused.value)


def test_a_log_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "missing.log", "missing.log: cannot be read: No such file or directory; expected a log"),
        (tmp_path, "cannot be read: Is a directory"),
        (log_of(tmp_path), "has no decision; expected lines with `faults: …` or `faults from datagram …`"),
        (log_of(tmp_path, *OTHERS), "has no decision"),
    ):
        with pytest.raises(UsageError, match=r".") as refused:
            read_log(path)
        assert said in str(refused.value)
        assert refused.value.exit_code == 2
