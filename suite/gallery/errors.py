"""What TLS stacks say of each specimen: specimen → stack → its error, as measured.

A stack is absent where it accepts the specimen, or where nobody has measured it. What depends on the day
or the machine is left out at the end. Measured for the host ``localhost``, with OpenSSL 3.0 at security level
2 (Debian's default; Python 3.11 has the same), GnuTLS 3.7.9 (`gnutls-cli`), Go 1.19, Java 17 and
Chromium 156.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class _Said(NamedTuple):
    """What each stack says; None: it accepts.

    :ivar python: default: the same as OpenSSL.
    """

    openssl: str | None = None
    gnutls: str | None = None
    go: str | None = None
    java: str | None = None
    chromium: str | None = None
    python: str | None = None

    def errors(self) -> Mapping[str, str]:
        """By stack, without those that accept."""
        said = self._asdict()
        if self.python is None and self.openssl is not None:
            said["python"] = f"SSLCertVerificationError: {self.openssl}"
        return MappingProxyType({stack: text for stack, text in said.items() if text is not None})


_PATH: Final = "CertPathValidatorException: "
_NO_PATH: Final = "SunCertPathBuilderException: unable to find valid certification path to requested target"
_UNKNOWN: Final = "x509.UnknownAuthorityError: x509: certificate signed by unknown authority"
_NO_PARENT: Final = (
    f"{_UNKNOWN} (possibly because of "
    '"x509: invalid signature: parent certificate cannot sign this kind of certificate"'
)
_TIME: Final = "x509.CertificateInvalidError: x509: certificate has expired or is not yet valid"
_INVALID: Final = "net::ERR_CERT_INVALID"
_AUTHORITY: Final = "net::ERR_CERT_AUTHORITY_INVALID"
_HOST: Final = "net::ERR_CERT_COMMON_NAME_INVALID"
_EXPIRED: Final = _Said(
    "certificate has expired",
    "The certificate chain uses expired certificate.",
    _TIME,
    "CertificateExpiredException: NotAfter",
    "net::ERR_CERT_DATE_INVALID",
)
_WEAK_HASH: Final = "CA signature digest algorithm too weak"
_WEAK_KEY: Final = "EE certificate key too weak"
_INSECURE: Final = "The certificate chain uses insecure algorithm."
_UNVERIFIED: Final = f'{_UNKNOWN} (possibly because of "x509: cannot verify signature: '
_VIOLATES: Final = "The certificate chain violates the signer's constraints."
_NO_ISSUER: Final = "The certificate issuer is unknown."
_PURPOSE: Final = "unsuitable certificate purpose"


def _mismatch(go: str) -> _Said:
    """The name does not match, of which only Go says more."""
    return _Said(
        "hostname mismatch",
        "The name in the certificate does not match the expected.",
        f"x509.HostnameError: x509: certificate is {go}",
        "CertificateException: No subject alternative DNS name matching localhost found.",
        _HOST,
        "SSLCertVerificationError: Hostname mismatch, certificate is not valid for 'localhost'.",
    )


#: Nothing in common, of which the server tells the client.
_OLD: Final = _Said(
    "legacy sigalg disallowed or unsupported",
    go="remote error: tls: protocol version not supported",
    java="SSLHandshakeException: Received fatal alert: protocol_version",
    chromium="net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH",
    python="SSLError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version",
)
_NO_SUITE: Final = _Said(
    "sslv3 alert handshake failure",
    "Received alert [40]: Handshake failed",
    "remote error: tls: handshake failure",
    "SSLHandshakeException: Received fatal alert: handshake_failure",
    "net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH",
    "SSLError: [SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure",
)


_SAID: Final[Mapping[str, _Said]] = {
    "ed25519": _Said(chromium="net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH"),
    "ml-dsa": _NO_SUITE._replace(chromium=None),
    "expired": _EXPIRED,
    "not-yet-valid": _Said(
        "certificate is not yet valid",
        "The certificate chain uses not yet valid certificate.",
        _TIME,
        "CertificateNotYetValidException: NotBefore",
        "net::ERR_CERT_DATE_INVALID",
    ),
    "wrong-host": _mismatch("valid for wrong-host.example, not localhost"),
    "no-san": _mismatch("not valid for any names, but wanted to match localhost")._replace(
        java="CertificateException: No name matching localhost found"
    ),
    "cn-only": _Said(
        go="x509.HostnameError: x509: certificate relies on legacy Common Name field, use SANs instead",
        chromium=_HOST,
    ),
    "wildcard-too-deep": _mismatch("valid for *.wildcard-too-deep.localhost, not localhost"),
    "partial-wildcard": _mismatch("valid for local*, partial-*.localhost, not localhost"),
    "nul-in-name": _mismatch("valid for localhost"),
    "ip-in-dns": _mismatch("valid for 127.0.0.1, ::1, not localhost"),
    "10000-sans": _Said(
        "excessive message size",
        "The handshake data size is too large.",
        "tls: handshake message of length",
        "SSLProtocolException: The size of the handshake message",
        "net::ERR_SSL_PROTOCOL_ERROR",
        "SSLError: [SSL: EXCESSIVE_MESSAGE_SIZE] excessive message size",
    ),
    "self-signed": _Said("self-signed certificate", _NO_ISSUER, _UNKNOWN, _NO_PATH, _AUTHORITY),
    "untrusted-root": _Said(
        "self-signed certificate in certificate chain", _NO_ISSUER, _UNKNOWN, _NO_PATH, _AUTHORITY
    ),
    "incomplete-chain": _Said(
        "unable to get local issuer certificate", _NO_ISSUER, _UNKNOWN, _NO_PATH, _AUTHORITY
    ),
    "expired-intermediate": _EXPIRED,
    "ca-false": _Said(
        "invalid CA certificate",
        "The certificate issuer is not a CA.",
        _NO_PARENT,
        f"{_PATH}basic constraints check failed: this is not a CA certificate",
        _INVALID,
    ),
    "name-constraints": _Said(
        "permitted subtree violation",
        _VIOLATES,
        "x509.CertificateInvalidError: x509: a root or intermediate certificate is not authorized to sign "
        "for this name",
        f"{_PATH}name constraints check failed",
        _INVALID,
    ),
    "path-length": _Said(
        "path length constraint exceeded",
        _VIOLATES,
        "x509.CertificateInvalidError: x509: too many intermediates for path length constraint",
        f"{_PATH}basic constraints check failed: pathLenConstraint violated",
        _INVALID,
    ),
    "ca-key-usage": _Said(
        "invalid CA certificate",
        _VIOLATES,
        _NO_PARENT,
        f"{_PATH}CA key usage check failed: keyCertSign bit is not set",
        _INVALID,
    ),
    "wrong-usage": _Said(
        _PURPOSE,
        "The certificate chain does not match the intended purpose.",
        "x509.CertificateInvalidError: x509: certificate specifies an incompatible key usage",
        "ValidatorException: Extended key usage does not permit use for TLS server authentication",
        _INVALID,
    ),
    "bad-key-usage": _Said(
        _PURPOSE,
        "Key usage violation in certificate has been detected.",
        java="ValidatorException: KeyUsage does not allow digital signatures",
        chromium="net::ERR_SSL_KEY_USAGE_INCOMPATIBLE",
    ),
    "sha1": _Said(_WEAK_HASH, _INSECURE, f"{_UNVERIFIED}insecure algorithm SHA1-RSA", chromium=_INVALID),
    # Java has told the server, which presents nothing that Java would have to refuse.
    "md5": _Said(
        _WEAK_HASH,
        _INSECURE,
        f'{_UNVERIFIED}insecure algorithm MD5-RSA"',
        "SSLHandshakeException: Received fatal alert: handshake_failure",
        _INVALID,
    ),
    "rsa-512": _Said(
        _WEAK_KEY,
        _INSECURE,
        java=f"{_PATH}Algorithm constraints check failed on keysize limits: RSA 512 bit key",
        chromium="net::ERR_CERT_WEAK_KEY",
    ),
    "rsa-1024": _Said(_WEAK_KEY),
    "dsa": _Said(go=f'{_UNVERIFIED}algorithm unimplemented"', chromium=_INVALID),
    "weak-curve": _Said(
        "CA certificate key too weak",
        go="tls: failed to parse certificate from server: x509: unsupported elliptic curve",
        java=f"{_PATH}Algorithm constraints check failed on keysize limits: EC 192 bit key",
        chromium=_INVALID,
    ),
    "duplicate-extension": _Said(
        "unable to get local issuer certificate",
        "Duplicate extension in X.509 certificate.",
        "tls: failed to parse certificate from server: x509: certificate contains duplicate extensions",
        "IOException: Duplicate extensions not allowed",
        _INVALID,
    ),
    "unknown-critical-extension": _Said(
        "unhandled critical extension",
        "The certificate contains an unknown critical extension.",
        "x509.UnhandledCriticalExtension: x509: unhandled critical extension",
        f"{_PATH}unrecognized critical extension(s)",
        _INVALID,
    ),
    # GnuTLS and Chromium ask for a staple without being told to.
    "revoked": _Said(gnutls="The certificate chain is revoked.", chromium="net::ERR_CERT_REVOKED"),
    "must-staple": _Said(
        gnutls="The certificate requires the server to include an OCSP status in its response, but the OCSP "
        "status is missing."
    ),
    "stale-staple": _Said(gnutls="The revocation or OCSP data are old and have been superseded."),
    "tls-v1-0": _OLD,
    "tls-v1-1": _OLD,
    "null": _NO_SUITE,
    "static-rsa": _Said(python=_NO_SUITE.python),
    "client-cert-missing": _Said(
        "tlsv13 alert certificate required",
        "Received alert [116]: Certificate is required",
        "remote error: tls: certificate required",
        "SSLHandshakeException: Received fatal alert: certificate_required",
        "net::ERR_BAD_SSL_CLIENT_AUTH_CERT",
        "SSLError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required",
    ),
    "dh-small": _Said(
        "dh key too small",
        go="remote error: tls: handshake failure",
        chromium="net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH",
        python="SSLError: [SSL: DH_KEY_TOO_SMALL] dh key too small",
    ),
}

ERRORS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {specimen: said.errors() for specimen, said in _SAID.items()}
)
