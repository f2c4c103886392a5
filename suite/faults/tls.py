"""A TLS server that misbehaves: in its handshake, its records, its keys, and its end.

Rules: the ClientHello is read first, and nothing is answered before the connection's faults are known, which
the name in it may decide; a connection without TLS faults then goes on as `TLSServer` does. What OpenSSL
cannot be asked for (records of a size, KeyUpdate messages, alerts by name) is made of what it has written, by
`suite.faults.records`: OpenSSL stays in memory for that. The bounds of the engine hold: at most one piece of
`PIECE` records is waiting to be sent, and while it is, no more is taken from the protocol.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from suite.config.fault_text import shown
from suite.config.faults import ALERTS, HARMLESS_ALERTS, Fault, Kind
from suite.engine.handshake import LEFT_HANDSHAKE
from suite.engine.handshake_records import READ_SIZE
from suite.engine.hello import HelloTLS
from suite.engine.openssl import MAX_PLAINTEXT, MemoryConnection
from suite.engine.stream import SEND_LIMIT, Stream
from suite.engine.tls import LINGER, RECORDS_PER_TURN
from suite.faults.decide import CLEAN, Decision
from suite.faults.draw import Draws
from suite.faults.held import LOOK_EVERY, PATIENCE
from suite.faults.records import FATAL, WARNING, Rewriter, hello_alone, plain_alert
from suite.guard.streams import Guarded
from suite.reasons import Reason

log = Logger()

#: Records that are written again before anything of them is sent, and pieces of so many in one turn.
PIECE: Final = 1024
PIECES_PER_TURN: Final = 4

#: KeyUpdate messages that are made before any of them is sent.
UPDATES: Final = 256

#: Bytes that are no TLS record.
GARBAGE: Final = 64

#: Ends that leave the TCP connection open.
HELD: Final = frozenset({"notify", "silence"})


class FaultyTLS(HelloTLS):
    """The server side of one TLS connection, with the faults in its protocol's ``decision``.

    When the ClientHello has been read, the protocol's ``client_hello(name)`` is called, if there is one, and
    only then is ``decision`` looked at. A protocol without one gets an ordinary connection.
    """

    _connection_type = MemoryConnection
    _connection: MemoryConnection

    keeps_hello = False
    _stalls = False  # nothing follows the ServerHello
    _muted = False  # what arrives is discarded; nothing is answered any more
    _early: Fault | None = None  # the end comes right after the handshake
    _end: Fault | None = None  # how this side ends, if not as it should
    _end_said = False
    _rewriter: Rewriter | None = None  # None: OpenSSL writes to the socket itself
    _pieces = PIECES_PER_TURN  # that may still be written in this turn
    _sent = 0  # bytes of the application
    _storms: tuple[tuple[int, int], ...] = ()  # key updates: after how many of them, and how many messages
    _updates = 0  # messages that are due
    _reset_until = 0.0  # when a reset waits no longer
    _timers: tuple[IDelayedCall, ...] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._wire = bytearray()  # records that the kernel has not accepted yet
        self._accepted_at = cast(IReactorTime, self.reactor).seconds()

    # Deciding.

    @override
    def _go_on(self) -> Exception | None:
        if self._muted or self.disconnecting or self._aborting:
            return None
        return super()._go_on()

    @override
    def _see_hello(self) -> None:
        super()._see_hello()
        asked = getattr(self.protocol, "client_hello", None)
        if asked is not None:
            received = self.received_hello
            asked(received.hello.name if received is not None and received.hello is not None else None)
        if not self.keeps_hello:
            self._message = None
        if not (self.disconnecting or self._aborting):
            self._begin(getattr(self.protocol, "decision", CLEAN))

    def _begin(self, decision: Decision) -> None:
        """Do what *decision* says about the handshake, and get ready for the rest."""
        found: dict[Kind, Fault] = {}
        for fault in reversed(decision.faults):  # the first of each kind counts
            found[Kind.HANDSHAKE if fault.kind is Kind.ALERT else fault.kind] = fault
        self._early = found.get(Kind.EARLY_CLOSE)
        if Kind.END in found and found[Kind.END].value != "notify+fin":
            self._end = found[Kind.END]
        storms = [fault for fault in decision.faults if fault.kind is Kind.KEY_UPDATE]
        if Kind.FRAGMENT in found or storms or self._ends_with == "alert":
            sizes = [int(cast(int, each.value)) for each in decision.faults if each.kind is Kind.FRAGMENT]
            self._rewriter = Rewriter(min(sizes, default=MAX_PLAINTEXT))
            self._connection.in_memory = True
            self._connection.on_secret = self._rewriter.note_secret
            self.echoes = False
        for storm in storms:
            self._await(storm)
        if Kind.HANDSHAKE in found:
            self._spoil(found[Kind.HANDSHAKE], decision.seed)

    def _await(self, storm: Fault) -> None:
        """Plan a storm of key updates."""
        count, after = int(cast(int, storm.value)), storm.after
        if after is not None and after.seconds is not None:
            clock = cast(IReactorTime, self.reactor)
            delay = max(0.0, self._accepted_at + after.seconds - clock.seconds())
            self._timers += (clock.callLater(delay, self._strike_later, count),)
        else:
            size = after.size if after is not None and after.size is not None else 0
            self._storms = tuple(sorted((*self._storms, (size, count))))

    # The handshake.

    def _spoil(self, fault: Fault, seed: int) -> None:
        """Do what *fault* says in answer to the ClientHello."""
        if fault.kind is Kind.ALERT:
            name = str(fault.value)
            self._answer(plain_alert(ALERTS[name], WARNING if name in HARMLESS_ALERTS else FATAL))
            self._finish_now(fault)
        elif fault.value == "stall-after-hello":
            self._stalls = True
        elif fault.value == "close":
            self._finish_now(fault)
        elif fault.value == "reset":
            self._note_fault(fault)
            self.abortConnection()
        else:
            if fault.value == "garbage":
                self._answer(garbage(seed))
            self._muted = True

    def _answer(self, data: bytes) -> None:
        with suppress(OSError):  # a few bytes, and the first ones: they fit, or the peer is gone
            self.socket.send(data)

    @override
    def _take_output(self) -> bytes:
        data = super()._take_output()
        if self._rewriter is not None:
            data = self._rewriter.rewrite(data)
        if self._stalls and data:
            data, self._muted = hello_alone(data)
        return data

    @override
    def _finish_handshake(self) -> None:
        if self._early is not None:
            # Whatever the protocol has written is dropped: no application data at all.
            self._unsent, self._storms = None, tuple(each for each in self._storms if not each[0])
            self._half_closing = True
            self.unregisterProducer()
            self.loseConnection()
        super()._finish_handshake()
        if self._early is not None:
            self._note_fault(self._early)
        self._strike()
        if self._updates:
            self.startWriting()

    # Key updates.

    def _strike(self) -> None:
        """Begin the storms that are due."""
        while self._storms and self._storms[0][0] <= self._sent:
            (_, count), *rest = self._storms
            self._storms = tuple(rest)
            if self._rewriter is not None and self._rewriter.version13:
                self._updates += count
            else:
                answering = self._answering
                guard = getattr(answering, "guard", None)
                log.info(
                    "key_update does not strike: TLS 1.2 has no key updates",
                    endpoint=getattr(guard, "name", None),
                    connection=getattr(answering, "number", None),
                    peer=getattr(answering, "peer", None),
                )

    def _strike_later(self, count: int) -> None:
        self._storms = ((0, count), *self._storms)
        if self._established and not self._muted and not self._end_said:
            self._strike()
            self.startWriting()

    # Reading.

    @override
    def doRead(self) -> Any:
        if self._muted:
            return self._drop()
        self._pieces = PIECES_PER_TURN
        why = super().doRead()
        if self._rewriter is not None and self._established and self.connected and self._linger is None:
            self._collect()  # an answer to a key update, or an alert
            lost = self._pump()
            return lost if why is None else why
        return why

    def _drop(self) -> Exception | None:
        """Read and discard what arrives."""
        for _ in range(RECORDS_PER_TURN):
            try:
                data = self.socket.recv(READ_SIZE)
            except BlockingIOError:
                return None
            except OSError:
                return main.CONNECTION_LOST
            if data:
                continue
            self._peer_ended = True
            if self._linger is not None:
                self.connectionLost(Failure(main.CONNECTION_DONE))
            elif self._established or self.disconnecting:
                self.stopReading()  # held open, until a limit ends it
            else:
                return LEFT_HANDSHAKE
            return None
        return None

    # Writing.

    @property
    @override
    def unsent(self) -> int:
        return super().unsent + len(self._wire)

    @override
    def write(self, data: bytes) -> None:
        if self._rewriter is None:
            super().write(data)
        else:
            Stream.write(self, data)

    @override
    def writeSomeData(self, data: bytes | memoryview) -> Any:
        if self._rewriter is None:
            return super().writeSomeData(data)
        if not self._established or self._wire or self._updates or not self._pieces:
            return 0
        self._pieces -= 1
        most = min(MAX_PLAINTEXT, self._rewriter.size * PIECE)
        if self._storms:
            most = min(most, self._storms[0][0] - self._sent)
        try:
            with memoryview(data) as view, view[:most] as piece:
                sent = self._connection.send(piece)
        except SSL.Error as error:
            return self._failed(error)
        self._collect()
        self._sent += sent
        self._strike()
        lost = self._pump()
        return sent if lost is None else lost

    def _collect(self) -> None:
        """Write again what OpenSSL has written."""
        if self._rewriter is not None and (data := self._connection.output()):
            self._wire += self._rewriter.rewrite(data)

    def _pump(self) -> Exception | None:
        """Send what is ready; return why the connection is lost, if it is."""
        if not self._wire and self._updates and self._rewriter is not None:
            count = min(self._updates, UPDATES)
            self._updates -= count
            self._wire += b"".join(self._rewriter.key_update() for _ in range(count))
        try:
            while self._wire:
                with memoryview(self._wire) as view, view[:SEND_LIMIT] as some:
                    sent = self.socket.send(some)
                del self._wire[:sent]
        except BlockingIOError:
            pass
        except OSError:
            return main.CONNECTION_LOST
        if self._wire or self._updates:
            self.startWriting()
        return None

    @override
    def doWrite(self) -> Any:
        if not self._established and self.disconnecting and self._end is not None:
            return self._end_handshake()
        if self._rewriter is None or not self._established:
            return super().doWrite()
        self._pieces = PIECES_PER_TURN
        lost = self._pump()
        if lost is not None or self._wire or self._updates:
            return lost
        why = super().doWrite()
        if why is None and (self._wire or self._updates) and self.connected:
            self.startWriting()
        return why

    # Ending.

    @property
    def _ends_with(self) -> str | None:
        """How this side ends, if not as it should."""
        return None if self._end is None else str(self._end.value)

    @override
    def finish_sending(self) -> bool | Exception:
        if not self._established or (self._rewriter is None and self._end is None):
            return super().finish_sending()
        if self._wire or self._updates:
            return False
        if not self._end_said:
            said = self._say_end()
            if said is not True:
                return said
        if self._wire:
            return False
        if self._ends_with in HELD:
            self._hold_open()
            return False
        if self._ends_with == "rst":
            self.stopWriting()
            return False
        return True

    def _say_end(self) -> bool | Exception:
        """Tell the peer, or not, that this side ends; return what `finish_sending` returns."""
        end = self._ends_with
        self._note_fault(self._end)
        if end == "rst":
            self._end_said = True
            self._reset_until = cast(IReactorTime, self.reactor).seconds() + PATIENCE
            self._reset_when_taken()
            return False
        if end in (None, "notify"):
            said = super().finish_sending()
            if said is not True:
                return said
            self._collect()
        elif end == "alert" and self._rewriter is not None:
            self._wire += self._rewriter.alert(ALERTS["internal_error"])
        self._end_said = True
        return self._pump() or True

    def _reset_when_taken(self) -> None:
        """Abort once the peer's kernel has all bytes: a reset discards those that are on their way."""
        clock = cast(IReactorTime, self.reactor)
        self.stopWriting()
        if self.owed and clock.seconds() < self._reset_until:
            pending = (timer for timer in self._timers if timer.active())
            self._timers = (*pending, clock.callLater(LOOK_EVERY, self._reset_when_taken))
        else:
            self.abortConnection()

    def _hold_open(self) -> None:
        """Leave the TCP connection open, and discard what arrives, until a limit ends it."""
        self.stopWriting()
        if self.disconnecting:
            self._muted = True
            self.startReading()

    def _end_handshake(self) -> Exception | None:
        """End this side before the handshake has completed."""
        self._note_fault(self._end)
        if self._ends_with == "rst":
            self.abortConnection()
        elif self._ends_with in HELD:
            self._hold_open()
        else:
            if self._ends_with == "alert":
                self._answer(plain_alert(ALERTS["internal_error"]))
            return main.CONNECTION_DONE
        return None

    def _finish_now(self, fault: Fault) -> None:
        """FIN; what still arrives is discarded, because closing could cause a reset and lose the alert."""
        self._note_fault(fault)
        self.disconnecting = True
        self._muted = True
        self.stopWriting()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self._linger = cast(IReactorTime, self.reactor).callLater(LINGER, self.abortConnection)
        self._update_can_send_now()
        self.startReading()

    @property
    def _answering(self) -> Any:
        """The protocol that answers, which the guard knows."""
        return getattr(self.protocol, "wrapped", self.protocol)

    def _note_fault(self, fault: Fault | None) -> None:
        """Tell the guard that *fault* ends the connection."""
        answering = self._answering
        if isinstance(answering, Guarded) and fault is not None:
            if answering.reason is None:
                answering.reason = Reason.FAULT
                answering.detail = shown(fault)
            if answering.guard is not None:
                answering.guard.ending(answering)

    @override
    def connectionLost(self, reason: Failure) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        super().connectionLost(reason)
        self._wire.clear()


class FaultyHelloTLS(FaultyTLS):
    """The same, for protocols that want to know what the client has offered."""

    keeps_hello = True


def garbage(seed: int) -> bytes:
    """`GARBAGE` bytes that follow from *seed*, and do not begin a record of any version of TLS or SSL."""
    draws = Draws(seed, "garbage")
    data = bytearray(draws.integer() & 0xFF for _ in range(GARBAGE))
    data[0] = 0x20 + data[0] % 0x60  # no content type, and no length of SSL 2
    data[1] = 0x10 + data[1] % 0xF0  # no version
    return bytes(data)
