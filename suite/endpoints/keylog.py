"""The secrets of TLS connections in a file, for Wireshark and its like, where the operator asks for that.

Rules: off unless the configuration (``tls.keylog``) or the environment (``SSLKEYLOGFILE``, as for curl,
browsers and Python) names a file; the file is created readable by its owner only; lines are only ever
appended; a file that cannot take a line costs that line, never a handshake.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from pathlib import Path
from typing import Final

from OpenSSL import SSL
from twisted.logger import Logger

from suite.errors import CertificateError
from suite.text import shown

log = Logger()

NOT_REGULAR: Final = "is not a regular file; expected one to append to"

#: The environment variable that names the file (NSS key log format, RFC 9850).
VARIABLE: Final = "SSLKEYLOGFILE"


def check_key_log(path: Path) -> None:
    """Check, without creating anything, that the file at *path* can be appended to.

    :raises CertificateError: it cannot.
    """
    there = path.exists()
    if there and not path.is_dir() and not path.is_file():
        raise CertificateError(shown(path), NOT_REGULAR)
    number = 0
    if path.is_dir():
        number = errno.EISDIR
    elif not there and not path.parent.is_dir():
        number = errno.ENOENT
    elif not os.access(path if there else path.parent, os.W_OK):
        number = errno.EACCES
    if number:
        raise CertificateError(shown(path), f"cannot be appended to: {os.strerror(number)}")


class KeyLog:
    """An open file to which the secrets of connections are appended.

    :ivar lost: the lines that could not be written.
    :raises CertificateError: the file cannot be opened, or is not one to append to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise CertificateError(shown(path), f"cannot be appended to: {error.strerror}") from None
        weakref.finalize(self, os.close, self._fd)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise CertificateError(shown(path), NOT_REGULAR)

    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._fd

    @property
    def in_place(self) -> bool:
        """Whether the file is still the one at its path; False once it has been moved or removed."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def write(self, _connection: SSL.Connection, line: bytes) -> None:
        """`SSL.Context.set_keylog_callback`: append *line*."""
        try:
            os.write(self._fd, line + b"\n")
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                log.error(
                    "{file}: TLS secrets cannot be appended: {problem}; this is said once",
                    file=shown(self.path),
                    problem=error.strerror,
                )
