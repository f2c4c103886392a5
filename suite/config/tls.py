"""What an endpoint's TLS is set to: the values alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

TLS_VERSIONS: Final = ("1.2", "1.3")


@dataclass(frozen=True)
class TLS:
    """What an ``ssl:`` description cannot say.

    :ivar client_ca: PEM file of the CAs whose clients are admitted; None: clients need no certificate.
    :ivar minimum: the oldest version spoken, as in `TLS_VERSIONS`.
    :ivar maximum: the newest.
    :ivar alpn: protocols to choose from, the favourite first (RFC 7301).
    :ivar chain: PEM file of the certificates between the server's own and its root.
    """

    client_ca: Path | None = None
    minimum: str = "1.2"
    maximum: str = "1.3"
    alpn: tuple[str, ...] = ()
    chain: Path | None = None

    def files(self) -> dict[str, Path]:
        """The files it names, by key."""
        named = {"client_ca": self.client_ca, "chain": self.chain}
        return {key: path for key, path in named.items() if path is not None}
