"""Named network conditions: what a whole link is like, in one word (``profile = "3g"``).

Rules: the figures are those of public tools, named beside each, so that they can be checked and disputed;
``[profiles.NAME]`` in a configuration file changes them, or adds others. A profile says what a link is like
for a client behind it; `faults_of` says which faults that makes. TCP hides what is lost, so a stream gets no
loss, and what its retransmissions would cost is not imitated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from suite.config.faults import Fault, Kind, Profile


def _bits(kilobits: int) -> int:
    """Bytes a second of so many kilobits a second."""
    return kilobits * 1000 // 8


#: Every profile that there is without being declared.
#:
#: - Firefox: the network monitor's throttling (``devtools/client/shared/components/throttling/profiles.js``),
#:   "GPRS", "Regular 4G / LTE" and "Wi-Fi"
#: - WebPageTest: ``www/settings/connectivity.ini.sample``, "Edge", "3G" and "DSL"
#: - Loadero: https://wiki.loadero.com/test-creation/participant-configuration/network-conditions, for jitter
#:   and loss, which neither of the two has, and "Satellite phone" (RFC 2488, section 2, derives 558 ms for a
#:   round trip over a geostationary satellite)
PROFILES: Final[Mapping[str, Profile]] = {
    "gprs": Profile(latency=0.5, jitter=0.1, down=_bits(50), up=_bits(20), loss=0.01),
    "edge": Profile(latency=0.84, jitter=0.1, down=_bits(240), up=_bits(200), loss=0.01),
    "3g": Profile(latency=0.3, jitter=0.05, down=_bits(1_600), up=_bits(768), loss=0.005),
    "4g": Profile(latency=0.02, jitter=0.005, down=_bits(4_000), up=_bits(3_000), loss=0.002),
    "dsl": Profile(latency=0.05, down=_bits(1_500), up=_bits(384)),
    "wifi": Profile(latency=0.002, down=_bits(30_000), up=_bits(15_000)),
    "satellite": Profile(latency=0.6, down=_bits(1_000), up=_bits(256)),
}


def faults_of(name: str, profile: Profile, **when: Any) -> tuple[Fault, ...]:
    """The faults that make a link like *profile*: for streams and for datagrams.

    Of them, those hold that apply to the transport (`suite.config.faults.USAGE`). An echo crosses the link
    twice: it is as slow as the slower way, and late by the whole round trip.

    :param when: when they strike: fields of `Fault`.
    """

    def fault(kind: Kind, value: float, **more: Any) -> Fault:
        return Fault(kind, value, profile=name, **more, **when)

    found = []
    if profile.latency or profile.jitter:
        found.append(fault(Kind.LATENCY, profile.latency, jitter=profile.jitter))
        found.append(fault(Kind.DELAY, profile.latency, jitter=profile.jitter))
    if profile.down is not None:
        found.append(fault(Kind.BANDWIDTH, profile.down))
    if profile.up is not None:
        found.append(fault(Kind.BANDWIDTH, profile.up, direction="up"))
    rates = [rate for rate in (profile.down, profile.up) if rate is not None]
    if rates:
        found.append(fault(Kind.RATE, min(rates)))
    if profile.loss:
        found.append(fault(Kind.LOSS, profile.loss))
    return tuple(found)
