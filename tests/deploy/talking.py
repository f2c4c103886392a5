"""Clients with an echo in progress, from before a suite is told to stop until it is finished."""

from __future__ import annotations

import socket
import threading
from typing import Any

from tests.running import PATIENCE, TLSClient

#: Seconds between two messages: the suite ends what has been quiet for a second.
PAUSE = 0.05


class Talk(threading.Thread):
    """Sends a message, reads its echo, and so on until `finish`; then the last one, and the end.

    :param client: a socket, or TLS on one.
    :ivar echoed: whether everything came back, and then the end.
    """

    def __init__(self, client: socket.socket | TLSClient) -> None:
        super().__init__(daemon=True)
        self._client: Any = client
        self._finishing = threading.Event()
        self._begun = threading.Event()
        self.echoed = False
        self.start()
        assert self._begun.wait(PATIENCE)

    def run(self) -> None:
        number = 0
        while not self._finishing.wait(PAUSE):
            message = b"message %08d" % number
            self._client.sendall(message)
            if self._read(len(message)) != message:
                return
            self._begun.set()
            number += 1
        self._client.sendall(b"the last")
        if isinstance(self._client, TLSClient):
            self._client.close_notify_and_fin()
        else:
            self._client.shutdown(socket.SHUT_WR)
        self.echoed = self._read(1000) == b"the last"

    def _read(self, size: int) -> bytes:
        """*size* bytes, or those up to the end."""
        received = b""
        while len(received) < size and (data := self._client.recv(size - len(received))):
            received += data
        return received

    def finish(self) -> None:
        """Let the last message be sent."""
        self._finishing.set()

    def ended_well(self) -> bool:
        """Wait for the end; return whether everything came back."""
        self.join(PATIENCE)
        return self.echoed
