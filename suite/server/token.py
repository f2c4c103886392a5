"""The token that allows changes over the admin interface's TCP sockets."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from suite.errors import ConfigError
from suite.files import read_file
from suite.text import shown

#: The shortest token; 128 bits are 32 hexadecimal digits, or 22 of base64.
SHORTEST_TOKEN: Final = 16


def read_token(path: Path, file: Path) -> bytes:
    """The token in *path*, which the configuration *file* names.

    :raises ConfigError: there is none, or others may read it.
    """

    def mistake(problem: str) -> ConfigError:
        return ConfigError(shown(file), "admin.token_file", f"{shown(path)} {problem}")

    try:
        found = os.stat(path)
        token = read_file(path).strip()
    except OSError as error:
        raise mistake(f"cannot be read: {error.strerror}; expected a file with a token") from None
    mode = stat.S_IMODE(found.st_mode)
    # Kubernetes mounts a secret as root's, readable for the group of the pod.
    theirs = 0o037 if found.st_uid == 0 != os.geteuid() else 0o077
    if mode & theirs:
        raise mistake(f"has mode {mode:o}, so that others may use it; expected 600")
    if len(token) < SHORTEST_TOKEN or len(token.split()) != 1 or not token.isascii():
        raise mistake(
            f"contains no token; expected {SHORTEST_TOKEN} characters or more on one line, such as what"
            " `openssl rand -hex 16` prints"
        )
    return token
