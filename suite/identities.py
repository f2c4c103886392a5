"""Identities: reading and checking every certificate and private key that is configured.

Rules: each file is read once and each content parsed once, however many endpoints name it; nothing here needs
a reactor, so all of it may run in any thread; nothing waits for a file that is not a regular one; a private
key that everybody can read, or others can change, is refused; no hint is given that its reader cannot follow.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL import crypto

from suite.errors import CertificateError
from suite.files import read_file
from suite.text import shown

T = TypeVar("T")

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

#: The curves that can sign a handshake in TLS 1.3 (RFC 8446, section 4.2.3).
CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

#: How long before its end a certificate is worth a warning (Let's Encrypt's last reminder came as late).
SOON: Final = timedelta(days=7)

#: What a revocation list begins with (RFC 7468, section 6).
CRL: Final = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True)
class Identity:
    """What a TLS server presents: a private key, its certificate, and the chain of CA certificates.

    :ivar path: the file with the certificate.
    :ivar openssl_key: the key as OpenSSL reads it, which knows an RSA-PSS key from an RSA key (RFC 4055,
        section 1.2); None: as `key`.
    """

    key: ServerKey
    certificate: Certificate
    chain: tuple[Certificate, ...]
    path: Path
    openssl_key: crypto.PKey | None = None


@dataclass(frozen=True)
class _File:
    content: bytes
    digest: bytes
    status: os.stat_result


class Files:
    """The files of one configuration, each read once.

    :param before: the files of the configuration before, whose parsed contents are used again where they have
        not changed; it is not modified.
    :ivar made: what has been made of the contents, see `once`.
    """

    def __init__(self, before: Files | None = None) -> None:
        self._read: dict[Path, _File] = {}
        self.made: dict[Hashable, Any] = {}
        self._made_before: dict[Hashable, Any] = before.made if before is not None else {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What *make* returns for *key*, made once; an error is raised each time."""
        if key not in self.made:
            self.made[key] = self._made_before[key] if key in self._made_before else make()
        return cast(T, self.made[key])

    def settle(self) -> None:
        """Everything has been read: forget the configuration before."""
        self._made_before = {}

    def _file(self, path: Path) -> _File:
        if path not in self._read:
            content, status = _read(path)
            self._read[path] = _File(content, hashlib.sha256(content).digest(), status)
        return self._read[path]

    def read(self, path: Path) -> bytes:
        """The content of the file at *path*.

        :raises CertificateError: the file cannot be read.
        """
        return self._file(path).content

    def digest(self, path: Path) -> bytes:
        """A digest of the content of the file at *path*.

        :raises CertificateError: the file cannot be read.
        """
        return self._file(path).digest

    def certificates(self, path: Path) -> list[Certificate]:
        """All certificates in the PEM file at *path*; at least one.

        :raises CertificateError: the file cannot be read or parsed.
        """
        file = self._file(path)
        return self.once(("certificates", file.digest), lambda: _parse_certificates(file.content, path))

    def authorities(self, path: Path) -> list[Certificate]:
        """The CA certificates in the PEM file at *path*.

        :raises CertificateError: the file cannot be read or parsed, or has a revocation list, which nobody
            would look into.
        """
        found = self.certificates(path)
        if CRL in self.read(path):
            raise CertificateError(
                shown(path), "has a revocation list, which is not checked; expected certificates only"
            )
        return found

    def password(self, path: Path) -> bytes:
        """The password in the file at *path*, without the end of its line.

        :raises CertificateError: the file cannot be read, is empty, or can be read by everybody.
        """
        file = self._file(path)
        check_mode(path, file.status, "password file")
        password = file.content.removesuffix(b"\n").removesuffix(b"\r")
        if not password:
            raise CertificateError(shown(path), "is empty; expected the password of the private key")
        return password

    def key(self, path: Path, password_file: Path | None = None) -> tuple[ServerKey, crypto.PKey]:
        """The private key in the PEM file at *path*: as an object of its type, and as OpenSSL has it.

        :param password_file: a file with its password, if it has one.
        :raises CertificateError: one of the files cannot be read or parsed or has a mode that exposes it, the
            password is missing or wrong, or TLS servers do not use keys of this type.
        """
        file = self._file(path)
        if b"-----BEGIN CERTIFICATE-----" in file.content and b"PRIVATE KEY-----" not in file.content:
            raise CertificateError(
                shown(path), "is a certificate; expected the private key that goes with it"
            )
        check_mode(path, file.status, "private key")
        password, key = None, ("key", file.digest, b"")
        if password_file is not None and b"ENCRYPTED" in file.content:
            password = self.password(password_file)
            key = ("key", file.digest, self.digest(password_file))
        return self.once(key, lambda: _parse_key(file.content, path, password, password_file))

    def identity(
        self,
        certificate_path: Path,
        key_path: Path,
        chain_paths: Iterable[Path] = (),
        password_file: Path | None = None,
    ) -> Identity:
        """A certificate (its file may also contain its chain), its key and further chain files.

        :raises CertificateError: one of the files cannot be used, or the key does not match the certificate.
        """
        certificate, *chain = self.certificates(certificate_path)
        key, openssl_key = self.key(key_path, password_file)
        try:
            public_key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise CertificateError(
                shown(certificate_path),
                f"has a key of an unsupported type ({error}); expected RSA, EC or an Edwards curve",
            ) from None
        if public_key != key.public_key():
            raise CertificateError(
                shown(key_path), f"is not the key of the certificate in {shown(certificate_path)}"
            )
        for path in chain_paths:
            chain += self.certificates(path)
        return Identity(key, certificate, tuple(chain), certificate_path, openssl_key)


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """The content and the status of the regular file at *path*."""
    try:
        return read_file(path), os.stat(path)
    except FileNotFoundError:
        directory = shown(path.parent)
        where = "" if directory == "certs" else f" {shlex.quote(directory)}"  # what it takes without
        raise CertificateError(
            shown(path), f"no such file; `python -m suite certs{where}` makes development certificates there"
        ) from None
    except OSError as error:
        raise CertificateError(shown(path), f"cannot be read: {error.strerror}") from None


