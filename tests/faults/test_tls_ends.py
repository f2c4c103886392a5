"""How a TLS connection ends that ends badly, in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.error import ConnectionAborted

from suite.config.faults import Fault, Kind
from suite.faults.held import LOOK_EVERY, PATIENCE
from tests.faults.tls_wire import DATA, Faulty, Wire, both, end, storm

ENDS = {
    "notify+fin": ("close_notify", "eof"),
    "notify": ("close_notify", ""),
    "fin": ("", "eof"),
    "silence": ("", ""),
    "alert": ("tlsv1 alert internal error", "eof"),
}


@both
@pytest.mark.parametrize("also", [(), (Fault(Kind.FRAGMENT, 10),)], ids=["", "fragment"])
@pytest.mark.parametrize("word", ENDS)
def test_ends_after_the_clients(
    wire: Callable[..., Wire], version: str, word: str, also: tuple[Fault, ...]
) -> None:
    made = wire(end(word), *also, version=version)
    made.talk()
    assert made.received == DATA
    made.finish()
    assert (made.error, made.end) == ENDS[word]
    assert made.protocol.struck == ("" if word == "notify+fin" else f"end {word}")
    assert (made.protocol.failure is None) is (made.end == "")


@both
@pytest.mark.parametrize("word", ENDS)
def test_ends_of_our_own(wire: Callable[..., Wire], version: str, word: str) -> None:
    """A limit, or a fault of the stream's: the client has not said anything of an end."""
    made = wire(end(word), version=version)
    made.talk()
    made.transport.loseConnection()
    made.run()
    assert (made.error, made.end) == ENDS[word]
    assert made.protocol.failure is None, "the client has to end, too"
    if word in ("silence", "fin"):
        made.tls.send(b"not answered")
    made.finish()
    assert (made.protocol.failure is None) is (made.end == "")
    assert made.received == DATA


@both
def test_a_half_close_ends_so_as_well(wire: Callable[..., Wire], version: str) -> None:
    made = wire(end("fin"), version=version)
    made.talk()
    made.transport.loseWriteConnection()
    made.run()
    assert (made.error, made.end) == ("", "eof")
    made.tls.send(b"more")
    made.run()
    assert made.protocol.data == DATA + b"more"


@both
def test_an_end_by_reset(wire: Callable[..., Wire], version: str) -> None:
    made = wire(end("rst"), version=version)
    made.talk()
    made.finish()
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)
    assert made.error == ""
    assert made.protocol.struck == "end rst"


@both
def test_a_reset_waits_for_what_is_on_its_way(wire: Callable[..., Wire], version: str) -> None:
    """It would discard that."""
    made = wire(end("rst"), version=version)
    made.run()
    made.transport.write(b"hola")
    made.transport.loseConnection()
    made.act("doWrite")
    made.reactor.clock.advance(LOOK_EVERY)
    assert made.protocol.failure is None
    made.run()
    assert made.received == b"hola"
    made.reactor.clock.advance(LOOK_EVERY)
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)


def test_a_reset_does_not_wait_for_ever(wire: Callable[..., Wire]) -> None:
    made = wire(end("rst"))
    made.run()
    made.transport.write(b"hola")
    made.transport.loseConnection()
    made.act("doWrite")
    made.reactor.clock.pump([LOOK_EVERY] * int(1 + PATIENCE / LOOK_EVERY))
    made.reactor.clock.advance(0)
    assert made.protocol.lost_because(ConnectionAborted)


@both
@pytest.mark.parametrize("word", ENDS)
def test_early_close(wire: Callable[..., Wire], version: str, word: str) -> None:
    """What the protocol says first is not sent either."""

    class First(Faulty):
        def connectionMade(self) -> None:
            self.transport.write(b"first")  # type: ignore[union-attr]

    made = wire(protocol=First(Fault(Kind.EARLY_CLOSE), end(word)), version=version)
    made.run()
    assert (made.error, made.end) == ENDS[word]
    assert (made.received, made.protocol.data, made.protocol.handshakes) == (b"", b"", 1)
    assert made.protocol.struck
    if word in ("silence", "fin"):
        made.tls.send(b"hola")
    made.finish()
    assert made.protocol.data == b""


def test_key_updates_come_before_an_early_close(wire: Callable[..., Wire]) -> None:
    made = wire(Fault(Kind.EARLY_CLOSE), storm(500), storm(5, size=100))
    made.run()
    assert (made.error, made.end) == ("close_notify", "eof")
    assert sum(length == 22 for _, length in made.plain()) == 500


@both
@pytest.mark.parametrize("word", ["rst", "alert", "silence"])
def test_an_end_before_the_handshake_is_over(wire: Callable[..., Wire], version: str, word: str) -> None:
    """A limit: the client has not gone on."""
    made = wire(end(word), version=version)
    made.client()
    made.act("doRead")  # the hello, and an answer that the client does not get
    made.transport.loseConnection()
    made.act("doWrite")
    if word == "rst":
        made.reactor.clock.advance(0)
    assert (made.protocol.failure is None) is (word == "silence")
    assert made.protocol.struck == f"end {word}"
