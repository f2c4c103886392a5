"""What a description that cannot be parsed was probably meant to be.

Rules: each function returns what is wrong and the way out, or nothing; *colon* is how a colon in an address
is written where the description is, in a string of TOML's or in a variable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from suite.endpoints.descriptions import LOOPBACK, PARAMETERS
from suite.text import is_address

#: The most parts that colons make of an IPv6 address (RFC 4291, section 2.2: eight groups, one empty).
MAX_IPV6_PARTS: Final = 9

_URL: Final = re.compile(
    r"(?P<scheme>\w+)://(?P<host>\[[^]]*\]|[^:/]*)(?::(?P<port>[0-9]{1,5}))?/?.*", re.DOTALL
)

#: Which type of endpoint the schemes of URLs mean.
_SCHEMES: Final = {"tcp": "tcp", "udp": "udp", "ssl": "ssl", "tls": "ssl", "https": "ssl", "http": "tcp"}


def url(text: str, colon: str) -> str | None:
    """A URL in place of a description."""
    found = _URL.fullmatch(text)
    kind = _SCHEMES.get(found["scheme"].lower()) if found is not None else None
    if found is None or kind is None:
        return None
    host = found["host"].strip("[]")
    if found["port"] and _can_be_bound(host):
        return f"{text!r} is a URL; did you mean {_described(kind, host, found['port'], colon)}?"
    return f"{text!r} is a URL; expected a description, such as {kind}:1234"


def description(text: str, colon: str) -> str:
    """``; did you mean …?`` where *text* is only a port, or an address and a port; or nothing."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not re.fullmatch("[0-9]{1,5}", port) or not _can_be_bound(host):
        return ""
    return f"; did you mean {_described('tcp', host, port, colon)}?"


def order(kind: str, positional: Sequence[str], colon: str) -> str | None:
    """An address where the port should be, or a port where the directory should be."""
    first, second = ([*positional, "", ""])[:2]
    if kind == "tls" and first.isdigit():
        return (
            f"{first!r} is a port, where tls: has a directory of PEM files; expected"
            f" ssl:{first}:privateKey=certs/server.key:certKey=certs/server.pem, or tls:DIRECTORY:{first}"
        )
    if PARAMETERS[kind][0] != "port" or not second.isdigit():
        return None
    if first != "localhost" and not is_address(first):
        return None
    host = LOOPBACK if first == "localhost" else first
    return (
        f"port {first!r} is an address, and the port comes first;"
        f" did you mean {kind}:{second}:interface={host.replace(':', colon)}?"
    )


def escapes(kind: str, text: str, colon: str) -> str | None:
    """An IPv6 address whose colons are not escaped, once *text* has turned out to be wrong."""
    if "interface" not in PARAMETERS.get(kind, ()):
        return None
    parts = text.split(":")
    for begin in range(2, len(parts)):
        parts[begin] = parts[begin].removeprefix("interface=")
        for end in range(min(len(parts), begin + MAX_IPV6_PARTS), begin + 2, -1):
            address = ":".join(parts[begin:end]).removeprefix("[").removesuffix("]")
            if is_address(address):
                where = ' in "…"' if colon.startswith(r"\\") else ""
                return (
                    f"{address!r} has colons, which separate parameters here; write them as"
                    f" {colon}{where}, such as interface={address.replace(':', colon)}"
                )
    return None


def _can_be_bound(host: str) -> bool:
    return host in {"", "localhost"} or is_address(host)


def _described(kind: str, host: str, port: str, colon: str) -> str:
    """The description of a *port*, and of the address *host* unless that is none or the default."""
    if host in ("", "localhost", LOOPBACK):
        return f"{kind}:{port}"
    six = "6" if ":" in host and kind != "ssl" else ""
    return f"{kind}{six}:{port}:interface={host.replace(':', colon)}"
