"""The numbers that chapter 10 has of Twisted are Twisted's."""

from __future__ import annotations

import pytest
from twisted.internet.tcp import Connection
from twisted.protocols.basic import Int32StringReceiver, LineReceiver, NetstringReceiver

from tests.tutorial.pages import TUTORIAL


@pytest.mark.parametrize(("language", "separator"), [("en", ","), ("es", " ")])
def test_how_much_is_read_at_a_time_and_how_long_a_message_may_be(language: str, separator: str) -> None:
    page = (TUTORIAL / language / "10-how-many-bytes.md").read_text()
    assert f"{Connection.bufferSize // 1024} KiB" in page
    for receiver in LineReceiver, NetstringReceiver, Int32StringReceiver:
        assert f"{receiver.MAX_LENGTH:,}".replace(",", separator) in page
