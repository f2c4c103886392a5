"""One run of a client, as a process: its exit, its output, and its end.

Rules: a client runs in a process group of its own, which is ended in full whenever the run ends: by itself,
by the time limit, or by Ctrl-C. What it prints is read to the end, so that it never waits for us; the first
and the last of it are kept, and what lies between is counted. The two streams are kept apart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

#: Seconds between two looks at whether a client has ended.
POLLED: Final = 0.02

#: Bytes kept of the beginning of each stream, and as many of its end.
KEPT: Final = 32 * 2**10

#: Seconds for the last output after the end of the process group. Only a process that has left the group
#: still has the pipe open then.
LAST_WORDS: Final = 2.0

#: Bytes of a client's output that are searched for the answer that it waits for.
_SEARCHED: Final = 4096


class Bounded:
    """Bytes of which the first and the last are kept.

    :ivar size: how many there have been.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.size = 0
        self._kept = kept
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take *data* in."""
        self.size += len(data)
        room = self._kept - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[: -self._kept]

    @property
    def end(self) -> bytes:
        """The last bytes."""
        return bytes(self._tail or self._head)[-_SEARCHED:]

    def __bytes__(self) -> bytes:
        lost = self.size - len(self._head) - len(self._tail)
        note = b"\n[... %d bytes left out ...]\n" % lost if lost else b""
        return bytes(self._head) + note + bytes(self._tail)


@dataclass(frozen=True)
class Exchange:
    """What a client is given to say.

    :ivar sent: what is written to its standard input; short, so that it always fits into a pipe.
    :ivar until: what has to be in its output before its standard input ends.
    """

    sent: bytes
    until: bytes


@dataclass(frozen=True)
class Ran:
    """A run of a client that has ended.

    :ivar exit_code: its exit code; None: it was ended by a signal.
    :ivar signal: the number of the signal that has ended it; None: none has.
    :ivar hung: whether it was ended by us, at the time limit.
    :ivar seconds: how long it took.
    :ivar output: what is left of its standard output.
    :ivar errors: the same of its standard error.
    """

    exit_code: int | None
    signal: int | None
    hung: bool
    seconds: float
    output: bytes
    errors: bytes

    @property
    def text(self) -> str:
        """Both streams, for people and for searching."""
        return "\n".join(part.decode(errors="replace") for part in (self.output, self.errors) if part)


async def run(
    command: Sequence[str],
    limit: float,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    exchange: Exchange | None = None,
) -> Ran:
    """Run *command* to its end.

    :param limit: seconds that it may take.
    :param directory: where it runs.
    :param environment: its environment; None: ours.
    :param exchange: what it is given to say; None: its standard input is empty.
    :raises OSError: it cannot be run.
    """
    began = time.monotonic()
    # Not asyncio's: its `wait` also waits for the pipes, which a child of the client may hold for ever, and
    # when cancelled at the wrong moment it leaves a process to itself.
    process = subprocess.Popen(  # noqa: S603  # it is what we have been asked to run
        command,
        stdin=subprocess.DEVNULL if exchange is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
        start_new_session=True,  # the leader of a group, which Ctrl-C at our terminal does not reach
    )
    hung = False
    output, errors = Bounded(), Bounded()
    readers: list[asyncio.Task[None]] = []
    try:
        for stream, kept in ((process.stdout, output), (process.stderr, errors)):
            readers.append(asyncio.create_task(_read(stream, kept, process.stdin, exchange)))
        if exchange is not None and process.stdin is not None:
            with suppress(OSError):  # it has ended already
                os.write(process.stdin.fileno(), exchange.sent)
        async with asyncio.timeout(limit):
            while not has_exited(process):
                await asyncio.sleep(POLLED)
    except TimeoutError:
        hung = True
    finally:
        end_group(process.pid)
        code = process.wait()
        try:
            await asyncio.wait(readers, timeout=LAST_WORDS)
        finally:
            for reader in readers:
                reader.cancel()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
    return Ran(
        exit_code=code if code >= 0 and not hung else None,
        signal=-code if code < 0 and not hung else None,
        hung=hung,
        seconds=time.monotonic() - began,
        output=bytes(output),
        errors=bytes(errors),
    )


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether *process* has; it stays unreaped where possible, so that its group's number stays its own."""
    if not hasattr(os, "waitid"):  # macOS, before Python 3.13
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


async def _read(
    pipe: IO[bytes] | None, kept: Bounded, stdin: IO[bytes] | None, exchange: Exchange | None
) -> None:
    """Read *pipe* to its end; end *stdin* once it has said what the exchange waits for."""
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    try:
        while data := await stream.read(65536):
            kept.add(data)
            if exchange is not None and stdin is not None and exchange.until in kept.end:
                with suppress(OSError):
                    stdin.close()
    finally:
        transport.close()


def end_group(leader: int) -> None:
    """End all processes in the group of *leader* at once."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
