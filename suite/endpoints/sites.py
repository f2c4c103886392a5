"""Certificates by the name that a client asks for: a directory of PEM files, one for each site.

Rules: a file ``NAME.pem`` has a private key, its certificate and the chain (the key may also stand in
``NAME.key``); it serves the names in its certificate, and NAME itself; who asks for no name, or an unknown
one, gets ``default.pem`` or ``_default.pem``, or else the first file by name. Certificates that no server
uses (a CA's, a client's) are passed over, hidden files as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from suite.errors import CertificateError
from suite.identities import Files, Identity
from suite.text import shown

T = TypeVar("T", bound=x509.ExtensionType)

#: Names of files for clients that ask for none of the others.
DEFAULTS: Final = ("default", "_default")

#: What a certificate must be for, if it says what it is for.
_SERVER_USES: Final = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}

#: What a file's name must look like to be a host's: two labels at least (RFC 1123, section 2.1).
_HOST: Final = re.compile(r"(\*\.|_\.)?([a-z0-9_]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+")


@dataclass(frozen=True)
class Sites:
    """The identities in a directory.

    :ivar default: shown to clients that ask for no name, or for one that is not there.
    :ivar by_name: the others, and it, by name in lower case; a wildcard as ``*.example.org``.
    :ivar notes: what an operator should know: names that more than one file has.
    """

    default: Identity
    by_name: dict[str, Identity]
    notes: tuple[str, ...] = ()

    @property
    def identities(self) -> list[Identity]:
        """Every identity, once."""
        return list({id(each): each for each in (self.default, *self.by_name.values())}.values())


def site_files(directory: Path) -> list[Path]:
    """The files with certificates or keys in *directory*, in order.

    :raises OSError: it cannot be listed.
    """
    return sorted(
        path for path in directory.iterdir() if path.suffix in (".pem", ".key") and path.name[0] != "."
    )


def load_sites(
    files: Files, directory: Path, chains: tuple[Path, ...] = (), password_file: Path | None = None
) -> Sites:
    """The identities in *directory*.

    :param chains: further files with CA certificates for each.
    :raises CertificateError: the directory or a file in it cannot be used.
    """
    try:
        paths = [path for path in site_files(directory) if path.suffix == ".pem"]
    except (FileNotFoundError, NotADirectoryError):
        raise CertificateError(shown(directory), "no such directory; expected one with PEM files") from None
    except OSError as error:
        raise CertificateError(shown(directory), f"cannot be read: {error.strerror}") from None
    loaded: list[Identity] = []
    for path in paths:
        identity = _load(files, path, chains, password_file)
        if identity is not None:
            loaded.append(identity)
    if not loaded:
        raise CertificateError(
            shown(directory),
            "has no certificate for a server; expected PEM files with a private key and its certificate in"
            " each, such as www.example.org.pem",
        )
    by_name: dict[str, Identity] = {}
    notes = []
    for identity in loaded:
        for name in names_of(identity):
            other = by_name.setdefault(name, identity)
            if other is identity:
                continue
            chosen, passed = _preferred(name, other, identity)
            by_name[name] = chosen
            notes.append(f"{shown(passed.path)}: {name} is served by {shown(chosen.path)}")
    default = next((each for each in loaded if each.path.stem.lower() in DEFAULTS), loaded[0])
    return Sites(default, by_name, tuple(notes))


def _load(files: Files, path: Path, chains: tuple[Path, ...], password_file: Path | None) -> Identity | None:
    """The identity in the file at *path*; None if no server uses it."""
    certificate = files.certificates(path)[0]
    if not _serves(certificate):
        return None
    beside = path.with_suffix(".key")
    if b"PRIVATE KEY-----" not in files.read(path):
        if not beside.exists():
            raise CertificateError(
                shown(path), f"has no private key; expected one in it, or in {shown(beside)}"
            )
        return files.identity(path, beside, chains, password_file)
    return files.identity(path, path, chains, password_file)


def _serves(certificate: x509.Certificate) -> bool:
    """Whether *certificate* can be a server's."""
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is not None and _SERVER_USES.isdisjoint(usages):
        return False
    constraints = _extension(certificate, x509.BasicConstraints)
    is_ca = constraints is not None and constraints.ca
    # Many a server's self-signed certificate calls itself a CA's, too.
    return not is_ca or _extension(certificate, x509.SubjectAlternativeName) is not None


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def names_of(identity: Identity) -> list[str]:
    """The host names that *identity* is for: its certificate's, and its file's."""
    alternative = _extension(identity.certificate, x509.SubjectAlternativeName)
    found = alternative.get_values_for_type(x509.DNSName) if alternative is not None else []
    stem = identity.path.stem.lower()
    if _HOST.fullmatch(stem):
        found = [*found, re.sub(r"^_\.", "*.", stem)]
    return list(dict.fromkeys(name.lower().rstrip(".") for name in found))


def _preferred(name: str, one: Identity, other: Identity) -> tuple[Identity, Identity]:
    """Of two identities for *name*, the one to serve (the file of that name, or the later end), first."""
    if one.path.stem.lower() == name or other.path.stem.lower() == name:
        return (one, other) if one.path.stem.lower() == name else (other, one)
    later = other.certificate.not_valid_after_utc > one.certificate.not_valid_after_utc
    return (other, one) if later else (one, other)
