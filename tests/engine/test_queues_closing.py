"""A listening socket that is about to be closed completes no more connections, and loses none."""

from __future__ import annotations

import select
import socket
import sys

import pytest

from suite.engine.linux.queues import drop_what_comes


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_in_the_queue_stays_and_nothing_is_added(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"{host}: {error}")
    with listening, socket.create_connection(listening.getsockname()[:2]) as first:
        first.sendall(b"hola")
        drop_what_comes(listening)
        with socket.socket(family) as second:
            second.setblocking(False)
            assert second.connect_ex(listening.getsockname()) != 0
            accepted, _ = listening.accept()
            with accepted:
                accepted.settimeout(10)
                assert accepted.recv(4) == b"hola"
                accepted.sendall(b"mundo")  # its own packets are not dropped
                assert first.recv(5) == b"mundo"
                first.sendall(b"adios")
                assert accepted.recv(5) == b"adios"
            assert not select.select([listening], [second], [], 0)[0]
            listening.close()
            assert select.select([], [second], [], 30)[1]  # a second later, it has tried again
            assert second.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
