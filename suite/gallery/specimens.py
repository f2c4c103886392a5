"""The specimens of bad TLS, and some of good: what is wrong with each, and what a client must do about it.

Rules: a specimen has one defect, and nothing else about it is out of the ordinary. `must` is what a correct
client does with everything that the cited clause says at least SHOULD: `either` only where the clause leaves
it to the client. A name is a DNS label, the one that badssl.com uses where it has that specimen. Nothing is
listed that cannot be made and served: what cannot is in `LEFT_OUT`, with the reason.

Pure: no Twisted, and nothing is made here; `suite.gallery.mint` makes the certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from suite.gallery.errors import ERRORS


class Must(StrEnum):
    """What a correct client does with a specimen."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    EITHER = "either"


@dataclass(frozen=True)
class Specimen:
    """One way to be wrong (or right), as the manifest describes it.

    :ivar name: a DNS label, which selects it by SNI.
    :ivar defect: what is wrong with it, in one sentence.
    :ivar clause: where a standard says what a client must do about it.
    :ivar must: what a correct client does.
    :ivar errors: the error that it should raise, by stack (``openssl``, ``gnutls``, ``go``, ``python``,
        ``java``, ``chromium``), as that stack writes it; absent where the stack accepts it, or is not known.
    :ivar certificate: which maker of `suite.gallery.mint` makes its chain.
    :ivar behaviour: which entry of `suite.gallery.behaviours` serves it; None: an ordinary TLS server.
    :ivar needs: what must be installed to serve it: ``tlslite`` (``echo-suite[legacy]``), ``openssl`` (the
        program); None: nothing more.
    """

    name: str
    defect: str
    clause: str
    must: Must
    errors: Mapping[str, str]
    certificate: str = "good"
    behaviour: str | None = None
    needs: str | None = None


ACCEPT: Final = Must.ACCEPT
REFUSE: Final = Must.REFUSE
EITHER: Final = Must.EITHER

_NO_ERRORS: Final[Mapping[str, str]] = MappingProxyType({})


def _certificate(
    name: str, must: Must, clause: str, defect: str, *, behaviour: str | None = None
) -> Specimen:
    """A specimen whose certificates are what it is about; their maker has its name."""
    return Specimen(name, defect, clause, must, ERRORS.get(name, _NO_ERRORS), name, behaviour)


def _behaviour(name: str, must: Must, clause: str, defect: str, needs: str | None = None) -> Specimen:
    """A specimen whose conduct it is about, served under its name, with the certificate of ``good``."""
    return Specimen(name, defect, clause, must, ERRORS.get(name, _NO_ERRORS), "good", name, needs)


#: Nothing is wrong with these.
_GOOD: Final = (
    _certificate(
        "good", ACCEPT, "RFC 8446, section 9.1", "None: RSA of 2048 bits, below an intermediate CA."
    ),
    _certificate("ecc256", ACCEPT, "RFC 8446, section 9.1", "None: an ECDSA key on the curve P-256."),
    _certificate("ecc384", ACCEPT, "RFC 9325, section 4.2", "None: an ECDSA key on the curve P-384."),
    _certificate(
        "ed25519", EITHER, "RFC 8410, section 3", "None: an Ed25519 key, which not all clients know."
    ),
    _certificate(
        "ml-dsa",
        EITHER,
        "RFC 9881, section 4",
        "None: a post-quantum key, ML-DSA-65, which few clients know.",
    ),
    _certificate("stapled", ACCEPT, "RFC 6066, section 8", "None: a stapled OCSP response says good."),
)

