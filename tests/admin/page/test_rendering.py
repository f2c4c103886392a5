"""The document: what is in it, and that nothing of it is taken for markup."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from typing_extensions import override

from suite.admin.page import wording
from suite.admin.page.binding import GROUPS, value_at
from suite.admin.page.markup import Markup, element, join, text
from suite.admin.page.page import Contents, render
from suite.reasons import Reason
from suite.server.pauses import Turns

HOSTILE = '<script>alert("1")</script>&\'"\x00'

COUNTS: dict[str, Any] = {
    "connections": {
        "open": 2,
        "accepted": 12,
        "ended": {"closed": 3, "tls": 1},
        "refused": {"per-peer": 6},
    },
    "bytes": {"received": 2048, "sent": 1024},
    "datagrams": {
        "received": 0,
        "answered": 0,
        "bytes_received": 0,
        "bytes_sent": 0,
        "unanswered": {},
    },
    "handshakes": {
        "completed": 2,
        "resumed": 1,
        "by": [{"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "resumed": True, "count": 2}],
        "failed": {"http-request": 1},
    },
    "struck": {"latency": 5},
}


def endpoint(name: str = "tls", **others: Any) -> dict[str, Any]:
    """An endpoint of the API."""
    return {
        "name": name,
        "transport": "TLS",
        "listen": "ssl:4433",
        "addresses": ["127.0.0.1:4433"],
        "answer": "echo",
        "state": "serving",
        "proxied": False,
        "gallery": None,
        "limits": {"connections": 10_000, "per_peer": 5_000, "idle": 600.0, "lifetime": None, "allow": []},
        "certificate": {
            "subject": HOSTILE,
            "names": [HOSTILE, *(f"host-{number}" for number in range(20))],
            "not_before": "2026-11-01T00:00:00Z",
            "not_after": "2026-12-01T00:00:00Z",
            "days": 3,
        },
        "faults": {
            "seed": 7,
            "requested": False,
            "replayed": False,
            "faults": [{"id": 4, "fault": "latency=200ms"}],
        },
        "try": f"echo {HOSTILE}",
        **COUNTS,
        **others,
    }


STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 4711,
    "started": "2026-11-27T01:00:00Z",
    "uptime": 200.0,
    "state": "serving",
    "ready": False,
    "reasons": [f"it has lost {HOSTILE}"],
    "not_served": [{"endpoint": "lost", "problem": f"lost: {HOSTILE}"}],
    "config": f"/etc/{HOSTILE}.toml",
    "endpoints": 3,
    "leaving": 0,
    "paused": [],
    "reloads": {"good": 1, "bad": 2, "last": "2026-11-27T01:02:00Z", "problem": f"config.toml: {HOSTILE}"},
    "descriptors": {"open": 23, "limit": 1024},
    "reactor": {"name": "echo-engine", "timers": 4, "lag": {"p50": 0.0001, "p99": 0.004, "max": 0.02}},
    "log": {"suppressed": 5, "lost": 0},
    "certificates": [
        {"endpoint": "tls", "subject": HOSTILE, "not_after": "2026-12-01T00:00:00Z", "days": 3},
        {"endpoint": "old", "subject": "CN=old", "not_after": "2026-11-01T00:00:00Z", "days": -26},
        *(
            {"endpoint": f"tls{number}", "subject": "", "not_after": "2028-11-01T00:00:00Z", "days": 700}
            for number in range(8)
        ),
    ],
    **COUNTS,
}

CONNECTION: dict[str, Any] = {
    "id": "tls/17",
    "endpoint": "tls",
    "number": 17,
    "peer": HOSTILE,
    "state": "answering",
    "received": 5,
    "owed": 0,
    "age": 75.2,
    "quiet": 0.25,
    "tls": {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "resumed": True,
        "server_name": HOSTILE,
        "alpn": HOSTILE,
        "client_certificate": HOSTILE,
    },
    "faults": HOSTILE,
}

EVENT: dict[str, Any] = {
    "id": 9,
    "time": "2026-11-27T01:02:03.456Z",
    "level": "info",
    "endpoint": "tls",
    "connection": 17,
    "peer": HOSTILE,
    "reason": "tls",
    "received": 1024,
    "duration": 60.25,
    "message": f"closed: {HOSTILE}",
}


class Reader(HTMLParser):
    """What a browser makes of a document.

    :ivar elements: names and attributes of its elements.
    :ivar texts: the texts between them.
    :ivar open: elements that have not ended.
    """

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(document.decode())
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("br", "img", "input", "link", "meta"):
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def rendered(**contents: Any) -> Reader:
    """The document with *contents*, as a browser reads it."""
    clock: Any = Clock()
    given: dict[str, Any] = {
        "time": "2026-11-27T01:02:03+00:00",
        "status": STATUS,
        "endpoints": [endpoint()],
        "events": [EVENT],
        **contents,
    }
    found: list[bytes] = []
    Deferred.fromCoroutine(render(Contents(**given), Turns(clock))).addCallback(found.append)
    reader = Reader(found[0])
    assert not reader.open
    return reader


MANIFEST = {
    "specimens": [
        {"name": "expired", "defect": HOSTILE, "must": "refuse", "clause": "RFC 5280", "port": 4506},
    ]
}

PAGES: dict[str, dict[str, Any]] = {
    "all endpoints": {},
    "one": {"only": True, "connections": {"connections": [CONNECTION], "next": "tls/17"}},
    "a gallery": {
        "endpoints": [endpoint(), endpoint("gallery-expired", gallery="expired")],
        "gallery": MANIFEST,
    },
}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_markup_that_is_not_ours(name: str) -> None:
    """Subjects of certificates, peers, server names, messages, paths: all of them are text."""
    page = rendered(**PAGES[name])
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"src": "/static/main.js", "type": "module"}]
    assert HOSTILE.replace("\x00", "") in page.text.replace("\x00", "").replace("\ufffd", "")
    for tag, attributes in page.elements:
        assert tag != "style"
        assert not [key for key in attributes if key == "style" or key.startswith("on")]
        for key in ("href", "src"):
            assert re.match(r"/(?!/)|#", attributes.get(key, "#") or ""), attributes


@pytest.mark.parametrize("name", PAGES)
def test_what_has_an_id_has_it_alone(name: str) -> None:
    """Also where endpoints that are leaving have the name of one that serves."""
    page = rendered(**{**PAGES[name], **({} if name == "one" else {"endpoints": [endpoint(), endpoint()]})})
    found = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(found) == len(set(found))
    referred = {
        attributes[key]
        for _, attributes in page.elements
        for key in ("aria-labelledby", "for")
        if key in attributes
    }
    assert referred <= set(found)


def test_the_facts() -> None:
    """What a person wants to know at a glance."""
    page = rendered()
    for fact in (
        "not ready",
        "127.0.0.1:4433",
        "latency=200ms",
        "certificate 3 days left",
        "expired",
        "at most 10,000 open, 5,000 from one peer, idle 10 min",
        "4 more",
        "2.0 KiB",
        "tls#17",
        "01:02:03",
        " (tls, 1,024 bytes, 1 min)",
        "3 min 20 s",
        "2026-11-27 01:02:00 UTC",
        "TLSv1.3 TLS_AES_256_GCM_SHA384, resumed",
        "failed: http-request",
    ):
        assert fact in page.text, fact
    hidden = [
        each for tag, each in page.elements if tag == "tr" and "hidden" not in each and "data-reason" in each
    ]
    assert {each["data-reason"] for each in hidden} == {"per-peer", "tls", "closed"}


def test_one_endpoint() -> None:
    page = rendered(**PAGES["one"])
    for fact in (
        "tls/17",
        "answering",
        "1 min 15 s",
        "250 ms",
        "and 13 more",
        "none",
        "any",
        "Next connections",
    ):
        assert fact in page.text, fact
    assert ("a", {"href": "/?endpoint=tls&connections=tls%2F17"}) in page.elements


def test_ways_to_other_pages() -> None:
    page = rendered(endpoints=[endpoint(f"e{number}") for number in range(100)], following="e99", after="a/b")
    links = [attributes.get("href") for tag, attributes in page.elements if tag == "a"]
    assert "/?after=e99" in links
    assert "/" in links
    assert ("body", dict(page.elements)["body"]) in page.elements
    assert dict(page.elements)["body"]["data-after"] == "a/b"


def test_what_is_not_known_is_a_dash() -> None:
    """A number that the API does not have is not 0."""
    reactor = {"name": "echo-engine", "timers": 4, "lag": None}
    page = rendered(status={**STATUS, "reactor": reactor, "reloads": {**STATUS["reloads"], "problem": None}})
    shown = re.findall(r"reactor lag, p99\n(.*)", page.text)
    assert shown == [wording.UNKNOWN]


def test_turns_are_taken() -> None:
    """A page of many endpoints is made in turns of the reactor."""
    reads = itertools.count()
    waiting: list[Callable[[], object]] = []
    reactor: Any = SimpleNamespace(
        seconds=lambda: next(reads) * 0.001,
        callLater=lambda _, call, *args: waiting.append(partial(call, *args)),
    )
    found: list[bytes] = []
    contents = Contents(
        time="2026-11-27T01:02:03+00:00", status=STATUS, endpoints=[endpoint(f"e{n}") for n in range(50)]
    )
    Deferred.fromCoroutine(render(contents, Turns(reactor))).addCallback(found.append)
    turns = 0
    while not found:
        turns += 1
        waiting.pop()()
    assert turns > 5


# The parts.


def test_elements() -> None:
    assert element("p", "<", 5, None, Markup("<b>"), class_="a", data_x='"&', hidden=True, title=None) == (
        '<p class="a" data-x="&quot;&amp;" hidden>&lt;5<b></p>'
    )
    assert element("br") == "<br>"
    assert join(["a", "&"]) == "a&amp;"
    assert isinstance(text("a"), Markup)


def test_groups_of_reasons() -> None:
    """Each reason is in one of them."""
    assert sorted(reason for group in GROUPS.values() for reason in group) == sorted(Reason)
    assert "operator" in GROUPS["wanted"]
    assert "truncated" in GROUPS["failed"]


def test_values() -> None:
    document = {"a": {"b": 1, "c": {"x": 2, "y": 3}}, "n": None, "m": {"lag": None}}
    assert value_at(document, "a/b") == 1
    assert value_at(document, "a/c") == 5
    assert value_at(document, "a/b a/c") == 6
    assert value_at(document, "a/none") == 0
    assert value_at(document, "n") is None
    assert value_at(document, "none/at/all") is None
    assert value_at(document, "m/lag/p99") is None
    assert value_at(document, "a/b n") is None


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("0 B", wording.size(0)),
        ("1023 B", wording.size(1023)),
        ("1.0 KiB", wording.size(1024)),
        ("1.0 MiB", wording.size(1024 * 1024 - 1)),
        ("100 MiB", wording.size(100 * 2**20)),
        ("5000 PiB", wording.size(5000 * 2**50)),
        (wording.UNKNOWN, wording.size(None)),
        ("0 ms", wording.duration(0)),
        ("20 µs", wording.duration(0.00002)),
        ("250 ms", wording.duration(0.25)),
        ("1 s", wording.duration(1)),
        ("1 s", wording.duration(0.9999)),
        ("59.5 s", wording.duration(59.5)),
        ("1 min", wording.duration(59.99)),
        ("10 min", wording.duration(600)),
        ("1 h 1 min", wording.duration(3660)),
        ("2 d 4 h", wording.duration(2 * 86400 + 4 * 3600 + 59)),
        (wording.UNKNOWN, wording.duration(None)),
        ("1,234", wording.number(1234)),
        (wording.UNKNOWN, wording.number(None)),
        ("2026-11-27 01:00:00 UTC", wording.instant("2026-11-27T02:00:00+01:00")),
        (wording.UNKNOWN, wording.instant(None)),
        ("1 day", wording.plural(1, "day")),
        ("0 days left", wording.days_left(0)),
        ("expired", wording.days_left(-1)),
    ],
)
def test_words(words: str, value: str) -> None:
    assert value == words
