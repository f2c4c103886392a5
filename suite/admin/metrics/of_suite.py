"""The metrics of the suite as a whole, and of its process."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import twisted
from OpenSSL import SSL

from suite import __version__
from suite.admin.health import leaving
from suite.admin.metrics.family import PREFIX, SuiteFamily, each
from suite.admin.metrics.observed import Snapshot
from suite.admin.usage import cpu_seconds, descriptors, reactor_name, resident_bytes


def _suite(
    name: str, kind: str, meaning: str, read: Callable[[Snapshot], Any], prefix: str = PREFIX
) -> SuiteFamily:
    """A metric with one value."""
    return SuiteFamily(prefix + name, kind, meaning, (), lambda snapshot: [((), read(snapshot))])


def _labelled(
    name: str, kind: str, meaning: str, label: str, read: Callable[[Snapshot], Mapping[str, int | None]]
) -> SuiteFamily:
    """A metric with a value for each of some words."""
    return SuiteFamily(PREFIX + name, kind, meaning, (label,), lambda snapshot: each(read(snapshot)))


@cache
def _build() -> tuple[str, ...]:
    """What the suite is made of: `_BUILD`, but for the last."""
    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace")
    return __version__, platform.python_version(), twisted.__version__, openssl


_BUILD: Final = ("version", "python", "twisted", "openssl", "reactor")


def _endpoints(snapshot: Snapshot) -> Mapping[str, int]:
    suite = snapshot.site.suite
    paused = sum(bool(seen.paused) for seen in snapshot.endpoints.values())
    return {
        "serving": len(suite.endpoints) - paused,
        "paused": paused,
        "leaving": leaving(suite),
        "not_served": len(suite.not_served),
    }


def _polled(snapshot: Snapshot) -> Mapping[str, int]:
    """Connections that the ring reads from and writes to, and the others."""
    ring = getattr(snapshot.site.suite.reactor, "on_ring", 0)
    counted = sum(seen.counts.open for seen in snapshot.endpoints.values())
    return {"ring": ring, "reactor": max(0, counted - ring)}  # some may have come since they were counted


def _last_reload_good(snapshot: Snapshot) -> int | None:
    reloads = snapshot.site.suite.reloads
    return None if reloads.last is None else int(not reloads.problem)


#: The metrics of the suite as a whole.
SUITE: Final = (
    SuiteFamily(
        f"{PREFIX}build_info",
        "info",
        "What the suite is, and what it runs on; always 1.",
        _BUILD,
        lambda snapshot: [((*_build(), reactor_name(snapshot.site.suite.reactor)), 1)],
    ),
    _suite(
        "start_time_seconds",
        "gauge",
        "When the suite was started, in seconds since the epoch.",
        lambda snapshot: snapshot.site.suite.started_at,
    ),
    _suite(
        "ready",
        "gauge",
        "Whether it is ready: every endpoint listens, none is paused, and it does not end (/readyz).",
        lambda snapshot: int(snapshot.ready),
    ),
    _suite(
        "draining",
        "gauge",
        "Whether it has begun to end.",
        lambda snapshot: int(snapshot.site.suite.draining),
    ),
    _labelled(
        "endpoints",
        "gauge",
        "Endpoints by what they are doing; those not served are optional, and could not be opened.",
        "state",
        _endpoints,
    ),
    _labelled(
        "reloads_total",
        "counter",
        "Reloads that took effect (good), and that had none (bad).",
        "result",
        lambda snapshot: {"good": snapshot.site.suite.reloads.good, "bad": snapshot.site.suite.reloads.bad},
    ),
    _suite(
        "last_reload_successful",
        "gauge",
        "Whether the last reload took effect; absent before the first.",
        _last_reload_good,
    ),
    _suite(
        "last_reload_timestamp_seconds",
        "gauge",
        "When the last reload ended, in seconds since the epoch; absent before the first.",
        lambda snapshot: snapshot.site.suite.reloads.last,
    ),
    _suite(
        "log_lines_suppressed_total",
        "counter",
        "Lines that the log only counts, because there were too many like them.",
        lambda snapshot: snapshot.site.suite.log.suppressed if snapshot.site.suite.log else None,
    ),
    _suite(
        "log_lines_lost_total",
        "counter",
        "Lines of the log that could not be written.",
        lambda snapshot: snapshot.site.suite.log.lost if snapshot.site.suite.log else None,
    ),
    _suite(
        "reactor_lag_seconds",
        "histogram",
        "How much later than asked for a timer comes, ten times a second.",
        lambda snapshot: snapshot.site.lag.late,
    ),
    _suite(
        "reactor_turn_seconds",
        "histogram",
        "How long a turn of the reactor takes that need not wait, ten times a second.",
        lambda snapshot: snapshot.site.lag.turns,
    ),
    _suite(
        "reactor_timers",
        "gauge",
        "Timers that are set.",
        lambda snapshot: len(snapshot.site.suite.reactor.getDelayedCalls()),
    ),
    _labelled(
        "connections_polled",
        "gauge",
        "Open connections by what reads from them: the ring (io_uring), or the reactor.",
        "by",
        _polled,
    ),
    _suite(
        "admin_busy_seconds_total",
        "counter",
        "Time that the admin interface itself has taken.",
        lambda snapshot: snapshot.site.factory.budget.spent,
    ),
    _suite(
        "admin_connections_open",
        "gauge",
        "Open connections to the admin interface.",
        lambda snapshot: len(snapshot.site.factory.open),
    ),
    _suite(
        "admin_connections_refused_total",
        "counter",
        "Connections to the admin interface that were refused, or had to make room for others.",
        lambda snapshot: snapshot.site.factory.refused,
    ),
    _suite(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of all threads, in user mode and in the kernel.",
        lambda _: cpu_seconds(),
        prefix="",
    ),
    _suite(
        "process_resident_memory_bytes",
        "gauge",
        "Memory in RAM.",
        lambda _: resident_bytes(),
        prefix="",
    ),
    _suite(
        "process_open_fds",
        "gauge",
        "File descriptors that are open.",
        lambda _: descriptors().open,
        prefix="",
    ),
    _suite(
        "process_max_fds",
        "gauge",
        "File descriptors that may be open; absent if there is no limit.",
        lambda _: descriptors().limit,
        prefix="",
    ),
)
