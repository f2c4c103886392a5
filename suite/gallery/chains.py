"""The makers: what each specimen's certificates are, and what is wrong with them.

Rules: a maker starts from an ordinary leaf below an ordinary intermediate CA, and changes one thing. A maker
is called by its specimen's `certificate`: adding one is a function and a line of `MAKERS` here, and an entry
in `suite.gallery.specimens`.

Pure: no Twisted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from asn1crypto.keys import PublicKeyInfo
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from suite.gallery.authority import Issuer
from suite.gallery.order import (
    DAY,
    LEAF_AFTER,
    MARGIN,
    STAPLE_AFTER,
    Minted,
    Order,
    Unmintable,
    common_name,
    general_names,
    organization,
    private_pem,
)
from suite.gallery.resign import dns_names, extension, octet_string
from suite.gallery.weak import rsa_key
from suite.text import is_address

#: Under the number that IANA keeps for examples (RFC 5612): an extension that nobody knows.
UNKNOWN_EXTENSION: Final = "1.3.6.1.4.1.32473.1"

SAN_OID: Final = "2.5.29.17"

#: More than fits into a record of TLS (RFC 8446, section 5.1: 2^14 bytes).
BIG: Final = 17 * 1024


# Good ones.


def _good(order: Order) -> Minted:
    return order.minted(order.leaf())


def _with_key(order: Order, key: Any) -> Minted:
    """A leaf with a *key* that can sign, but not encrypt."""
    return order.minted(order.leaf(key=key, usage=frozenset({"digital_signature"})), key=key)


def _ecc256(order: Order) -> Minted:
    return _with_key(order, ec.generate_private_key(ec.SECP256R1()))


def _ecc384(order: Order) -> Minted:
    return _with_key(order, ec.generate_private_key(ec.SECP384R1()))


def _ed25519(order: Order) -> Minted:
    return _with_key(order, ed25519.Ed25519PrivateKey.generate())


def _ml_dsa(order: Order) -> Minted:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415 (not in all versions)

        key = mldsa.MLDSA65PrivateKey.generate()
    except Exception as error:  # each version of cryptography says it differently
        raise Unmintable("cryptography has no ML-DSA here") from error
    return _with_key(order, key)


def _stapled(order: Order) -> Minted:
    leaf = order.leaf()
    until = order.now + STAPLE_AFTER
    staple = order.status(leaf, this_update=order.now - DAY, next_update=until)
    return order.minted(leaf, ocsp=staple, until=until - MARGIN)


# The time, and whom the certificate is for.


def _expired(order: Order) -> Minted:
    leaf = order.leaf(not_before=order.now - LEAF_AFTER, not_after=order.now - DAY)
    return order.minted(leaf, until=order.authority.until - MARGIN)


def _not_yet_valid(order: Order) -> Minted:
    start = order.now + 30 * DAY
    return order.minted(order.leaf(not_before=start, not_after=start + LEAF_AFTER), until=start - MARGIN)


def _wrong_host(order: Order) -> Minted:
    names = general_names(["wrong-host.example"])
    return order.minted(order.leaf(subject=common_name("wrong-host.example"), san=names))


def _no_common_name(order: Order) -> Minted:
    return order.minted(order.leaf(subject=organization()))


def _no_subject(order: Order) -> Minted:
    return order.minted(order.leaf(subject=x509.Name([])))


def _no_san(order: Order) -> Minted:
    return order.minted(order.leaf(subject=common_name("echo suite"), san=()))


def _cn_only(order: Order) -> Minted:
    return order.minted(order.leaf(san=()))


def _wildcard_too_deep(order: Order) -> Minted:
    longest = max(order.dns_names, key=lambda name: name.count("."))
    return order.minted(order.leaf(subject=organization(), san=[x509.DNSName(f"*.{longest}")]))


def _partial_wildcard(order: Order) -> Minted:
    patterns = []
    for name in order.dns_names:
        label, dot, rest = name.partition(".")
        patterns.append(x509.DNSName(f"{label[: (len(label) + 1) // 2]}*{dot}{rest}"))
    return order.minted(order.leaf(subject=organization(), san=patterns))


def _nul_in_name(order: Order) -> Minted:
    names = [name.encode() + b"\0.nul-in-name.example" for name in order.dns_names]
    san = x509.UnrecognizedExtension(ObjectIdentifier(SAN_OID), dns_names(*names))
    return order.minted(order.leaf(subject=organization(), san=(), extra=[(san, False)]))


def _idn(order: Order) -> Minted:
    return order.minted(order.leaf(san=general_names([*order.names, "xn--bcher-kva.example"])))


def _ip_in_dns(order: Order) -> Minted:
    addresses = [name for name in order.names if is_address(name)] or ["127.0.0.1"]
    san = [x509.DNSName(address) for address in addresses]
    return order.minted(order.leaf(subject=organization(), san=san))


def _many_sans(order: Order, count: int) -> Minted:
    fillers = [f"{number}.sans.example" for number in range(count - len(order.names))]
    return order.minted(order.leaf(san=general_names([*fillers, *order.names])))


def _1000_sans(order: Order) -> Minted:
    return _many_sans(order, 1000)


def _10000_sans(order: Order) -> Minted:
    return _many_sans(order, 10000)


# The way to what the client trusts.


def _self_signed(order: Order) -> Minted:
    key = order.authority.leaf_key
    subject = common_name(order.dns_names[0])
    leaf = order.leaf(issuer=Issuer(subject, key), subject=subject)
    return Minted((leaf.public_bytes(Encoding.DER),), private_pem(key), None, order.until)


def _untrusted_root(order: Order) -> Minted:
    return order.below(order.authority.untrusted)


def _incomplete_chain(order: Order) -> Minted:
    # A CA of its own, which a client cannot have seen before.
    missing = order.authority.sub_ca("CA that is not sent", path_length=0)
    leaf = order.leaf(issuer=missing)
    return Minted(
        (leaf.public_bytes(Encoding.DER),), private_pem(order.authority.leaf_key), None, order.until
    )


def _reversed_chain(order: Order) -> Minted:
    upper = order.authority.sub_ca("upper CA")
    lower = order.authority.sub_ca("lower CA", below=upper, path_length=0)
    return order.minted(order.leaf(issuer=lower), upper, lower)


def _extra_chain(order: Order) -> Minted:
    authority = order.authority
    return order.minted(order.leaf(), authority.intermediate, authority.sub_ca("CA beside the chain"))


def _big_chain(order: Order) -> Minted:
    filling = x509.UnrecognizedExtension(ObjectIdentifier(UNKNOWN_EXTENSION), octet_string(bytes(BIG)))
    return order.minted(order.leaf(extra=[(filling, False)]))


def _expired_intermediate(order: Order) -> Minted:
    expired = order.authority.sub_ca("expired CA", not_after=order.now - DAY, path_length=0)
    # The leaf is not older than its issuer's end, or it would be wrong, too.
    leaf = order.leaf(issuer=expired, not_before=order.now - 2 * DAY)
    return order.minted(leaf, expired)


def _ca_false(order: Order) -> Minted:
    # Without keyUsage, which would be a second reason to refuse it.
    return order.below(order.authority.sub_ca("host that is no CA", ca=False, usage=None))


def _name_constraints(order: Order) -> Minted:
    constraints = x509.NameConstraints([x509.DNSName("permitted.example")], None)
    return order.below(order.authority.sub_ca("constrained CA", path_length=0, constraints=constraints))


def _path_length(order: Order) -> Minted:
    last = order.authority.sub_ca("last CA", path_length=0)
    return order.below(order.authority.sub_ca("CA below the last CA", below=last), last)


def _ca_key_usage(order: Order) -> Minted:
    return order.below(
        order.authority.sub_ca("CA for CRLs only", path_length=0, usage=frozenset({"crl_sign"}))
    )


# The key.


def _wrong_usage(order: Order) -> Minted:
    return order.minted(order.leaf(extended=ExtendedKeyUsageOID.CLIENT_AUTH))


def _bad_key_usage(order: Order) -> Minted:
    return order.minted(order.leaf(usage=frozenset({"crl_sign"})))


def _sha1(order: Order) -> Minted:
    return order.minted(order.resigned(order.leaf(), digest="sha1"))


def _md5(order: Order) -> Minted:
    return order.minted(order.resigned(order.leaf(), digest="md5"))


def _rsa_512(order: Order) -> Minted:
    key, public = rsa_key(512)

    def change(tbs: Any) -> None:
        tbs["subject_public_key_info"] = PublicKeyInfo.load(public)

    return order.minted(order.resigned(order.leaf(), change=change), key=key)


def _rsa_1024(order: Order) -> Minted:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (the defect)
    return order.minted(order.leaf(key=key), key=key)


def _dsa(order: Order) -> Minted:
    return order.below(order.authority.sub_ca("DSA CA", key=order.authority.dsa_key, path_length=0))


def _weak_curve(order: Order) -> Minted:
    try:
        key = ec.generate_private_key(ec.SECP192R1())
    except Exception as error:  # each build of OpenSSL says it differently
        raise Unmintable("OpenSSL has no P-192 here") from error
    return order.below(order.authority.sub_ca("P-192 CA", key=key, path_length=0))


# What must not be in a certificate.


def _negative_serial(order: Order) -> Minted:
    def change(tbs: Any) -> None:
        tbs["serial_number"] = -int(tbs["serial_number"].native)

    return order.minted(order.resigned(order.leaf(), change=change))


def _duplicate_extension(order: Order) -> Minted:
    names = [name.encode() for name in order.dns_names]

    def change(tbs: Any) -> None:
        tbs["extensions"].append(extension(SAN_OID, dns_names(*names)))

    return order.minted(order.resigned(order.leaf(), change=change))


def _unknown_critical_extension(order: Order) -> Minted:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier(UNKNOWN_EXTENSION), b"\x05\x00")
    return order.minted(order.leaf(extra=[(unknown, True)]))


# Revocation.


def _revoked(order: Order) -> Minted:
    leaf = order.leaf(serial=order.authority.revoked_serial)
    until = order.now + STAPLE_AFTER
    staple = order.status(leaf, this_update=order.now - DAY, next_update=until, revoked=True)
    return order.minted(leaf, ocsp=staple, until=until - MARGIN)


def _must_staple(order: Order) -> Minted:
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    return order.minted(order.leaf(extra=[(feature, False)]))


def _stale_staple(order: Order) -> Minted:
    leaf = order.leaf(not_before=order.now - 2 * STAPLE_AFTER)
    staple = order.status(leaf, this_update=order.now - STAPLE_AFTER, next_update=order.now - DAY)
    return order.minted(leaf, ocsp=staple)


#: Every maker, by the name that a specimen gives as its `certificate`.
MAKERS: Final[Mapping[str, Callable[[Order], Minted]]] = MappingProxyType(
    {
        "1000-sans": _1000_sans,
        "10000-sans": _10000_sans,
        "big-chain": _big_chain,
        "bad-key-usage": _bad_key_usage,
        "ca-false": _ca_false,
        "ca-key-usage": _ca_key_usage,
        "cn-only": _cn_only,
        "dsa": _dsa,
        "duplicate-extension": _duplicate_extension,
        "ecc256": _ecc256,
        "ecc384": _ecc384,
        "ed25519": _ed25519,
        "expired": _expired,
        "expired-intermediate": _expired_intermediate,
        "extra-chain": _extra_chain,
        "good": _good,
        "idn": _idn,
        "incomplete-chain": _incomplete_chain,
        "ip-in-dns": _ip_in_dns,
        "md5": _md5,
        "ml-dsa": _ml_dsa,
        "must-staple": _must_staple,
        "name-constraints": _name_constraints,
        "negative-serial": _negative_serial,
        "no-common-name": _no_common_name,
        "no-san": _no_san,
        "no-subject": _no_subject,
        "not-yet-valid": _not_yet_valid,
        "nul-in-name": _nul_in_name,
        "partial-wildcard": _partial_wildcard,
        "path-length": _path_length,
        "reversed-chain": _reversed_chain,
        "revoked": _revoked,
        "rsa-1024": _rsa_1024,
        "rsa-512": _rsa_512,
        "self-signed": _self_signed,
        "sha1": _sha1,
        "stale-staple": _stale_staple,
        "stapled": _stapled,
        "unknown-critical-extension": _unknown_critical_extension,
        "untrusted-root": _untrusted_root,
        "weak-curve": _weak_curve,
        "wildcard-too-deep": _wildcard_too_deep,
        "wrong-host": _wrong_host,
        "wrong-usage": _wrong_usage,
    }
)
