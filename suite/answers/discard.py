"""Discard (RFC 863): what arrives is thrown away, and nothing is sent."""

from __future__ import annotations

from typing_extensions import override

from suite.answers.answer import Answer, DatagramAnswer, StreamAnswer


class Discard(StreamAnswer):
    """Takes everything, until the peer closes."""


class DiscardDatagrams(DatagramAnswer):
    """Takes every datagram, whoever sends it: there is no answer to be decided about."""

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


ANSWER = Answer("discard", "takes everything, sends nothing (RFC 863)", Discard, DiscardDatagrams)
