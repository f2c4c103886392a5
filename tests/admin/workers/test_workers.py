"""The admin interface of a suite with two workers, asked by clients that share no code with it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.admin import asking
from tests.admin.api.asking_api import API
from tests.admin.asking_http import Connection, ask
from tests.admin.metrics.scraping import Scrape, scrape
from tests.running import PATIENCE, RunningSuite, run_suite, running, wait_until

WORKERS = 2

CONFIG = f"""
workers = {WORKERS}
control = "unix:run/control.sock"
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
unix = "unix:echo.sock"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
small = {{ listen = "tcp:0", limits = {{ deny = ["127.0.0.0/8"] }} }}
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""

#: What a suite logs when a worker dies.
REPLACED = "another takes its place"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("workers"), CONFIG, asked_for=[REPLACED]) as suite:
        yield suite


@pytest.fixture(scope="module")
def api(suite: RunningSuite) -> API:
    return API(suite)


def echo(suite: RunningSuite, endpoint: str = "tcp") -> None:
    """One echo, of 4 bytes."""
    with suite.connect(endpoint) as client:
        client.sendall(b"hola")
        assert client.recv(100) == b"hola"


def everywhere(suite: RunningSuite, api: API, stack: ExitStack, endpoint: str = "tcp") -> list[socket.socket]:
    """Open connections to *endpoint*, so many that each worker has some."""
    clients: list[socket.socket] = []

    def are_everywhere() -> bool:
        clients.append(stack.enter_context(suite.connect(endpoint)))
        clients[-1].sendall(b"x")
        assert clients[-1].recv(1) == b"x"
        return len({each["worker"] for each in api.connections(endpoint)}) == WORKERS

    wait_until(are_everywhere, "each worker has connections")
    return clients


# Reading.


def test_the_suite_is_one_and_tells_of_its_workers(suite: RunningSuite, api: API) -> None:
    status = api("GET", "status")
    assert (status["state"], status["ready"], status["pid"]) == ("serving", True, suite.process.pid)
    assert [(each["number"], each["state"]) for each in status["workers"]] == [(1, "serving"), (2, "serving")]
    assert status["endpoints"] == 5
    assert len({status["pid"], *(each["pid"] for each in status["workers"])}) == 1 + WORKERS
    assert [each["name"] for each in api("GET", "endpoints")["endpoints"]] == [
        "small",
        "tcp",
        "tls",
        "udp",
        "unix",
    ]
    for path in ("/healthz", "/readyz", "/startupz"):
        assert (ask(api.tcp, path).status, ask(api.tcp, path).text) == (200, "ok\n")


def test_connections_are_those_of_all_workers_each_once(suite: RunningSuite, api: API) -> None:
    with ExitStack() as stack:
        count = len(everywhere(suite, api, stack))
        listed = api.connections("tcp")
        numbers = [each["number"] for each in listed]
        assert numbers == sorted({*numbers})
        peers = {each["peer"] for each in listed}
        assert len(peers) == count
        # By pages of one.
        found: list[Any] = []
        after = None
        while after is not None or not found:
            more: dict[str, Any] = {"after": after} if after is not None else {}
            page = api("GET", "connections", endpoint="tcp", limit=1, **more)
            found += page["connections"]
            after = page["next"]
        assert [each["number"] for each in found] == numbers
        one = api("GET", f"endpoints/tcp/connections/{numbers[0]}")
        assert (one["peer"], one["worker"]) == (listed[0]["peer"], listed[0]["worker"])
        assert api("GET", "endpoints/tcp")["connections"]["open"] == count
        status = api("GET", "status")
        assert sum(each["open"] for each in status["workers"]) == status["connections"]["open"] == count
    api.wait_for("tcp", 0)


