"""TLS directly on the socket: after the handshake, OpenSSL reads and writes the descriptor itself.

Rules: the handshake comes first (`suite.engine.handshake`); ``close_notify`` is an end of input, and so is a
bare FIN, but the two are distinguished; this side's ``close_notify`` follows its last byte (RFC 8446, section
6.1); every alert that OpenSSL sends reaches the peer before the socket closes.

Twisted's own TLS (``twisted.protocols.tls``) puts memory BIOs between OpenSSL and the transport. It drops
replies that are still in its aggregation buffer when ``close_notify`` arrives, and if a producer is paused at
that moment, the socket stays in CLOSE_WAIT forever.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final, cast

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import main
from twisted.internet.interfaces import (
    IDelayedCall,
    INegotiated,
    IOpenSSLContextFactory,
    IProtocolFactory,
    IReactorTime,
)
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from suite.engine.accept import AcceptingPort
from suite.engine.handshake import HandshakingStream
from suite.engine.handshake_records import HandshakeBudget
from suite.engine.linux.malloc import trim_heap
from suite.engine.openssl import MAX_PLAINTEXT, scratch_buffer

#: Maximum number of full records read from one connection before the others have their turn.
RECORDS_PER_TURN: Final = 8

#: Made once instead of in every turn.
TURN: Final = range(RECORDS_PER_TURN)

#: Number of closed connections after which the heap is trimmed: some 5 MiB.
TRIM_AFTER: Final = 256

#: Seconds that the peer has to close its side after this side is closed (nginx's lingering_timeout).
LINGER: Final = 5.0

#: Maximum number of key updates in a row (OpenSSL 1.1.1 had this limit; later versions have it for empty
#: records only).
MAX_CHATTER: Final = 32

TOO_MUCH_CHATTER: Final = SSL.Error([("", "", "too many records without application data")])

#: TLS alert number (RFC 8446, section 6).
CLOSE_NOTIFY: Final = 0


def note_records(connection: SSL.Connection, where: int, result: int) -> None:
    """An OpenSSL info callback: notes the alerts and handshake messages that a connection receives.

    It lets a connection distinguish ``close_notify`` from a bare FIN, and refuse too many key updates.
    """
    if where == SSL.SSL_CB_READ_ALERT and result & 0xFF == CLOSE_NOTIFY:
        transport = connection.get_app_data()
        if isinstance(transport, TLSServer):
            transport.close_notify_received = True
    elif where == SSL.SSL_CB_ACCEPT_EXIT:  # once after each handshake message
        transport = connection.get_app_data()
        if isinstance(transport, TLSServer) and transport.note_handshake_message():
            # OpenSSL would go on as long as more of them arrive; this makes it stop reading.
            connection.set_shutdown(SSL.RECEIVED_SHUTDOWN)


@implementer(INegotiated)
class TLSServer(HandshakingStream):
    """The server side of one TLS connection.

    :ivar close_notify_received: whether the peer has closed its side properly. `note_records` sets it; a
        context with an info callback of its own must call that.
    """

    close_notify_received = False
    _chatter = 0  # handshake messages since the last application data
    _read_wants_write = False  # doRead waits until the socket is writable, to answer a key update
    _linger: IDelayedCall | None = None  # ends the connection; set while the peer's last bytes are discarded

    # Reading.

    @override
    def doRead(self) -> Any:
        if not self._can_send_now:  # so also before the end of the handshake, and while lingering
            if not self._established:
                if self._preamble is not None and not self._preamble.complete:
                    return self._read_preamble(self._preamble)
                return self._handshake()
            if self._linger is not None:
                return self._discard()
        records = self._records
        for _ in TURN:
            try:
                if self.echoes and self._can_send_now:
                    data = None
                    count = records.echo()
                else:
                    data = self._connection.recv(MAX_PLAINTEXT)
            except SSL.WantReadError:
                return None
            except SSL.WantWriteError:  # a KeyUpdate has to be answered, but the socket is full
                self._read_wants_write = True
                self.startWriting()
                return None
            except SSL.ZeroReturnError:
                return (
                    main.CONNECTION_DONE if self._chatter <= MAX_CHATTER else self._failed(TOO_MUCH_CHATTER)
                )
            except SSL.Error as error:
                return self._failed(error)
            if self._chatter:
                self._chatter = 0
            if data is not None:
                count = len(data)
                self.protocol.dataReceived(data)
            else:
                self.protocol.received += count  # type: ignore[attr-defined]  # as `writes_back` promises
                if records.unsent:
                    self._keep(records.unsent)
                    records.unsent = b""
            if count < MAX_PLAINTEXT or not self.reading:
                return None
        return None

    def note_handshake_message(self) -> bool:
        """Count a handshake message; return whether there were too many without application data."""
        if self._established:
            self._chatter += 1
        return self._chatter > MAX_CHATTER

    # Writing.

    @override
    def startWriting(self) -> None:
        # Before the end of the handshake there is nothing to write when the socket is writable.
        if self._established or self.disconnecting:
            super().startWriting()

    @override
    def doWrite(self) -> Any:
        if not self._established:
            return main.CONNECTION_DONE if self.disconnecting else self._send_flight()
        if self._read_wants_write:
            self._read_wants_write = False
            why = self.doRead()
            if why is main.CONNECTION_DONE:
                self.stopReading()
                self.readConnectionLost(Failure(why))
            elif why is not None:
                return why
            if self._read_wants_write:
                return None
        why = super().doWrite()
        if why is main.CONNECTION_DONE and not self._peer_ended:
            # All bytes are sent, but closing while the peer still sends would cause a reset and lose them.
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self._linger = cast(IReactorTime, self.reactor).callLater(LINGER, self.abortConnection)
            self._update_can_send_now()
            self.startReading()
            return None
        return why

    def _discard(self) -> Exception | None:
        """Read and discard what arrives after this side is closed, until the peer closes its own."""
        try:
            for _ in range(RECORDS_PER_TURN):
                self._connection.recv(MAX_PLAINTEXT)
            return None
        except SSL.WantReadError:
            return None
        except SSL.Error:
            pass  # close_notify, FIN or an error: the connection is over
        self._peer_ended = True
        self.connectionLost(Failure(main.CONNECTION_DONE))
        return None

    @override
    def write(self, data: bytes) -> None:
        # `Stream.write`, with its calls inlined, for data of one record.
        if not self._can_send_now or not 0 < len(data) <= MAX_PLAINTEXT:
            super().write(data)
            return
        try:
            sent = self._connection.send(data)
        except SSL.Error:
            sent = 0  # full or broken: doWrite will fail again, where the reactor can be told
        if sent != len(data):
            self._keep(memoryview(data)[sent:])

    @override
    def writeSomeData(self, data: bytes | memoryview) -> Any:
        if not self._established:
            return 0
        sent = 0
        try:
            sent = self._connection.send(data)  # one record at a time
            if sent < len(data):
                with memoryview(data) as view:
                    while sent < len(view):
                        with view[sent:] as rest:
                            sent += self._connection.send(rest)
        except (SSL.WantWriteError, SSL.WantReadError):
            return sent
        except SSL.Error as error:
            return self._failed(error)
        return sent

    @override
    def finish_sending(self) -> bool | Exception:
        if self._established:
            try:
                self._connection.shutdown()
            except SSL.WantWriteError:
                return False
            except SSL.Error as error:
                return self._failed(error)
        return True

    @override
    def handshake_finished(self) -> None:
        # Not earlier: during the handshake OpenSSL would call it some twenty times without need.
        self._connection.share_info_callback(note_records)

    @override
    def _update_can_send_now(self) -> None:
        super()._update_can_send_now()
        if not self._established or self._linger is not None:
            self._can_send_now = False

    # The connection as a whole.

    @override
    def connectionLost(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)
        self.__dict__.pop("_records", None)
        if self.__dict__.pop("_connection", None) is not None:  # breaks the reference cycle
            cast("TLSPort", self.server).connection_closed()

    @override
    def getHandle(self) -> Any:
        """The OpenSSL connection."""
        return self._connection

    def getPeerCertificate(self) -> X509 | None:
        """The certificate that the peer has presented, if any."""
        return self._connection.get_peer_certificate()

    @property
    def client_certificate(self) -> str:
        """What the client has shown, for people, and what is wrong with it; empty if it has shown nothing."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return ""
        subject = certificate.subject.rfc4514_string() or "no subject"
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        problem = self._connection.verify_error()
        verdict = f", not verified: {problem}" if problem else ""
        return f"{subject}, serial {certificate.serial_number:x}, SHA-256 {fingerprint}{verdict}"

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol chosen by ALPN (RFC 7301); None before the end of the handshake, or without ALPN."""
        return self._connection.get_alpn_proto_negotiated() or None


class TLSPort(AcceptingPort):
    """A TCP port whose connections speak TLS.

    :ivar contextFactory: gives the OpenSSL context of each new connection.
    :ivar handshakes: what the handshakes in progress hold.
    """

    transport: Any = TLSServer
    _type = "TLS"  # for Twisted's log entries

    def __init__(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: IOpenSSLContextFactory,
        backlog: int,
        interface: str,
        reactor: Any,
    ) -> None:
        contextFactory.getContext()  # fail now, not at the first connection
        super().__init__(port, factory, backlog, interface, reactor)
        self.contextFactory = contextFactory
        self.scratch = scratch_buffer()
        self.handshakes = HandshakeBudget()
        self._closed = 0

    def connection_closed(self) -> None:
        """A connection of this port has ended, and freed its memory."""
        self._closed += 1
        if self._closed % TRIM_AFTER == 0:
            trim_heap()

    @override
    def _getLogPrefix(self, applicationObject: object) -> str:
        return f"{super()._getLogPrefix(applicationObject)} (TLS)"
