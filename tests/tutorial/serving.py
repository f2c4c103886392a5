"""A program of the tutorial that serves, for clients in the test itself."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.running import PATIENCE
from tests.tutorial.pages import STEPS, Command
from tests.tutorial.replay import PORTS, Terminal, environment, reserve


@dataclass
class Shell:
    """A shell in a copy of the steps, with the reader's Python.

    :ivar ports: the real ports, by those that the tutorial names.
    """

    directory: Path
    variables: dict[str, str]
    ports: dict[int, int]
    stack: ExitStack
    _started: int = 0

    def serve(self, command: str) -> Terminal:
        """Run *command* until it serves."""
        terminal = self._start(command)
        assert terminal.follow(), f"{command} has ended: {terminal.shown()}"
        return terminal

    def run(self, command: str) -> list[str]:
        """Run *command* to its end; what it has shown, line by line."""
        return self._start(command).shown()

    def _start(self, command: str) -> Terminal:
        self._started += 1
        ready = self.directory.parent / f"ready{self._started}"
        terminal = Terminal(Command(command, ()), self.directory, self.variables, ready)
        self.stack.callback(terminal.close)
        return terminal

    def connect(self, port: int = 1234) -> socket.socket:
        """A connection to what serves on *port*; closed in the end."""
        client = socket.create_connection(("127.0.0.1", self.ports[port]), PATIENCE)
        return self.stack.enter_context(client)


@contextmanager
def opened(directory: Path, python: Path) -> Iterator[Shell]:
    """A `Shell`; what it has started is killed in the end.

    :param directory: an empty directory for the work.
    :param python: the interpreter of the reader's virtual environment.
    """
    steps = directory / "steps"
    shutil.copytree(STEPS, steps)
    with ExitStack() as stack:
        ports = {port: reserve(stack, port) for port in PORTS}
        yield Shell(steps, environment(python, ports), ports, stack)


def stop(server: Terminal) -> list[str]:
    """Press Ctrl-C; what *server* has shown, line by line."""
    server.interrupt()
    return server.shown()


def memory(server: Terminal) -> int:
    """The most memory that *server* has had so far, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024
