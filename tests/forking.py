"""Starts ``python -m suite`` by a fork of a process that has imported it: the template.

The imports take a third of a second of CPU, and hundreds of tests start a suite. To a test, what it gets is
as good as a process started anew: a child of its own, with the arguments, environment, directory, standard
streams, descriptors and exit code it asked for. Only what the system knows of how it was executed is the
template's (``/proc/PID/cmdline`` and ``environ``); and once all is done and written that Python does at exit,
it ends without taking its modules apart, which would copy all the memory that it shares with the template.
Tests of that, and of the first and last moments of a process, execute Python.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TextIO

from tests import measuring

ROOT: Final = Path(__file__).parents[1]

#: What the template imports: what is needed to serve, to be asked, to probe, to load and to connect.
PRELOADED: Final = (
    "suite.admin.site",
    "suite.cli",
    "suite.commands.serve",
    "suite.server.process",
    "suite.server.announce",
    "suite.server.plan",
    "suite.commands.check",
    "suite.commands.connect",
    "suite.commands.load",
    "suite.commands.probe",
)

#: Descriptors received are first moved up here, out of the way of where they belong.
HIGH: Final = 1000

STDERR: Final = 2

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h

_REQUEST_SIZE: Final = 65536
_libc: Final = ctypes.CDLL(None, use_errno=True)
_fork: Final = ctypes.PyDLL(None).fork


class Template:
    """The process that is forked, started when it is first needed.

    :ivar environment: what it has in its environment that its forks are not told.
    :ivar measured: whether coverage measures the forks, if it measures the template.
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.measured = True
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, request: dict[str, Any], descriptors: Sequence[int]) -> int:
        """Fork it; return the process ID of the new process, which is a child of this one.

        :param request: the arguments of `_become`, but for the descriptors.
        """
        with self._lock:
            if self._channel is None:
                self._channel = self._start()
            # The process in between ends at once, and orphans become children of a subreaper.
            _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
                answer = self._channel.recv(_REQUEST_SIZE)
            finally:
                _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if not answer:
            raise ChildProcessError("the template of suite processes has ended")
        return int(answer)

    def close(self) -> None:
        """End it, and wait until it has written what coverage found in it."""
        with self._lock:
            if self._channel is not None and self._process is not None:
                self._channel.close()
                self._channel = None
                self._process.wait()

    def _start(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forking", str(its.fileno())]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
        )
        its.close()
        return ours


template: Final = Template()


class ForkedSuite(subprocess.Popen[Any]):
    """``python -m suite`` as a `subprocess.Popen`.

    :param module: what to run instead of ``suite``.
    :param options: those of `subprocess.Popen` that say where, with which streams and which environment.
    """

    def __init__(
        self, *arguments: str, module: str = "suite", pass_fds: Sequence[int] = (), **options: Any
    ) -> None:
        self._module = module
        super().__init__(["python", "-m", module, *arguments], pass_fds=pass_fds, **options)

    # Popen's own place for what is particular to a platform: pipes, waiting and signals are as ever.
    def _execute_child(
        self,
        args: Sequence[str],
        _executable: None,
        _preexec_fn: None,
        _close_fds: bool,
        pass_fds: Sequence[int],
        cwd: Path | None,
        env: Mapping[str, str] | None,
        _startupinfo: None,
        _creationflags: int,
        _shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *_others: object,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        streams = [
            given if given >= 0 else number for number, given in enumerate((p2cread, c2pwrite, errwrite))
        ]
        request = {
            "module": self._module,
            "arguments": args[3:],
            "directory": os.fspath(cwd or Path.cwd()),
            "environment": environment,
            "numbers": [0, 1, 2, *pass_fds],
            "measured": template.measured,
        }
        self.pid = template.fork(request, [*streams, *pass_fds])
        self._child_created = True
        for given, kept in ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread)):
            if given >= 0 and kept >= 0:
                os.close(given)


def serve(channel: socket.socket) -> None:
    """Fork for every request on *channel*, until its end."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_SIZE, 200)
        if not request:
            return
        read, write = os.pipe()
        # The system's own: what Python, and coverage, do after a fork is for the process that stays.
        if not (middle := _fork()):
            if child := os.fork():
                os.write(write, str(child).encode())
                os._exit(0)
            os.close(read)
            os.close(write)
            channel.close()
            _become(descriptors=descriptors, **json.loads(request))
        os.close(write)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(middle, 0)
        channel.send(os.read(read, 64))
        os.close(read)


def _become(
    *,
    module: str,
    arguments: Sequence[str],
    directory: str,
    environment: dict[str, str],
    numbers: Sequence[int],
    measured: bool,
    descriptors: list[int],
) -> NoReturn:
    """Be the program *module*, with *descriptors* as *numbers*."""
    if not measured:
        measuring.pause()
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for source, number in zip(high, numbers, strict=True):
        os.dup2(source, number)
        os.close(source)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _standard_stream(number, getattr(sys, name)))
        setattr(sys, f"__{name}__", getattr(sys, name))
    for name in sorted({*environment, *os.environ}):
        if name.startswith(("PYTHON", "LISTEN_")) and environment.get(name) != os.environ.get(name):
            sys.exit(f"{name} is only read by a process that is executed, which this one is not")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    else:
        code = 0
    _exit(code)


def _exit(code: int) -> NoReturn:
    """End as ``sys.exit(code)`` does, but for taking modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # of which the interpreter has more to say
        sys.exit(code)
    os._exit(code & 0xFF)


def _standard_stream(number: int, model: TextIO) -> IO[Any]:
    """The standard stream on the descriptor *number*, as Python makes it when it starts.

    :param model: that of the template, on another file.
    """
    mode = "w" if number else "r"
    by_line = number == STDERR or os.isatty(number)
    return open(number, mode, 1 if by_line else -1, model.encoding, model.errors, newline="\n", closefd=False)


def main() -> None:
    """Import what takes its time, and serve."""
    for name in PRELOADED:
        __import__(name)
    gc.freeze()  # the collector leaves alone what all of them share, and so need not copy
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
