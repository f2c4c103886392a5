"""What tshark reads in a ClientHello, and the same of ours, to compare."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from suite.client_hello import ClientHello
from suite.fingerprints import ja3, ja3_hash
from tests.running import PATIENCE, optional_program

#: https://www.tcpdump.org/linktypes.html: packets that begin with an IP header.
RAW_IP: Final = 101

#: Bytes that are sent in one segment.
SEGMENT: Final = 1400

#: What is compared; tshark's names for it.
FIELDS: Final = {
    "record_version": "tls.record.version",
    "length": "tls.handshake.length",
    "version": "tls.handshake.version",
    "session_id_length": "tls.handshake.session_id_length",
    "suites": "tls.handshake.ciphersuite",
    "compression_methods": "tls.handshake.comp_method",
    "extensions": "tls.handshake.extension.type",
    "extension_lengths": "tls.handshake.extension.len",
    "name": "tls.handshake.extensions_server_name",
    "alpn": "tls.handshake.extensions_alpn_str",
    "versions": "tls.handshake.extensions.supported_version",
    "groups": "tls.handshake.extensions_supported_group",
    "key_share_groups": "tls.handshake.extensions_key_share_group",
    "key_share_lengths": "tls.handshake.extensions_key_share_key_exchange_length",
    "signatures": "tls.handshake.sig_hash_alg",
    "point_formats": "tls.handshake.extensions_ec_point_format",
    "psk_modes": "tls.extension.psk_ke_mode",
    "ja3": "tls.handshake.ja3_full",
    "ja3_hash": "tls.handshake.ja3",
}

#: Those that are words; the others are numbers.
_WORDS: Final = frozenset({"name", "alpn", "ja3", "ja3_hash"})

Reading = dict[str, list[int] | list[str]]


def read_by_tshark(directory: Path, hellos: Sequence[bytes]) -> list[Reading]:
    """How tshark reads each of *hellos*, the first bytes of a connection; without tshark, skip.

    :param directory: where a capture is written.
    """
    tshark = optional_program("tshark")
    capture = directory / "hellos.pcap"
    capture.write_bytes(pcap(hellos))
    command = [tshark, "-n", "-r", str(capture), "-d", "tcp.port==443,tls", "-Y", "tls.handshake.type == 1"]
    command += ["-T", "fields", "-E", "separator=/t", "-E", "aggregator=;", "-e", "tcp.stream"]
    for field in FIELDS.values():
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(number) for number in range(len(hellos))], run.stderr
    return [
        {
            key: value.split(";") if key in _WORDS else [int(each, 0) for each in value.split(";")]
            for key, value in zip(FIELDS, row[1:], strict=True)
            if value
        }
        for row in rows
    ]


def as_tshark(hello: ClientHello) -> Reading:
    """*hello* as tshark's fields have it."""
    found: Reading = {
        "record_version": [hello.record_version],
        "length": [hello.size - 4],
        "version": [hello.legacy_version],
        "session_id_length": [hello.session_size],
        "suites": [*hello.suites],
        "compression_methods": [*hello.compressions],
        "extensions": [each.kind for each in hello.extensions],
        "extension_lengths": [each.size for each in hello.extensions],
        "name": [hello.name] if hello.name else [],
        "alpn": [each.decode("ascii") for each in hello.protocols],
        "versions": [*hello.versions] if hello.has(43) else [],
        "groups": [*hello.groups],
        "key_share_groups": [each.group for each in hello.key_shares],
        "key_share_lengths": [each.size for each in hello.key_shares],
        # It has one field for both extensions that list algorithms.
        "signatures": [*hello.signatures, *hello.certificate_signatures],
        "point_formats": [*hello.point_formats],
        "psk_modes": [*hello.psk_modes],
        "ja3": [ja3(hello)],
        "ja3_hash": [ja3_hash(hello)],
    }
    return {key: value for key, value in found.items() if value}


def pcap(streams: Sequence[bytes]) -> bytes:
    """A capture of connections to port 443, each of which has sent one of *streams*."""
    packets = []
    for number, data in enumerate(streams):
        sequence = 1000
        packets.append(_packet(number, sequence, 0x02, b""))
        sequence += 1
        packets += [
            _packet(number, sequence + start, 0x18, data[start : start + SEGMENT])
            for start in range(0, len(data), SEGMENT)
        ]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP)
    return header + b"".join(
        struct.pack("<IIII", time, 0, len(packet), len(packet)) + packet
        for time, packet in enumerate(packets)
    )


def _packet(number: int, sequence: int, flags: int, data: bytes) -> bytes:
    """A segment of connection *number*; its checksums are 0, which tshark takes for offloaded."""
    tcp = struct.pack("!HHIIBBHHH", 40_000 + number, 443, sequence, 0, 0x50, flags, 65535, 0, 0)
    addresses = socket.inet_aton("127.0.0.1") * 2
    size = 20 + len(tcp) + len(data)
    return struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0x4000, 64, 6, 0) + addresses + tcp + data
