"""What a ClientHello says, before OpenSSL sees it: the name that it asks for, above all.

Rules: pure; nothing that a client sends is an error here: what cannot be read gives None, and OpenSSL will
say what is wrong with it. The message may be spread over any number of records (RFC 8446, section 5.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_HANDSHAKE: Final = 22  # a content type
_CLIENT_HELLO: Final = 1  # a message
_HEADER: Final = 5  # bytes before the content of a record
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43  # extensions
_HOST_NAME: Final = 0  # a type of name


class ClientHello(NamedTuple):
    """What a client offers.

    :ivar name: the name that it asks for (SNI, RFC 6066, section 3), in lower case, without a dot at its end;
        None if it asks for none.
    :ivar protocols: the protocols that it offers (ALPN, RFC 7301), in its order.
    :ivar versions: the numbers of the versions that it offers, in its order: 0x0304 is TLS 1.3.
    """

    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = ()


class _Reader:
    """Takes bytes from the beginning; raises `ValueError` where there are not enough."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("cut off")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """What follows a length of *size* bytes."""
        return _Reader(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def read_client_hello(data: bytes) -> ClientHello | None:
    """What the ClientHello at the beginning of *data* says; None if it is none, is malformed or cut off.

    :param data: a client's records from the first one on, as they came.
    """
    try:
        content = _Reader(b"".join(_contents(data)))
        if content.number(1) != _CLIENT_HELLO:
            return None
        return _hello(content.vector(3))
    except ValueError:
        return None


def _contents(data: bytes) -> Iterator[bytes]:
    """What is in the first records of *data*, as far as they are of a handshake."""
    records = _Reader(data)
    while records:
        if records.number(1) != _HANDSHAKE:
            return
        records.take(2)
        yield records.vector(2).rest()


def _hello(body: _Reader) -> ClientHello:
    """Read the body of a ClientHello (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2)."""
    version = body.number(2)
    body.take(32)  # random
    body.vector(1)  # session
    body.vector(2)  # cipher suites
    body.vector(1)  # compression methods
    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = (version,)
    extensions = body.vector(2) if body else _Reader(b"")
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            listed = content.vector(2)
            protocols = tuple(_each(listed))
        elif kind == _SUPPORTED_VERSIONS:
            offered = content.vector(1).rest()
            versions = tuple(int.from_bytes(offered[at : at + 2], "big") for at in range(0, len(offered), 2))
    return ClientHello(name, protocols, versions)


def _each(listed: _Reader) -> Iterator[bytes]:
    while listed:
        yield listed.vector(1).rest()


def _server_name(content: _Reader) -> str | None:
    """The host name in an extension.

    :raises ValueError: it is not made of ASCII, as it has to be, or cut off.
    """
    names = content.vector(2)
    while names:
        kind, name = names.number(1), names.vector(2).rest()
        if kind == _HOST_NAME and name:
            return name.decode("ascii").lower().rstrip(".")
    return None