#: The time, and whom the certificate is for.
_VALIDITY_AND_NAMES: Final = (
    _certificate("expired", REFUSE, "RFC 5280, section 4.1.2.5", "The certificate expired yesterday."),
    _certificate(
        "not-yet-valid",
        REFUSE,
        "RFC 5280, section 4.1.2.5",
        "The certificate is not valid before next month.",
    ),
    _certificate("wrong-host", REFUSE, "RFC 9525, section 6.3", "The certificate is for another host."),
    _certificate(
        "no-common-name", ACCEPT, "RFC 9525, section 2", "The subject has no common name; the SAN is right."
    ),
    _certificate(
        "no-subject",
        ACCEPT,
        "RFC 5280, section 4.1.2.6",
        "The subject is empty; the SAN is right and critical.",
    ),
    _certificate(
        "no-san", REFUSE, "RFC 9525, section 2", "There is no SAN, and the common name is not a host's."
    ),
    _certificate(
        "cn-only",
        REFUSE,
        "RFC 9525, section 2",
        "There is no SAN, only a common name, which is the host's.",
    ),
    _certificate(
        "wildcard-too-deep",
        REFUSE,
        "RFC 9525, section 6.3",
        "The name is a wildcard for hosts below this one, which it does not cover.",
    ),
    _certificate(
        "partial-wildcard",
        REFUSE,
        "RFC 9525, section 6.3",
        "The wildcard is only a part of a label: local* is not localhost.",
    ),
    _certificate(
        "nul-in-name",
        REFUSE,
        "RFC 5280, section 4.2.1.6",
        "A NUL follows the host's name, and then the domain of somebody else.",
    ),
    _certificate(
        "idn",
        ACCEPT,
        "RFC 5280, section 7.2",
        "None: an internationalized name (xn--) stands beside the host's.",
    ),
    _certificate(
        "ip-in-dns",
        REFUSE,
        "RFC 9525, section 6.4",
        "The IP address stands in a dNSName, and nothing else does.",
    ),
    _certificate("1000-sans", ACCEPT, "RFC 5280, section 4.2.1.6", "The certificate names 1,000 hosts."),
    _certificate(
        "10000-sans",
        EITHER,
        "RFC 5280, section 4.2.1.6",
        "The certificate names 10,000 hosts, more than many clients read.",
    ),
)

#: The way from the certificate to what the client trusts.
_CHAINS: Final = (
    _certificate("self-signed", REFUSE, "RFC 5280, section 6.1", "The certificate has signed itself."),
    _certificate(
        "untrusted-root", REFUSE, "RFC 5280, section 6.1.1", "The chain ends in a root unknown to the client."
    ),
    _certificate(
        "incomplete-chain",
        REFUSE,
        "RFC 8446, section 4.4.2",
        "The intermediate CA's certificate is not sent.",
    ),
    _certificate(
        "reversed-chain",
        ACCEPT,
        "RFC 8446, section 4.4.2",
        "The certificates of the two intermediate CAs are sent in the wrong order.",
    ),
    _certificate(
        "extra-chain",
        ACCEPT,
        "RFC 8446, section 4.4.2",
        "A certificate is sent that has nothing to do with the chain.",
    ),
    _certificate(
        "big-chain", ACCEPT, "RFC 8446, section 5.1", "The chain is larger than a record: over 16 KiB."
    ),
    _certificate(
        "expired-intermediate",
        REFUSE,
        "RFC 5280, section 6.1.3",
        "The intermediate CA's certificate expired yesterday.",
    ),
    _certificate(
        "ca-false", REFUSE, "RFC 5280, section 6.1.4", "The issuer is no CA: its basicConstraints say so."
    ),
    _certificate(
        "name-constraints",
        REFUSE,
        "RFC 5280, section 4.2.1.10",
        "The intermediate CA may only sign for another domain.",
    ),
    _certificate(
        "path-length",
        REFUSE,
        "RFC 5280, section 4.2.1.9",
        "An intermediate CA has signed another though its path length is 0.",
    ),
    _certificate(
        "ca-key-usage",
        REFUSE,
        "RFC 5280, section 6.1.4",
        "The intermediate CA's key may not sign certificates (keyUsage).",
    ),
)

#: What the certificate's key may do, and how strong it and the signatures are.
_KEYS: Final = (
    _certificate(
        "wrong-usage",
        REFUSE,
        "RFC 5280, section 4.2.1.12",
        "The certificate is for TLS clients only (extendedKeyUsage).",
    ),
    _certificate(
        "bad-key-usage",
        REFUSE,
        "RFC 8446, section 4.4.2.2",
        "The key may not sign handshakes: keyUsage has only cRLSign.",
    ),
    _certificate("sha1", REFUSE, "RFC 8446, section 4.4.2.4", "The certificate's signature uses SHA-1."),
    _certificate("md5", REFUSE, "RFC 8446, section 4.4.2.4", "The certificate's signature uses MD5."),
    # 512 bits are too few for RSA-PSS, without which there is no TLS 1.3.
    _certificate(
        "rsa-512", REFUSE, "RFC 9325, section 4.5", "The RSA key has 512 bits.", behaviour="tls-v1-2"
    ),
    _certificate("rsa-1024", REFUSE, "RFC 9325, section 4.5", "The RSA key has 1024 bits."),
    # In the chain, not in the leaf: hardly any client offers a cipher suite with which a server could present
    # such a leaf, so none would see it.
    _certificate("dsa", EITHER, "RFC 8446, section 4.2.3", "The intermediate CA signs with DSA."),
    _certificate(
        "weak-curve",
        REFUSE,
        "RFC 9325, section 4.5",
        "The intermediate CA signs with ECDSA on the curve P-192.",
    ),
)

