"""A reader follows a chapter: starts its commands in terminals, types, and looks at what they show."""

from __future__ import annotations

import os
import pty
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Final

from tests.running import PATIENCE
from tests.tutorial.pages import STEPS, Command

#: The ports that the tutorial names.
PORTS: Final = (1234, 4433)

#: The line of a transcript where a server is interrupted.
INTERRUPT: Final = "^C"

PROMPT: Final = re.compile(r"(?:\A|\n)> \Z")


class Terminal:
    """A command in a terminal of its own, and what that shows.

    :param ready: a named pipe that gets a line when the command is a server and is ready.
    """

    def __init__(
        self, command: Command, directory: Path, environment: Mapping[str, str], ready: Path
    ) -> None:
        self.command = command
        self._screen = ""
        self._read_up_to = 0
        self._ended = self._ready = False
        self._changed = threading.Condition()
        os.mkfifo(ready)
        # Opened for writing too, so that no reader sees an end when a process has said that it is ready.
        self._pipe = os.open(ready, os.O_RDWR)
        self._keyboard, slave = pty.openpty()
        shell = re.search(r"[|;&<>$]", command.text)
        words = ["/bin/sh", "-c", command.text] if shell else shlex.split(command.text)
        program = shutil.which(words[0], path=environment["PATH"])
        assert program, f"no such command: {words[0]}"
        try:
            self.process = subprocess.Popen(
                words, executable=program, cwd=directory, stdin=slave, stdout=slave, stderr=slave,
                env={**environment, "TUTORIAL_READY": str(ready)}, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(slave)
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._look, self._await_ready)
        ]
        for thread in self._threads:
            thread.start()

    def _look(self) -> None:
        """Read what the terminal shows, until no process has it open."""
        while True:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # Linux's EOF of a terminal
                data = b""
            with self._changed:
                self._screen += data.decode(errors="backslashreplace").replace("\r\n", "\n")
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    def _await_ready(self) -> None:
        line = os.read(self._pipe, 100)
        with self._changed:
            self._ready = line == b"ready\n"
            self._changed.notify_all()

    def _at_prompt(self) -> bool:
        return bool(PROMPT.search(self._screen[self._read_up_to :]))

    def _wait(self, *, prompt: bool) -> None:
        """Wait until it has ended, is a server that is ready, or (if *prompt*) asks for a line."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self._ended or self._ready or (prompt and self._at_prompt()), PATIENCE
            ), f"{self.command.text} neither ends, listens nor asks; it has shown: {self._screen!r}"

    def follow(self) -> bool:
        """Type what the reader types, until the command has ended or is a server; whether it is a server."""
        for line in self.command.typed:
            self._wait(prompt=True)
            if not self._at_prompt():
                break
            self._read_up_to = len(self._screen)
            os.write(self._keyboard, f"{line}\n".encode())
        self._wait(prompt=True)
        assert not self._at_prompt() or self._ended, f"asks for more: {self._screen!r}"
        return not self._ended

    def wait_for(self, pattern: str, count: int) -> list[str]:
        """What *pattern* matches on its screen, once that is *count* times at least."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: len(re.findall(pattern, self._screen)) >= count or self._ended, PATIENCE
            ), self._screen
            return re.findall(pattern, self._screen)

    def shown(self) -> list[str]:
        """Wait for the end of the command; what it has shown, line by line."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, PATIENCE), f"no end: {self.command.text}"
        self.process.wait(PATIENCE)
        return lines_of(self._screen)

    def check(self) -> None:
        """Wait for the end of the command; compare what it has shown with what the page says.

        :raises AssertionError: they differ.
        """
        shown = self.shown()
        expected = lines_of("\n".join(line for line in self.command.shows if line != INTERRUPT))
        if not matches(expected, shown):
            lines = ["it shows:", *shown, "and the page says:", *expected]
            raise AssertionError("\n".join([f"$ {self.command.text}", *lines]))

    def interrupt_when_shown(self) -> None:
        """Press Ctrl-C once it has shown what the page says, up to a ``^C``."""
        expected = list(takewhile(lambda line: line != INTERRUPT, self.command.shows))
        with self._changed:
            # If it never does, `check` says how it differs.
            self._changed.wait_for(
                lambda: self._ended or matches(expected, lines_of(self._screen)), PATIENCE / 2
            )
        self.interrupt()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """Kill what is left of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        os.write(self._pipe, b"\n")  # ends the thread
        for thread in self._threads:
            thread.join(PATIENCE)
        os.close(self._pipe)
        os.close(self._keyboard)


def lines_of(screen: str) -> list[str]:
    """What a screen shows, without spaces at the end of a line and empty lines at its end."""
    return [line.rstrip() for line in screen.rstrip().splitlines()]


def matches(expected: Sequence[str], shown: Sequence[str]) -> bool:
    """Whether *shown* is what a transcript says; ``…`` is any text in a line, alone any number of lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in shown)) is not None


def reserve(stack: ExitStack, port: int) -> int:
    """A port that nobody else takes, TCP and UDP, until *stack* is closed.

    It is held by a socket that allows its address to be reused, so that a server can listen there meanwhile,
    and is below the ports that the kernel gives to clients.
    """
    for candidate in random.sample(range(20000, 32768), 1000):
        with ExitStack() as attempt:
            datagrams = attempt.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stream = attempt.enter_context(socket.socket())
            try:
                datagrams.bind(("", candidate))
                stream.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            # Only now: a second reservation cannot bind, and a server, which sets this before it binds, can.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            datagrams.close()
            stack.push(attempt.pop_all())
            return candidate
    raise OSError(f"no free port for {port}")


def environment(python: Path, ports: Mapping[int, int]) -> dict[str, str]:
    """What a reader's shell has, once the virtual environment of *python* is active."""
    return {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",  # tracebacks without colours
        "PYTHONPATH": str(Path(__file__).parent / "ports"),
        "PYTHONDONTWRITEBYTECODE": "yes",
        "TUTORIAL_PORTS": ",".join(f"{named}={real}" for named, real in ports.items()),
    }


def replay(sections: Iterable[Iterable[Command]], directory: Path, python: Path) -> None:
    """Follow the commands of a chapter.

    :param directory: an empty directory for the work.
    :param python: the interpreter of the reader's virtual environment.
    :raises AssertionError: a terminal has not shown what the page says.
    """
    steps = directory / "steps"
    shutil.copytree(STEPS, steps)
    number = 0
    with ExitStack() as stack:
        shell = environment(python, {port: reserve(stack, port) for port in PORTS})
        for section in sections:
            servers = []
            with ExitStack() as terminals:
                for command in section:
                    number += 1
                    terminal = Terminal(command, steps, shell, directory / f"ready{number}")
                    terminals.callback(terminal.close)
                    if terminal.follow():
                        servers.append(terminal)
                    else:
                        terminal.check()
                        if command.text.startswith("kill "):
                            servers.pop().check()
                for server in servers:
                    server.interrupt_when_shown()
                    server.check()


def python_of(directory: Path, files: Mapping[str, Path]) -> Path:
    """Make a virtual environment in *directory* of files that are installed here; its interpreter.

    Nothing is downloaded: the files are linked to. Not their directories, which may have files of others: the
    suite has a plugin in Twisted's.

    :param files: the files by their path in ``site-packages``.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = (directory / "lib").glob("python*/site-packages")
    for folder in sorted({(site / name).parent for name in files}):
        folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        (site / name).symlink_to(source)
    return directory / "bin/python"
