"""JA3 and JA4: what a ClientHello looks like, in a line that can be compared and searched for.

Rules: pure; GREASE (RFC 8701) is left out of both. JA3 follows Salesforce's description
(https://github.com/salesforce/ja3, BSD-3-Clause). JA4 is FoxIO's fingerprint of TLS clients
(https://github.com/FoxIO-LLC/ja4, ``technical_details/JA4.md``; its licence, ``LICENSE-JA4``, is
BSD-3-Clause). The other methods of JA4+ are under another licence, and are not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from suite.client_hello import ALPN, SERVER_NAME, ClientHello, is_grease

#: JA4's words for versions.
_VERSIONS: Final = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}

#: The digits of a SHA-256 that JA4 keeps, and what it says of an empty list.
_KEPT: Final = 12
_NOTHING: Final = "0" * _KEPT

#: JA4 counts no further.
_MOST: Final = 99


def ja3(hello: ClientHello) -> str:
    """JA3 before it is hashed: version, suites, extensions, groups and point formats, in decimal."""
    lists = (
        hello.suites,
        [kind for kind, _ in hello.extensions],
        hello.groups,
    )
    fields = ["-".join(map(str, _without_grease(numbers))) for numbers in lists]
    formats = "-".join(map(str, hello.point_formats))
    return ",".join((str(hello.legacy_version), *fields, formats))


def ja3_hash(hello: ClientHello) -> str:
    """JA3: the MD5 of `ja3`, in hexadecimal."""
    return hashlib.md5(ja3(hello).encode(), usedforsecurity=False).hexdigest()


def ja4(hello: ClientHello) -> str:
    """JA4 of a client of TLS over TCP."""
    suites = _without_grease(hello.suites)
    extensions = _without_grease(kind for kind, _ in hello.extensions)
    versions = _without_grease(hello.versions)
    beginning = "".join(
        (
            "t",
            _VERSIONS.get(max(versions, default=0), "00"),
            "d" if SERVER_NAME in extensions else "i",
            f"{min(len(suites), _MOST):02}{min(len(extensions), _MOST):02}",
            _first_protocol(hello),
        )
    )
    others = sorted(kind for kind in extensions if kind not in (SERVER_NAME, ALPN))
    signatures = _without_grease(hello.signatures)
    ends = _listed(others) + (f"_{_listed(signatures)}" if signatures else "")
    return "_".join(
        (
            beginning,
            _hashed(_listed(sorted(suites))) if suites else _NOTHING,
            _hashed(ends) if others else _NOTHING,
        )
    )


def _without_grease(numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if not is_grease(number)]


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(f"{number:04x}" for number in numbers)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEPT]


def _first_protocol(hello: ClientHello) -> str:
    """The first and the last character of the first ALPN protocol, or of its hexadecimal form."""
    first = hello.protocols[0] if hello.protocols else b""
    if not first:
        return "00"
    ends = chr(first[0]) + chr(first[-1])
    if ends.isascii() and ends.isalnum():
        return ends
    return first.hex()[0] + first.hex()[-1]
