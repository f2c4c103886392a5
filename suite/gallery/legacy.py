"""TLS that OpenSSL no longer speaks, spoken by tlslite-ng (``echo-suite[legacy]``).

Rules: a `LegacyConnection` stands where an OpenSSL connection in memory does, for `suite.gallery.transport`;
it reads one record at a time, and what it writes is sent by the transport. It is pure Python: a handshake
takes tens of milliseconds, in which nothing else runs, so nobody should be offered it who has not asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final

from OpenSSL import SSL
from typing_extensions import override

from suite.engine.handshake_records import record_length
from suite.engine.openssl import MAX_PLAINTEXT
from suite.gallery.behaviours import Legacy
from suite.gallery.legacy_ciphers import use_faster_ciphers
from suite.gallery.mint import Minted

#: What is missing, and the way out.
MISSING: Final = "tlslite-ng is not installed; expected echo-suite[legacy]"

#: The alert that is an end, and those that go with it (RFC 5246, section 7.2).
_CLOSE_NOTIFY: Final = 0

#: The smallest Diffie-Hellman group, or RSA key, that tlslite-ng is to accept, in bits.
_SMALLEST: Final = 512


def missing() -> str | None:
    """Why legacy TLS cannot be spoken here; None if it can."""
    try:
        import_module("tlslite.tlsconnection")
    except ImportError:
        return MISSING
    return None


class _Memory:
    """The socket of a tlslite-ng connection: what it reads is put in, what it writes is taken out."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.ended = False

    def recv(self, size: int) -> bytes:
        if not self.incoming and not self.ended:
            raise BlockingIOError(11, "nothing to read yet")  # EAGAIN, whose number tlslite-ng looks for
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        return data

    def send(self, data: bytes) -> int:
        self.outgoing += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.outgoing += data

    def close(self) -> None:
        """Nothing is open."""


@cache
def _identity(chain: tuple[bytes, ...], key: bytes) -> tuple[Any, Any]:
    """The certificates and the key as tlslite-ng has them."""
    x509 = import_module("tlslite.x509")
    certificates = []
    for der in chain:
        certificate = x509.X509()
        certificate.parseBinary(bytearray(der))
        certificates.append(certificate)
    api = import_module("tlslite.api")
    return api.X509CertChain(certificates), api.parsePEMKey(key.decode(), private=True)


class _OwnGroup(list[int]):
    """The groups of RFC 7919 as tlslite-ng is to see them, to use one of our own instead.

    It would refuse a client that offers some of which it has none, and otherwise choose one of them: it has
    whatever the client offers, and yet there are none to choose from.
    """

    @override
    def __contains__(self, group: object) -> bool:
        return True


def _settings(legacy: Legacy) -> Any:
    settings = import_module("tlslite.handshakesettings").HandshakeSettings()
    settings.minVersion, settings.maxVersion = (3, 3), legacy.highest
    settings.versions = [(3, 3)]
    settings.minKeySize = _SMALLEST
    settings.keyExchangeNames = [*legacy.key_exchanges]
    if legacy.ciphers:
        settings.cipherNames = [*legacy.ciphers]
    if legacy.macs:
        settings.macNames = [*legacy.macs]
    if legacy.group is not None:
        settings.dhParams = legacy.group
    settings.ticket_count = 0
    settings.use_heartbeat_extension = False
    return settings


