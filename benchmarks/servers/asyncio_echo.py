"""The echo as asyncio writes it: a protocol whose ``data_received`` writes.

``asyncio_echo.py [--uvloop] tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY`` (port 0: any);
prints ``ready PORT`` or ``ready PATH`` when it listens. Both loops set ``TCP_NODELAY`` by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from typing import cast

#: Every peer, and the suite, has room for this many connections that wait to be accepted.
BACKLOG = 4096


class Echo(asyncio.Protocol):
    """Echo; a peer that does not read is not read from."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Give it back."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It holds little again."""
        self.transport.resume_reading()


class EchoDatagram(asyncio.DatagramProtocol):
    """Echo for UDP."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is bound."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Give it back."""
        self.transport.sendto(data, addr)


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """The standard library's defaults for a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def serve(transport: str, address: str, identity: list[str]) -> None:
    """Listen, say so, and serve until killed."""
    loop = asyncio.get_running_loop()
    bound: asyncio.BaseTransport | asyncio.Server
    if transport == "udp":
        bound, _ = await loop.create_datagram_endpoint(EchoDatagram, ("127.0.0.1", int(address)))
        address = str(bound.get_extra_info("sockname")[1])
    elif transport == "unix":
        bound = await loop.create_unix_server(Echo, address, backlog=BACKLOG)
    else:
        context = server_context(*identity) if transport == "tls" else None
        bound = await loop.create_server(Echo, "127.0.0.1", int(address), backlog=BACKLOG, ssl=context)
        address = str(bound.sockets[0].getsockname()[1])
    print("ready", address, flush=True)
    await loop.create_future()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    parser.add_argument("transport", choices=("tcp", "udp", "unix", "tls"))
    parser.add_argument("address", help="a port, or the path of a UNIX socket")
    parser.add_argument("identity", nargs="*", metavar="FILE", help="of TLS: certificate, key")
    options = parser.parse_args()
    main = serve(options.transport, options.address, options.identity)
    if options.uvloop:
        import uvloop  # noqa: PLC0415  # optional

        uvloop.run(main)
    else:
        asyncio.run(main)


if __name__ == "__main__":
    main()
