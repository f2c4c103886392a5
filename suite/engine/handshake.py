"""The beginning of a TLS connection: a preamble, such as a PROXY header, and the handshake.

Rules: a client's records are read by `suite.engine.handshake_records`, whole and bounded, and only then given
to OpenSSL, which is attached to the socket when the handshake has completed; what OpenSSL writes before that,
alerts included, is sent before anything else.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from contextlib import suppress
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.python.failure import Failure
from typing_extensions import override

from suite.engine.handshake_records import (
    ALERT,
    ORDINARY_HANDSHAKE,
    READ_SIZE,
    HandshakeRecords,
    HandshakeTooLargeError,
)
from suite.engine.interfaces import IPreambleListener
from suite.engine.openssl import MAX_PLAINTEXT, Connection
from suite.engine.stream import SEND_LIMIT, Stream

LEFT_HANDSHAKE: Final = SSL.Error([("", "", "the peer closed the connection during the handshake")])


def reason_of(error: Exception) -> str:
    """The reason for *error* in OpenSSL's words, such as ``tlsv1 alert unknown ca``."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    if isinstance(error, SSL.ZeroReturnError):
        return "the peer closed the connection"
    return str(error.args[-1] if error.args else error) or "no reason given"


class InvalidPreambleError(Exception):
    """The bytes before a handshake are not valid; the argument says why."""


class Preamble(Protocol):
    """Reads the bytes that come before a handshake, such as a PROXY header.

    :ivar complete: whether all of them have been read.
    :ivar source: the address of the client that they name; None if they name none.
    :ivar destination: the address that the client connected to, likewise.
    :ivar raw: all of the bytes, once they have been read.
    """

    complete: bool
    source: IAddress | None
    destination: IAddress | None
    raw: bytes

    def feed(self, data: bytes) -> int:
        """Read this preamble's bytes from the beginning of *data*; return how many they are.

        :raises ValueError: the bytes are not valid.
        """


