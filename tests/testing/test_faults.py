"""Faults in `suite.testing`: declared, changed, and asserted on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import assert_type

import pytest
from twisted.logger import LogEvent

from suite.testing import FaultRecord, MakeEchoSuite, RunningSuite, StartError
from suite.testing.fault_log import KEPT_CONNECTIONS, FaultLog
from tests.running import PATIENCE

TCP = '[endpoints]\ntcp = "tcp:0"\nother = "tcp:0"'


@pytest.fixture(scope="module")
def module_suite() -> Iterator[RunningSuite]:
    with RunningSuite(patience=PATIENCE) as suite:
        yield suite


@pytest.fixture
def suite(module_suite: RunningSuite) -> Iterator[RunningSuite]:
    """One that has seen nothing yet, and has no faults."""
    module_suite.clear()
    yield module_suite
    module_suite.clear_faults()
    module_suite.check()


def outcome(suite: RunningSuite, endpoint: str = "tcp") -> bytes | None:
    """What comes back for four bytes; None: a reset."""
    try:
        with suite.connect(endpoint) as client:
            client.sendall(b"hola")
            client.shutdown(socket.SHUT_WR)
            data = b""
            while more := client.recv(100):
                data += more
            return data
    except OSError:  # ECONNRESET, EPIPE or ENOTCONN: whichever call comes next
        return None


def records(suite: RunningSuite, endpoint: str = "tcp") -> list[tuple[str, str | None]]:
    """Faults and end of each connection, once all have ended."""
    suite.wait_for(endpoint, open=0)
    return [(each.faults, each.end) for each in suite.faults(endpoint)]


def test_they_are_in_force_from_the_first_connection_on() -> None:
    with RunningSuite(TCP, faults={"tcp": "limit=2B"}) as suite:
        assert outcome(suite) == b"ho"
        assert outcome(suite, "other") == b"hola"
        assert records(suite) == [("limit=2B", "fault")]
        assert records(suite, "other") == [("", "closed")]


@pytest.mark.parametrize(
    "faults",
    [
        "slice=1B limit=3B",
        {"limit": "3B"},
        ["slice=1B", "limit=3B"],
        ({"slice": "1B"}, {"limit": "3B"}),
        ["slice=1B", {"limit": "3B"}],
    ],
)
def test_in_words_and_in_tables_one_or_several(suite: RunningSuite, faults: object) -> None:
    each = faults if isinstance(faults, (list, tuple)) else [faults]
    suite.add_faults("unix", *each)
    assert outcome(suite, "unix") == b"hol"
    assert records(suite, "unix")[0][0].endswith("limit=3B")


def test_beside_those_of_the_configuration() -> None:
    config = {"endpoints": {"tcp": {"listen": "tcp:0", "faults": [{"slice": "1B"}]}}}
    with RunningSuite(config, faults={"tcp": {"limit": "3B"}}) as suite:
        assert outcome(suite) == b"hol"
        assert records(suite) == [("slice=1B; limit=3B", "fault")]


def test_the_same_seed_strikes_the_same_connections(suite: RunningSuite) -> None:
    with RunningSuite(TCP, faults={"tcp": "reset chance=0.5", "other": "reset chance=0.5"}, seed=12) as two:
        struck = {name: [outcome(two, name) for _ in range(6)] for name in ("tcp", "other")}
    assert struck["tcp"] == struck["other"] == [None, None, b"hola", None, None, None]


def test_cleared_of_one_endpoint_or_of_all(suite: RunningSuite) -> None:
    suite.add_faults("tcp", "reset")
    suite.add_faults("unix", "limit=1B")
    suite.clear_faults("tcp")
    assert (outcome(suite), outcome(suite, "unix")) == (b"hola", b"h")
    suite.clear_faults()
    assert outcome(suite, "unix") == b"hola"


def test_a_connection_that_is_open_has_no_end_yet(suite: RunningSuite) -> None:
    suite.add_faults("tcp", "stall after=2B", seed=1)
    with suite.connect("tcp") as client:
        client.sendall(b"hola")
        assert client.recv(2) == b"ho"
        assert suite.faults("tcp")[-1].faults == "stall after=2B"
        assert suite.faults("tcp")[-1].end is None
        suite.clear()
        (found,) = suite.faults("tcp")
        assert found.faults == "stall after=2B"
    suite.wait_for("tcp", open=0)  # the client has left, and a fault holds the connection


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("tcp", "stall"),
        ("unix", "blackhole"),
        ("tls", "stall direction=up"),
        ("tcp", "latency=1h"),
        ("tls", "slow_close=1h"),
    ],
)
def test_a_client_that_has_left_has_forgotten_nothing(endpoint: str, fault: str) -> None:
    """Whatever its target still holds; and the end of the suite waits for none of it."""
    with RunningSuite(faults={endpoint: fault}, patience=PATIENCE) as suite:
        with suite.connect(endpoint) as client:
            client.sendall(b"hola")
            suite.wait_for(endpoint, opened=1)
            assert suite.connections(endpoint).open == 1
        suite.wait_for(endpoint, open=0)
    assert suite.log.count("drain") <= 1


def test_a_refused_connection_has_a_record_too(suite: RunningSuite) -> None:
    suite.add_faults("tcp", "refuse")
    assert outcome(suite) is None
    assert records(suite) == [("refuse", "fault")]


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"tpc": "reset"}, "no endpoint 'tpc'; expected tcp or other"),
        ({"tcp": "rest"}, "rest: is not a fault; did you mean reset?"),
        ({"tcp": {"latency": 200}}, "faults[1].latency: 200 is an integer; expected a duration such as"),
        ({"other": ["reset", {"loss": 0.5}]}, "faults[2].loss: does not go with TCP; only UDP has it"),
        ({"tcp": []}, "faults: [] cannot be used; expected an array of faults"),
    ],
)
def test_a_mistake_is_a_start_error_of_one_line(faults: dict[str, str], says: str) -> None:
    with pytest.raises(StartError) as raised:
        RunningSuite(TCP, faults=faults)
    assert str(raised.value).startswith(says)
    assert raised.value.exit_code == 2


def test_a_mistake_while_it_runs_changes_nothing(suite: RunningSuite) -> None:
    with pytest.raises(ValueError, match="reset: does not go with UDP; only streams have it"):
        suite.add_faults("udp", "loss=0.5", "reset")
    with pytest.raises(KeyError, match="no endpoint 'upd'"):
        suite.add_faults("upd", "loss=0.5")
    with suite.connect("udp") as client:
        for _ in range(20):
            client.send(b"hola")
            assert client.recv(100) == b"hola"


def test_the_control_socket_of_a_configuration_is_there_as_well() -> None:
    with RunningSuite('control = "unix:run/control.sock"\n' + TCP, faults={"tcp": "limit=2B"}) as suite:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(suite.directory / "run/control.sock"))
            client.sendall(b'{"do": "clear"}\n')
            assert client.recv(100) == b'{"ok": true, "endpoints": {}}\n'
        assert outcome(suite) == b"hola"


def test_of_types_and_of_the_fixture(make_echo_suite: MakeEchoSuite) -> None:
    suite = make_echo_suite(faults={"tcp": ["reset", {"latency": "1ms"}], "unix": "slice=1"}, seed=3)
    assert_type(suite.faults("tcp"), list[FaultRecord])
    assert suite.faults("tcp") == []


# What it remembers.


def event(number: int, **fields: object) -> LogEvent:
    return {"endpoint": "e", "connection": number, **fields}


def test_the_log_is_read_for_what_it_says() -> None:
    log = FaultLog()
    log(event(1, faults="latency=1ms; reset seed=77"))
    log(event(2, faults="stall seed=78"))
    log(event(2, faults="none"))  # decided about again
    log(event(1, faults="latency 1 ms; reset", reason="fault"))
    log(event(3, reason="closed"))
    log({"endpoint": "e"})
    log({"connection": 4, "reason": "closed"})
    log(event(5))
    assert log.connections("e", [2, 6]) == [
        (1, "latency=1ms; reset", "fault"),
        (2, "", None),
        (3, "", "closed"),
        (6, "", None),
    ]
    assert log.connections("other", []) == []


def test_what_happened_to_datagrams(suite: RunningSuite) -> None:
    """Each one that was struck, until the next test."""
    assert suite.faults("udp") == []
    suite.add_faults("udp", "truncate=2B every=2")
    with suite.connect("udp") as client:
        for expected in (b"hola", b"ho", b"hola", b"ho"):
            client.send(b"hola")
            assert client.recv(100) == expected
    assert suite.faults("udp") == [
        FaultRecord(2, "truncated to 2", None),
        FaultRecord(4, "truncated to 2", None),
    ]
    suite.clear()
    assert suite.faults("udp") == []


def test_it_forgets_the_oldest() -> None:
    log = FaultLog()
    for number in range(KEPT_CONNECTIONS + 10):
        log(event(number, reason="closed"))
    assert [number for number, _, _ in log.connections("e", [])] == [*range(10, KEPT_CONNECTIONS + 10)]
