"""Certificates of a target: what they say, and whether one is for the name that was asked for.

Rules: a target may send any bytes as a certificate, so whatever cannot be read is left out, never an error;
names match as in RFC 9525 (by service-identity); a name pattern that cannot be used does not spoil the others
(as in OpenSSL, GnuTLS and Python).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity.exceptions import CertificateError as UnusableName
from service_identity.exceptions import VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)

from suite.client.dial.failures import TargetError
from suite.text import is_address

_ROOT_HINT: Final = "; --ca adds a root"

#: OpenSSL's verify errors (openssl-verification-options(1), x509_vfy.h) that we explain.
NOT_YET_VALID: Final = 9
HAS_EXPIRED: Final = 10
UNTRUSTED: Final = {
    18: f"it is self-signed{_ROOT_HINT}",
    19: f"its chain ends in a root that is not trusted{_ROOT_HINT}",
    20: f"its issuer is not known{_ROOT_HINT}",
    21: f"its issuer is not known, and the server sent no chain{_ROOT_HINT}",
    23: "it is revoked",
    24: "its issuer is not a CA",
    26: "it is not a server certificate",
    66: "its key is too weak",
    67: "a CA's key is too weak",
    68: "its signature algorithm is too weak",
}


@dataclass(frozen=True)
class CertificateFacts:
    """What one certificate says.

    :ivar subject: the subject as in RFC 4514; empty if it has none, or none that can be read.
    :ivar issuer: the issuer, likewise.
    :ivar names: its DNS names and addresses.
    :ivar valid_from: the beginning of its validity, in UTC.
    :ivar expires: the end of its validity, in UTC.
    :ivar serial: its serial number, in hexadecimal.
    :ivar fingerprint: the SHA-256 of its DER, in hexadecimal.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: datetime
    expires: datetime
    serial: str
    fingerprint: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """The facts of *certificate*."""
        with warnings.catch_warnings():  # of faults that are the target's, such as negative numbers
            warnings.simplefilter("ignore")
            return cls(
                subject=_subject(certificate),
                issuer=_issuer(certificate),
                names=names_of(certificate),
                valid_from=certificate.not_valid_before_utc,
                expires=certificate.not_valid_after_utc,
                serial=f"{certificate.serial_number:x}",
                fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            )

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative if it has expired."""
        return (self.expires - datetime.now(UTC)).days

    def as_json(self) -> dict[str, Any]:
        """The facts for programs; see docs/probe.md."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "valid_from": self.valid_from.isoformat(),
            "expires": self.expires.isoformat(),
            "days_left": self.days_left,
            "serial": self.serial,
            "sha256": self.fingerprint,
        }


def _subject(certificate: x509.Certificate) -> str:
    with suppress(ValueError):
        return certificate.subject.rfc4514_string()
    return ""


def _issuer(certificate: x509.Certificate) -> str:
    with suppress(ValueError):
        return certificate.issuer.rfc4514_string()
    return ""


def names_of(certificate: x509.Certificate | None) -> tuple[str, ...]:
    """The DNS names and addresses in *certificate*."""
    names = _alternative_names(certificate)
    if names is None:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _alternative_names(certificate: x509.Certificate | None) -> x509.SubjectAlternativeName | None:
    if certificate is not None:
        with suppress(x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
            return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return None


def _usable_patterns(certificate: x509.Certificate | None) -> Iterator[CertificatePattern]:
    names = _alternative_names(certificate)
    if names is None:
        return
    for name in names.get_values_for_type(x509.DNSName):
        # service-identity refuses a certificate with such a pattern; elsewhere the pattern matches nothing.
        with suppress(UnusableName, UnicodeEncodeError):
            yield DNSPattern.from_bytes(name.encode("ascii"))
    for address in names.get_values_for_type(x509.IPAddress):
        if isinstance(address, IPv4Address | IPv6Address):  # networks are for CAs' constraints
            yield IPAddressPattern(address)


def wrong_name(certificate: x509.Certificate | None, name: str) -> TargetError | None:
    """The error if *certificate* is not for *name*, a host name or an address; None if it is."""
    try:
        wanted = IPAddress_ID(name) if is_address(name) else DNS_ID(name)
        verify_service_identity(list(_usable_patterns(certificate)), [wanted], [])
    except (VerificationError, UnusableName, ValueError):
        found = names_of(certificate)
        nameless = "no names at all (a common name does not count, RFC 9525)"
        detail = f"expected {name}; found {', '.join(found) or nameless}"
        return TargetError("cert-name", detail, {"expected": name, "found": list(found)})
    return None


def distrust(certificate: X509, error: int, depth: int) -> TargetError:
    """The error for *certificate*, which OpenSSL has rejected.

    :param error: OpenSSL's verify error.
    :param depth: 0 for the target's own certificate, above it for a CA's.
    """
    kind = "the" if depth == 0 else "a CA"
    try:
        readable = _converted(certificate)
    except ValueError:
        return _untrusted(f"{kind} certificate cannot be read", error)
    whose = f"{kind} certificate of {_subject(readable) or 'an unnamed subject'}"
    if error == HAS_EXPIRED:
        expired = readable.not_valid_after_utc
        days = (datetime.now(UTC) - expired).days
        return TargetError(
            "cert-expired",
            f"{whose} expired on {expired:%Y-%m-%d %H:%M} UTC, {days} day{'' if days == 1 else 's'} ago",
        )
    if error == NOT_YET_VALID:
        begins = readable.not_valid_before_utc
        return TargetError("cert-not-yet-valid", f"{whose} is valid from {begins:%Y-%m-%d %H:%M} UTC on")
    return _untrusted(whose, error)


def _untrusted(whose: str, error: int) -> TargetError:
    why = UNTRUSTED.get(error, "OpenSSL rejects it")
    return TargetError("cert-untrusted", f"{whose}: {why} (OpenSSL's verify error {error})")


def peer_certificate(connection: SSL.Connection) -> x509.Certificate | None:
    """The certificate of the other side, if it sent one that can be read."""
    certificate = connection.get_peer_certificate()
    return None if certificate is None else next(iter(_readable([certificate])), None)


def sent_chain(connection: SSL.Connection) -> tuple[CertificateFacts, ...]:
    """The certificates that the other side has sent, its own first; also after a failed verification."""
    return tuple(map(CertificateFacts.of, _readable(connection.get_peer_cert_chain() or [])))


def trusted_chain(connection: SSL.Connection) -> tuple[CertificateFacts, ...]:
    """The certificates from the other side's own to the trusted root; of a verified connection only."""
    return tuple(map(CertificateFacts.of, _readable(connection.get_verified_chain() or [])))


def _readable(certificates: Iterable[X509]) -> Iterator[x509.Certificate]:
    for certificate in certificates:
        with suppress(ValueError):
            yield _converted(certificate)


def _converted(certificate: X509) -> x509.Certificate:
    """The *certificate* as cryptography has it, which would warn of faults that are the target's.

    :raises ValueError: it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return certificate.to_cryptography()
