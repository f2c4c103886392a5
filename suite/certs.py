"""Certificates: minting a development CA, and checking every certificate and key that is configured.

Rules: a private key's file is readable by its owner only, from the moment it is created; no existing file is
replaced without *force*; a certificate and its key are checked before any endpoint listens.
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from suite.errors import CertificateError
from suite.files import read_file
from suite.text import shown

#: The names in the development server certificate.
SERVER_NAMES: Final = ("localhost", "127.0.0.1", "::1")

#: The longest lifetime that Apple's clients accept in a server certificate, even from a private CA
#: (support.apple.com/103769).
LIFETIME: Final = timedelta(days=825)

#: The files that `mint` writes.
MINTED: Final = ("ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key")

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def mint(directory: Path, *, force: bool = False) -> list[Path]:
    """Make a development CA, and a server and a client certificate signed by it.

    :param force: replace existing files.
    :returns: the files written: certificates with mode 0644, keys with 0600.
    :raises CertificateError: a file exists (and *force* is not given; no file has been changed then), or
        cannot be written.
    """
    directory = Path(directory)
    if not force:
        for name in MINTED:
            if os.path.lexists(directory / name):
                raise CertificateError(
                    shown(directory / name),
                    "already exists, and nothing was changed; use it, or replace all certificates and keys"
                    f" there: python -m suite certs {shlex.quote(shown(directory))} --force",
                )
    ca = trustme.CA(organization_name="echo suite", organization_unit_name="development CA")
    not_before = datetime.now(UTC) - timedelta(hours=1)  # for clients whose clocks are slightly behind
    server, client = (
        ca.issue_cert(
            *names,
            common_name=names[0],
            organization_name="echo suite",
            organization_unit_name=unit,
            not_before=not_before,
            not_after=not_before + LIFETIME,
        )
        for unit, names in (("server", SERVER_NAMES), ("client", ("client.localhost",)))
    )
    contents = {
        "ca.pem": ca.cert_pem.bytes(),
        "ca.key": ca.private_key_pem.bytes(),
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
        "client.pem": client.cert_chain_pems[0].bytes(),
        "client.key": client.private_key_pem.bytes(),
    }
    written = []
    for name, content in contents.items():
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _write(path, content, 0o600 if path.suffix == ".key" else 0o644, replace=force)
        except OSError as error:
            raise CertificateError(shown(path), f"cannot be written: {error.strerror}") from error
        written.append(path)
    return written


def _write(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Write *content* to a file that is created with *mode*, before any content is in it."""
    if replace:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
        target = Path(name)
        os.fchmod(fd, mode)
    else:
        fd, target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), path
    try:
        with open(fd, "wb") as file:
            file.write(content)
        if replace:
            os.replace(target, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(target)
        raise


def would_mint(directory: Path, wanted: Iterable[Path]) -> bool:
    """Whether a *wanted* file is one that `mint` writes into *directory*, and none of those exists yet."""
    ours = {directory / name for name in MINTED}
    return not ours.isdisjoint(wanted) and not any(os.path.lexists(path) for path in ours)


def read(path: Path) -> bytes:
    """The content of the file at *path*.

    :raises CertificateError: the file cannot be read.
    """
    try:
        return read_file(path)
    except FileNotFoundError:
        raise CertificateError(
            shown(path), "no such file; `python -m suite certs` makes development certificates"
        ) from None
    except OSError as error:
        raise CertificateError(shown(path), f"cannot be read: {error.strerror}") from None


def load_certificates(path: Path) -> list[Certificate]:
    """All certificates in the PEM file at *path*; at least one.

    :raises CertificateError: the file cannot be read or parsed.
    """
    try:
        return load_pem_x509_certificates(read(path))
    except ValueError:
        raise CertificateError(shown(path), "is not a certificate; expected PEM") from None


def load_key(path: Path) -> ServerKey:
    """The private key in the PEM file at *path*.

    :raises CertificateError: the file cannot be read or parsed, the key is encrypted or of a type that TLS
        servers do not use, or other users can read the file.
    """
    content = read(path)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if os.name == "posix" and mode & 0o066:
        raise CertificateError(
            shown(path),
            f"private key with mode {mode:04o} can be read by group or others; expected 0600; run"
            f" `chmod 600 {shown(path)}`",
        )
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise CertificateError(
            shown(path), "private key is encrypted; expected one without a passphrase"
        ) from None
    except UnsupportedAlgorithm as error:
        raise CertificateError(
            shown(path),
            f"private key of an unsupported type ({error}); expected an RSA, EC or Edwards-curve key",
        ) from None
    except ValueError:
        raise CertificateError(shown(path), "is not a private key; expected PEM") from None
    if not isinstance(key, ServerKey):
        raise CertificateError(
            shown(path), f"is a {type(key).__name__}; expected an RSA, EC or Edwards-curve key"
        )
    return key


@dataclass(frozen=True)
class Identity:
    """What a TLS server presents: a private key, its certificate, and the chain of CA certificates.

    :ivar path: the file with the certificate.
    """

    key: ServerKey
    certificate: Certificate
    chain: tuple[Certificate, ...]
    path: Path


def load_identity(certificate_path: Path, key_path: Path, chain_paths: Iterable[Path] = ()) -> Identity:
    """Read a certificate (its file may also contain its chain), its key and further chain files.

    :raises CertificateError: one of the files cannot be used, or the key does not match the certificate.
    """
    certificate, *chain = load_certificates(certificate_path)
    key = load_key(key_path)
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
        chain += load_certificates(path)
    return Identity(key, certificate, tuple(chain), certificate_path)
