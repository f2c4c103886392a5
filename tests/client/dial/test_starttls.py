"""STARTTLS: the dialogues, in memory."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.dial.failures import TargetError
from suite.client.dial.starttls import MAX_REPLY, PROTOCOLS, StartTLS

LDAP_RESPONSE = b"\x02\x01\x01\x78%b\x0a\x01%b\x04\0\x04\0"


def ldap(code: int, *, length: bytes = b"\x07") -> bytes:
    body = LDAP_RESPONSE % (length, bytes([code]))
    return b"\x30" + bytes([len(body)]) + body


def mysql(*, tls: bool = True, version: int = 10) -> bytes:
    capabilities = 0xF7FF | (0x0800 if tls else 0)
    greeting = bytes([version]) + b"8.0.36\0" + bytes(4) + b"abcdefgh\0"
    greeting += struct.pack("<HBHHB", capabilities, 45, 2, 0xDFFF, 21) + bytes(10) + b"ijklmnopqrst\0"
    return len(greeting).to_bytes(3, "little") + b"\0" + greeting


FEATURES = (
    b"<?xml version='1.0'?><stream:stream id='1' version='1.0' xmlns='jabber:client'><stream:features>"
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
)

#: For each protocol, what the server says, and what we say after each.
AGREED: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [
        (b"220-mail.example.org\r\n220 ready\r\n", b"EHLO localhost\r\n"),
        (b"250-mail.example.org\r\n250-SIZE 100\r\n250-STARTTLS\r\n250 HELP\r\n", b"STARTTLS\r\n"),
        (b"220 go ahead\r\n", b""),
    ],
    "imap": [
        (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", b"a STARTTLS\r\n"),
        (b"* CAPABILITY IMAP4rev1\r\na OK begin\r\n", b""),
    ],
    "pop3": [(b"+OK ready\r\n", b"STLS\r\n"), (b"+OK begin\r\n", b"")],
    "ftp": [
        (b"220-Welcome\r\n  to this server\r\n220-more\r\n220 ready\r\n", b"AUTH TLS\r\n"),
        (b"234 go\r\n", b""),
    ],
    "ldap": [(b"", b"0\x1d\x02\x01\x01w\x18\x80\x161.3.6.1.4.1.1466.20037"), (ldap(0), b"")],
    "postgres": [(b"", b"\0\0\0\x08\x04\xd2\x16\x2f"), (b"S", b"")],
    "mysql": [(mysql(), b" \0\0\x01\0\x8a\0\0\0\0\0\x01\x2d" + bytes(23))],
    "xmpp": [
        (
            b"",
            b"<?xml version='1.0'?><stream:stream to=\"mail.example.org\" xmlns='jabber:client'"
            b" xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
        ),
        (FEATURES, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        (b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b""),
    ],
}


def test_every_protocol_is_tested() -> None:
    assert list(AGREED) == list(PROTOCOLS)


@pytest.mark.parametrize("protocol", AGREED)
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_server_that_agrees(protocol: str, size: int) -> None:
    """However its bytes are split on the way."""
    dialogue = StartTLS(protocol, "mail.example.org")
    said = dialogue.feed()
    for theirs, ours in AGREED[protocol]:
        assert not dialogue.complete
        for start in range(0, len(theirs), size):
            said += dialogue.feed(theirs[start : start + size])
        assert said == ours
        said = b""
    assert dialogue.complete


REFUSED = [
    ("smtp", b"554 no\r\n", "expected 220; the server said '554 no'"),
    ("smtp", b"220 x\r\n250-x\r\n250 HELP\r\n", "the server does not offer STARTTLS in its answer to EHLO"),
    ("smtp", b"220 x\r\n250 STARTTLS\r\n454 later\r\n", "expected 220; the server said '454 later'"),
    ("smtp", b"\x15\x03\x01\0\x02\x02\n", r"expected 220; the server said '\x15\x03"),
    ("ftp", b"220 x\r\n530-log in\r\n530 first\r\n", r"expected 234; the server said '530-log in"),
    ("imap", b"* BYE\r\n", "expected * OK; the server said '* BYE'"),
    ("imap", b"* OK x\r\na BAD what\r\n", "expected a OK; the server said 'a BAD what'"),
    ("pop3", b"+OK x\r\n-ERR unknown\r\n", "expected +OK; the server said '-ERR unknown'"),
    ("ldap", ldap(53), "expected success (0); the server said"),
    ("ldap", b"HTTP/1.1 400\r\n", "expected an LDAP message; the server said 'HT'"),
    ("ldap", b"\x30\x00", "expected success (0)"),
    ("ldap", b"\x30\x84\x7f\xff\xff\xff", "the server's reply is longer than"),
    ("postgres", b"N", "the server answers that it does not use TLS (N)"),
    ("postgres", b"E", "expected S; the server said 'E'"),
    ("mysql", mysql(tls=True, version=9), "expected MySQL's greeting, version 10"),
    ("mysql", b"\x05\0\0\0\xff\x69\x04no", "expected MySQL's greeting, version 10"),
    ("mysql", b"\0\0\0\0", "expected MySQL's greeting, version 10"),
    ("mysql", mysql().replace(b"\xff\xff\x2d", b"\xff\xf7\x2d"), "the server (8.0.36) does not offer TLS"),
    ("xmpp", b"<stream:stream><stream:features/>", "expected features with starttls"),
    ("xmpp", b"<stream:error/></stream:stream>", "expected features with starttls"),
    ("xmpp", FEATURES + b"<failure/></stream:stream>", "expected proceed; the server said"),
    # What follows the server's last word would be taken for a part of what is encrypted (CVE-2011-0411).
    ("postgres", b"S\0", "the server sent 1 bytes too many before TLS"),
    ("pop3", b"+OK x\r\n+OK y\r\n+OK z\r\n", "the server sent 7 bytes too many before TLS"),
]


@pytest.mark.parametrize(("protocol", "said", "problem"), REFUSED)
def test_a_server_that_does_not_agree(protocol: str, said: bytes, problem: str) -> None:
    dialogue = StartTLS(protocol, "localhost")
    dialogue.feed()
    with pytest.raises(TargetError) as caught:
        dialogue.feed(said)
    assert caught.value.word == "starttls"
    assert caught.value.detail.startswith(problem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3", "ftp", "xmpp"])
def test_a_reply_without_an_end_is_refused(protocol: str) -> None:
    dialogue = StartTLS(protocol, "localhost")
    dialogue.feed()
    dialogue.feed(b"2" * MAX_REPLY)
    with pytest.raises(TargetError, match="longer than"):
        dialogue.feed(b"2")


@given(st.sampled_from(list(PROTOCOLS)), st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_an_answer_or_an_error(protocol: str, said: list[bytes]) -> None:
    dialogue = StartTLS(protocol, "localhost")
    with suppress(TargetError):
        for data in (b"", *said):
            assert isinstance(dialogue.feed(data), bytes)
