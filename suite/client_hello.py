"""What a ClientHello says, before OpenSSL sees it.

Rules: pure and bounded; nothing that a client sends is an error here: what cannot be read gives None, or is
listed in `ClientHello.malformed`, and OpenSSL will say what is wrong with it. The message may be spread over
any number of records (RFC 8446, section 5.1). Values are numbers as they were sent, in their order, GREASE
(RFC 8701) included; `suite.fingerprints` and `suite.tls_names` make of them what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

#: The longest ClientHello that is read, in bytes after its header (Go's ``maxHandshake``). OpenSSL accepts
#: 131,396; the largest real ones have some 2 KiB, or contain a session ticket, which is shorter than 64 KiB.
MAX_CLIENT_HELLO: Final = 65_536

_HANDSHAKE: Final = 22  # a content type
_CLIENT_HELLO: Final = 1  # a message
_MESSAGE_HEADER: Final = 4  # its type and length
_HOST_NAME: Final = 0  # a type of name

# Extensions (https://www.iana.org/assignments/tls-extensiontype-values).
SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN = 0, 10, 11, 13, 16
EARLY_DATA, SUPPORTED_VERSIONS, PSK_MODES, CERTIFICATE_SIGNATURES, KEY_SHARE = 42, 43, 45, 50, 51


class Extension(NamedTuple):
    """An extension: its number, and the length of its content in bytes."""

    kind: int
    size: int


class KeyShare(NamedTuple):
    """A public key for a group, and its length in bytes."""

    group: int
    size: int


@dataclass(frozen=True)
class ClientHello:
    """What a client offers.

    :ivar name: the name that it asks for (SNI, RFC 6066, section 3), in lower case, without a dot at its end;
        None if it asks for none.
    :ivar protocols: the protocols that it offers (ALPN, RFC 7301).
    :ivar versions: the numbers of the versions that it offers: 0x0304 is TLS 1.3. Without the extension
        ``supported_versions``, `legacy_version` alone.
    :ivar legacy_version: the version in the message itself.
    :ivar record_version: the version in the header of the first record.
    :ivar session_size: the length of the session's identifier in bytes.
    :ivar suites: the cipher suites.
    :ivar compressions: the methods of compression.
    :ivar extensions: the extensions.
    :ivar groups: the groups for key exchange (``supported_groups``).
    :ivar point_formats: the formats of points on curves.
    :ivar signatures: the algorithms for signatures (``signature_algorithms``).
    :ivar certificate_signatures: those for certificates, where they differ (``signature_algorithms_cert``).
    :ivar key_shares: the public keys that come with it.
    :ivar psk_modes: how it wants to resume sessions (``psk_key_exchange_modes``).
    :ivar malformed: the extensions that could not be read; what they should say is empty.
    :ivar size: the length of the message in bytes, with its header.
    :ivar records: how many bytes of the message each of its records has.
    """

    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = ()
    legacy_version: int = 0
    record_version: int = 0
    session_size: int = 0
    suites: tuple[int, ...] = ()
    compressions: tuple[int, ...] = ()
    extensions: tuple[Extension, ...] = ()
    groups: tuple[int, ...] = ()
    point_formats: tuple[int, ...] = ()
    signatures: tuple[int, ...] = ()
    certificate_signatures: tuple[int, ...] = ()
    key_shares: tuple[KeyShare, ...] = ()
    psk_modes: tuple[int, ...] = ()
    malformed: tuple[int, ...] = ()
    size: int = 0
    records: tuple[int, ...] = ()

    def has(self, extension: int) -> bool:
        """Whether it has the *extension* with this number."""
        return any(kind == extension for kind, _ in self.extensions)

    @property
    def offers_early_data(self) -> bool:
        """Whether data follows it that is not protected against replay (RFC 8446, section 4.2.10)."""
        return self.has(EARLY_DATA)


def is_grease(value: int) -> bool:
    """Whether *value*, of two bytes, is reserved to keep servers tolerant (RFC 8701, section 2)."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


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

    def numbers(self, size: int) -> tuple[int, ...]:
        """All that is left, in numbers of *size* bytes."""
        found = []
        while self:
            found.append(self.number(size))
        return tuple(found)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self:
            raise ValueError("more than expected")


class Message(NamedTuple):
    """A ClientHello as it came.

    :ivar body: the message without its header.
    :ivar record_version: the version in the header of the first record.
    :ivar records: how many bytes of the message, its header included, each record has.
    """

    body: bytes
    record_version: int
    records: tuple[int, ...]


