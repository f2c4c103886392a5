"""Answers that are made in a moment, and the same for every peer.

Rules: the answer is sent whole, or over UDP, where the datagram was shorter, not at all.
"""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from suite.answers.answer import Answer, DatagramAnswer, StreamAnswer


def once(name: str, summary: str, make: Callable[[], bytes]) -> Answer:
    """An answer called *name*, of what *make* returns at the moment."""

    class Once(StreamAnswer):
        """Sends the answer, and ends."""

        @override
        def begin(self) -> None:
            self.finish(make())

    class OnceDatagrams(DatagramAnswer):
        """Answers each datagram with the same."""

        @override
        def answer(self, datagram: bytes, addr: tuple[str, int]) -> bytes:
            return make()

    return Answer(name, summary, Once, OnceDatagrams)
