"""The metrics of each endpoint.

Rules: refusals have a sample for each reason that may be given, from 0 on, so that the first one is an
increase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from suite.admin.metrics.family import ENDPOINT, PREFIX, EndpointFamily, Value, each
from suite.admin.metrics.observed import DATAGRAM_REFUSALS, STREAM_REFUSALS, Observed
from suite.guard.sweep import Phase

#: What an open connection may be doing; the others last for no turn.
STATES: Final[Mapping[Phase, str]] = {
    phase: phase.name.lower() for phase in (Phase.HEADER, Phase.HANDSHAKE, Phase.ANSWERING, Phase.ENDING)
}


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


def _from_zero(words: Iterable[str], counts: Mapping[str, int]) -> Iterator[Value]:
    return each({**dict.fromkeys(sorted(words), 0), **counts})


def _streams(seen: Observed) -> bool:
    return seen.streams


def _datagrams(seen: Observed) -> bool:
    return seen.datagrams


def _tls(seen: Observed) -> bool:
    return seen.tls


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
            each({word: seen.phases[phase] for phase, word in STATES.items()})
            if seen.streams and seen.phases is not None
            else ()
        ),
    ),
    _told(
        "connections_ended_total",
        "counter",
        "Connections that have ended, by reason, those refused excluded.",
        ("reason",),
        lambda seen: each(seen.counts.ended),
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
        lambda seen: each(seen.counts.handshake_failures),
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
        lambda seen: each(seen.counts.faults),
    ),
)
