"""Counters go on over reloads, and so do those of an endpoint that another replaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.asking_http import ask
from tests.admin.metrics.scraping import scrape, wait_for
from tests.running import RunningSuite, running

ADMIN = '[admin]\nlisten = "unix:admin.sock"\n'
MOVED = '[endpoints]\necho = "tcp:0:interface=127.0.0.2"\n'


@pytest.fixture
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    config = f'{ADMIN}[endpoints]\necho = "tcp:0"\nother = "unix:other.sock"\n'
    with running(tmp_path_factory.mktemp("reloads"), config, asked_for=["reload"]) as suite:
        yield suite


def reload(suite: RunningSuite, config: str, status: int = 200) -> None:
    (suite.directory / "config.toml").write_text(config)
    answer = ask(suite.admin[0], "/api/v1/reload", "POST")
    assert answer.status == status, answer.text


def exchange(suite: RunningSuite) -> None:
    with suite.connect("echo") as sock:
        sock.sendall(b"12345")
        assert sock.recv(100) == b"12345"


def test_counters_go_on(suite: RunningSuite) -> None:
    assert scrape(suite).value("last_reload_successful") is None
    exchange(suite)
    with suite.connect("echo") as sock:
        sock.sendall(b"123")
        assert sock.recv(100) == b"123"
        # An endpoint that is kept.
        reload(suite, f'{ADMIN}[endpoints.echo]\nlisten = "tcp:0"\nlimits = {{ connections = 100 }}\n')
        found = scrape(suite)
        assert found.value("connections_accepted_total", endpoint="echo") == 2
        assert found.value("connections_accepted_total", endpoint="other") is None
        assert found.value("reloads_total", result="good") == 1
        assert found.value("last_reload_successful") == 1
        # One that another replaces: the old one still has a connection.
        reload(suite, ADMIN + MOVED)
        found = wait_for(suite, 1, "endpoints", state="leaving")
        assert found.value("connections_accepted_total", endpoint="echo") == 2
        assert found.by("state", "connections_open", endpoint="echo") == {"answering": 1}
        assert found.value("endpoint_listening", endpoint="echo") == 1
        sock.sendall(b"4")
        wait_for(suite, 9, "stream_received_bytes_total", endpoint="echo")
    # The old one is gone, and what it has counted is not.
    found = wait_for(suite, 0, "endpoints", state="leaving")
    assert found.value("connections_accepted_total", endpoint="echo") == 2
    assert found.value("stream_sent_bytes_total", endpoint="echo") == 9
    assert found.by("state", "connections_open", endpoint="echo") == {}
    exchange(suite)
    found = wait_for(suite, 3, "connections_accepted_total", endpoint="echo")
    assert found.value("stream_received_bytes_total", endpoint="echo") == 14


def test_a_reload_that_fails_is_told(suite: RunningSuite) -> None:
    before = scrape(suite)
    reload(suite, f"{ADMIN}[endpoints]\nwrong = 1\n", status=409)
    found = scrape(suite)
    assert found.value("reloads_total", result="bad") == 1
    assert found.value("last_reload_successful") == 0
    when, started = found.value("last_reload_timestamp_seconds"), before.value("start_time_seconds")
    assert when is not None
    assert started is not None
    assert when > started
    assert found.value("endpoint_listening", endpoint="echo") == 1


def test_a_paused_endpoint_is_told(suite: RunningSuite) -> None:
    assert ask(suite.admin[0], "/api/v1/endpoints/echo/pause", "POST").status == 200
    found = scrape(suite)
    assert found.value("endpoint_paused", endpoint="echo") == 1
    assert found.by("state", "endpoints") == {"serving": 1, "paused": 1}
    assert found.value("ready") == 0
    assert ask(suite.admin[0], "/api/v1/endpoints/echo/resume", "POST").status == 200
    assert scrape(suite).value("ready") == 1
