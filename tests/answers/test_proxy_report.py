"""What a report says about PROXY headers."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from suite.answers.proxy_report import SIGNATURE, crc32c, proxy_report
from suite.endpoints.proxy_protocol import ProxyHeader

INET = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 1000, 443)


def block(tlvs: bytes = b"", *, command: int = 0x21, kind: int = 0x11, addresses: bytes = INET) -> bytes:
    """A header of version 2."""
    rest = addresses + tlvs
    return SIGNATURE + bytes([command, kind]) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def additions(header: bytes) -> list[dict[str, Any]]:
    """What is said of the additions of *header*."""
    found: Any = proxy_report(header)["tlvs"]
    return [*found]


def only(tlvs: bytes) -> dict[str, Any]:
    """What is said of the only addition."""
    (found,) = additions(block(tlvs))
    return found


def test_version_1() -> None:
    line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"
    assert proxy_report(line) == {"version": 1, "line": "PROXY TCP4 192.0.2.1 192.0.2.2 1000 443"}


@pytest.mark.parametrize(
    ("command", "kind", "addresses", "said"),
    [
        (0x21, 0x11, INET, ("PROXY", "TCP4")),
        (0x20, 0x00, b"", ("LOCAL", "UNSPEC")),
        (0x21, 0x21, bytes(36), ("PROXY", "TCP6")),
        (0x21, 0x31, bytes(216), ("PROXY", "UNIX stream")),
        (0x21, 0x02, b"", ("PROXY", "0x02")),
    ],
)
def test_version_2(command: int, kind: int, addresses: bytes, said: tuple[str, str]) -> None:
    report = proxy_report(block(tlv(4, b"xy"), command=command, kind=kind, addresses=addresses))
    assert (report["command"], report["family"]) == said
    assert report["tlvs"] == [{"type": "0x04", "name": "NOOP", "value": "7879"}]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (0x01, b"h2", {"name": "ALPN", "text": "h2"}),
        (0x02, b"example.org", {"name": "AUTHORITY", "text": "example.org"}),
        (0x05, b"\x01\x02", {"name": "UNIQUE_ID", "value": "0102"}),
        (0x30, b"ns1", {"name": "NETNS", "text": "ns1"}),
        (0xEA, b"\x01vpce-0123", {"name": "AWS", "vpc_endpoint": "vpce-0123"}),
        (0xEE, b"\x01\x05\0\0\0", {"name": "AZURE", "private_endpoint": 5}),
        (0xE0, bytes(7) + b"\x09", {"name": "GCP", "psc_connection": 9}),
        (0xE4, b"", {"name": None, "value": ""}),
    ],
)
def test_additions(kind: int, value: bytes, said: dict[str, object]) -> None:
    assert said.items() <= only(tlv(kind, value)).items()


def test_an_ssl_addition() -> None:
    inner = tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client")
    found = only(tlv(0x20, b"\x05\0\0\0\0" + inner))
    assert (found["client"], found["verified"]) == (["ssl", "certificate_in_session"], True)
    assert [each["text"] for each in found["tlvs"]] == ["TLSv1.3", "client"]


def test_checksums() -> None:
    """RFC 9260 and RFC 3720, appendix B.4, which has the values of these."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    before = tlv(2, b"example.org")
    checked = crc32c(block(before + tlv(3, bytes(4))))
    assert additions(block(before + tlv(3, checked.to_bytes(4, "big"))))[1]["valid"] is True
    assert additions(block(before + tlv(3, b"oops")))[1]["valid"] is False


@pytest.mark.parametrize("addresses", [b"", INET], ids=["without addresses", "with addresses"])
def test_a_health_check_may_name_a_family_and_have_no_addresses(addresses: bytes) -> None:
    """As AWS's load balancers do: https://github.com/kubernetes/kubernetes/issues/57250."""
    tlvs = tlv(0x03, bytes(4)) + tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9") + tlv(0x04, bytes(40))
    header = block(tlvs, command=0x20, kind=0x11, addresses=addresses)
    checksum = crc32c(header).to_bytes(4, "big")
    header = header.replace(tlv(0x03, bytes(4)), tlv(0x03, checksum))
    found = additions(header)
    assert [each["name"] for each in found] == ["CRC32C", "AWS", "NOOP"]
    assert found[0]["valid"]
    assert found[1]["vpc_endpoint"] == "vpce-08d2bf15fac5001c9"
    assert "malformed" not in proxy_report(header)


def test_what_is_no_addition() -> None:
    header = block(tlv(1, b"h2") + b"\x02\0\x05abc")
    assert proxy_report(header)["malformed"] == "020005616263"
    assert len(additions(header)) == 1


@given(st.binary(max_size=300), st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31, 0x32]), st.booleans())
@example(tlv(0x20, b""), 0x11, True)
@example(tlv(0x20, b"\x01\0\0\0\0" + tlv(3, b"abcd")), 0x11, True)
def test_whatever_is_accepted_can_be_reported(rest: bytes, kind: int, proxied: bool) -> None:
    data = block(rest, command=0x20 + proxied, kind=kind, addresses=b"")
    header = ProxyHeader()
    try:
        header.feed(data)
    except ValueError:
        return
    assert header.raw == data
    json.dumps(proxy_report(header.raw))
