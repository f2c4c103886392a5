"""From what runs to what the API says of it: values that JSON has.

Rules: seconds are numbers, instants are strings (RFC 3339) in UTC; what is not known, or does not exist, is
None; what does not apply to an endpoint is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IListeningPort

from suite import text
from suite.admin.faults import FaultRequests
from suite.config.limits import Limits
from suite.endpoints.descriptions import EVERY_HOST, Description
from suite.engine.openssl import has_resumed
from suite.guard.streams import Guarded
from suite.guard.sweep import Phase
from suite.server.announce import bound_address, try_command
from suite.server.counts import Counts, counts_in_turns
from suite.server.endpoint import RunningEndpoint
from suite.server.pauses import Turns
from suite.server.ports import is_alive
from suite.server.service import EchoSuite

Document = dict[str, Any]

#: What the API calls each phase of a connection.
STATES: Final[Mapping[Phase, str]] = {
    Phase.ACCEPTED: "header",
    Phase.HEADER: "header",
    Phase.HANDSHAKE: "handshake",
    Phase.ANSWERING: "answering",
    Phase.ENDING: "ending",
    Phase.GONE: "ending",
}

#: Names of a certificate that are shown.
MOST_NAMES: Final = 100


def instant(seconds: float) -> str:
    """*seconds* since the epoch."""
    return _instant(datetime.fromtimestamp(seconds, UTC))


def _instant(time: datetime) -> str:
    return time.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


# Endpoints.


async def endpoint_document(
    suite: EchoSuite, faults: FaultRequests, endpoint: RunningEndpoint, turns: Turns
) -> Document:
    """What is known of *endpoint*."""
    description = endpoint.description
    alive = [*filter(is_alive, endpoint.ports)]
    identities = suite.plan.credentials.identities(description)
    return {
        "name": description.endpoint.name,
        "transport": description.transport,
        "listen": description.endpoint.listen,
        "addresses": [bound_address(description, port) for port in alive],
        "answer": description.endpoint.answer,
        "state": state_of(suite, endpoint),
        "proxied": description.proxied,
        "gallery": description.endpoint.gallery or None,
        "limits": dict(_limits(description)),
        "certificate": certificate_document(identities[0].certificate) if identities else None,
        "faults": faults_document(faults, endpoint),
        "try": _command(suite, description, alive),
        **counts_document(await counts_in_turns(endpoint, turns)),
    }


def counts_document(counts: Counts) -> Document:
    """What *counts* say."""
    handshakes = counts.handshakes
    return {
        "connections": {
            "open": counts.open,
            "accepted": counts.accepted,
            "ended": dict(counts.ended),
            "refused": dict(counts.refused),
        },
        "bytes": {"received": counts.received, "sent": counts.sent},
        "datagrams": {
            "received": counts.datagrams_received,
            "answered": counts.datagrams_answered,
            "bytes_received": counts.datagram_bytes_received,
            "bytes_sent": counts.datagram_bytes_sent,
            "unanswered": dict(counts.unanswered),
        },
        "handshakes": {
            "completed": sum(handshakes.values()),
            "resumed": sum(count for each, count in handshakes.items() if each.resumed),
            "by": [{**each._asdict(), "count": count} for each, count in handshakes.items()],
            "failed": dict(counts.handshake_failures),
        },
        "struck": dict(counts.faults),
    }


def state_of(suite: EchoSuite, endpoint: RunningEndpoint) -> str:
    """What *endpoint* is doing."""
    if suite.endpoints.get(endpoint.description.endpoint.name) is not endpoint:
        return "leaving"
    return "paused" if endpoint.paused else "serving"


def _limits(description: Description) -> Iterator[tuple[str, object]]:
    """The limits that apply."""
    limits = description.endpoint.limits
    for each in fields(Limits):
        if description.accepts_limit(each.name):
            value = getattr(limits, each.name)
            yield each.name, [*map(str, value)] if isinstance(value, tuple) else value


def certificate_document(certificate: x509.Certificate) -> Document:
    """What is known of *certificate*."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "names": _names(certificate),
        "not_before": _instant(certificate.not_valid_before_utc),
        "not_after": _instant(certificate.not_valid_after_utc),
        "days": days_left(certificate),
    }


