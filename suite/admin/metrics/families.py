"""Every metric: its name, its type, its labels, what it means, and where its values come from.

Rules: names and units are by Prometheus's conventions (prometheus.io/docs/practices/naming); what a peer
sends is no label, and each label has few values; what is not known has no sample. A counter that is told by
reason has a sample for each reason that may be given for a refusal, so that the first refusal is an increase.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import twisted
from OpenSSL import SSL
from prometheus_client.metrics_core import Metric

from suite import __version__
from suite.admin.lag import Histogram
from suite.admin.metrics.observed import DATAGRAM_REFUSALS, STREAM_REFUSALS, Key, Observed, Snapshot
from suite.admin.usage import cpu_seconds, descriptors, resident_bytes
from suite.guard.sweep import Phase

#: What all names of the suite's own begin with.
PREFIX: Final = "echo_suite_"

#: What an open connection may be doing; the others last for no turn.
STATES: Final[Mapping[Phase, str]] = {
    phase: phase.name.lower() for phase in (Phase.HEADER, Phase.HANDSHAKE, Phase.ANSWERING, Phase.ENDING)
}

#: The labels of what is told of each endpoint.
ENDPOINT: Final = ("endpoint", "transport")

#: The values of a metric: those of its labels, and a number or a histogram.
Value = tuple[tuple[str, ...], "float | Histogram | None"]


@dataclass(frozen=True)
class Family:
    """One metric.

    :ivar name: its name, as PromQL has it, but for the suffixes of a histogram.
    :ivar kind: ``counter``, ``gauge``, ``histogram`` or ``info``.
    :ivar meaning: what it means, in a line.
    :ivar labels: the names of its labels.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """Its name in OpenMetrics, which has no suffix."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """Its unit: ``seconds``, ``bytes``; empty if it has none."""
        last = self.base.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""

    def metric(self, values: Iterable[Value]) -> Metric:
        """The metric with these *values*; None stands for none."""
        metric = Metric(self.base, self.meaning, self.kind, self.unit)
        for labels, value in values:
            named = dict(zip(self.labels, labels, strict=True))
            if isinstance(value, Histogram):
                for bound, count in value.cumulative():
                    le = "+Inf" if bound == float("inf") else str(bound)
                    metric.add_sample(f"{self.base}_bucket", {**named, "le": le}, count)
                metric.add_sample(f"{self.base}_count", named, count)
                metric.add_sample(f"{self.base}_sum", named, value.sum)
            elif value is not None:
                metric.add_sample(self.name, named, float(value))
        return metric


@dataclass(frozen=True)
class SuiteFamily(Family):
    """A metric of the suite as a whole.

    :ivar read: reads its values.
    """

    read: Callable[[Snapshot], Iterable[Value]] = lambda _: ()


@dataclass(frozen=True)
class EndpointFamily(Family):
    """A metric of each endpoint; `labels` begin with `ENDPOINT`.

    :ivar read: reads the values of one endpoint, with those labels only that are its own.
    """

    read: Callable[[Observed], Iterable[Value]] = lambda _: ()

    def values(self, key: Key, observed: Observed) -> Iterator[Value]:
        """The values of one endpoint."""
        for labels, value in self.read(observed):
            yield (*key, *labels), value


def _suite(
    name: str, kind: str, meaning: str, read: Callable[[Snapshot], Any], prefix: str = PREFIX
) -> SuiteFamily:
    """A metric with one value."""
    return SuiteFamily(prefix + name, kind, meaning, (), lambda snapshot: [((), read(snapshot))])


def _labelled(
    name: str, kind: str, meaning: str, label: str, read: Callable[[Snapshot], Mapping[str, int | None]]
) -> SuiteFamily:
    """A metric with a value for each of some words."""
    return SuiteFamily(PREFIX + name, kind, meaning, (label,), lambda snapshot: _each(read(snapshot)))


def _each(counts: Mapping[str, int | None]) -> Iterator[Value]:
    for word, count in counts.items():
        yield (str(word),), count


def _endpoint(
    name: str, kind: str, meaning: str, read: Callable[[Observed], Any], when: Callable[[Observed], Any]
) -> EndpointFamily:
    """A metric with one value for each endpoint, where *when* is true of it."""
    return EndpointFamily(
        PREFIX + name, kind, meaning, ENDPOINT, lambda seen: [((), read(seen))] if when(seen) else ()
    )


def _told(
    name: str, kind: str, meaning: str, labels: tuple[str, ...], read: Callable[[Observed], Iterable[Value]]
) -> EndpointFamily:
    """A metric with a value for each of some words, for each endpoint."""
    return EndpointFamily(PREFIX + name, kind, meaning, (*ENDPOINT, *labels), read)


# What has to be worked out.


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
        "leaving": len(suite.every_endpoint) - len(suite.endpoints),
        "not_served": len(suite.not_served),
    }


def _polled(snapshot: Snapshot) -> Mapping[str, int]:
    """Connections that the ring reads from and writes to, and the others."""
    ring = getattr(snapshot.site.suite.reactor, "on_ring", 0)
    return {"ring": ring, "reactor": sum(seen.counts.open for seen in snapshot.endpoints.values()) - ring}


def _last_reload_good(snapshot: Snapshot) -> int | None:
    reloads = snapshot.site.suite.reloads
    return None if reloads.last is None else int(not reloads.problem)


def _open_by_state(seen: Observed) -> Mapping[str, int]:
    return {word: seen.phases[phase] for phase, word in STATES.items()} if seen.streams else {}


def _from_zero(words: Iterable[str], counts: Mapping[str, int]) -> Iterator[Value]:
    return _each({**dict.fromkeys(sorted(words), 0), **counts})


def _streams(seen: Observed) -> bool:
    return seen.streams


def _datagrams(seen: Observed) -> bool:
    return seen.datagrams


def _tls(seen: Observed) -> bool:
    return seen.tls


#: The metrics of the suite as a whole.
SUITE: Final = (
    SuiteFamily(
        f"{PREFIX}build_info",
        "info",
        "What the suite is, and what it runs on; always 1.",
        _BUILD,
        lambda snapshot: [((*_build(), type(snapshot.site.suite.reactor).__name__), 1)],
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

#: The metrics of each endpoint.
ENDPOINTS: Final = (
    _endpoint(
        "endpoint_listening",
        "gauge",
        "Whether every socket of the endpoint listens.",
        lambda seen: seen.listening,
        lambda seen: seen.listening is not None,
    ),
    _endpoint(
        "endpoint_paused",
        "gauge",
        "Whether an operator has paused the endpoint.",
        lambda seen: seen.paused,
        lambda seen: seen.paused is not None,
    ),
    _endpoint(
        "connections_accepted_total",
        "counter",
        "Connections accepted, those refused on account of a PROXY header or of a UNIX user included.",
        lambda seen: seen.counts.accepted,
        _streams,
    ),
    _told(
        "connections_open",
        "gauge",
        "Open connections by what they are doing.",
        ("state",),
        lambda seen: (
            _each({word: seen.phases[phase] for phase, word in STATES.items()}) if seen.streams else ()
        ),
    ),
    _told(
        "connections_ended_total",
        "counter",
        "Connections that have ended, by reason, those refused excluded.",
        ("reason",),
        lambda seen: _each(seen.counts.ended),
    ),
    _told(
        "connections_refused_total",
        "counter",
        "Connections refused, by reason.",
        ("reason",),
        lambda seen: _from_zero(STREAM_REFUSALS, seen.counts.refused) if seen.streams else (),
    ),
    _endpoint(
        "stream_received_bytes_total",
        "counter",
        "Bytes received on connections, open ones included; over TLS, of plaintext.",
        lambda seen: seen.counts.received,
        _streams,
    ),
    _endpoint(
        "stream_sent_bytes_total",
        "counter",
        "Bytes of answers that the kernel has taken; over TLS, of plaintext.",
        lambda seen: seen.counts.sent,
        _streams,
    ),
    _told(
        "tls_handshakes_total",
        "counter",
        "TLS handshakes completed, by version, cipher suite, and whether they resumed a session.",
        ("version", "cipher", "resumed"),
        lambda seen: [
            ((each.version, each.cipher, str(each.resumed).lower()), count)
            for each, count in seen.counts.handshakes.items()
        ],
    ),
    _endpoint(
        "tls_handshakes_failed_total",
        "counter",
        "TLS handshakes that failed.",
        lambda seen: sum(seen.counts.handshake_failures.values()),
        _tls,
    ),
    _told(
        "tls_handshake_failures_total",
        "counter",
        "The same in OpenSSL's words, or ours; at most 64 of them, then: other.",
        ("word",),
        lambda seen: _each(seen.counts.handshake_failures),
    ),
    _endpoint(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first of the certificates that the endpoint presents ends, in seconds since the epoch.",
        lambda seen: seen.expiry,
        lambda seen: seen.expiry is not None,
    ),
    _endpoint(
        "datagrams_received_total",
        "counter",
        "Datagrams received.",
        lambda seen: seen.counts.datagrams_received,
        _datagrams,
    ),
    _endpoint(
        "datagrams_sent_total",
        "counter",
        "Datagrams sent in answer.",
        lambda seen: seen.counts.datagrams_answered,
        _datagrams,
    ),
    _endpoint(
        "datagram_received_bytes_total",
        "counter",
        "Bytes in the datagrams received.",
        lambda seen: seen.counts.datagram_bytes_received,
        _datagrams,
    ),
    _endpoint(
        "datagram_sent_bytes_total",
        "counter",
        "Bytes in the datagrams sent.",
        lambda seen: seen.counts.datagram_bytes_sent,
        _datagrams,
    ),
    _told(
        "datagrams_unanswered_total",
        "counter",
        "Datagrams not answered, by reason.",
        ("reason",),
        lambda seen: _from_zero(DATAGRAM_REFUSALS, seen.counts.unanswered) if seen.datagrams else (),
    ),
    _endpoint(
        "datagrams_lost_total",
        "counter",
        "Answers that the kernel has refused to send.",
        lambda seen: seen.counts.datagrams_lost,
        _datagrams,
    ),
    _told(
        "faults_total",
        "counter",
        "Connections, or datagrams, that a declared fault has struck.",
        ("fault",),
        lambda seen: _each(seen.counts.faults),
    ),
)

#: All of them, in the order in which they are written.
FAMILIES: Final[tuple[Family, ...]] = (*SUITE, *ENDPOINTS)
