"""A suite, its endpoints and connections as they are shown on terminals of different widths."""

from __future__ import annotations

import io
import re
from datetime import date
from typing import Any

import pytest
from rich.console import Console

from suite.client.status import words
from suite.client.status.detail import connections_table, endpoint_detail
from suite.client.status.overview import overview, refusals_table, shown_days
from suite.client.status.snapshot import Rates, Snapshot, clean
from suite.client.status.words import NOTHING
from tests.client.status.documents import a_suite, endpoint, refusal, status


@pytest.fixture(autouse=True)
def on_that_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the day of the `refusal`: on others its row has the day, too."""
    monkeypatch.setattr(words, "today", lambda: date(2026, 11, 27))


def drawn(what: Any, width: int = 80) -> list[str]:
    """The lines of *what* on a terminal without colors."""
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def whole(width: int = 80, before: Snapshot | None = None, height: int | None = None) -> list[str]:
    """`a_suite` on a terminal."""
    document, endpoints = a_suite()
    now = Snapshot(document, endpoints, [refusal()])
    return drawn(overview(now, Rates(before, now), width, height), width)


NARROW = """
endpoint        address         open  accepted  refused  failed  faults  days
tcp       TCP   127.0.0.1:1234     3     1,204       15       0       1     -
udp       UDP   127.0.0.1:1234     -       400        2       0       0     -
tls       TLS   127.0.0.1:4433     0         0        0       4       0   824
unix      UNIX  run/echo.sock      0         0        0       0       0     -
""".replace("-\n", f"{NOTHING}\n").replace(" -", f" {NOTHING}")


def test_80_columns() -> None:
    """Everything is there, but for what has no room."""
    lines = whole()
    assert lines[:9] == [
        "suite        echo-suite 0.1.0, serving, ready, for 3 h 12 min, process 4711",
        "config       config.toml: 4 endpoints",
        "connections  3 open, 1,204 accepted; ended: 1,190 closed, 11 reset",
        "bytes        118 MiB in, 118 MiB out",
        "refused      15: 12 per-peer, 3 denied",
        "handshakes   120 completed, 30 of them resumed; 4 failed: 4 unknown-ca",
        "datagrams    400 received, 398 answered; not answered: 2 rate",
        "faults       struck: 401 latency",
        lines[8],
    ]
    assert lines[8].startswith("reloads      2 good, 1 bad; last at ")
    assert "config.toml: tls.minimun: unknown key; did you mean minimum?" in " ".join(
        line.strip() for line in lines[8:11]
    )
    assert NARROW.strip() in "\n".join(lines)
    assert "2029-02-28         824  tls       CN=localhost" in lines
    assert "tcp       192.0.2.7:40000  per-peer  this peer has its maximum" in "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)


def test_200_columns_say_why_and_how_fast() -> None:
    before = Snapshot(status(uptime=11518.0), [endpoint("tcp"), endpoint("udp", "UDP")], [])
    lines = whole(200, before)
    assert "connections  3 open, 1,204 accepted (602/s); ended: 1,190 closed, 11 reset" in lines
    assert "bytes        118 MiB in, 118 MiB out (58.9 MiB/s in)" in lines
    (row,) = [line for line in lines if line.startswith("tcp ")]
    words = "tcp TCP 127.0.0.1:1234 echo serving 3 1,204 602 58.9 MiB 118 MiB 12 per-peer, 3 denied 0 1"
    assert row.split() == [*words.split(), NOTHING]
    (row,) = [line for line in lines if line.startswith("udp ")]
    assert row.split()[5:10] == [NOTHING, "400", "200", "12.5", "KiB"]
    (row,) = [line for line in lines if line.startswith("tls ")]
    assert row.split()[7:9] == [NOTHING, NOTHING], "it was not there before"


def test_what_says_nothing_is_left_out() -> None:
    now = Snapshot(status(endpoints=1), [endpoint("tcp")], [])
    text = "\n".join(drawn(overview(now, Rates(None, now), 80)))
    for title in ("failed", "faults", "days", "state", "reloads", "certificates", "refused at", "/s", "more"):
        assert f" {title} " not in text
    assert "endpoint       address         open  accepted  refused\n" in text


def test_a_suite_that_is_not_well_says_why() -> None:
    now = Snapshot(
        status(
            state="draining",
            ready=False,
            reasons=["draining"],
            leaving=2,
            paused=["a", "b"],
            not_served=[
                {"endpoint": "x", "problem": "endpoints.x: cannot listen on [::1]:1: no such device"}
            ],
            log={"suppressed": 1200, "lost": 3},
        ),
        [endpoint("a", state="paused")],
        [],
    )
    lines = drawn(overview(now, Rates(None, now), 80))
    assert lines[0].startswith("suite        echo-suite 0.1.0, draining, not ready: draining, for 3 h 12 min")
    assert "config       config.toml: 4 endpoints, 2 leaving; paused: a, b" in lines
    assert "not served   endpoints.x: cannot listen on [::1]:1: no such device" in lines
    assert "log: 1,200 lines suppressed, 3 lost" in " ".join(line.strip() for line in lines)
    assert any(line.split() == ["a", "TCP", "127.0.0.1:1234", "paused", "0", "0", "0"] for line in lines)


def test_what_is_not_known_is_a_dash() -> None:
    now = Snapshot(
        status(
            descriptors={"open": None, "limit": None},
            reactor={"name": "select", "timers": 0, "lag": {"p50": None, "p99": None, "max": None}},
        ),
        [endpoint("tcp", addresses=[])],
    )
    lines = drawn(overview(now, Rates(None, now), 80))
    assert f"process      {NOTHING} of {NOTHING} descriptors; reactor select" in lines
    assert any(line.startswith("tcp       TCP  tcp:1234") for line in lines)
    now = Snapshot(status(reactor={"name": "select", "timers": 0, "lag": None}), [])
    assert "process      15 of 524,288 descriptors; reactor select" in drawn(
        overview(now, Rates(None, now), 80)
    )


@pytest.mark.parametrize(("height", "shown"), [(10, 3), (24, 12), (50, 38)])
def test_a_screen_has_the_busiest_endpoints(height: int, shown: int) -> None:
    """As many as it has room for."""
    endpoints = [endpoint(f"e{number}") for number in range(1000)]
    endpoints[700]["connections"]["open"] = 7
    now = Snapshot(status(endpoints=10_000), endpoints, [])
    lines = drawn(overview(now, Rates(None, now), 80, height))
    rows = [line for line in lines if line.startswith("e") and " TCP " in line]
    assert len(rows) == shown
    assert rows[0].startswith("e700 ")
    assert lines[-1] == f"… {10_000 - shown:,} more that are less busy; `status NAME` shows one"
    assert len(lines) <= max(height, 15)


@pytest.mark.parametrize("height", [18, 24, 40])
@pytest.mark.parametrize("count", [1, 5, 9, 100])
def test_a_screen_is_not_too_small_for_what_matters(height: int, count: int) -> None:
    """Endpoints have half of it; then come certificates and refusals."""
    document, _ = a_suite()
    document |= {"endpoints": count, "certificates": document["certificates"] * 9}
    now = Snapshot(document, [endpoint(f"e{number}") for number in range(count)], [refusal()] * 5)
    lines = drawn(overview(now, Rates(None, now), 80, height))
    rows = sum(line.startswith("e") and " TCP " in line for line in lines)
    assert len(lines) <= height
    assert rows >= min(count, 3)
    if height == 40:
        assert sum("CN=localhost" in line for line in lines) >= 3
        assert sum("per-peer " in line for line in lines) >= 3


def test_long_names_are_cut_and_several_addresses_are_counted() -> None:
    long = endpoint("n" * 64, addresses=["[::1]:1234", "127.0.0.1:1234"])
    now = Snapshot(status(), [long], [])
    lines = drawn(overview(now, Rates(None, now), 60))
    (row,) = [line for line in lines if line.startswith("nnn")]
    assert "…" in row
    assert len(row) <= 60
    now = Snapshot(status(), [{**long, "name": "n"}], [])
    assert any("[::1]:1234 +1" in line for line in drawn(overview(now, Rates(None, now), 80)))


@pytest.mark.parametrize(
    ("days", "style"), [(None, ""), (824, ""), (29, "yellow"), (6, "bold red"), (-1, "bold red")]
)
def test_certificates_call_for_attention(days: int | None, style: str) -> None:
    shown = shown_days(days)
    assert (shown.plain, shown.style) == (NOTHING if days is None else str(days), style)


# Rates.


def test_there_are_no_rates_from_one_process_to_the_next() -> None:
    before = Snapshot(status(pid=1), [endpoint("tcp")])
    now = Snapshot(status(pid=2, uptime=11521.0), [endpoint("tcp")])
    rates = Rates(before, now)
    assert not rates.known
    assert rates.endpoint(now.endpoints[0], "connections", "accepted") is None
    assert rates.total(now.status, "connections", "accepted") is None


def test_an_endpoint_that_begins_anew_has_no_rate() -> None:
    before = Snapshot(status(), [endpoint("tcp", connections={"accepted": 7})])
    now = Snapshot(status(uptime=11522.0), [endpoint("tcp", connections={"accepted": 5})])
    rates = Rates(before, now)
    assert rates.known
    assert rates.endpoint(now.endpoints[0], "connections", "accepted") is None
    assert rates.total(now.status, "connections", "accepted") == 0


# One endpoint.


def test_an_endpoint_in_detail() -> None:
    _, endpoints = a_suite()
    assert drawn(endpoint_detail(endpoints[2], [])) == [
        "endpoint     tls: TLS 127.0.0.1:4433, serving",
        "answers      echo",
        "try          echo 'hola mundo...' | nc -N 127.0.0.1 4433",
        "certificate  CN=localhost; for localhost, 127.0.0.1, ::1; from 2026-11-26 to",
        "             2029-02-28, 824 days left",
        "limits       connections 10,000, idle 10 min",
        "faults       none",
        "connections  0 open, 0 accepted",
        "bytes        0 B in, 0 B out",
        "refused      none",
        "handshakes   120 completed, 30 of them resumed; 4 failed: 4 unknown-ca",
        "             90 TLSv1.3, TLS_AES_256_GCM_SHA384",
    ]
    lines = drawn(endpoint_detail(endpoints[1], []))
    assert "datagrams  400 received, 398 answered; not answered: 2 rate" in lines
    assert "bytes      25 KiB in, 24.9 KiB out" in lines
    assert "refused    2: 2 rate" in lines


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"faults": {"requested": True}}, "faults       what its clients request"),
        ({"faults": {"replayed": True}}, "faults       as recorded of an earlier run"),
        ({"faults": {"faults": [{"id": 3, "fault": "stall"}]}}, "faults       3: stall (seed 0)"),
        ({"struck": {"stall": 4}}, "struck       4 stall"),
        ({"answer": "report", "proxied": True}, "answers      report, behind a PROXY header"),
        ({"gallery": "expired"}, "answers      echo, gallery: expired"),
        ({"limits": {"admit": ["192.0.2.0/24"], "dull": False, "words": "x"}}, "limits       "),
    ],
)
def test_what_an_endpoint_is(changes: Any, line: str) -> None:
    found = endpoint("tcp")
    for key, value in changes.items():
        found[key] = {**found[key], **value} if key == "faults" else value
    assert any(each.startswith(line) for each in drawn(endpoint_detail(found, [])))


def connection(number: int = 17, **changes: Any) -> Any:
    """The document of a connection."""
    return {
        "id": f"tcp/{number}",
        "endpoint": "tcp",
        "number": number,
        "peer": "127.0.0.1:40000",
        "state": "answering",
        "received": 1_000_000,
        "owed": 65536,
        "age": 12.3,
        "quiet": 0.2,
        "tls": None,
        "faults": "",
        **changes,
    }


def test_who_is_connected() -> None:
    assert drawn(connections_table([connection()])) == [
        "id      peer             state      received    owed   age  quiet",
        "tcp/17  127.0.0.1:40000  answering   977 KiB  64 KiB  12 s  0.2 s",
    ]
    tls = {"version": "TLSv1.3", "cipher": "TLS_X", "resumed": True, "server_name": "a.example", "alpn": None}
    lines = drawn(connections_table([connection(tls=tls, faults="stall"), connection(peer=None)]), 120)
    assert lines[1].endswith("TLSv1.3, TLS_X, resumed, a.example  stall")
    assert lines[2].split()[1] == NOTHING
    found = endpoint("tcp")
    found["connections"]["open"] = 40
    lines = drawn(endpoint_detail(found, [connection(number) for number in range(20)]))
    assert lines[-1] == "… 20 more; `status --connections tcp` has all"
    assert sum(line.startswith("#") for line in lines) == 20


# Who was refused, and why.


@pytest.mark.parametrize(
    ("changes", "reason", "why"),
    [
        ({}, "per-peer", "this peer has its maximum number of connections"),
        ({"reason": "tls", "message": "closed: unsupported protocol"}, "tls", "unsupported protocol"),
        ({"reason": "novelty"}, "novelty", "refused"),
        ({"reason": "rate", "message": "refused", "peer": None}, "rate", "UDP, not answered: this source is"),
    ],
)
def test_why_somebody_was_refused(changes: Any, reason: str, why: str) -> None:
    title, row = drawn(refusals_table([refusal(**changes)]), 200)
    assert title.split() == ["refused", "at", "endpoint", "peer", "reason", "why"]
    assert re.search(rf"  {reason} +{why}", row)


# What peers send.


def test_no_control_character_reaches_the_terminal() -> None:
    """Nor does anything that rich would take for markup."""
    bad = "\x1b[2J\x07\x9b31m[red]\u202e\n"
    event = clean(refusal(peer=bad, message=bad, endpoint=bad, reason=bad))
    text = "\n".join(drawn(refusals_table([event]), 300))
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in text.replace("\n", ""))
    assert r"\x1b[2J\x07\x9b31m[red]\u202e" in text
    shown = r"\x1b[2J\x07\x9b31m[red]\u202e"
    assert clean({"a": [bad, 1, None, {"b": bad}]}) == {"a": [shown, 1, None, {"b": shown}]}
    assert clean({bad: 1}) == {rf"{shown}\n": 1}
    assert clean("one: mistake\nanother\n") == "one: mistake; another"
