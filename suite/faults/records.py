"""TLS records, written again: what OpenSSL has written, in records of another size, with messages in between.

Rules: pure; the secrets come from a key log (RFC 9850), the rest from the records themselves; the content is
never changed, only cut; an alert is never cut (RFC 8446, section 5.1). What this can read are the AEAD suites
of TLS 1.2 and 1.3 that `suite.endpoints.tls` offers.

OpenSSL's records are opened with the keys of the server, and their content is sealed again with the same
keys, but with sequence numbers of our own, and after a `Rewriter.key_update` with later keys. What OpenSSL
has sealed never reaches the network, so that no nonce is used twice there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

#: Content types (RFC 8446, section 5.1).
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23

#: Handshake messages (RFC 8446, section 4).
SERVER_HELLO, FINISHED, KEY_UPDATE = 2, 20, 24

#: Levels of alerts (RFC 8446, section 6).
WARNING, FATAL = 1, 2

#: The header of a record, and the longest content of one (RFC 8446, section 5.1).
HEADER: Final = 5
MAX_CONTENT: Final = 2**14

#: The ``random`` of a ServerHello that is a HelloRetryRequest, the SHA-256 of that word (RFC 8446, section
#: 4.1.3).
RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

_TAG: Final = 16
_TLS12, _TLS13 = b"\x03\x03", 0x0304
_SUPPORTED_VERSIONS: Final = 43  # an extension (RFC 8446, section 4.2.1)


class Suite(NamedTuple):
    """A cipher suite.

    :ivar key_length: bytes.
    :ivar hash: of HKDF, or of the PRF.
    :ivar aead: makes a cipher from a key.
    :ivar explicit: bytes of the nonce that are in the record (TLS 1.2 with GCM, RFC 5288); 0: none.
    """

    key_length: int
    hash: Callable[[], hashes.HashAlgorithm]
    aead: Callable[[bytes], Any]
    explicit: int = 0


_AES128: Final = Suite(16, hashes.SHA256, AESGCM)
_AES256: Final = Suite(32, hashes.SHA384, AESGCM)
_CHACHA20: Final = Suite(32, hashes.SHA256, ChaCha20Poly1305)
_AES128_12: Final = _AES128._replace(explicit=8)
_AES256_12: Final = _AES256._replace(explicit=8)

#: By number (IANA, "TLS Cipher Suites").
SUITES: Final[Mapping[int, Suite]] = {
    0x1301: _AES128,
    0x1302: _AES256,
    0x1303: _CHACHA20,
    0x009E: _AES128_12,  # DHE-RSA
    0x009F: _AES256_12,
    0xCCAA: _CHACHA20,
    0xC02B: _AES128_12,  # ECDHE-ECDSA
    0xC02C: _AES256_12,
    0xCCA9: _CHACHA20,
    0xC02F: _AES128_12,  # ECDHE-RSA
    0xC030: _AES256_12,
    0xCCA8: _CHACHA20,
}


class RecordError(Exception):
    """The records cannot be written again; the argument says why."""


# The key schedules.


def expand_label(suite: Suite, secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446, section 7.1)."""
    full = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
    return HKDFExpand(suite.hash(), length, info).derive(secret)


def prf(suite: Suite, secret: bytes, label: str, seed: bytes, length: int) -> bytes:
    """The pseudo-random function of TLS 1.2 (RFC 5246, section 5)."""
    name = suite.hash().name  # the same names as hashlib's
    seed = label.encode() + seed
    found, a = b"", seed
    while len(found) < length:
        a = hmac.digest(secret, a, name)
        found += hmac.digest(secret, a + seed, name)
    return found[:length]


class Keys(Protocol):
    """Keys of one side, and the number of its next record."""

    def seal(self, kind: int, content: bytes) -> bytes:
        """The record with this *content*."""

    def open(self, record: bytes) -> tuple[int, bytes]:
        """The kind and the content of *record*.

        :raises cryptography.exceptions.InvalidTag: it was not sealed with these keys, or not next.
        """


class Keys13:
    """Keys of TLS 1.3 (RFC 8446, section 7.3).

    :param secret: a traffic secret.
    """

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self.suite = suite
        self.secret = secret
        self.key = expand_label(suite, secret, "key", suite.key_length)
        self.iv = expand_label(suite, secret, "iv", 12)
        self._aead = suite.aead(self.key)
        self._iv = int.from_bytes(self.iv, "big")
        self.number = 0

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self.number).to_bytes(12, "big")
        self.number += 1
        return nonce

    def seal(self, kind: int, content: bytes) -> bytes:
        """The record with this *content*, without padding (RFC 8446, section 5.2)."""
        header = b"\x17\x03\x03" + (len(content) + 1 + _TAG).to_bytes(2, "big")
        sealed: bytes = self._aead.encrypt(self._nonce(), content + bytes((kind,)), header)
        return header + sealed

    def open(self, record: bytes) -> tuple[int, bytes]:
        """The kind and the content of *record*.

        :raises cryptography.exceptions.InvalidTag: it was not sealed with these keys, or not next.
        """
        opened: bytes = self._aead.decrypt(self._nonce(), record[HEADER:], record[:HEADER])
        content = opened.rstrip(b"\0")
        return content[-1], content[:-1]

    def updated(self) -> Keys13:
        """The keys after a KeyUpdate (RFC 8446, section 7.2)."""
        secret = expand_label(self.suite, self.secret, "traffic upd", len(self.secret))
        return Keys13(self.suite, secret)


