"""How an endpoint misbehaves on purpose: the values alone.

Rules: a fault is one thing that goes wrong (`Kind`), and when it does (the fields of `Fault` from `chance`
on). Names are those of toxiproxy and of tc-netem(8) where they have one. Durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from suite.config.limits import Network

#: The transports that a fault can be declared for; `STREAMS` are those with connections.
STREAMS: Final = frozenset({"TCP", "UNIX", "TLS"})
DATAGRAMS: Final = frozenset({"UDP"})
TLS_ONLY: Final = frozenset({"TLS"})

#: Which way of a connection a fault concerns: what the client sends, what it receives, or both. As for a
#: toxic of toxiproxy, the default is ``down``.
DIRECTIONS: Final = ("down", "up", "both")

#: How a delay varies by its jitter; see `suite.faults.draw`.
DISTRIBUTIONS: Final = ("uniform", "normal", "pareto")

#: How a handshake goes wrong.
HANDSHAKES: Final = ("silent", "stall-after-hello", "close", "reset", "garbage")

#: How this side of a TLS connection ends; the first is what a proper server does.
ENDS: Final = ("notify+fin", "notify", "fin", "rst", "silence", "alert")

#: The alerts of TLS by their names in RFC 8446, section 6, and in IANA's registry, which has the retired ones
#: and the later ones as well (https://www.iana.org/assignments/tls-parameters, "TLS Alerts").
ALERTS: Final[Mapping[str, int]] = {
    "close_notify": 0,
    "unexpected_message": 10,
    "bad_record_mac": 20,
    "decryption_failed": 21,
    "record_overflow": 22,
    "decompression_failure": 30,
    "handshake_failure": 40,
    "no_certificate": 41,
    "bad_certificate": 42,
    "unsupported_certificate": 43,
    "certificate_revoked": 44,
    "certificate_expired": 45,
    "certificate_unknown": 46,
    "illegal_parameter": 47,
    "unknown_ca": 48,
    "access_denied": 49,
    "decode_error": 50,
    "decrypt_error": 51,
    "too_many_cids_requested": 52,
    "export_restriction": 60,
    "protocol_version": 70,
    "insufficient_security": 71,
    "internal_error": 80,
    "inappropriate_fallback": 86,
    "user_canceled": 90,
    "no_renegotiation": 100,
    "missing_extension": 109,
    "unsupported_extension": 110,
    "certificate_unobtainable": 111,
    "unrecognized_name": 112,
    "bad_certificate_status_response": 113,
    "bad_certificate_hash_value": 114,
    "unknown_psk_identity": 115,
    "certificate_required": 116,
    "general_error": 117,
    "no_application_protocol": 120,
    "ech_required": 121,
}

#: Alerts that are no errors (RFC 5246, section 7.2.2; RFC 8446, section 6.1).
HARMLESS_ALERTS: Final = frozenset({"close_notify", "user_canceled", "no_renegotiation"})


class Kind(StrEnum):
    """What goes wrong: the key that names a fault."""

    # Streams, shaped as they pass.
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    SLICE = "slice"
    CORRUPT = "corrupt"
    # Streams, cut at one point.
    STALL = "stall"
    BLACKHOLE = "blackhole"
    LIMIT = "limit"
    CLOSE = "close"
    HALF_CLOSE = "half_close"
    RESET = "reset"
    # Connections, at their beginning and end.
    REFUSE = "refuse"
    ACCEPT_DELAY = "accept_delay"
    SLOW_CLOSE = "slow_close"
    # Datagrams (and `CORRUPT`).
    LOSS = "loss"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"
    TRUNCATE = "truncate"
    RATE = "rate"
    # TLS.
    HANDSHAKE = "handshake"
    ALERT = "alert"
    END = "end"
    FRAGMENT = "fragment"
    EARLY_CLOSE = "early_close"
    KEY_UPDATE = "key_update"


#: Kinds that strike before anything is known but the address of the client.
TOO_EARLY: Final = frozenset({Kind.REFUSE, Kind.ACCEPT_DELAY})


class Span(NamedTuple):
    """A stretch of a connection: of its bytes in one direction, or of time since it was accepted.

    For datagrams: of the bytes that the endpoint has received, or of time since it began to answer.

    :ivar size: bytes; None if it is a time.
    :ivar seconds: seconds; None if it is a number of bytes.
    """

    size: int | None = None
    seconds: float | None = None


class Bursts(NamedTuple):
    """Loss in bursts: the Gilbert-Elliott model, with the parameters of netem's ``loss gemodel``.

    :ivar p: the probability of going from the good state to the bad one, at each datagram.
    :ivar r: of going from the bad state to the good one.
    :ivar bad: the share lost in the bad state (netem's ``1-h``).
    :ivar good: the share lost in the good state (netem's ``1-k``).
    """

    p: float
    r: float
    bad: float = 1.0
    good: float = 0.0


@dataclass(frozen=True)
class Fault:
    """One fault, and when it strikes.

    :ivar kind: what goes wrong.
    :ivar value: how much of it: seconds (`LATENCY`, `DELAY`, `ACCEPT_DELAY`, `SLOW_CLOSE`), bytes a second
        (`BANDWIDTH`, `RATE`), bytes (`SLICE`, `LIMIT`, `TRUNCATE`, `FRAGMENT`), a share from 0 to 1
        (`CORRUPT`, `LOSS`, `DUPLICATE`, `REORDER`), `Bursts` (`LOSS`), a number of messages (`KEY_UPDATE`), a
        word (`HANDSHAKE`, `ALERT`, `END`), or True.
    :ivar jitter: seconds by which a delay varies.
    :ivar distribution: how; see `DISTRIBUTIONS`.
    :ivar gap: seconds between slices.
    :ivar direction: see `DIRECTIONS`.
    :ivar chance: the share of connections, or of datagrams, that it strikes.
    :ivar every: of those with a number that this divides; connections and datagrams are counted from 1.
    :ivar once: only the first of them.
    :ivar networks: only of clients in these; empty: of all.
    :ivar names: only of TLS clients that ask for one of these names (SNI), in lower case; a leading ``*.``
        stands for any label; empty: of all.
    :ivar after: where it begins; None: at once.
    :ivar lasts: how long it lasts from there on (the key ``for``); None: to the end.
    :ivar profile: the profile that it is part of; empty: none. The faults of one profile strike together.
    :ivar place: the number of its entry in the file, from 1; 0: it is in no file.
    """

    kind: Kind
    value: float | int | str | bool | Bursts = True
    jitter: float = 0.0
    distribution: str = "uniform"
    gap: float = 0.0
    direction: str = "down"
    chance: float = 1.0
    every: int = 1
    once: bool = False
    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()
    after: Span | None = None
    lasts: Span | None = None
    profile: str = field(default="", compare=False)
    place: int = field(default=0, compare=False)

    @property
    def conditional(self) -> bool:
        """Whether it depends on who the client is."""
        return bool(self.networks or self.names)


def belongs_together(one: Fault, other: Fault) -> bool:
    """Whether two neighbours are of one profile, in one entry of the file."""
    return bool(one.profile) and (one.profile, one.place) == (other.profile, other.place)


@dataclass(frozen=True)
class Profile:
    """What a link is like; see `suite.config.profiles`.

    :ivar latency: seconds of a round trip, before anything is sent on the link behind it.
    :ivar jitter: seconds by which they vary.
    :ivar down: bytes a second to the client; None: any number.
    :ivar up: bytes a second from the client; None: any number.
    :ivar loss: the share of datagrams that are lost on a round trip.
    """

    latency: float = 0.0
    jitter: float = 0.0
    down: int | None = None
    up: int | None = None
    loss: float = 0.0


class Recorded(NamedTuple):
    """What one connection of an earlier run got (a `Decision`), or what was declared for datagrams."""

    faults: tuple[Fault, ...]
    seed: int


class Replay(NamedTuple):
    """What is recorded of one endpoint's earlier run.

    :ivar connections: what each got, by its number.
    :ivar datagrams: what was declared, by the number of the first datagram for which it was.
    """

    connections: Mapping[int, Recorded]
    datagrams: Mapping[int, Recorded]


@dataclass(frozen=True)
class Faults:
    """How one endpoint misbehaves.

    :ivar entries: the faults, in the order of the file.
    :ivar seed: what the decisions follow from; see `suite.faults.decide`.
    :ivar requested: whether clients choose their faults themselves (``faults = "requested"``).
    :ivar allowed: the kinds that clients may choose; empty: all that apply to the transport.
    :ivar most: how many connections (or sources of datagrams) may have chosen faults at a time.
    :ivar profiles: the profiles by name that clients may choose; empty: those that need no declaration.
    :ivar replayed: what is recorded of an earlier run, which counts whatever is declared; None: nothing is
        replayed.
    """

    entries: tuple[Fault, ...] = ()
    seed: int = 0
    requested: bool = False
    allowed: frozenset[Kind] = field(default_factory=frozenset)
    most: int = 100
    profiles: Mapping[str, Profile] = field(default_factory=dict, compare=False)
    replayed: Replay | None = None

    def __bool__(self) -> bool:
        return bool(self.entries) or self.requested or (self.replayed is not None and any(self.replayed))


#: Every endpoint's, unless it says otherwise.
NO_FAULTS: Final = Faults()


class Usage(NamedTuple):
    """How a kind of fault may be declared.

    :ivar transports: where it can happen.
    :ivar options: the keys that may stand beside it, except for those of every fault (`ALWAYS`).
    """

    transports: frozenset[str]
    options: frozenset[str] = frozenset()


#: Keys that may stand beside every fault.
ALWAYS: Final = frozenset({"chance", "every", "once", "only"})

_WINDOW: Final = frozenset({"after", "for"})
_SHAPED: Final = _WINDOW | {"direction"}
_DELAYED: Final = frozenset({"jitter", "distribution"})

#: How each kind may be declared.
USAGE: Final[Mapping[Kind, Usage]] = {
    Kind.LATENCY: Usage(STREAMS, _SHAPED | _DELAYED),
    Kind.BANDWIDTH: Usage(STREAMS, _SHAPED),
    Kind.SLICE: Usage(STREAMS, _SHAPED | {"gap"}),
    Kind.CORRUPT: Usage(STREAMS | DATAGRAMS, _SHAPED),
    Kind.STALL: Usage(STREAMS, _SHAPED),
    Kind.BLACKHOLE: Usage(STREAMS, _WINDOW),
    Kind.LIMIT: Usage(STREAMS, frozenset({"direction"})),
    Kind.CLOSE: Usage(STREAMS, frozenset({"after", "direction"})),
    Kind.HALF_CLOSE: Usage(STREAMS, frozenset({"after", "direction"})),
    Kind.RESET: Usage(STREAMS, frozenset({"after", "direction"})),
    Kind.REFUSE: Usage(STREAMS),
    Kind.ACCEPT_DELAY: Usage(STREAMS),
    Kind.SLOW_CLOSE: Usage(STREAMS),
    Kind.LOSS: Usage(DATAGRAMS, _WINDOW),
    Kind.DUPLICATE: Usage(DATAGRAMS, _WINDOW),
    Kind.REORDER: Usage(DATAGRAMS, _WINDOW),
    Kind.DELAY: Usage(DATAGRAMS, _WINDOW | _DELAYED),
    Kind.TRUNCATE: Usage(DATAGRAMS, _WINDOW),
    Kind.RATE: Usage(DATAGRAMS, _WINDOW),
    Kind.HANDSHAKE: Usage(TLS_ONLY),
    Kind.ALERT: Usage(TLS_ONLY),
    Kind.END: Usage(TLS_ONLY),
    Kind.FRAGMENT: Usage(TLS_ONLY),
    Kind.EARLY_CLOSE: Usage(TLS_ONLY),
    Kind.KEY_UPDATE: Usage(TLS_ONLY, frozenset({"after"})),
}
