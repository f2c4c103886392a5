"""The numbers that the chapters have of Twisted are Twisted's."""

from __future__ import annotations

import inspect

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.tcp import Connection
from twisted.protocols.basic import Int32StringReceiver, LineReceiver, NetstringReceiver

from tests.tutorial.pages import LANGUAGES, TUTORIAL


@pytest.mark.parametrize(("language", "separator"), [("en", ","), ("es", " ")])
def test_how_much_is_read_at_a_time_and_how_long_a_message_may_be(language: str, separator: str) -> None:
    page = (TUTORIAL / language / "10-how-many-bytes.md").read_text()
    assert f"{Connection.bufferSize // 1024} KiB" in page
    for receiver in LineReceiver, NetstringReceiver, Int32StringReceiver:
        assert f"{receiver.MAX_LENGTH:,}".replace(",", separator) in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_when_a_producer_is_paused_and_who_may_connect(language: str) -> None:
    """Chapters 12 and 16: a consumer's buffer, and the mode of a socket that is given none."""
    producers, unix = (TUTORIAL / language / name for name in ("12-producers.md", "16-unix.md"))
    assert f"({FileDescriptor.bufferSize // 1024} KiB)" in producers.read_text()
    mode = inspect.signature(PosixReactorBase.listenUNIX).parameters["mode"].default
    assert f"`{mode:#o}`" in unix.read_text()