class Keys12:
    """The server's keys of TLS 1.2 (RFC 5246, section 6.3).

    :param secret: the master secret.
    """

    def __init__(self, suite: Suite, secret: bytes, client_random: bytes, server_random: bytes) -> None:
        fixed = 12 - suite.explicit
        size = suite.key_length
        block = prf(suite, secret, "key expansion", server_random + client_random, 2 * (size + fixed))
        self._aead = suite.aead(block[size : 2 * size])
        self.iv = block[2 * size + fixed :]
        self._iv = int.from_bytes(self.iv, "big")
        self._explicit = suite.explicit
        self.number = 0

    def _associated(self, kind: int, length: int) -> bytes:
        return self.number.to_bytes(8, "big") + bytes((kind,)) + _TLS12 + length.to_bytes(2, "big")

    def seal(self, kind: int, content: bytes) -> bytes:
        """The record with this *content*; the explicit nonce is its number (RFC 5288, section 3)."""
        number = self.number.to_bytes(8, "big")
        explicit = number if self._explicit else b""
        nonce = self.iv + number if explicit else (self._iv ^ self.number).to_bytes(12, "big")
        sealed: bytes = explicit + self._aead.encrypt(nonce, content, self._associated(kind, len(content)))
        self.number += 1
        return bytes((kind,)) + _TLS12 + len(sealed).to_bytes(2, "big") + sealed

    def open(self, record: bytes) -> tuple[int, bytes]:
        """The kind and the content of *record*.

        :raises cryptography.exceptions.InvalidTag: it was not sealed with these keys, or not next.
        """
        kind = record[0]
        explicit = record[HEADER : HEADER + self._explicit]
        sealed = record[HEADER + self._explicit :]
        nonce = self.iv + explicit if explicit else (self._iv ^ self.number).to_bytes(12, "big")
        content: bytes = self._aead.decrypt(nonce, sealed, self._associated(kind, len(sealed) - _TAG))
        self.number += 1
        return kind, content


# Reading.


class ServerHello(NamedTuple):
    """What a ServerHello says.

    :ivar random: its 32 bytes.
    :ivar suite: the number of the cipher suite.
    :ivar version13: whether it chooses TLS 1.3.
    """

    random: bytes
    suite: int
    version13: bool

    @property
    def retry(self) -> bool:
        """Whether it is a HelloRetryRequest: the true one is still to come."""
        return self.random == RETRY


def server_hello(body: bytes) -> ServerHello:
    """Read the *body* of a ServerHello (RFC 8446, section 4.1.3)."""
    random = body[2:34]
    at = 35 + body[34]
    suite = int.from_bytes(body[at : at + 2], "big")
    at += 5  # the suite, the compression method, and the length of the extensions
    version13 = False
    while at + 4 <= len(body):
        kind, length = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        at += 4
        if kind == _SUPPORTED_VERSIONS:
            version13 = int.from_bytes(body[at : at + 2], "big") == _TLS13
        at += length
    return ServerHello(random, suite, version13)


def split_records(data: bytes) -> Iterator[bytes]:
    """The records that *data* consists of; a last one that is not complete is as long as it is."""
    at = 0
    while at < len(data):
        end = at + HEADER + int.from_bytes(data[at + 3 : at + HEADER], "big")
        yield data[at:end]
        at = end


def plain_alert(number: int, level: int = FATAL) -> bytes:
    """The record of an alert that is not encrypted."""
    return bytes((ALERT, 3, 3, 0, 2, level, number))


