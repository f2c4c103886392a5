"""A client of the control socket that shares no code with it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.running import PATIENCE, RunningSuite

#: Where the configurations of these tests have it.
SOCKET: Final = "run/control.sock"


class Client:
    """A connection to the control socket at *path*."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> Any:
        """The next answer; None at the end."""
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, **request: object) -> Any:
        """The answer to *request*."""
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()


@contextmanager
def client(suite: RunningSuite, path: str = SOCKET) -> Iterator[Client]:
    """A `Client` of *suite*."""
    found = Client(suite.directory / path)
    try:
        yield found
    finally:
        found.close()


def ask(suite: RunningSuite, do: str, **request: object) -> Any:
    """The answer of *suite*, which must not be a refusal."""
    with client(suite) as it:
        answer = it.ask(do=do, **request)
    assert answer["ok"] is True, answer
    return answer


def faults_of(answer: Any) -> dict[str, list[str]]:
    """The faults of each endpoint in *answer*."""
    return {
        name: [fault["fault"] for fault in found["faults"]] for name, found in answer["endpoints"].items()
    }
