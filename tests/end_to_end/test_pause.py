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
def test_who_has_sent_meanwhile_is_neither_idle_nor_late(tmp_path: Path, reactor: str) -> None:
    with running(tmp_path, CONFIG, "--reactor", reactor) as suite, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        streams: list[socket.socket | TLSClient] = []
        for endpoint in ("tcp", "tls", "unix"):
            sock = stack.enter_context(suite.connect(endpoint))
            streams.append(TLSClient(sock, suite.client_context()) if endpoint == "tls" else sock)
            streams[-1].sendall(b"hola")
            assert streams[-1].recv(4) == b"hola"
        shaking = stack.enter_context(suite.connect("tls"))
        suite.process.send_signal(signal.SIGSTOP)
        try:
            for stream in streams:
                stream.sendall(b"mundo")
            handshake = pool.submit(TLSClient, shaking, suite.client_context())
            time.sleep(LIMIT + 1)  # the time for which it is stopped
        finally:
            suite.process.send_signal(signal.SIGCONT)
        assert [stream.recv(5) for stream in streams] == [b"mundo"] * 3
        handshake.result().sendall(b"hola")
        assert handshake.result().recv(4) == b"hola"
