"""How each specimen's server conducts itself, by the name of its behaviour.

Rules: one entry says all: versions, suites, what is done at the end; what `suite.faults` can do already is a
fault here. `suite.gallery.contexts` makes an OpenSSL context of it, `suite.gallery.legacy` has tlslite-ng
speak what OpenSSL no longer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from OpenSSL import SSL

from suite.config.faults import Fault, Kind

#: Every suite that OpenSSL's own default has.
ORDINARY: Final = "DEFAULT"

#: A protocol of ALPN that no client offers.
UNOFFERED: Final = b"echo-suite/unoffered"

#: Version numbers as in OpenSSL and in tlslite-ng.
_TLS12: Final = (3, 3)


@dataclass(frozen=True)
class Legacy:
    """What tlslite-ng is set to.

    :ivar ciphers: its names of ciphers; empty: its default.
    :ivar key_exchanges: its names of key exchanges.
    :ivar macs: its names of MACs; empty: its default.
    :ivar highest: the version that it claims to know; it speaks TLS 1.2.
    :ivar group: a generator and a prime for Diffie-Hellman; None: those of RFC 7919.
    """

    ciphers: tuple[str, ...] = ()
    key_exchanges: tuple[str, ...] = ("ecdhe_rsa", "rsa")
    macs: tuple[str, ...] = ()
    highest: tuple[int, int] = _TLS12
    group: tuple[int, int] | None = None


@dataclass(frozen=True)
class Behaviour:
    """How a server conducts itself.

    :ivar minimum: the oldest version, in OpenSSL's number; 0: its default.
    :ivar maximum: the newest; 0: its default.
    :ivar suites: cipher suites up to TLS 1.2, in OpenSSL's words.
    :ivar faults: what goes wrong with each connection.
    :ivar rewritable: whether `suite.faults.records` can write its records again, as some faults need.
    :ivar renegotiates: whether the server asks to renegotiate after the handshake.
    :ivar protocol: the protocol selected by ALPN, whatever the client has offered; None: none is.
    :ivar clients: whether clients are asked for a certificate: ``optional`` or ``required``; empty: no.
    :ivar legacy: what tlslite-ng is set to; None: OpenSSL speaks.
    """

    minimum: int = 0
    maximum: int = 0
    suites: str = ORDINARY
    faults: tuple[Fault, ...] = ()
    rewritable: bool = True
    renegotiates: bool = False
    protocol: bytes | None = None
    clients: str = ""
    legacy: Legacy | None = None


def _only(version: int, *, suites: str = ORDINARY, rewritable: bool = True) -> Behaviour:
    return Behaviour(version, version, suites, rewritable=rewritable)


def _legacy(legacy: Legacy) -> Behaviour:
    return Behaviour(rewritable=False, legacy=legacy)


#: tlslite-ng's names of suites that are as they should be.
_GCM: Final = ("aes128gcm", "aes256gcm")

#: The second Oakley group, of 1024 bits (RFC 2409, section 6.2), and its generator.
OAKLEY_2: Final = (
    2,
    int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    ),
)

#: The behaviour of a specimen that has none of its own: an ordinary server.
PLAIN: Final = Behaviour()

#: By name.
BEHAVIOURS: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        "tls-v1-0": _only(SSL.TLS1_VERSION, rewritable=False),
        "tls-v1-1": _only(SSL.TLS1_1_VERSION, rewritable=False),
        "tls-v1-2": _only(SSL.TLS1_2_VERSION, suites="ECDHE+AESGCM:ECDHE+CHACHA20"),
        "tls-v1-3": _only(SSL.TLS1_3_VERSION),
        "static-rsa": _only(SSL.TLS1_2_VERSION, suites="kRSA+AESGCM", rewritable=False),
        "cbc": _only(
            SSL.TLS1_2_VERSION,
            suites="ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA",
            rewritable=False,
        ),
        "null": _only(SSL.TLS1_2_VERSION, suites="ECDHE-RSA-NULL-SHA:NULL-SHA256", rewritable=False),
        "rc4": _legacy(Legacy(("rc4",), macs=("sha",))),
        "3des": _legacy(Legacy(("3des",), macs=("sha",))),
        "dh-small": _legacy(Legacy(_GCM, key_exchanges=("dhe_rsa",), group=OAKLEY_2)),
        # OpenSSL writes that only where it could have agreed on TLS 1.3, and then it does.
        "downgrade-sentinel": _legacy(Legacy(_GCM, key_exchanges=("ecdhe_rsa",), highest=(3, 4))),
        "client-cert": Behaviour(clients="optional"),
        "client-cert-missing": Behaviour(clients="required"),
        "no-close-notify": Behaviour(faults=(Fault(Kind.END, "fin"),)),
        "renegotiates": Behaviour(
            SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION, rewritable=False, renegotiates=True
        ),
        "hang-in-handshake": Behaviour(faults=(Fault(Kind.HANDSHAKE, "silent"),)),
        "split-hello": Behaviour(suites="ECDHE+AESGCM:ECDHE+CHACHA20", faults=(Fault(Kind.FRAGMENT, 1),)),
        "alpn-mismatch": Behaviour(protocol=UNOFFERED),
    }
)