def test_a_connection_is_closed_wherever_it_is(suite: RunningSuite, api: API) -> None:
    with ExitStack() as stack:
        clients = {"{}:{}".format(*client.getsockname()): client for client in everywhere(suite, api, stack)}
        for each in api.connections("tcp"):
            assert api("DELETE", f"endpoints/tcp/connections/{each['number']}")["state"] == "ending"
            assert clients[each["peer"]].recv(1) == b""
    api.wait_for("tcp", 0)
    assert api.problem(404, "GET", "endpoints/tcp/connections/999999") == "tcp/999999 is not open"
    assert "is not an endpoint" in api.problem(404, "DELETE", "endpoints/none/connections/1")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("status?x=1", 400),
        ("endpoints?limit=0", 400),
        ("endpoints/none", 404),
        ("connections?after=x", 400),
        ("connections?endpoint=none", 404),
        ("endpoints/none/connections/1", 404),
        ("endpoints/tcp/connections/x", 404),
    ],
)
def test_a_request_that_cannot_be_followed(api: API, path: str, status: int) -> None:
    answer = ask(api.unix, f"/api/v1/{path}")
    assert answer.status == status
    assert "\n" not in answer.json["detail"]


# Metrics.


def test_metrics_are_sums_and_told_by_worker_on_request(suite: RunningSuite, api: API) -> None:
    before = scrape(suite).value("connections_accepted_total", endpoint="tcp") or 0
    with ExitStack() as stack:
        count = len(everywhere(suite, api, stack))
        found = scrape(suite)
        assert found.value("connections_accepted_total", endpoint="tcp") == before + count
        assert found.value("connections_open", endpoint="tcp", state="answering") == count
        assert found.by("state", "workers") == {"serving": WORKERS}
        each = Scrape(ask(suite.admin[0], "/metrics?by=worker").text)
        by_worker = each.by("worker", "connections_open", endpoint="tcp", state="answering")
        assert by_worker.keys() == {"1", "2"}
        assert sum(by_worker.values()) == count
        assert each.by("worker", "process_cpu_seconds_total").keys() == {"1", "2", "supervisor"}
    assert ask(suite.admin[0], "/metrics?by=endpoint").status == 400
    api.wait_for("tcp", 0)


def test_refusals_are_counted_wherever_they_happen(suite: RunningSuite, api: API) -> None:
    for _ in range(8):
        with suite.connect("small") as client:
            assert client.recv(1) == b""
    wait_until(
        lambda: api("GET", "endpoints/small")["connections"]["refused"] == {"denied": 8}, "8 are refused"
    )
    assert scrape(suite).value("connections_refused_total", endpoint="small", reason="denied") == 8


# Changing.


def fault_seen(suite: RunningSuite, api: API) -> set[str]:
    """The faults that connections to tcp get, in each worker."""
    with ExitStack() as stack:
        everywhere(suite, api, stack)
        found = {each["faults"] for each in api.connections("tcp")}
    api.wait_for("tcp", 0)
    return found


def test_faults_change_in_all_workers_through_either_door(suite: RunningSuite, api: API) -> None:
    added = api("POST", "endpoints/tcp/faults", {"faults": ["latency=1ms"], "seed": 3})
    [number] = added["ids"]
    assert fault_seen(suite, api) == {"latency 1 ms"}
    answer = asking.ask(suite, "add", endpoint="tcp", faults=["bandwidth=1MiB"])
    assert asking.faults_of(answer) == {"tcp": ["latency=1ms", "bandwidth=1MiB"]}
    assert api("GET", "endpoints/tcp/faults")["faults"] == [
        {"id": number, "fault": "latency=1ms"},
        {"id": number + 1, "fault": "bandwidth=1MiB"},
    ]
    assert fault_seen(suite, api) == {"latency 1 ms; bandwidth 1,048,576 B/s"}
    api("DELETE", f"endpoints/tcp/faults/{number}")
    assert fault_seen(suite, api) == {"bandwidth 1,048,576 B/s"}
    asking.ask(suite, "clear")
    assert api("GET", "faults") == {"endpoints": {}}
    assert fault_seen(suite, api) == {""}