class HandshakingStream(Stream):
    """A TLS connection until its handshake has completed.

    :param server: the port, which has a ``contextFactory``, a ``scratch`` buffer for records, and a
        `HandshakeBudget`, ``handshakes``.
    """

    server: Any

    #: Makes the OpenSSL connection; `suite.faults.tls` has its own.
    _connection_type: type[Connection] = Connection

    _established = False  # the handshake has completed
    _preamble: Preamble | None = None  # None if connections begin with the handshake
    _preamble_begun = False  # some of its bytes have arrived
    _flight: bytes = b""  # bytes of the handshake that the kernel has not accepted yet
    _agreed = False  # the handshake has completed, except that `_flight` may have to be sent
    _waits_for_flight = False  # reading will go on when `_flight` is sent
    _held = 0  # what the port's budget knows that the handshake holds

    def __init__(self, sock: Any, protocol: Any, client: Any, server: Any, *args: Any) -> None:
        connection = self._connection_type(server.contextFactory.getContext(), server.scratch)
        # Without this, OpenSSL 3 and later treat a bare FIN as an error, and then refuse to write.
        connection.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
        connection.set_accept_state()
        connection.set_app_data(self)
        self._connection = connection
        self._records = connection.records()
        self._incoming = HandshakeRecords()
        make_preamble = getattr(server.contextFactory, "preamble", None)
        if make_preamble is not None:
            self._preamble = make_preamble()
        super().__init__(sock, protocol, client, server, *args)

    @abstractmethod
    def handshake_finished(self) -> None:
        """OpenSSL is attached to the socket, and the protocol does not know it yet."""

    @property
    def preamble(self) -> Preamble | None:
        """What reads the bytes that come before the handshake; None if there are none."""
        return self._preamble

    @property
    def preamble_complete(self) -> bool:
        """Whether all bytes that come before the handshake have been read."""
        return self._preamble is None or self._preamble.complete

    @property
    def handshake_complete(self) -> bool:
        """Whether the TLS handshake has completed."""
        return self._established

    @property
    def handshake_begun(self) -> bool:
        """Whether some of the peer's handshake has arrived."""
        return self._established or self._incoming.received > 0

    def _read_preamble(self, preamble: Preamble) -> Exception | None:
        try:
            # Peek first, because the bytes after the preamble are for the handshake.
            data = self.socket.recv(MAX_PLAINTEXT, socket.MSG_PEEK)
            if not data:
                if self._preamble_begun:
                    return InvalidPreambleError("the connection ended within its PROXY header")
                return main.CONNECTION_DONE
            self._preamble_begun = True
            self.socket.recv(preamble.feed(data))
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        except ValueError as error:
            return self._failed(InvalidPreambleError(str(error)))
        if preamble.complete and IPreambleListener.providedBy(self.protocol):
            self.protocol.preamble_completed()
        return None

    @override
    def getPeer(self) -> Any:
        """The peer; behind a proxy, the client that it names."""
        source = self._preamble.source if self._preamble is not None else None
        return source if source is not None else super().getPeer()

    def _handshake(self) -> Exception | None:
        """Go on with the handshake, as far as the records that have arrived allow."""
        incoming, sock = self._incoming, self.socket
        dropped = 0
        try:
            # Peek first, because the bytes after the handshake are for OpenSSL to read.
            data = sock.recv(READ_SIZE, socket.MSG_PEEK)
            if not data:
                return LEFT_HANDSHAKE if incoming.received else main.CONNECTION_DONE
            for record in incoming.split(data, self._is_version13):
                if incoming.received > ORDINARY_HANDSHAKE:
                    self._hold(incoming.received)
                self._connection.bio_write(record)
                if incoming.incomplete:
                    continue
                sock.recv(incoming.taken - dropped)
                dropped = incoming.taken
                why = self._step()
                if why is not None or self._agreed or self.disconnecting:
                    return why
            sock.recv(incoming.taken - dropped)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        except HandshakeTooLargeError as error:
            with suppress(OSError):
                sock.send(ALERT)
            return self._failed(error)
        return None

    def _is_version13(self) -> bool:
        return self._connection.get_protocol_version() == SSL.TLS1_3_VERSION

    def _hold(self, size: int) -> None:
        """The handshake holds *size* bytes.

        :raises HandshakeTooLargeError: the port has no room for that.
        """
        self.server.handshakes.change(self._held, size)
        self._held = size

    def _step(self) -> Exception | None:
        """Have OpenSSL go on with what it has been given, and send what it answers."""
        try:
            self._connection.do_handshake()
            self._agreed = True
        except SSL.WantReadError:
            pass
        except Exception as error:  # noqa: BLE001  # from OpenSSL, or from a callback such as ALPN selection
            self._send_flight()  # an alert
            return self._failed(error)
        why = self._send_flight()
        if why is None and self._agreed and not self._established:
            self._waits_for_flight = True
            self.stopReading()
        return why

    def _send_flight(self) -> Exception | None:
        """Send what OpenSSL has written during the handshake; when that was the end of it, finish it."""
        self._flight += self._take_output()
        if self._flight:
            try:
                sent = self.socket.send(self._flight)
            except BlockingIOError:
                sent = 0
            except OSError:
                return main.CONNECTION_LOST
            self._flight = self._flight[sent:]
        if self._flight:
            super().startWriting()
        elif self._agreed:
            self._connection.attach(self.socket)
            self._finish_handshake()
        else:
            self.stopWriting()
        return None

    def _take_output(self) -> bytes:
        """What OpenSSL has written in memory since the last time."""
        return self._connection.output()

    def _finish_handshake(self) -> None:
        self._established = True
        self._release_handshake()
        self.handshake_finished()
        self._update_can_send_now()
        if self._waits_for_flight and not self.disconnecting:
            self.startReading()
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        if self._unsent is not None or self.disconnecting or self._half_closing:
            self.startWriting()
        else:
            self.stopWriting()

    def _release_handshake(self) -> None:
        """The handshake holds nothing any more."""
        if self._held:
            self._hold(0)
        self.__dict__.pop("_incoming", None)

    def _failed(self, error: Exception) -> Exception:
        """Why the connection is lost; makes sure that an alert already sent is not lost, too."""
        # The frames of its traceback, and those that they were called from, hold the connection; one of the
        # latter holds this error, as the reason. Only the garbage collector could free all that.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        if isinstance(error, SSL.SysCallError):
            return main.CONNECTION_LOST
        with suppress(OSError):
            # Closing with unread bytes would send a RST, which could overtake the alert.
            self.socket.recv(SEND_LIMIT)
        return error

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._release_handshake()
