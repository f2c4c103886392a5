"""What a suite for tests is made from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

#: Where an endpoint listens: host and port, or the path of a UNIX socket (``"\0name"``: an abstract one).
Address: TypeAlias = tuple[str, int] | str

#: A configuration: None (all four transports), TOML text, a mapping with the same content, or the path of a
#: file.
Configuration: TypeAlias = str | Mapping[str, object] | Path | None

#: A fault, or several: in words (``"latency=200ms jitter=50ms reset after=64KiB"``), or a table as in the
#: configuration (``{"latency": "200ms", "jitter": "50ms"}``).
Fault: TypeAlias = str | Mapping[str, object]

#: The faults of endpoints by name.
Faults: TypeAlias = Mapping[str, Fault | Sequence[Fault]]

FOUR_TRANSPORTS: Final = """\
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
"""

#: The longest path of a temporary directory, in bytes, with which the path of a socket in our subdirectory
#: stays within the limit of 107 bytes on Linux and 103 on the BSDs and macOS.
LONGEST_DIRECTORY: Final = 60


def short_directory() -> str:
    """The directory for temporary files, or ``/tmp`` if socket paths in it would be too long."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_DIRECTORY else "/tmp"  # noqa: S108  # mkdtemp follows