def is_reset(suite: RunningSuite) -> bool:
    """Whether a new connection to tcp is reset, before or after something has been sent."""
    try:
        echo(suite)
    except ConnectionResetError:
        return True
    return False


def test_without_an_admin_interface_the_control_socket_is_enough(tmp_path: Path) -> None:
    config = CONFIG.partition("[admin]")[0]
    with running(tmp_path, config) as suite, suite.connect("tcp") as before:
        before.sendall(b"x")
        assert before.recv(1) == b"x"
        answer = asking.ask(suite, "add", endpoint="tcp", faults=["reset"])
        assert asking.faults_of(answer) == {"tcp": ["reset"]}
        assert all(is_reset(suite) for _ in range(4 * WORKERS))
        before.sendall(b"x")
        assert before.recv(1) == b"x"


def test_what_is_refused_changes_nothing_anywhere(suite: RunningSuite, api: API) -> None:
    assert "latensy" in api.problem(400, "POST", "endpoints/tcp/faults", {"faults": ["latensy=1ms"]})
    with asking.client(suite) as client:
        assert client.ask(do="add", endpoint="tcp", faults=["latensy=1ms"])["ok"] is False
    assert fault_seen(suite, api) == {""}


def test_many_requests_at_once_over_the_control_socket_are_answered_in_order(suite: RunningSuite) -> None:
    requests = [{"do": "list", "endpoint": name} for name in ("tcp", "udp", "none", "tls") * 20]
    with asking.client(suite) as client:
        client.send(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        client.sock.shutdown(socket.SHUT_WR)
        answers = [client.answer() for _ in requests]
        assert client.answer() is None
    assert [[*answer.get("endpoints", {})] for answer in answers] == [["tcp"], ["udp"], [], ["tls"]] * 20


def test_paused_in_all_workers(suite: RunningSuite, api: API) -> None:
    paused = api("POST", "endpoints/tcp/pause")
    assert paused["state"] == "paused"
    answer = ask(api.tcp, "/readyz")
    assert (answer.status, answer.text) == (503, "tcp: paused\n")
    with ExitStack() as stack:
        waiting = [stack.enter_context(suite.connect("tcp")) for _ in range(16)]
        for client in waiting:
            client.sendall(b"x")
        assert api.connections("tcp") == []
        assert api("POST", "endpoints/tcp/resume")["state"] == "serving"
        assert all(client.recv(1) == b"x" for client in waiting)
    assert ask(api.tcp, "/readyz").status == 200
    api.wait_for("tcp", 0)


# Events.


def test_one_stream_has_the_events_of_all_workers(suite: RunningSuite, api: API) -> None:
    with ExitStack() as stack:
        everywhere(suite, api, stack)
    connection = Connection(api.unix)
    connection.request("GET", "/api/v1/events?level=debug&after=0&endpoint=tcp&reason=closed")
    response = connection.getresponse()
    workers: set[int] = set()
    ids: list[int] = []
    while len(workers) < WORKERS:
        line = response.readline()
        if line.startswith(b"data: ") and b'"missed"' not in line:
            event = json.loads(line[6:])
            workers.add(event["worker"])
            ids.append(event["id"])
    connection.close()
    assert ids == sorted({*ids})
    recent = api("GET", "events/recent", level="debug", endpoint="tcp", reason="closed")["events"]
    assert {each["worker"] for each in recent} <= {1, 2}


# The page and the terminal.


def test_the_page_has_the_workers(api: API) -> None:
    text = ask(api.tcp, "/").text
    assert 'id="workers"' in text
    for worker in api("GET", "status")["workers"]:
        assert f">{worker['pid']}<" in text


def test_the_terminal_has_the_workers(suite: RunningSuite, api: API) -> None:
    lines = run_suite(suite.directory, "status").stdout.splitlines()
    [line] = [line for line in lines if line.startswith("workers ")]
    pids = [worker["pid"] for worker in api("GET", "status")["workers"]]
    assert (
        line.split(maxsplit=1)[1]
        == f"2 of 2 serve (open, by process: {pids[0]}: 0, {pids[1]}: 0); 0 restarts"
    )


def test_a_worker_that_dies_takes_no_count_with_it(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG, asked_for=[REPLACED]) as suite:
        api = API(suite)
        for _ in range(20):
            echo(suite)
        wait_until(lambda: api("GET", "endpoints/tcp")["connections"]["open"] == 0, "all have ended")
        api("POST", "endpoints/tcp/faults", {"faults": ["latency=1ms"]})
        api("POST", "endpoints/unix/pause")
        before = scrape(suite)
        for round_ in range(1, 3):
            for worker in api("GET", "status")["workers"]:
                kill(api, worker)
                after = scrape(suite)
                for name in ("connections_accepted_total", "stream_received_bytes_total"):
                    assert after.value(name, endpoint="tcp") == before.value(name, endpoint="tcp")
                assert not fallen(before, after)
                found = api("GET", "endpoints/tcp")
                assert found["connections"]["accepted"] == 20
                assert found["bytes"]["received"] == 80
                assert api("GET", "status")["bytes"]["received"] == 80
            assert scrape(suite).by("worker", "worker_restarts_total") == {"1": round_, "2": round_}
        # What has been changed holds in those that have come since, too.
        assert fault_seen(suite, api) == {"latency 1 ms"}
        with suite.connect("unix") as client:
            client.sendall(b"x")
            assert api.connections("unix") == []
            assert ask(api.tcp, "/readyz").text == "unix: paused\n"
            api("POST", "endpoints/unix/resume")
            assert client.recv(1) == b"x"


def kill(api: API, worker: Any) -> None:
    """End *worker* at once, and wait for another in its place."""
    os.kill(worker["pid"], signal.SIGKILL)

    def is_replaced() -> bool:
        now = api("GET", "status")["workers"][worker["number"] - 1]
        return bool(now["state"] == "serving" and now["pid"] != worker["pid"])

    wait_until(is_replaced, f"worker {worker['number']} is replaced")


def fallen(before: Scrape, after: Scrape) -> set[str]:
    """The counters that are less than before."""
    counters = {family.name for family in before.families if family.type in ("counter", "histogram")}
    return {
        name
        for (name, labels), value in before.samples.items()
        if any(name.startswith(counter) for counter in counters)
        and not name.endswith("_created")
        and after.samples[name, labels] < value
    }


def test_a_worker_that_does_not_answer_is_named_and_stops_nobody(suite: RunningSuite, api: API) -> None:
    worker = api("GET", "status")["workers"][0]
    before = scrape(suite)
    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        answer = ask(api.tcp, "/readyz")
        assert (answer.status, answer.text) == (503, "worker 1: does not answer\n")
        assert ask(api.tcp, "/healthz").status == 200
    finally:
        os.kill(worker["pid"], signal.SIGCONT)
    assert not fallen(before, scrape(suite))
    wait_until(lambda: ask(api.tcp, "/readyz").status == 200, "it answers again")


def test_no_figure_leaves_out_a_worker_that_does_not_answer_without_saying_so(
    suite: RunningSuite, api: API
) -> None:
    with ExitStack() as stack:
        count = len(everywhere(suite, api, stack))
        before = api("GET", "status")
        listed = api.connections("tcp")
        worker = before["workers"][0]
        theirs = [each["number"] for each in listed if each["worker"] == 1]
        shown_before = scrape(suite)
        assert shown_before.value("connections_open", endpoint="tcp", state="answering") == count
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            # The first request waits for it, and those that follow do not ask it any more.
            status = api("GET", "status")
            assert status["workers"][0] == {**worker, "state": "silent", "open": len(theirs)}
            assert status["reasons"] == ["worker 1: does not answer"]
            # What is open is in memory that is shared; the rest is as it has told last, or not known.
            assert status["connections"] == before["connections"]
            assert (status["descriptors"]["open"], status["reactor"]["lag"]) == (None, None)
            assert api("GET", "endpoints/tcp")["connections"]["open"] == count
            [endpoint] = [each for each in api("GET", "endpoints")["endpoints"] if each["name"] == "tcp"]
            assert endpoint["connections"]["open"] == count
            page = api("GET", "connections", endpoint="tcp")
            assert (page["unanswered"], len(page["connections"])) == ([1], count - len(theirs))
            problem = api.problem(503, "GET", f"endpoints/tcp/connections/{theirs[0]}")
            assert problem == f"worker 1 did not answer, and may have tcp/{theirs[0]}; see /readyz"
            found = scrape(suite)
            assert not fallen(shown_before, found)
            assert found.by("state", "workers") == {"serving": 1, "silent": 1}
            assert found.value("connections_open", endpoint="tcp", state="answering") is None
            assert found.value("reactor_timers") is None
            assert found.value("process_resident_memory_bytes") is None
            each = Scrape(ask(suite.admin[0], "/metrics?by=worker").text)
            assert each.by("worker", "connections_open", endpoint="tcp", state="answering").keys() == {"2"}
            said = run_suite(suite.directory, "status").stdout
            assert f"; worker 1 (process {worker['pid']}) does not answer; 0 restarts" in said
            assert f"connections  {count} open" in said
            for arguments in (("status", "tcp"), ("status", "--connections")):
                said = run_suite(suite.directory, *arguments).stdout
                assert "worker 1 does not answer: its connections are not listed" in said
            assert ">silent<" in ask(api.tcp, "/").text
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        wait_until(lambda: "unanswered" not in api("GET", "connections"), "it answers again")
        assert api("GET", "status")["workers"][0] == worker
        assert api.connections("tcp") == listed or len(api.connections("tcp")) == count
    api.wait_for("tcp", 0)


# Reloading, and the end.


def test_the_interface_comes_moves_and_goes_with_the_configuration(tmp_path: Path) -> None:
    without = CONFIG.partition("[admin]")[0]
    with running(tmp_path, CONFIG) as suite:
        file = tmp_path / "config.toml"
        with ExitStack() as stack:
            everywhere(suite, API(suite), stack)
            file.write_text(CONFIG.replace("unix:admin.sock", "unix:other.sock"))
            assert "5 as before" in ask(suite.admin[1], "/api/v1/reload", "POST").json["reloaded"]
            status = ask(str(tmp_path / "other.sock"), "/api/v1/status").json
            assert status["connections"]["open"] > 1
            assert status["reloads"]["good"] == 1
            file.write_text(without)
            suite.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not (tmp_path / "other.sock").exists(), "the interface has gone")
            echo(suite)
            file.write_text(CONFIG)
            suite.process.send_signal(signal.SIGHUP)
            wait_until((tmp_path / "admin.sock").exists, "the interface is there again")
            wait_until(
                lambda: ask(str(tmp_path / "admin.sock"), "/api/v1/status").json["connections"]["open"] > 1,
                "it has the same connections",
            )


def test_it_answers_until_the_last_echo_has_been_drained(tmp_path: Path) -> None:
    slow = CONFIG.replace('tcp = "tcp:0"', 'tcp = { listen = "tcp:0", faults = [{ latency = "1s" }] }')
    with running(tmp_path, slow) as suite, suite.connect("tcp") as client:
        api = API(suite)
        client.sendall(b"hola")
        wait_until(lambda: api("GET", "endpoints/tcp")["bytes"]["received"] == 4, "it has come")
        assert api("POST", "drain") == {"state": "draining"}
        answer = ask(api.tcp, "/readyz")
        assert (answer.status, answer.text) == (503, "draining\n")
        status = api("GET", "status")
        assert (status["state"], status["ready"], status["reasons"]) == ("draining", False, ["draining"])
        assert [each["state"] for each in api("GET", "endpoints")["endpoints"] if each["name"] == "tcp"] == [
            "leaving"
        ]
        assert client.recv(100) == b"hola"
        client.settimeout(PATIENCE)
        assert client.recv(100) == b""