def check_mode(path: Path, status: os.stat_result, what: str) -> None:
    """Check that the secret in the file at *path* is one.

    Its group may read it: that is how Kubernetes mounts secrets (``fsGroup``) and Debian keeps keys
    (``ssl-cert``).

    :param what: what the file is, for people.
    :raises CertificateError: everybody can read the file, or others than its owner can change it.
    """
    mode = stat.S_IMODE(status.st_mode)
    if os.name != "posix" or not mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return
    can = "read by everyone" if mode & stat.S_IROTH else "changed by others than its owner"
    raise CertificateError(
        shown(path),
        f"{what} with mode {mode:04o} can be {can}; expected 0600 or 0640{_way_out(path, status)}",
    )


def _way_out(path: Path, status: os.stat_result) -> str:
    """How the mode of a file can be changed, by somebody who may."""
    try:
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = True
    if not read_only and os.geteuid() in (0, status.st_uid):
        return f"; run `chmod g-w,o-rwx {shown(path)}`"
    return ", which whoever provides the file has to set (in Kubernetes: defaultMode: 0440)"


def _parse_certificates(content: bytes, path: Path) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        raise CertificateError(shown(path), "is not a certificate; expected PEM") from None


def _parse_key(
    content: bytes, path: Path, password: bytes | None, password_file: Path | None
) -> tuple[ServerKey, crypto.PKey]:
    try:
        # Validation takes a quarter of a second for RSA with 4,096 bits, with all other threads stopped; that
        # the key is good is proved by a handshake.
        key = load_pem_private_key(content, password, unsafe_skip_rsa_key_validation=True)
    except TypeError:  # encrypted, and there is no password
        raise CertificateError(
            shown(path),
            "private key is encrypted; expected one without a password, or for an endpoint tls.password_file",
        ) from None
    except UnsupportedAlgorithm as error:
        raise CertificateError(
            shown(path),
            f"private key of an unsupported type ({error}); expected an RSA, EC or Edwards-curve key",
        ) from None
    except ValueError:
        if password is not None and password_file is not None:
            raise CertificateError(
                shown(path), f"cannot be decrypted with the password in {shown(password_file)}"
            ) from None
        raise CertificateError(shown(path), "is not a private key; expected PEM") from None
    if not isinstance(key, ServerKey):
        raise CertificateError(
            shown(path),
            f"is {KINDS.get(type(key).__name__, 'a key of another kind')}, which cannot sign a TLS handshake;"
            " expected an RSA, EC or Edwards-curve key",
        )
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in CURVES:
        raise CertificateError(
            shown(path),
            f"is a key on the curve {key.curve.name}, which TLS does not use; expected"
            f" {', '.join(CURVES.values())}, RSA or an Edwards curve",
        )
    try:
        # Never without a password: OpenSSL would ask for it on the terminal.
        openssl_key = crypto.load_privatekey(crypto.FILETYPE_PEM, content, password or b"")
    except crypto.Error:
        raise CertificateError(shown(path), "private key refused by OpenSSL; expected PEM") from None
    return key, openssl_key


#: Keys that cannot sign, or not in TLS.
KINDS: Final = {
    "X25519PrivateKey": "an X25519 key",
    "X448PrivateKey": "an X448 key",
    "DSAPrivateKey": "a DSA key",
    "DHPrivateKey": "a Diffie-Hellman key",
}


def judge_dates(certificate: Certificate, now: datetime | None = None) -> str | None:
    """What is wrong with the dates of *certificate*, for people; None if it is valid for another week.

    :param now: the time to judge by, which is the wall clock's (default), as it is for clients.
    """
    now = now if now is not None else datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return (
            f"is not valid before {begin:%Y-%m-%d %H:%M} UTC (it is {now:%Y-%m-%d %H:%M} now);"
            " clients will refuse it"
        )
    if now > end:
        return f"expired on {end:%Y-%m-%d %H:%M} UTC; clients will refuse it"
    if end - now < SOON:
        return f"expires on {end:%Y-%m-%d %H:%M} UTC"
    return None


# For one file.


def load_certificates(path: Path) -> list[Certificate]:
    """`Files.certificates` of one file."""
    return Files().certificates(path)


def load_key(path: Path, password_file: Path | None = None) -> ServerKey:
    """`Files.key` of one file."""
    return Files().key(path, password_file)[0]


def load_identity(
    certificate_path: Path,
    key_path: Path,
    chain_paths: Iterable[Path] = (),
    password_file: Path | None = None,
) -> Identity:
    """`Files.identity` of these files."""
    return Files().identity(certificate_path, key_path, chain_paths, password_file)
