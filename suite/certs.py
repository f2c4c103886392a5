"""Development certificates: a CA, and a server and a client certificate signed by it.

Rules: a private key's file is readable by its owner only, from the moment it is created; no existing file is
replaced without *force*; minting is one step: who mints holds a lock on the directory and looks again, the
set is written completely before the first file of it appears, and what an interruption leaves (a kill, a full
disk) is finished or replaced by the next minting. Only files of ours are ever replaced.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificate
from cryptography.x509.oid import NameOID

from suite.errors import CertificateError, UnwritableError
from suite.files import make_directory
from suite.text import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: The names in the development server certificate.
SERVER_NAMES: Final = ("localhost", "127.0.0.1", "::1")

#: The longest lifetime that Apple's clients accept in a server certificate, even from a private CA
#: (support.apple.com/103769).
LIFETIME: Final = timedelta(days=825)

#: The files that `mint` writes, in the order in which they appear.
MINTED: Final = ("ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key")

#: Directories beside them with a complete set that is being put in place: as new files, or replacing old
#: ones. Whoever finds one puts the rest in place.
STAGED: Final = ".minted"
STAGED_REPLACING: Final = ".minted-replacing"

#: What an interruption before that leaves: directories of this version, files of earlier ones.
_LEFTOVER: Final = re.compile(r"\.minting-\w{8}|\.(?:ca|server|client)\.(?:pem|key)\.\w{8}")

#: How the development CA calls itself.
_ORGANIZATION: Final = "echo suite"
_CA_UNIT: Final = "development CA"

#: How long another process may hold the lock, in seconds; minting takes a tenth of one.
LOCK_PATIENCE: Final = 10.0


def mint(directory: Path, *, force: bool = False) -> list[Path]:
    """Make a development CA, and a server and a client certificate signed by it.

    What an interrupted minting has left in *directory* is finished or replaced.

    :param force: replace existing files.
    :returns: the files written: certificates with mode 0644, keys with 0600.
    :raises CertificateError: a file exists (and *force* is not given); no file has been changed then.
    :raises UnwritableError: a file cannot be written, or the directory stays locked.
    """
    directory = Path(directory)
    with _writing(directory):
        finished = _finish(directory)
        if finished and not force:
            return finished
        why = due(directory)
        if not force and why is None:
            existing = next(name for name in MINTED if os.path.lexists(directory / name))
            raise CertificateError(
                shown(directory / existing),
                "already exists, and nothing was changed; use it, or replace all certificates and keys"
                f" there: python -m suite certs {shlex.quote(shown(directory))} --force",
            )
        return _mint(directory, None if force else _authority(directory), replacing=force or why != "missing")


def mint_due(directory: Path) -> list[Path]:
    """Mint what `due` finds missing, incomplete or out of date, if it still does under the lock.

    :returns: the files written; none if another process has written them meanwhile.
    :raises UnwritableError: a file cannot be written, or the directory stays locked.
    """
    with _writing(directory):
        finished = _finish(directory)
        why = due(directory)
        if why is None:
            return finished
        return _mint(directory, _authority(directory), replacing=why != "missing")


def due(directory: Path) -> str | None:
    """Why the certificates in *directory* are to be minted, if they are.

    :returns: ``missing``, ``incomplete``, or what is wrong with their dates; None if they are there, or are
        the user's.
    """
    if any(os.path.lexists(directory / name) for name in (STAGED, STAGED_REPLACING)):
        return "incomplete"
    there = [name for name in MINTED if os.path.lexists(directory / name)]
    if not there:
        return "missing"
    if any((directory / name).is_symlink() or not (directory / name).is_file() for name in there):
        return None
    if tuple(there) == MINTED[: len(there)] and "server.key" not in there:
        return "incomplete" if _is_ours(directory, there) else None
    if len(there) == len(MINTED) and _is_ours(directory, there):
        now = datetime.now(UTC)
        for name in ("server.pem", "client.pem"):
            certificate = _certificate(directory / name)
            if certificate is None:
                continue
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if now > end:
                return f"{shown(directory / name)} expired on {end:%Y-%m-%d}"
            if now < begin:
                return f"{shown(directory / name)} was not valid before {begin:%Y-%m-%d}"
    return None


def minted_files(directory: Path) -> frozenset[str]:
    """The paths of what `mint` writes into *directory*."""
    return frozenset(os.path.join(directory, name) for name in MINTED)


# What is ours.


def _certificate(path: Path) -> Certificate | None:
    """The certificate at *path*; None if there is none."""
    try:
        return load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _is_ours(directory: Path, there: Iterable[str]) -> bool:
    """Whether the files *there* are of one minting, interrupted or not, and none is somebody else's.

    Earlier versions wrote the files one by one, so that the last of an interrupted minting may be empty.
    """
    ca = _certificate(directory / "ca.pem")
    for name in there:
        path = directory / name
        try:
            content = path.read_bytes()
        except OSError:
            return False
        if not content:
            continue
        if ca is None or not _is_our_ca(ca):
            return False
        certificate = _certificate(path.with_suffix(".pem"))
        try:
            if path.suffix == ".pem":
                certificate = load_pem_x509_certificate(content)
                certificate.verify_directly_issued_by(ca)
            elif certificate is None or (
                load_pem_private_key(content, None).public_key() != certificate.public_key()
            ):
                return False
        except (ValueError, TypeError):
            return False
    return True


def _is_our_ca(certificate: Certificate) -> bool:
    def named(oid: object) -> list[object]:
        return [attribute.value for attribute in certificate.subject if attribute.oid == oid]

    organization, unit = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
    return named(organization) == [_ORGANIZATION] and named(unit) == [_CA_UNIT]


def _authority(directory: Path) -> trustme.CA | None:
    """Our CA in *directory*, whose clients trust it already; None if a file of it is missing or not ours."""
    names = MINTED[:2]
    certificate = _certificate(directory / "ca.pem")
    if certificate is None or not _is_ours(directory, names):
        return None
    if (
        not certificate.not_valid_before_utc
        <= datetime.now(UTC)
        <= certificate.not_valid_after_utc - LIFETIME
    ):
        return None
    pem, key = ((directory / name).read_bytes() for name in names)
    return trustme.CA.from_pem(pem, key) if key else None


# Writing.


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Lock *directory*, which is made if it is missing, and report what cannot be written."""
    try:
        make_directory(directory)
        with locked(directory):
            yield
    except OSError as error:
        path = error.filename2 or error.filename
        at_fault = path if isinstance(path, str | os.PathLike) else directory / MINTED[0]
        # Where it was to be, not where it was being prepared.
        at_fault = directory / Path(at_fault).name if Path(at_fault).name in MINTED else directory / MINTED[0]
        raise UnwritableError(shown(at_fault), f"cannot be written: {error.strerror}") from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a lock on *directory* (flock(2)), so that nobody mints there; nothing is locked if it is missing.

    Where locks are not supported, as on some network file systems, minting is safe against interruptions
    only.

    :raises UnwritableError: somebody else holds it for longer than `LOCK_PATIENCE`.
    """
    try:
        fd = os.open(directory, os.O_RDONLY)
    except OSError:
        fd = -1
    try:
        if fd >= 0 and fcntl is not None:
            _lock(fd, directory)
        yield
    finally:
        if fd >= 0:
            os.close(fd)  # which unlocks it


def _lock(fd: int, directory: Path) -> None:
    waited = 0.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waited >= LOCK_PATIENCE:
                raise UnwritableError(
                    shown(directory),
                    f"has been locked by another process for {LOCK_PATIENCE:g} s; expected it to end",
                ) from None
            time.sleep(0.02)
            waited += 0.02
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            return
        else:
            return


def _mint(directory: Path, authority: trustme.CA | None, *, replacing: bool) -> list[Path]:
    """Write a whole set beside its place, then put it there.

    :param authority: the CA that signs; None: a new one.
    :param replacing: whether files that are in their place are replaced.
    """
    for name in MINTED:
        if (directory / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), directory / name)
    _clean(directory)
    staging = Path(tempfile.mkdtemp(prefix=".minting-", dir=directory))  # with mode 0700
    try:
        for name, content in _contents(authority).items():
            _write(staging / name, content, 0o600 if name.endswith(".key") else 0o644)
        _sync(staging)
        staged = directory / (STAGED_REPLACING if replacing else STAGED)
        os.rename(staging, staged)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync(directory)
    try:
        return _publish(staged)
    except OSError:
        if all(os.path.lexists(staged / name) for name in MINTED):  # nothing has been moved
            shutil.rmtree(staged)
        raise


def _contents(authority: trustme.CA | None) -> dict[str, bytes]:
    """What `mint` writes, by name."""
    ca = authority or trustme.CA(organization_name=_ORGANIZATION, organization_unit_name=_CA_UNIT)
    not_before = datetime.now(UTC) - timedelta(hours=1)  # for clients whose clocks are slightly behind
    server, client = (
        ca.issue_cert(
            *names,
            common_name=names[0],
            organization_name=_ORGANIZATION,
            organization_unit_name=unit,
            not_before=not_before,
            not_after=not_before + LIFETIME,
        )
        for unit, names in (("server", SERVER_NAMES), ("client", ("client.localhost",)))
    )
    return {
        "ca.pem": ca.cert_pem.bytes(),
        "ca.key": ca.private_key_pem.bytes(),
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
        "client.pem": client.cert_chain_pems[0].bytes(),
        "client.key": client.private_key_pem.bytes(),
    }


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write *content* to a new file that has *mode* before any content is in it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            os.chmod(path, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _sync(directory: Path) -> None:
    """Make the names in *directory* outlast a power failure."""
    with suppress(OSError):  # some systems cannot; they make no promise that could be broken
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _publish(staged: Path) -> list[Path]:
    """Move the files of a complete set to their places; what has been moved already stays.

    A file of the user's that has come there meanwhile is not replaced, unless the set was to replace files.
    """
    directory = staged.parent
    replacing = staged.name == STAGED_REPLACING
    if not replacing:
        _check_free(staged)
    for name in MINTED:
        source, target = staged / name, directory / name
        if not os.path.lexists(source):
            continue
        if replacing:
            os.replace(source, target)
            continue
        try:
            if not os.path.lexists(target):
                os.link(source, target)
        except FileExistsError:
            raise
        except OSError as error:
            # Some file systems have no hard links (vfat, some network file systems).
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
            os.rename(source, target)
            continue
        os.unlink(source)
    _sync(directory)
    os.rmdir(staged)
    return [directory / name for name in MINTED]


def _check_free(staged: Path) -> None:
    """Check that the places of the files in *staged* are free, or taken by the very same files.

    :raises FileExistsError: one is taken by another file.
    """
    for source in staged.iterdir():
        target = staged.parent / source.name
        if os.path.lexists(target) and not (target.exists() and os.path.samefile(source, target)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


def _finish(directory: Path) -> list[Path]:
    """Put in place what is left of an interrupted minting; return the files, or none if nothing was left."""
    for name in (STAGED, STAGED_REPLACING):
        staged = directory / name
        if not staged.is_dir() or staged.is_symlink():
            continue
        if all(os.path.lexists(staged / each) or os.path.lexists(directory / each) for each in MINTED):
            with suppress(FileExistsError):  # the user's own files have come in between, and stay
                return _publish(staged)
        shutil.rmtree(staged)
    return []


def _clean(directory: Path) -> None:
    """Remove what an interruption has left that cannot be finished."""
    for path in list(directory.iterdir()):
        if not _LEFTOVER.fullmatch(path.name) or path.is_symlink():
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
