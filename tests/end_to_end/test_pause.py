"""A process that is stopped, and goes on: what it could not see meanwhile is held against nobody."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running import REACTORS, TLSClient, running

#: Seconds.
LIMIT = 2

CONFIG = f"""
[limits]
idle = "{LIMIT}s"
handshake = "{LIMIT}s"

[endpoints]
tcp = "tcp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
"""


@pytest.mark.parametrize("reactor", REACTORS)
def test_a_pause_makes_nobody_idle_or_late(tmp_path: Path, reactor: str) -> None:
    """Neither who has sent meanwhile, nor who sends right after it."""
    with running(tmp_path, CONFIG, "--reactor", reactor) as suite, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        shaking = stack.enter_context(suite.connect("tls"))  # accepted before the one that is answered
        streams: list[socket.socket | TLSClient] = []
        for endpoint in ("tcp", "tls", "unix") * 2:
            sock = stack.enter_context(suite.connect(endpoint))
            streams.append(TLSClient(sock, suite.client_context()) if endpoint == "tls" else sock)
            streams[-1].sendall(b"hola")
            assert streams[-1].recv(4) == b"hola"
        waiting, silent = streams[:3], streams[3:]
        suite.process.send_signal(signal.SIGSTOP)
        try:
            for stream in waiting:
                stream.sendall(b"mundo")
            handshake = pool.submit(TLSClient, shaking, suite.client_context())
            time.sleep(LIMIT + 1)  # the time for which it is stopped
        finally:
            suite.process.send_signal(signal.SIGCONT)
        assert [stream.recv(5) for stream in waiting] == [b"mundo"] * 3
        for stream in (*silent, handshake.result()):
            stream.sendall(b"otra")
            assert stream.recv(4) == b"otra"
