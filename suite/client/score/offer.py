"""What a client offers: some defects can only be seen by a client that offers something.

Rule: what it offers is read in a ClientHello of its own, before any score, and never guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from suite.client_hello import ClientHello, find_client_hello, parse_client_hello

#: The number of the version (RFC 8446, section 4.2.1).
TLS13: Final = 0x0304

#: Bytes read at once.
READ: Final = 65_536

#: For specimens that not every client can see: whether a client that offers this can, and why not otherwise.
CONDITIONS: Final[Mapping[str, tuple[Callable[[ClientHello], bool], str]]] = {
    "alpn-mismatch": (lambda hello: bool(hello.protocols), "offers no protocol (ALPN)"),
    "downgrade-sentinel": (lambda hello: TLS13 in hello.versions, "does not speak TLS 1.3"),
}


def why_blind(specimen: str, hello: ClientHello | None) -> str:
    """Why a client that offers *hello* cannot see what is wrong with *specimen*; empty: it can.

    :param hello: None: what it offers is not known.
    """
    if specimen not in CONDITIONS or hello is None:
        return ""
    sees, why = CONDITIONS[specimen]
    return "" if sees(hello) else why


async def offer_of(connect: Callable[[int], Awaitable[object]]) -> ClientHello | None:
    """What a client offers; None if it sends no ClientHello.

    :param connect: runs the client against a port of this machine, which reads that, and closes.
    """
    found: list[ClientHello] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        try:
            while not found and (more := await reader.read(READ)):
                data += more
                message = find_client_hello(data)
                if message is not None:
                    found.append(parse_client_hello(message))
        except (OSError, ValueError):  # it has gone, or what it sends is none
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    try:
        await connect(server.sockets[0].getsockname()[1])
    finally:
        server.close()
    return found[0] if found else None
