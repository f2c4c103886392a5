"""The certificate authority of a gallery: made at start, in memory, and forgotten with the process.

Rules: what is right about a specimen comes from here, so that only its maker is to blame for what is wrong.
Everything is valid at the time that the authority is given, which need not be the machine's. A CA has a name
of its own, so that no client finds a way past a defect through a certificate that it has seen elsewhere.
Keys are shared where they are not the defect, because making RSA keys is what takes long.

Pure: no Twisted.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from suite.gallery.weak import dsa_key

#: How long CAs are valid before and after the gallery starts. The time before lets an expired leaf be valid
#: within its issuer's time.
CA_BEFORE: Final = timedelta(days=365)
CA_AFTER: Final = timedelta(days=3650)

#: What signs certificates here.
SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey

CA_USAGE: Final = frozenset({"key_cert_sign", "crl_sign"})


class Issuer(NamedTuple):
    """What signs certificates.

    :ivar der: its own certificate; empty if that is never sent.
    """

    name: x509.Name
    key: SigningKey
    der: bytes = b""


class Authority:
    """A root that clients are to trust, an intermediate CA below it, and one that nobody trusts.

    :param now: when the gallery starts, with its time zone.
    :ivar root: what clients are to trust.
    :ivar intermediate: signs the leaves, with a path length of 0.
    :ivar intermediate_key: its key, which the CAs of specimens share.
    :ivar revoked_serial: the number of the leaf of the specimen ``revoked``.
    :ivar leaf_key: the key of leaves whose key is nothing special.
    :ivar until: when its CAs expire.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.until = now + CA_AFTER
        self.leaf_key = _rsa_key()
        root_key = _rsa_key()
        self.root = self._self_signed("root", root_key)
        self.intermediate_key = _rsa_key()
        self.intermediate = self.sub_ca("intermediate CA", path_length=0)
        self.revoked_serial = x509.random_serial_number()

    @property
    def pem(self) -> bytes:
        """The certificate of the root, in PEM: what clients are to trust."""
        return x509.load_der_x509_certificate(self.root.der).public_bytes(Encoding.PEM)

    @cached_property
    def untrusted(self) -> Issuer:
        """A root that nobody trusts."""
        return self._self_signed("untrusted root", _rsa_key())

    @cached_property
    def dsa_key(self) -> dsa.DSAPrivateKey:
        """A DSA key, for a CA."""
        return dsa_key()

    @cached_property
    def crl(self) -> bytes:
        """The intermediate CA's list of revoked certificates, in DER (RFC 5280, section 5).

        It names the leaf of the specimen ``revoked``, and no other.
        """
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(self.revoked_serial)
            .revocation_date(self._now - timedelta(days=1))
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            .build()
        )
        issuer = self.intermediate
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.name)
            .last_update(self._now - timedelta(days=1))
            .next_update(self.until)
            .add_extension(authority_identifier(issuer), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_revoked_certificate(revoked)
        )
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def sub_ca(
        self,
        name: str,
        *,
        below: Issuer | None = None,
        key: SigningKey | None = None,
        not_after: datetime | None = None,
        ca: bool = True,
        path_length: int | None = None,
        usage: frozenset[str] | None = CA_USAGE,
        constraints: x509.NameConstraints | None = None,
    ) -> Issuer:
        """Another CA.

        :param below: who signs it; default: the root.
        :param key: default: the intermediate CA's.
        :param not_after: when it expires; default: with the root.
        :param ca: whether its basicConstraints say that it is a CA.
        :param usage: what its keyUsage allows, by cryptography's names; None: it has none.
        """
        below = below or self.root
        key = key or self.intermediate_key
        builder = (
            self._builder(ca_name(name), key.public_key(), below.name, not_after)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority_identifier(below), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(key_usage(usage), critical=True)
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        return _issuer(builder, below.key, key)

    def _self_signed(self, name: str, key: SigningKey) -> Issuer:
        subject = ca_name(name)
        builder = (
            self._builder(subject, key.public_key(), subject, None)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(CA_USAGE), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return _issuer(builder, key, key)

    def _builder(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        issuer: x509.Name,
        not_after: datetime | None,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - CA_BEFORE)
            .not_valid_after(not_after or self.until)
        )


def _issuer(builder: x509.CertificateBuilder, signing_key: SigningKey, key: SigningKey) -> Issuer:
    certificate = builder.sign(signing_key, hashes.SHA256())
    return Issuer(certificate.subject, key, certificate.public_bytes(Encoding.DER))


def ca_name(name: str) -> x509.Name:
    """The subject of a CA."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "echo suite gallery"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"echo suite gallery {name}"),
        ]
    )


def key_usage(allowed: frozenset[str]) -> x509.KeyUsage:
    """A keyUsage extension that allows just what is named, by cryptography's names."""
    return x509.KeyUsage(
        digital_signature="digital_signature" in allowed,
        content_commitment="content_commitment" in allowed,
        key_encipherment="key_encipherment" in allowed,
        data_encipherment=False,
        key_agreement="key_agreement" in allowed,
        key_cert_sign="key_cert_sign" in allowed,
        crl_sign="crl_sign" in allowed,
        encipher_only=False,
        decipher_only=False,
    )


def authority_identifier(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    """How what *issuer* signs refers to its key (RFC 5280, section 4.2.1.1)."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
