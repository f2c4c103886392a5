"""A server that answers every connection with the same bytes, whatever it is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from suite.client.admin.address import Address, Place
from tests.running import PATIENCE


class Canned:
    """What has been asked of a server that answers with *answers* in turn, and then closes.

    :ivar asked: what has come on each connection.
    """

    def __init__(self, sock: socket.socket, answers: list[bytes]) -> None:
        self.asked: list[bytes] = []
        self._sock = sock
        self._answers = answers
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        for answer in self._answers:
            with suppress(OSError):
                client, _ = self._sock.accept()
                with client:
                    client.settimeout(PATIENCE)
                    self.asked.append(client.recv(65536))
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):  # what is left unread would reset the connection
                        pass


@contextmanager
def canned(directory: Path, *answers: bytes) -> Iterator[tuple[Place, Canned]]:
    """Such a server on a UNIX socket, and where it is."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(str(directory / "admin.sock"))
        sock.listen()
        server = Canned(sock, [*answers])
        server.thread.start()
        yield Place((Address(path=str(directory / "admin.sock")),)), server
        server.thread.join(PATIENCE)


def http(body: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()
