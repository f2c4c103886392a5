"""Certificates that cryptography refuses to sign: what is to be signed is changed, and signed again.

cryptography makes an ordinary certificate; asn1crypto takes it apart and puts it together again, and the
issuer's key signs the result with any hash. Pure: no Twisted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asn1crypto import core, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

#: A change to a TBSCertificate of asn1crypto's (RFC 5280, section 4.1).
Change = Callable[[Any], None]

_ALGORITHMS: Final = {
    "md5": ("md5_rsa", hashes.MD5()),  # noqa: S303 (a defect)
    "sha1": ("sha1_rsa", hashes.SHA1()),  # noqa: S303 (a defect)
    "sha256": ("sha256_rsa", hashes.SHA256()),
}


def resigned(
    certificate: bytes, issuer_key: rsa.RSAPrivateKey, *, digest: str = "sha256", change: Change | None = None
) -> bytes:
    """The DER *certificate*, changed, and signed again with *issuer_key*.

    :param digest: the hash of the signature: ``md5``, ``sha1`` or ``sha256``.
    :param change: is called with the TBSCertificate, to modify it.
    """
    name, algorithm = _ALGORITHMS[digest]
    whole = x509.Certificate.load(certificate)
    tbs = whole["tbs_certificate"]
    tbs["signature"]["algorithm"] = name
    if change is not None:
        change(tbs)
    whole["signature_algorithm"]["algorithm"] = name
    signed = tbs.dump(force=True)
    whole["signature_value"] = issuer_key.sign(signed, padding.PKCS1v15(), algorithm)
    dumped: bytes = whole.dump(force=True)
    return dumped


def extension(oid: str, value: bytes) -> Any:
    """An extension, not critical, with any contents: *value* is its DER."""
    return x509.Extension.load(_tlv(0x30, core.ObjectIdentifier(oid).dump() + octet_string(value)))


def dns_names(*names: bytes) -> bytes:
    """The DER of a SAN extension with *names* as dNSNames, whatever bytes they have (RFC 5280, 4.2.1.6)."""
    return _tlv(0x30, b"".join(_tlv(0x82, name) for name in names))


def octet_string(contents: bytes) -> bytes:
    """The DER of an OCTET STRING."""
    return _tlv(0x04, contents)


def _tlv(tag: int, contents: bytes) -> bytes:
    """A DER element: its length is written in as few bytes as possible (X.690, section 10.1)."""
    length = len(contents)
    if length < 0x80:
        return bytes([tag, length]) + contents
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + contents
