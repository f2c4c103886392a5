"""What the chapters say of their programs, beyond what transcripts show."""

from __future__ import annotations

import os
import signal
import socket
from itertools import count

import pytest

from tests.running import read_to_end
from tests.tutorial.serving import Shell, memory, stop

#: What `12_never_reads.py` sends, in bytes.
SENT = 100_000_000


def test_a_client_that_never_reads_fills_the_memory(shell: Shell) -> None:
    """Chapter 12: with most of what it sends; the rest is in the kernel, or was not read in time."""
    server = shell.serve("python 11_half_close.py")
    before = memory(server)
    assert shell.run("python 12_never_reads.py") == ["the server has taken 100 MB"]
    assert memory(server) - before > SENT // 2
    assert stop(server) == []


def test_with_a_producer_it_does_not(shell: Shell) -> None:
    """Chapter 12: not even five of them, and others are served."""
    server = shell.serve("python 13_producer.py")
    before = memory(server)
    for _ in range(5):
        client = shell.connect()
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(SENT))
    with shell.connect() as reader:
        reader.sendall(b"hola mundo...")
        reader.shutdown(socket.SHUT_WR)
        assert read_to_end(reader.recv) == b"hola mundo..."
    assert memory(server) - before < SENT // 5
    assert stop(server) == []


def test_another_process_takes_over(shell: Shell) -> None:
    """Chapter 17: what one process cannot take, the others do; all end with the first, however that ends."""
    first = shell.serve("python 25_processes.py")
    stopped: list[int] = []
    try:
        for number in count(1):
            client = shell.connect()
            client.sendall(b"hola mundo...")
            assert client.recv(100) == b"hola mundo..."
            process = int(first.wait_for(r"process (\d+) has a client", number)[-1])
            assert process not in stopped
            if process == first.process.pid:
                break
            os.kill(process, signal.SIGSTOP)
            stopped.append(process)
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    first.process.kill()
    assert len(first.shown()) == number


def test_processes_end_when_the_first_is_interrupted(shell: Shell) -> None:
    """Chapter 17: its terminal is closed by all of them."""
    assert stop(shell.serve("python 25_processes.py")) == []


def test_connections_wait_at_a_busy_process(shell: Shell) -> None:
    """Chapter 17: with SO_REUSEPORT; one of two processes is busy with something else."""
    busy, idle = (shell.serve("python solutions/17_reuseport.py") for _ in range(2))
    os.kill(busy.process.pid, signal.SIGSTOP)
    try:
        clients = [shell.connect() for _ in range(64)]
        for client in clients:
            client.sendall(b"hola mundo...")
        idle.wait_for("has a client", 1)
    finally:
        os.kill(busy.process.pid, signal.SIGCONT)
    for client in clients:
        assert client.recv(100) == b"hola mundo..."
    assert busy.wait_for("has a client", 1)
    assert len(stop(busy)) + len(stop(idle)) == len(clients)
