"""Counters go on over reloads, and so do those of an endpoint that another replaces."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.admin.asking_http import ask
from tests.admin.metrics.scraping import scrape, wait_for
from tests.running import RunningSuite, running, stuck, wait_until

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


def has_reloaded(suite: RunningSuite, told: int) -> bool:
    """Whether *suite* says so behind the first *told* lines of its log."""
    return any("reloaded" in line for line in suite.errors[told:])


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


def test_names_that_are_swapped_keep_their_counts(tmp_path: Path) -> None:
    """A counter never goes down while the suite runs, whatever a reload changes."""
    one, two = "tcp:0:interface=127.0.0.2", "tcp:0:interface=127.0.0.3"
    with running(tmp_path, f'{ADMIN}[endpoints]\necho = "{one}"\nother = "{two}"\n') as suite:
        exchange(suite)
        exchange(suite)
        reload(suite, f'{ADMIN}[endpoints]\necho = "{two}"\nother = "{one}"\n')
        found = scrape(suite)
        assert found.value("connections_accepted_total", endpoint="echo") == 2
        assert found.value("connections_accepted_total", endpoint="other") == 0
        wait_until(lambda: suite.addresses["echo"][0] == "127.0.0.3", "the new name was announced")
        exchange(suite)
        found = wait_for(suite, 3, "connections_accepted_total", endpoint="echo")
        assert found.value("stream_received_bytes_total", endpoint="echo") == 15
        assert found.value("connections_accepted_total", endpoint="other") == 0


def test_counters_go_on_while_nobody_can_see_them(tmp_path: Path) -> None:
    """Neither the interface nor the endpoint is there for a while; what they have counted stays."""
    with running(tmp_path, f'{ADMIN}[endpoints]\necho = "tcp:0"\n', asked_for=["reload"]) as suite:
        exchange(suite)
        before = wait_for(suite, 5, "stream_sent_bytes_total", endpoint="echo")
        spent = before.value("admin_busy_seconds_total")
        lags = before.value("reactor_lag_seconds_count")
        reload(suite, '[endpoints]\necho = "tcp:0"\n')
        exchange(suite)
        for config in (MOVED, ADMIN + '[endpoints]\necho = "tcp:0"\n'):
            told = len(suite.errors)
            (suite.directory / "config.toml").write_text(config)
            suite.process.send_signal(signal.SIGHUP)
            wait_until(partial(has_reloaded, suite, told), "it reloaded")
        wait_until(lambda: len(suite.admin) == 2, "it is announced again")
        found = wait_for(suite, 2, "connections_accepted_total", endpoint="echo")
        assert found.value("stream_sent_bytes_total", endpoint="echo") == 10
        assert spent is not None
        assert lags is not None
        assert (found.value("admin_busy_seconds_total") or 0) >= spent
        assert (found.value("reactor_lag_seconds_count") or 0) >= lags


def test_what_leaves_is_the_same_everywhere_while_it_ends(tmp_path: Path) -> None:
    config = f'drain = "1m"\n{ADMIN}[endpoints]\ntcp = "tcp:0"\nother = "unix:other.sock"\n'
    with running(tmp_path, config) as suite, ExitStack() as stack:
        stuck(suite, stack)
        assert ask(suite.admin[0], "/api/v1/drain", "POST").status == 202
        found = wait_for(suite, 2, "endpoints", state="leaving")
        assert found.value("endpoints", state="serving") == 0
        status = json.loads(ask(suite.admin[0], "/api/v1/status").text)
        assert (status["state"], status["endpoints"], status["leaving"]) == ("draining", 0, 2)


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
