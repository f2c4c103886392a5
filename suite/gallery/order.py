"""What the makers of certificates start from: a leaf, a chain and a staple with nothing wrong about them.

Times are relative to the order's `now`, with a margin for clients whose clocks differ. Pure: no Twisted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from suite.gallery.authority import Authority, Issuer, authority_identifier, key_usage
from suite.gallery.resign import Change, resigned
from suite.text import is_address

DAY: Final = timedelta(days=1)

#: How long a leaf is valid before and after it is made: far less than any client objects to.
LEAF_BEFORE: Final = DAY
LEAF_AFTER: Final = 90 * DAY

#: How long a stapled response is valid: as long as public CAs' (Baseline Requirements, section 4.9.10).
STAPLE_AFTER: Final = 7 * DAY

#: Before what it is about comes to its end, a certificate is due to be made anew.
MARGIN: Final = DAY


class Minted(NamedTuple):
    """What a server needs to present one specimen.

    :ivar chain: the certificates in DER, in the order in which they are sent.
    :ivar key: the leaf's private key, in PEM.
    :ivar ocsp: the OCSP response to staple, in DER; None: nothing is stapled.
    :ivar until: when it stops having exactly its one defect; None: never.
    """

    chain: tuple[bytes, ...]
    key: bytes
    ocsp: bytes | None = None
    until: datetime | None = None


class Unmintable(Exception):  # noqa: N818 (it is an answer, not a failure)
    """A certificate that the libraries here cannot make; its argument says why, for the manifest."""


@dataclass(frozen=True)
class Order:
    """What one specimen is made from."""

    authority: Authority
    names: Sequence[str]
    now: datetime

    @property
    def dns_names(self) -> list[str]:
        """The names that are no IP addresses."""
        return [name for name in self.names if not is_address(name)]

    @property
    def until(self) -> datetime:
        """When an ordinary leaf is due to be renewed."""
        return min(self.now + LEAF_AFTER, self.authority.until) - MARGIN

    def leaf(
        self,
        *,
        issuer: Issuer | None = None,
        subject: x509.Name | None = None,
        san: Sequence[x509.GeneralName] | None = None,
        key: Any = None,
        serial: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        usage: frozenset[str] | None = frozenset({"digital_signature", "key_encipherment"}),
        extended: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.Certificate:
        """A leaf; what is not given is as it should be.

        :param issuer: default: the intermediate CA.
        :param subject: default: the first DNS name as the common name.
        :param san: its names; default: those of the order; empty: no SAN extension.
        :param key: its private key; default: the shared one, RSA.
        :param usage: what its keyUsage allows; None: it has none.
        :param extra: more extensions, and whether each is critical.
        """
        issuer = issuer or self.authority.intermediate
        subject = common_name(self.dns_names[0]) if subject is None else subject
        public = (key or self.authority.leaf_key).public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.name)
            .public_key(public)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(not_before or self.now - LEAF_BEFORE)
            .not_valid_after(not_after or min(self.now + LEAF_AFTER, self.authority.until))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority_identifier(issuer), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(key_usage(usage), critical=True)
        found = general_names(self.names) if san is None else san
        if found:
            critical = not [*subject]  # RFC 5280, section 4.2.1.6
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=critical)
        for value, critical in extra:
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(issuer.key, hashes.SHA256())

    def minted(
        self,
        leaf: x509.Certificate | bytes,
        *more: Issuer,
        key: Any = None,
        ocsp: bytes | None = None,
        until: datetime | None = None,
    ) -> Minted:
        """A chain of *leaf* and the certificates of *more*.

        :param more: default: the intermediate CA.
        :param until: default: when the leaf is due to be renewed.
        """
        der = leaf if isinstance(leaf, bytes) else leaf.public_bytes(Encoding.DER)
        above = more or (self.authority.intermediate,)
        pem = key if isinstance(key, bytes) else private_pem(key or self.authority.leaf_key)
        return Minted((der, *(issuer.der for issuer in above)), pem, ocsp, until or self.until)

    def below(self, *issuers: Issuer) -> Minted:
        """An ordinary leaf, signed by the first of *issuers*, and the certificates of all of them."""
        return self.minted(self.leaf(issuer=issuers[0]), *issuers)

    def resigned(
        self, leaf: x509.Certificate, *, digest: str = "sha256", change: Change | None = None
    ) -> bytes:
        """The *leaf*, changed, and signed again by the intermediate CA."""
        return resigned(
            leaf.public_bytes(Encoding.DER), self.authority.intermediate_key, digest=digest, change=change
        )

    def status(
        self, leaf: x509.Certificate, *, this_update: datetime, next_update: datetime, revoked: bool = False
    ) -> bytes:
        """An OCSP response about *leaf*, signed by the intermediate CA (RFC 6960, section 4.2)."""
        issuer = self.authority.intermediate
        certificate = x509.load_der_x509_certificate(issuer.der)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=leaf,
                issuer=certificate,
                algorithm=hashes.SHA1(),  # noqa: S303 (identifies; RFC 5019 wants it, and clients look for it)
                cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
                this_update=this_update,
                next_update=next_update,
                revocation_time=this_update if revoked else None,
                revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        )
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Host names and IP addresses, each as what it is."""
    return [x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name) for name in names]


def common_name(name: str) -> x509.Name:
    """A subject with a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def organization() -> x509.Name:
    """A subject without a common name."""
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "echo suite gallery")])


def private_pem(key: Any) -> bytes:
    """The private *key* in PEM (PKCS #8)."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem
