"""What an endpoint's TLS is set to: the values alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

TLS_VERSIONS: Final = ("1.2", "1.3")

#: Whether a client must show a certificate (`client_auth`). One that is shown is verified, and the client
#: refused if it cannot be, except with "unverified": then it is only reported and logged what is wrong.
CLIENT_AUTH: Final = ("required", "optional", "unverified")


@dataclass(frozen=True)
class TLS:
    """What an ``ssl:`` description cannot say.

    :ivar client_ca: PEM file of the CAs whose clients are admitted; None: clients need no certificate.
    :ivar client_auth: as in `CLIENT_AUTH`; without `client_ca` it means nothing.
    :ivar minimum: the oldest version spoken, as in `TLS_VERSIONS`.
    :ivar maximum: the newest.
    :ivar alpn: protocols to choose from, the favourite first (RFC 7301).
    :ivar chain: PEM file of the certificates between the server's own and its root.
    :ivar password_file: a file with the password of an encrypted private key.
    :ivar keylog: a file to which the secrets of every connection are appended (NSS key log format); None: no
        such file.
    """

    client_ca: Path | None = None
    client_auth: str = "required"
    minimum: str = "1.2"
    maximum: str = "1.3"
    alpn: tuple[str, ...] = ()
    chain: Path | None = None
    password_file: Path | None = None
    keylog: Path | None = None

    def files(self) -> dict[str, Path]:
        """The files to be read that it names, by key."""
        named = {"client_ca": self.client_ca, "chain": self.chain, "password_file": self.password_file}
        return {key: path for key, path in named.items() if path is not None}
