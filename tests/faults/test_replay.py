"""`suite.faults.replay`: what a log says that each connection got."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config.fault_text import words
from suite.config.faults import Fault, Recorded
from suite.errors import UsageError
from suite.faults.replay import read_log
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
        (name, number): one for name, numbers in found.items() for number, one in numbers.items()
    } == expected


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
    assert found == {"flaky": {3: Recorded(found["flaky"][3].faults, 5)}}
    assert list(map(words, found["flaky"][3].faults)) == ["latency=213ms"]


def test_a_connection_may_have_lost_its_faults_while_it_was_open(tmp_path: Path) -> None:
    found = read_log(log_of(tmp_path, GOOD, as_text("flaky", 3, "none"), as_json("flaky", 4, "none")))
    assert found == {"flaky": {3: Recorded((), 0), 4: Recorded((), 0)}}


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
    assert list(read_log(log_of(tmp_path, line))["flaky"]) == [3]


DAMAGED = [
    (as_text("flaky", 3, "latency=213"), "latency: '213' is not a duration"),
    (as_text("flaky", 3, "latency=213ms"), "it has no seed; expected one at its end"),
    (as_text("flaky", 3, "latancy=213ms seed=5"), "latancy: is no fault; did you mean latency?"),
    (as_text("flaky", 3, ""), "no fault is named"),
    (as_text("flaky", 3, "latency=213ms [1,000 characters cut] seed=5"), "[1,000: is no fault"),
    (as_json("flaky", 3, "latency=213ms"), "it has no seed"),
    (as_json("flaky", 3, "latency=213ms seed=5")[:-5], "it is not JSON; expected a whole line"),
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
        (log_of(tmp_path), "has no decision about a connection; expected lines with `faults: …`"),
        (log_of(tmp_path, *OTHERS), "has no decision about a connection"),
    ):
        with pytest.raises(UsageError, match=r".") as refused:
            read_log(path)
        assert said in str(refused.value)
        assert refused.value.exit_code == 2