def days_left(certificate: x509.Certificate) -> int:
    """Whole days until *certificate* ends; negative once it has."""
    return (certificate.not_valid_after_utc - datetime.now(UTC)) // timedelta(days=1)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # or it cannot be read
        return []
    names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return names[:MOST_NAMES]


def faults_document(faults: FaultRequests, endpoint: RunningEndpoint) -> Document:
    """The faults in force at *endpoint*."""
    known = faults.known(endpoint)
    return {
        "seed": known.faults.seed,
        "requested": known.faults.requested,
        "replayed": known.faults.replayed is not None,
        "faults": known.listed,
    }


def _command(suite: EchoSuite, description: Description, ports: list[IListeningPort]) -> str | None:
    """A command line that reaches an endpoint; None: there is none that would."""
    host: Any = ports[0].getHost() if ports else None
    if description.proxied or not isinstance(host, (IPv4Address, IPv6Address, UNIXAddress)):
        return None
    if description.endpoint.gallery and not isinstance(host, UNIXAddress):
        return _gallery_command(suite, description, host)
    return try_command(description, ports[0])


def _gallery_command(suite: EchoSuite, description: Description, host: IPv4Address | IPv6Address) -> str:
    if description.transport != "TLS":
        reachable = text.host_and_port(EVERY_HOST.get(host.host, host.host), host.port)
        return f"curl http://{reachable}/gallery.json"
    table = suite.plan.config.gallery
    ca = table.ca if table is not None else None
    trust = f"--cacert {shlex.quote(text.shown(ca))}" if ca is not None else "--insecure"
    return f"curl {trust} https://localhost:{host.port}/"


# Connections.


def connection_document(endpoint: RunningEndpoint, connection: Guarded) -> Document:
    """What is known of *connection*, which is open at *endpoint*."""
    name = endpoint.description.endpoint.name
    now = cast(Any, endpoint.guard).clock.seconds()
    quiet = connection.received == connection.last_received
    return {
        "id": f"{name}/{connection.number}",
        "endpoint": name,
        "number": connection.number,
        "peer": connection.peer,
        "state": STATES[connection.phase],
        "received": connection.received,
        "owed": connection.owed,
        "age": round(now - connection.accepted_at, 3),
        "quiet": round(now - connection.unchanged_since, 3) if quiet else 0.0,
        "tls": _tls(connection),
        "faults": connection.faults,
    }


def _tls(connection: Guarded) -> Document | None:
    """What TLS has agreed on; None before that, and without TLS."""
    handle = getattr(connection.transport, "getHandle", lambda: None)()
    if not isinstance(handle, SSL.Connection):
        return None
    cipher = handle.get_cipher_name()
    if connection.phase in (Phase.ACCEPTED, Phase.HEADER, Phase.HANDSHAKE) or cipher is None:
        return None
    name, protocol = handle.get_servername(), handle.get_alpn_proto_negotiated()
    return {
        "version": handle.get_protocol_version_name(),
        "cipher": cipher,
        "resumed": has_resumed(handle),
        "server_name": name.decode("ascii", "backslashreplace") if name is not None else None,
        "alpn": protocol.decode("ascii", "backslashreplace") if protocol else None,
        "client_certificate": _client_certificate(connection, handle),
    }


def _client_certificate(connection: Guarded, handle: SSL.Connection) -> str | None:
    """What the client has shown, as the log says it; of Twisted's own transports, its subject."""
    shown: str | None = getattr(connection.transport, "client_certificate", None)
    if shown is None:
        certificate = handle.get_peer_certificate(as_cryptography=True)
        shown = certificate.subject.rfc4514_string() if certificate is not None else None
    return shown or None