class Messages:
    """Finds the messages of a handshake in the contents of its records."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        """The type and the body of each message that is complete with *content*."""
        self._begun += content
        while len(self._begun) >= 4:
            end = 4 + int.from_bytes(self._begun[1:4], "big")
            if len(self._begun) < end:
                return
            message, self._begun = self._begun[:end], self._begun[end:]
            yield message[0], message[4:]


# Writing again.


class Rewriter:
    """Writes the records of a server again, from its first one on.

    :param size: bytes of content in a record, at the most.
    :ivar version13: whether TLS 1.3 has been agreed on; None until there is a ServerHello.
    """

    def __init__(self, size: int = MAX_CONTENT) -> None:
        self.size = size
        self.version13: bool | None = None
        self._secrets: dict[bytes, tuple[bytes, bytes]] = {}  # label → client random, secret
        self._messages = Messages()
        self._hello: ServerHello | None = None
        self._opens: Keys | None = None  # None while nothing is encrypted
        self._seals: Keys | None = None
        self._next: Callable[[], Keys] | None = None  # for the record after the present one
        self._updates = False  # the present one ends with a KeyUpdate

    def note_secret(self, line: bytes) -> None:
        """Take a line of a key log: label, client random and secret, in hexadecimal."""
        label, client_random, secret = line.split()
        self._secrets[label] = bytes.fromhex(client_random.decode()), bytes.fromhex(secret.decode())

    def rewrite(self, data: bytes) -> bytes:
        """*data*, whole records as OpenSSL has written them, written again."""
        return b"".join(map(self._rewrite, split_records(data)))

    def _rewrite(self, record: bytes) -> bytes:
        kind = record[0]
        if self._opens is None or (kind == CHANGE_CIPHER_SPEC and self.version13):
            content = record[HEADER:]
        else:
            kind, content = self._opens.open(record)
        if kind == HANDSHAKE:
            for message, body in self._messages.feed(content):
                self._note(message, body)
        elif kind == CHANGE_CIPHER_SPEC and not self.version13:
            self._next = self._keys12
        written = self._write(kind, content, record[1:3])
        self._go_on()
        return written

    def _note(self, message: int, body: bytes) -> None:
        """See what a *message* changes, from the next record on."""
        if self._opens is None and message == SERVER_HELLO:
            self._hello = server_hello(body)
            self.version13 = self._hello.version13
            if self.version13 and not self._hello.retry:
                self._next = self._keys13(b"SERVER_HANDSHAKE_TRAFFIC_SECRET")
        elif self.version13 and message == FINISHED:
            self._next = self._keys13(b"SERVER_TRAFFIC_SECRET_0")
        elif self.version13 and message == KEY_UPDATE:
            self._updates = True

    def _go_on(self) -> None:
        """Switch to the keys of the next record."""
        if self._next is not None:
            self._opens, self._seals = self._next(), self._next()
            self._next = None
        elif self._updates and isinstance(self._opens, Keys13) and isinstance(self._seals, Keys13):
            self._updates = False
            # Each one from its own: ours may be some updates ahead.
            self._opens, self._seals = self._opens.updated(), self._seals.updated()

    def _suite(self) -> Suite:
        if self._hello is None or self._hello.suite not in SUITES:
            raise RecordError(f"records cannot be written again with {self._hello}")
        return SUITES[self._hello.suite]

    def _secret(self, label: bytes) -> tuple[bytes, bytes]:
        if label not in self._secrets:
            raise RecordError(f"records cannot be written again: the key log has no {label.decode()}")
        return self._secrets[label]

    def _keys13(self, label: bytes) -> Callable[[], Keys]:
        return lambda: Keys13(self._suite(), self._secret(label)[1])

    def _keys12(self) -> Keys:
        client_random, secret = self._secret(b"CLIENT_RANDOM")
        suite = self._suite()
        assert self._hello is not None  # noqa: S101  # it names the suite
        return Keys12(suite, secret, client_random, self._hello.random)

    def _write(self, kind: int, content: bytes, version: bytes = _TLS12) -> bytes:
        size = self.size if kind in (HANDSHAKE, APPLICATION_DATA) else MAX_CONTENT
        parts = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
        if self._seals is None or (kind == CHANGE_CIPHER_SPEC and self.version13):
            return b"".join(bytes((kind,)) + version + len(part).to_bytes(2, "big") + part for part in parts)
        seal = self._seals.seal
        return b"".join([seal(kind, part) for part in parts])

    # Messages of our own.

    def alert(self, number: int, level: int = FATAL) -> bytes:
        """An alert, encrypted if records are."""
        return self._write(ALERT, bytes((level, number)))

    def key_update(self) -> bytes:
        """A KeyUpdate that does not ask for one in return (RFC 8446, section 4.6.3); TLS 1.3 only."""
        assert isinstance(self._seals, Keys13)  # noqa: S101  # TLS 1.3, as said
        written = self._write(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, 0)))
        self._seals = self._seals.updated()
        return written


def hello_alone(data: bytes) -> tuple[bytes, bool]:
    """What to send of a server's first flight so that nothing follows its ServerHello.

    :returns: the bytes to send, and whether that is the end: a HelloRetryRequest is sent as it is.
    """
    sent, messages = b"", Messages()
    for record in split_records(data):
        sent += record
        if record[0] == HANDSHAKE:
            for message, body in messages.feed(record[HEADER:]):
                if message == SERVER_HELLO:
                    return (data, False) if server_hello(body).retry else (sent, True)
        elif record[0] == ALERT:
            return data, False
    return data, False