class LegacyConnection:
    """The server side of one connection; what is here is what the transport asks of `MemoryConnection`.

    :param legacy: what to speak.
    :param minted: what to present.
    :ivar on_close_notify: called when the client has ended its side properly.
    """

    in_memory = True
    on_secret = None

    def __init__(self, legacy: Legacy, minted: Minted) -> None:
        self._memory = _Memory()
        self._tls: Any = import_module("tlslite.tlsconnection").TLSConnection(self._memory)
        self._tls.closeSocket = self._tls.ignoreAbruptClose = False
        use_faster_ciphers(self._tls)
        if legacy.group is not None:
            self._tls._groupNamesToList = lambda _settings: _OwnGroup()  # noqa: SLF001
        self._errors: Any = import_module("tlslite.errors")
        chain, key = _identity(minted.chain, minted.key)
        self._steps: Iterator[int] = self._tls.handshakeServerAsync(
            certChain=chain, privateKey=key, settings=_settings(legacy)
        )
        self._reading: Iterator[Any] | None = None
        self._begun = b""
        self._socket: Any = None
        self._done = False
        self.close_notify_received = False

    # The handshake, in memory.

    def bio_write(self, data: bytes) -> int:
        """Give it what has arrived."""
        self._memory.incoming += data
        return len(data)

    def peek_input(self) -> bytes:
        """What it has been given, and not read yet."""
        return bytes(self._memory.incoming)

    def output(self) -> bytes:
        """Take what it has written."""
        data = bytes(self._memory.outgoing)
        self._memory.outgoing.clear()
        return data

    def do_handshake(self) -> None:
        """Go on with the handshake.

        :raises SSL.WantReadError: the client has to say more.
        :raises SSL.Error: it has failed.
        """
        try:
            for _ in self._steps:
                raise SSL.WantReadError
        except (self._errors.BaseTLSException, OSError, ValueError) as error:
            raise SSL.Error([("", "", _words(error))]) from None
        self._done = True

    def attach(self, sock: Any) -> None:
        """Read from *sock* from now on."""
        self._socket = sock

    # Afterwards.

    def recv(self, bufsiz: int = MAX_PLAINTEXT, flags: int | None = None) -> bytes:  # noqa: ARG002
        """One record's bytes.

        :raises SSL.WantReadError: there are none yet.
        :raises SSL.ZeroReturnError: the client has ended its side.
        :raises SSL.Error: the connection has failed.
        """
        while True:
            if self._reading is None:
                self._reading = self._tls.readAsync(max=MAX_PLAINTEXT, min=1)
            try:
                found = next(self._reading)
            except StopIteration:
                self._reading = None
                continue
            except self._errors.TLSAbruptCloseError:
                raise SSL.ZeroReturnError from None
            except (self._errors.BaseTLSException, OSError, ValueError) as error:
                raise SSL.Error([("", "", _words(error))]) from None
            if found in (0, 1) and isinstance(found, int):
                self._feed()
                continue
            self._reading = None
            if not found:
                self.close_notify_received = True
                raise SSL.ZeroReturnError
            return bytes(found)

    def _feed(self) -> None:
        """Read the next record, or the end of input."""
        while missing_bytes := record_length(self._begun) - len(self._begun):
            try:
                data = self._socket.recv(missing_bytes)
            except BlockingIOError:
                raise SSL.WantReadError from None
            except OSError as error:
                raise SSL.SysCallError(error.errno, os.strerror(error.errno or 0)) from None
            if not data:
                self._memory.ended = True
                break
            self._begun += data
        self._memory.incoming += self._begun
        self._begun = b""

    def send(self, buf: Any, flags: int = 0) -> int:  # noqa: ARG002
        """Write a record's bytes; return how many.

        :raises SSL.Error: the connection is over.
        """
        data = bytes(buf[:MAX_PLAINTEXT])
        try:
            for _ in self._tls.writeAsync(data):
                pass
        except (self._errors.BaseTLSException, OSError, ValueError) as error:
            raise SSL.Error([("", "", _words(error))]) from None
        return len(data)

    def shutdown(self) -> bool:
        """Write ``close_notify``."""
        messages = import_module("tlslite.messages")
        alert = messages.Alert().create(_CLOSE_NOTIFY, 1)
        if not self._tls.closed:
            for _ in self._tls._sendMsg(alert):  # noqa: SLF001  # `close` would wait for the client's
                pass
        return False

    # What the transport asks besides.

    def records(self) -> Any:
        """No faster access: it never echoes by itself."""
        return None

    def get_protocol_version(self) -> int:
        """The version spoken."""
        return int(SSL.TLS1_2_VERSION)

    def get_protocol_version_name(self) -> str:
        """The same, for people."""
        return "TLSv1.2"

    def get_cipher_name(self) -> str | None:
        """The cipher suite, in tlslite-ng's words; None before it is known."""
        name = self._tls.getCipherName()
        return str(name) if name else None

    def get_peer_certificate(self, *, as_cryptography: bool = False) -> None:
        """The client is not asked for a certificate."""

    def get_peer_cert_chain(self, *, as_cryptography: bool = False) -> None:
        """The client is not asked for a certificate."""

    def get_servername(self) -> bytes | None:
        """The name that the client has asked for."""
        name = getattr(self._tls.session, "serverName", "") if self._tls.session else ""
        return name.encode() if name else None

    def get_alpn_proto_negotiated(self) -> bytes:
        """No protocol is chosen."""
        return b""

    def get_app_data(self) -> None:
        """There is none."""

    def share_info_callback(self, callback: Any) -> None:
        """Nobody is told of messages."""

    def set_shutdown(self, state: int) -> None:
        """Nothing is to be stopped."""


def _words(error: BaseException) -> str:
    """What went wrong, in one line."""
    alert = getattr(error, "description", None)
    text = str(error) or type(error).__name__
    return f"tlslite-ng: {text if alert is None else type(error).__name__ + ' ' + text}"
