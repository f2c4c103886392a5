"""What supervisor and worker say to each other, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from suite.errors import UsageError
from suite.server.workers.link import GoneError, Link, NoDescriptorsError, UnansweredError
from tests.helpers import now


class Wire(StringTransport):
    """A transport that keeps the descriptors it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptors: list[int] = []

    def sendFileDescriptor(self, descriptor: int) -> None:  # Twisted's name
        self.descriptors.append(descriptor)


class Ends:
    """Two ends, between which nothing moves by itself."""

    def __init__(self) -> None:
        self.wires = Wire(), Wire()
        self.links = Link(), Link()
        for link, wire in zip(self.links, self.wires, strict=True):
            link.makeConnection(wire)

    def move(self, piece: int = 2**20) -> None:
        """Let everything arrive at the other end, *piece* bytes at a time."""
        for wire, link in zip(self.wires, reversed(self.links), strict=True):
            for descriptor in wire.descriptors:
                link.fileDescriptorReceived(descriptor)
            data = wire.value()
            wire.clear()
            wire.descriptors.clear()
            for start in range(0, len(data), piece):
                link.dataReceived(data[start : start + piece])


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two ends of a link."""
    found = Ends()
    yield found
    for link in found.links:
        link.connectionLost(Failure(ConnectionDone()))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 40))
def test_questions_are_answered_however_they_are_cut(values: list[bytes], piece: int) -> None:
    ends = Ends()
    here, there = ends.links
    there.answers["double"] = lambda value: value * 2
    answers = [here.ask("double", value) for value in values]
    ends.move(piece)
    ends.move(piece)
    assert [now(_awaited(answer)) for answer in answers] == [value * 2 for value in values]


async def _awaited(answer: Deferred[bytes]) -> bytes:
    return await answer


def test_descriptors_come_with_their_message(ends: Ends) -> None:
    here, there = ends.links
    got: list[tuple[str, list[int]]] = []
    there.answers["take"] = lambda name, descriptors: got.append((name, descriptors))
    there.answers["note"] = lambda name: got.append((name, []))
    here.tell("note", "first")
    here.ask("take", "second", descriptors=[100, 101])
    here.ask("take", "third", descriptors=[102])
    ends.move()
    assert got == [("first", []), ("second", [100, 101]), ("third", [102])]


def test_descriptors_that_the_kernel_has_dropped_are_an_error(ends: Ends) -> None:
    here, there = ends.links
    there.answers["take"] = lambda descriptors: pytest.fail(f"it was given {descriptors}")
    answer = here.ask("take", descriptors=[os.dup(0), os.dup(0)])
    ends.wires[0].descriptors.pop()
    ends.move()
    ends.move()
    with pytest.raises(NoDescriptorsError, match="no file descriptors left"):
        now(_awaited(answer))


def test_an_error_of_the_user_is_passed_on(ends: Ends) -> None:
    here, there = ends.links

    def refuse() -> None:
        raise UsageError("no")

    there.answers["refuse"] = refuse
    answer = here.ask("refuse")
    ends.move()
    ends.move()
    with pytest.raises(UsageError, match="no"):
        now(_awaited(answer))


def test_another_error_is_logged_where_it_happens(ends: Ends) -> None:
    here, there = ends.links
    there.answers["divide"] = lambda: 1 // 0
    answer = here.ask("divide")
    ends.move()
    ends.move()
    with pytest.raises(UnansweredError, match="ZeroDivisionError"):
        now(_awaited(answer))


def test_who_is_gone_answers_nothing_and_leaves_no_descriptor_open(ends: Ends) -> None:
    here, there = ends.links
    ended: list[bool] = []
    here.ended = lambda: ended.append(True)
    waiting = here.ask("what")
    read, write = os.pipe()
    here.fileDescriptorReceived(read)
    here.connectionLost(Failure(ConnectionDone()))
    assert ended
    for answer in (waiting, here.ask("more")):
        with pytest.raises(GoneError):
            now(_awaited(answer))
    here.tell("it", "is not sent")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)
    there.answers["what"] = lambda: None
