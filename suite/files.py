"""Small files: those that anybody may have put in place, such as configurations and keys, and some of ours.

Rules: reading never waits for anybody, and takes no more memory than the limit; only regular files are read,
by any number of symbolic links (Kubernetes mounts a file through two). What is written is there as a whole,
or not at all.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

#: The largest file read, in bytes. Ten thousand endpoints with all their limits are 4 MiB, and the CA
#: certificates that Debian trusts a quarter of one.
MAX_FILE: Final = 8 * 2**20

#: What else a path can lead to (inode(7)), for people. A directory has an error of its own.
_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

#: Opening a pipe or a device can wait without O_NONBLOCK; a terminal would become ours without O_NOCTTY
#: (open(2)).
_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def read_file(path: str | os.PathLike[str], limit: int = MAX_FILE) -> bytes:
    """The content of the regular file at *path*.

    :param limit: the largest content accepted, in bytes.
    :raises OSError: it cannot be read, is not a regular file, or is larger than *limit*; ``strerror`` says
        what it is and what was expected.
    """
    # Before it is opened, which alone can have effects: a tape rewinds, a watchdog starts.
    _check_regular(path, os.stat(path))
    descriptor = os.open(path, _FLAGS | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        # Again, because it may have been replaced in between.
        _check_regular(path, os.fstat(descriptor))
        content = bytearray()
        # A file in /proc has no size, and any file may grow: what is read decides.
        while chunk := file.read(min(2**16, limit + 1 - len(content))):
            content += chunk
            if len(content) > limit:
                raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes; expected a smaller file", path)
    return bytes(content)


def make_directory(path: Path) -> None:
    """Make the directory *path* and its parents, where they are missing: 0755 at most, whatever the umask.

    :raises OSError: one cannot be made.
    """
    try:
        path.mkdir(0o755, exist_ok=True)
    except FileNotFoundError:
        make_directory(path.parent)  # `mkdir` with `parents` would give these whatever mode the umask leaves
        path.mkdir(0o755, exist_ok=True)


def _check_regular(path: str | os.PathLike[str], found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind}; expected a regular file", path)


#: See `stamp_of`.
Stamp = tuple[int, ...]


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """What tells a file from the one that was at *path* before, and from itself with another content or mode.

    Links on the way are followed, so it also tells where they lead to. Of a file that cannot be looked at, it
    is the number of the error.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)


def write_whole(path: Path, content: bytes) -> None:
    """Write *content* to *path*, readable for everyone; nobody ever sees a part of it.

    :raises OSError: it cannot be written; what was there before is there still.
    """
    # Whoever looks for names that end as this one's does not find it.
    descriptor, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.absolute().parent)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.chmod(temporary, 0o644)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