#: What must not be in a certificate.
_CONTENTS: Final = (
    _certificate("negative-serial", EITHER, "RFC 5280, section 4.1.2.2", "The serial number is negative."),
    _certificate(
        "duplicate-extension", REFUSE, "RFC 5280, section 4.2", "The certificate has the SAN extension twice."
    ),
    _certificate(
        "unknown-critical-extension",
        REFUSE,
        "RFC 5280, section 4.2",
        "An extension is marked critical that no client knows.",
    ),
)

#: Revocation.
_STATUS: Final = (
    _certificate(
        "revoked",
        REFUSE,
        "RFC 6066, section 8",
        "The certificate is revoked: the stapled OCSP response says so, and the CRL.",
    ),
    _certificate(
        "must-staple",
        REFUSE,
        "RFC 7633, section 4.3",
        "The certificate promises a stapled OCSP response, and there is none.",
    ),
    _certificate(
        "stale-staple",
        REFUSE,
        "RFC 6960, section 3.2",
        "The stapled OCSP response is out of date since yesterday.",
    ),
)

#: Versions and cipher suites.
_VERSIONS_AND_SUITES: Final = (
    _behaviour("tls-v1-0", REFUSE, "RFC 8996, section 4", "The server speaks only TLS 1.0."),
    _behaviour("tls-v1-1", REFUSE, "RFC 8996, section 5", "The server speaks only TLS 1.1."),
    _behaviour("tls-v1-2", ACCEPT, "RFC 9325, section 3.1.1", "None: the server speaks only TLS 1.2."),
    _behaviour("tls-v1-3", ACCEPT, "RFC 9325, section 3.1.1", "None: the server speaks only TLS 1.3."),
    _behaviour(
        "static-rsa",
        REFUSE,
        "RFC 9325, section 4.1",
        "Keys are exchanged under the RSA key, without forward secrecy.",
    ),
    _behaviour("cbc", EITHER, "RFC 9325, section 4.2.1", "The cipher suite uses CBC, in TLS 1.2."),
    _behaviour("rc4", REFUSE, "RFC 7465, section 2", "The cipher suite uses RC4.", "tlslite"),
    _behaviour("3des", REFUSE, "RFC 9325, section 4.1", "The cipher suite uses Triple DES.", "tlslite"),
    _behaviour("null", REFUSE, "RFC 9325, section 4.1", "The cipher suite does not encrypt."),
    # OpenSSL 4 never uses a group of its own with a client that offers some of RFC 7919.
    _behaviour(
        "dh-small",
        REFUSE,
        "RFC 9325, section 4.5",
        "The Diffie-Hellman group has 1024 bits, too few.",
        "tlslite",
    ),
)

#: Conduct.
_CONDUCT: Final = (
    _behaviour(
        "client-cert",
        ACCEPT,
        "RFC 8446, section 4.4.2",
        "The server asks for a client's certificate, and does without.",
    ),
    _behaviour(
        "client-cert-missing",
        REFUSE,
        "RFC 8446, section 6.2",
        "The server insists on a client's certificate.",
    ),
    _behaviour(
        "no-close-notify", EITHER, "RFC 8446, section 6.1", "The connection ends without close_notify."
    ),
    _behaviour(
        "renegotiates", EITHER, "RFC 5246, section 7.4.1.1", "The server asks to renegotiate, in TLS 1.2."
    ),
    _behaviour(
        "hang-in-handshake",
        REFUSE,
        "none: TLS has no time limits, so a client needs its own",
        "The server never answers the ClientHello.",
    ),
    _behaviour(
        "split-hello", ACCEPT, "RFC 8446, section 5.1", "The ServerHello comes in records of one byte each."
    ),
    _behaviour(
        "alpn-mismatch",
        REFUSE,
        "RFC 7301, section 3.2",
        "The server selects a protocol that the client did not offer.",
    ),
    _behaviour(
        "downgrade-sentinel",
        REFUSE,
        "RFC 8446, section 4.1.3",
        "TLS 1.2 is negotiated, and the server's random says that it could have been TLS 1.3.",
    ),
)

#: All specimens, in the order of the manifest.
SPECIMENS: Final[tuple[Specimen, ...]] = (
    *_GOOD,
    *_VALIDITY_AND_NAMES,
    *_CHAINS,
    *_KEYS,
    *_CONTENTS,
    *_STATUS,
    *_VERSIONS_AND_SUITES,
    *_CONDUCT,
)

#: The same by name.
BY_NAME: Final[Mapping[str, Specimen]] = MappingProxyType({each.name: each for each in SPECIMENS})

#: What cannot be made: name → why.
LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType({})
