"""Streams of events: as they come, filtered, resumed, slow, too many, and at the end."""

from __future__ import annotations

import http.client
import json
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from suite.admin.api.watching import MOST_STREAMS, RESERVED
from tests.admin.api.asking_api import API
from tests.admin.asking_http import Connection, ask
from tests.running import PATIENCE, RunningSuite, client_program, running, wait_until

SMALL = """
[endpoints]
tcp = "tcp:0"
narrow = { listen = "tcp:0", limits = { deny = ["127.0.0.0/8"] } }
[admin]
listen = ["tcp:0", "unix:admin.sock"]
"""


class Stream:
    """A stream of events that is read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response

    def next(self) -> tuple[str, Any]:
        """The kind of the next event, and its data."""
        kind, data = "message", None
        while True:
            line = self.response.readline().decode()
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
            elif not line.strip() and data is not None:
                return kind, data

    def until(self, message: str) -> Any:
        """The first event with this message."""
        while True:
            _, data = self.next()
            if data.get("message", "").startswith(message):
                return data


@contextmanager
def watching(api: API, query: str = "", **headers: str) -> Iterator[Stream]:
    with closing(Connection(api.unix)) as connection:
        connection.request("GET", f"/api/v1/events{query}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.readline() == b"retry: 2000\n"
        yield Stream(response)


def pause(api: API) -> None:
    """Let something happen: two events of ``tcp``."""
    api("POST", "endpoints/tcp/pause")
    api("POST", "endpoints/tcp/resume")


def refused(suite: RunningSuite) -> None:
    """Let a connection to ``narrow`` be refused."""
    with suppress(ConnectionError), suite.connect("narrow") as sock:
        sock.recv(1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with running(tmp_path_factory.mktemp("events"), SMALL) as suite:
        yield API(suite)


def test_events_as_they_come_with_the_words_of_the_log(small: API) -> None:
    with watching(small, "?level=debug") as stream:
        with small.suite.connect("tcp") as sock:
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"
        found = stream.until("closed")
        assert (found["endpoint"], found["reason"], found["received"]) == ("tcp", "closed", 4)
        pause(small)
        found = stream.until("resumed")
        suite = small.suite
        wait_until(lambda: any('"resumed"' in line for line in suite.errors), "it was in the log, too")
        logged = next(event for event in suite.events if event["message"] == "resumed")
        assert found == {"id": found["id"], **logged}


def test_only_those_that_are_asked_for(small: API) -> None:
    with watching(small, "?endpoint=narrow&reason=denied") as stream:
        pause(small)
        refused(small.suite)
        kind, found = stream.next()
        assert (kind, found["endpoint"], found["reason"]) == ("message", "narrow", "denied")


def test_a_stream_is_resumed(small: API) -> None:
    with watching(small) as stream:
        pause(small)
        first = stream.next()[1]
    with watching(small, **{"Last-Event-ID": str(first["id"])}) as stream:
        assert stream.next()[1]["message"] == "resumed"
    with watching(small, f"?after={first['id']}") as stream:  # a page that has made its stream anew
        assert stream.next()[1]["message"] == "resumed"
    with watching(small, **{"Last-Event-ID": "1"}) as stream:  # of another run
        assert stream.next() == ("missed", {"missed": None})
    answer = small.answer("GET", "events/recent", after=first["id"])
    assert answer.json["events"][0]["message"] == "resumed"
    with closing(Connection(small.unix)) as connection:
        connection.request("GET", "/api/v1/events", headers={"Last-Event-ID": "x"})
        assert connection.getresponse().status == 400


def test_recent_events_in_pages(small: API) -> None:
    for _ in range(3):
        pause(small)
    last = small("GET", "events/recent", limit=3, endpoint="tcp")
    assert [each["message"].split(":")[0] for each in last["events"]] == ["resumed", "paused", "resumed"]
    found = []
    after = last["events"][0]["id"] - 1
    while page := small("GET", "events/recent", limit=2, endpoint="tcp", after=after):
        if not page["events"]:
            break
        found += page["events"]
        after = page["next"]
    assert found == last["events"]
    assert small("GET", "events/recent", after=after)["events"] == []
    assert small("GET", "events/recent", after=1)["missed"] is None


def test_there_are_so_many_streams_and_one_that_is_gone_makes_room(small: API) -> None:
    with ExitStack() as stack:
        for number in range(MOST_STREAMS):
            if number == MOST_STREAMS - RESERVED:  # nobody else's, however many ask
                assert ask(small.suite.admin[0], "/api/v1/events").status == 503
            stack.enter_context(watching(small))
        answer = small.answer("GET", "events")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert "streams of events already" in answer.json["detail"]
        assert small("GET", "events/recent")["events"]
    wait_until(lambda: _may_watch(small), "there is room again")


def _may_watch(api: API) -> bool:
    with closing(Connection(api.unix)) as connection:
        connection.request("GET", "/api/v1/events")
        return connection.getresponse().status == 200


def test_head_has_the_head_and_no_stream(small: API) -> None:
    with closing(Connection(small.unix)) as connection:
        connection.request("HEAD", "/api/v1/events")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")


def test_a_reader_that_is_too_slow_is_told_and_costs_little(tmp_path: Path) -> None:
    """Its buffers fill, then the suite drops what it has not taken, and says so when it reads again."""
    config = SMALL.replace("narrow = {", "narrow = { answer = 'discard',")
    with running(tmp_path, config) as suite, socket.socket(socket.AF_UNIX) as slow:
        api = API(suite)
        slow.connect(api.unix)  # for which the kernel holds less than over TCP
        slow.sendall(b"GET /api/v1/events?endpoint=narrow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert select.select([slow], [], [], PATIENCE)[0]
        total = 10_000
        before = suite.memory()
        for _ in range(total):
            refused(suite)
        wait_until(
            lambda: api("GET", "endpoints/narrow")["connections"]["refused"].get("denied") == total, "all are"
        )
        assert suite.memory() - before < 3 * 2**20  # all of them would be more than 4 MiB
        slow.settimeout(PATIENCE)
        data = b""
        while b"event: missed" not in data:
            more = slow.recv(2**20)
            assert more
            data += more
        api("POST", "endpoints/narrow/pause")
        while b'"paused: ' not in data:
            more = slow.recv(2**20)
            assert more
            data += more
        missed = sum(
            json.loads(part.split(b"\n")[0])["missed"]
            for part in data.split(b"event: missed\r\ndata: ")[1:] + data.split(b"event: missed\ndata: ")[1:]
        )
        assert 0 < missed < total
        assert data.count(b'"reason": "denied"') + missed == total


def test_curl_watches_and_the_end_of_the_suite_is_the_end_of_the_stream(tmp_path: Path) -> None:
    with running(tmp_path, SMALL) as suite:
        api = API(suite)
        curl = [client_program("curl"), "--silent", "--show-error", "--no-buffer"]
        url = "http://localhost/api/v1/events?level=debug"
        with subprocess.Popen([*curl, "--unix-socket", api.unix, url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"retry: 2000\n"
            pause(api)
            with suite.connect("tcp") as sock:
                sock.sendall(b"hola")
                assert sock.recv(4) == b"hola"
            assert suite.stop() == 0  # a stream that held up the end would do so for ever
            lines = process.stdout.read().decode()
            assert process.wait(PATIENCE) == 0
    found = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: ")]
    assert [each["message"].split(":")[0] for each in found][:2] == ["paused", "resumed"]
    assert [each["reason"] for each in found if each["message"] == "closed"] == ["closed"]


def test_a_reload_that_closes_the_interface_is_answered_and_ends_its_streams(tmp_path: Path) -> None:
    with running(tmp_path, SMALL) as suite:
        api = API(suite)
        with watching(api, "?level=critical") as stream:
            assert stream.response.readline() == b"\n"
            (tmp_path / "config.toml").write_text(SMALL.partition("[admin]")[0])
            answer = ask(api.unix, "/api/v1/reload", "POST")
            assert answer.json == {"reloaded": "0 added, 0 removed, 0 changed, 2 as before"}
            assert stream.response.read() == b""  # and not a connection that is lost
        assert ask_is_refused(api.unix)


def ask_is_refused(path: str) -> bool:
    try:
        ask(path, "/healthz")
    except (ConnectionError, FileNotFoundError):
        return True
    return False