def find_client_hello(data: bytes) -> Message | None:
    """The ClientHello at the beginning of *data*; None if more bytes are needed to tell.

    :param data: a client's records from the first one on, as they came.
    :raises ValueError: it begins with something else, or with one of more than `MAX_CLIENT_HELLO` bytes.
    """
    content, parts, version, needed, start = bytearray(), [], 0, _MESSAGE_HEADER, 0
    while len(content) < needed:
        header = data[start : start + 5]
        if header and header[0] != _HANDSHAKE:
            raise ValueError("no handshake record")
        if len(header) < 5:
            return None
        size = int.from_bytes(header[3:], "big")
        part = data[start + 5 : start + 5 + size]
        if not start:
            version = int.from_bytes(header[1:3], "big")
        before = len(content)
        content += part
        if content and content[0] != _CLIENT_HELLO:
            raise ValueError("no ClientHello")
        if len(content) >= _MESSAGE_HEADER:
            length = int.from_bytes(content[1:_MESSAGE_HEADER], "big")
            if length > MAX_CLIENT_HELLO:
                raise ValueError("too long")
            needed = _MESSAGE_HEADER + length
        parts.append(min(needed, len(content)) - before)
        if len(part) < size and len(content) < needed:
            return None
        start += 5 + size
    return Message(bytes(content[_MESSAGE_HEADER:needed]), version, tuple(parts))


def read_client_hello(data: bytes) -> ClientHello | None:
    """What the ClientHello at the beginning of *data* says; None if it is none, is malformed or cut off.

    :param data: a client's records from the first one on, as they came.
    """
    try:
        message = find_client_hello(data)
        return None if message is None else parse_client_hello(message)
    except ValueError:
        return None


def parse_client_hello(message: Message) -> ClientHello:
    """Read the body of a ClientHello (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2).

    :raises ValueError: it is malformed.
    """
    body = _Reader(message.body)
    version = body.number(2)
    body.take(32)  # random
    session = body.vector(1).rest()
    suites = body.vector(2).numbers(2)
    compressions = body.vector(1).numbers(1)
    said: dict[str, Any] = {}
    extensions, malformed = [], []
    listed = body.vector(2) if body else _Reader(b"")
    body.end()
    while listed:
        kind, content = listed.number(2), listed.vector(2).rest()
        extensions.append(Extension(kind, len(content)))
        known = _EXTENSIONS.get(kind)
        if known is not None:
            attribute, read = known
            reader = _Reader(content)
            try:
                value = read(reader)
                reader.end()
                said.setdefault(attribute, value)  # one that comes twice is refused by OpenSSL
            except ValueError:
                malformed.append(kind)
    return ClientHello(
        legacy_version=version,
        record_version=message.record_version,
        session_size=len(session),
        suites=suites,
        compressions=compressions,
        extensions=tuple(extensions),
        malformed=tuple(malformed),
        size=_MESSAGE_HEADER + len(message.body),
        records=message.records,
        **{"versions": (version,), **said},
    )


def _server_name(content: _Reader) -> str | None:
    """The host name in an extension; it is to be made of ASCII."""
    names = content.vector(2)
    while names:
        kind, name = names.number(1), names.vector(2).rest()
        if kind == _HOST_NAME and name:
            return name.decode("ascii").lower().rstrip(".")
    return None


def _protocols(content: _Reader) -> tuple[bytes, ...]:
    listed, found = content.vector(2), []
    while listed:
        found.append(listed.vector(1).rest())
    return tuple(found)


def _key_shares(content: _Reader) -> tuple[KeyShare, ...]:
    return tuple(_each_key_share(content.vector(2)))


def _each_key_share(listed: _Reader) -> Iterator[KeyShare]:
    while listed:
        yield KeyShare(listed.number(2), len(listed.vector(2).rest()))


def _listed(length_size: int, size: int) -> Callable[[_Reader], tuple[int, ...]]:
    """Reads numbers of *size* bytes after a length of *length_size* bytes."""
    return lambda content: content.vector(length_size).numbers(size)


#: Which attribute an extension sets, and how it is read.
_EXTENSIONS: Final[dict[int, tuple[str, Callable[[_Reader], Any]]]] = {
    SERVER_NAME: ("name", _server_name),
    GROUPS: ("groups", _listed(2, 2)),
    POINT_FORMATS: ("point_formats", _listed(1, 1)),
    SIGNATURES: ("signatures", _listed(2, 2)),
    ALPN: ("protocols", _protocols),
    SUPPORTED_VERSIONS: ("versions", _listed(1, 2)),
    PSK_MODES: ("psk_modes", _listed(1, 1)),
    CERTIFICATE_SIGNATURES: ("certificate_signatures", _listed(2, 2)),
    KEY_SHARE: ("key_shares", _key_shares),
}
