"""What a report says about a PROXY header (haproxy.org/download/2.9/doc/proxy-protocol.txt).

Rules: the header has been accepted, and its addresses read, by `suite.endpoints.proxy_protocol`; here its
additions (TLVs) are taken apart, which may be anything: what cannot be read is shown as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

#: The length of the fixed part of version 2, and what it begins with (section 2.2).
FIXED: Final = 16
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

#: The bytes that addresses take, by the byte for family and protocol (section 2.2).
ADDRESSES: Final = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}

FAMILIES: Final = {
    0x00: "UNSPEC",
    0x11: "TCP4",
    0x12: "UDP4",
    0x21: "TCP6",
    0x22: "UDP6",
    0x31: "UNIX stream",
    0x32: "UNIX datagram",
}

#: Types of additions: the registered ones (section 2.2.1), and those of the clouds, which chose theirs from
#: the range for applications.
NAMES: Final = {
    0x01: "ALPN",
    0x02: "AUTHORITY",
    0x03: "CRC32C",
    0x04: "NOOP",
    0x05: "UNIQUE_ID",
    0x20: "SSL",
    0x30: "NETNS",
    0xE0: "GCP",
    0xEA: "AWS",
    0xEE: "AZURE",
}

#: Those within an SSL addition (section 2.2.5).
SSL_NAMES: Final = {
    0x21: "SSL_VERSION",
    0x22: "SSL_CN",
    0x23: "SSL_CIPHER",
    0x24: "SSL_SIG_ALG",
    0x25: "SSL_KEY_ALG",
    0x26: "SSL_GROUP",
    0x27: "SSL_SIG_SCHEME",
    0x28: "SSL_CLIENT_CERT",
}

#: Types whose value is a text.
TEXTS: Final = frozenset({0x01, 0x02, 0x30, *SSL_NAMES} - {0x28})

CRC32C, SSL, AWS, AZURE, GCP = 0x03, 0x20, 0xEA, 0xEE, 0xE0

#: The byte of an SSL addition that says what the client has done.
CLIENT: Final = {1: "ssl", 2: "certificate_on_connection", 4: "certificate_in_session"}

#: Castagnoli's polynomial, reversed (RFC 9260, appendix A).
POLYNOMIAL: Final = 0x82F63B78


def proxy_report(header: bytes) -> dict[str, object]:
    """The PROXY *header*, ready for JSON; addresses are not among it."""
    if not header.startswith(SIGNATURE):
        return {"version": 1, "line": header.rstrip(b"\r\n").decode("ascii", "backslashreplace")}
    kind = header[13]
    report: dict[str, object] = {
        "version": 2,
        "command": "LOCAL" if header[12] & 0xF == 0 else "PROXY",
        "family": FAMILIES.get(kind, f"0x{kind:02x}"),
    }
    tlvs, rest = _split(header[_additions_at(header) :])
    report["tlvs"] = [_tlv(kind, value, NAMES, header) for kind, value in tlvs]
    if rest:
        report["malformed"] = rest.hex()
    return report


def _additions_at(header: bytes) -> int:
    """Where the additions to *header* begin: behind its addresses.

    A health check's (LOCAL) may name a family and have no addresses, as AWS's load balancers send it
    (kubernetes issue 57250): whatever that family is, is to be ignored (section 2.2).
    """
    behind = FIXED + ADDRESSES.get(header[13], 0)
    is_local = header[12] & 0xF == 0
    if is_local and not (behind <= len(header) and _is_sound(header[behind:])) and _is_sound(header[FIXED:]):
        return FIXED
    return behind


def _is_sound(data: bytes) -> bool:
    """Whether *data* is additions and nothing else; none has the type 0."""
    tlvs, rest = _split(data)
    return not rest and all(kind for kind, _ in tlvs)


def _split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The types and values in *data*, and what behind them is none."""
    found = []
    while len(data) >= 3:
        end = 3 + int.from_bytes(data[1:3], "big")
        if len(data) < end:
            break
        found.append((data[0], data[3:end]))
        data = data[end:]
    return found, data


def _tlv(kind: int, value: bytes, names: dict[int, str], header: bytes) -> dict[str, object]:
    found: dict[str, object] = {"type": f"0x{kind:02x}", "name": names.get(kind), "value": value.hex()}
    return found | dict(_details(kind, value, header))


def _details(kind: int, value: bytes, header: bytes) -> Iterator[tuple[str, object]]:
    """What the *value* of an addition means."""
    if kind in TEXTS:
        yield "text", value.decode("utf-8", "backslashreplace")
    elif kind == CRC32C and len(value) == 4:
        at = _position(header, value)
        yield "valid", crc32c(header[:at] + bytes(4) + header[at + 4 :]) == int.from_bytes(value, "big")
    elif kind == SSL and len(value) >= 5:
        client, verify = struct.unpack("!BI", value[:5])
        yield "client", [word for bit, word in CLIENT.items() if client & bit]
        yield "verified", verify == 0
        tlvs, rest = _split(value[5:])
        yield "tlvs", [_tlv(kind, inner, SSL_NAMES, header) for kind, inner in tlvs]
        if rest:
            yield "malformed", rest.hex()
    elif kind == AWS and value[:1] == b"\x01":
        yield "vpc_endpoint", value[1:].decode("ascii", "backslashreplace")
    elif kind == AZURE and len(value) == 5 and value[0] == 1:
        yield "private_endpoint", int.from_bytes(value[1:], "little")
    elif kind == GCP and len(value) == 8:
        yield "psc_connection", int.from_bytes(value, "big")


def _position(header: bytes, checksum: bytes) -> int:
    """Where in *header* the value of its CRC32C addition is."""
    at = _additions_at(header)
    while header[at] != CRC32C or header[at + 3 : at + 7] != checksum:
        at += 3 + int.from_bytes(header[at + 1 : at + 3], "big")
    return at + 3


def crc32c(data: bytes) -> int:
    """The CRC32C of *data* (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
