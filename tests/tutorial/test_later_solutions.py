"""The solutions of the exercises in chapters 11 to 19 do what the exercises ask for."""

from __future__ import annotations

import os
import pwd
import re
import socket
import threading
from itertools import count
from pathlib import Path

import pytest

from tests.running import read_to_end
from tests.tutorial.pages import STEPS
from tests.tutorial.serving import Shell, memory, stop


def test_count(shell: Shell) -> None:
    """Chapter 11: nothing is answered before the end."""
    server = shell.serve("python solutions/11_count.py")
    patient, client = shell.connect(), shell.connect()
    for sock in patient, client:
        sock.sendall(b"hola mundo...")
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client.recv) == b"13 bytes\r\n"
    patient.setblocking(False)
    with pytest.raises(BlockingIOError):
        patient.recv(100)
    assert stop(server) == []


def test_numbers(shell: Shell) -> None:
    """Chapter 12: all who read get all numbers, and who does not costs nothing."""
    server = shell.serve("python solutions/12_numbers.py")
    before = memory(server)
    shell.connect()
    with shell.connect().makefile("rb") as reader:
        assert all(line == b"%d\r\n" % number for number, line in zip(range(1, 20_000), reader, strict=False))
    assert memory(server) - before < 20_000_000
    assert stop(server) == []


def test_several(shell: Shell) -> None:
    """Chapter 13: two of three are served."""
    taken = "tcp:1234:interface=127.0.0.1"
    server = shell.serve(f"python solutions/13_several.py tcp:1234 {taken} unix:echo.sock")
    with shell.connect() as client:
        client.sendall(b"hola mundo...")
        assert client.recv(100) == b"hola mundo..."
    server.wait_for("unix:echo.sock: listening", 1)
    assert shell.run("python 23_unix_client.py") == ["hola mundo..."]
    assert stop(server) == [
        "tcp:1234: listening",
        f"{taken}: Couldn't listen on 127.0.0.1:1234: [Errno 98] Address already in use.",
        "unix:echo.sock: listening",
    ]


def test_mutual(shell: Shell) -> None:
    """Chapter 14: who has a certificate is served, and who has none is not."""
    assert shell.run("python 16_certificates.py") == []
    server = shell.serve("python solutions/14_mutual.py")
    with_one = shell.run("python solutions/14_mutual_client.py localhost")
    assert with_one == ["hola mundo...", "Connection was closed cleanly."]
    without = shell.run("python 18_tls_client.py localhost")
    assert without
    assert "hola mundo..." not in without
    assert "Connection was closed cleanly." not in without
    assert stop(server) == []


@pytest.mark.parametrize(
    ("lost", "shows"),
    [
        (0, ["hola mundo..."]),
        (2, ["nothing yet", "nothing yet", "hola mundo..."]),
        (3, ["nothing yet", "nothing yet", "nothing yet", "nobody answers"]),
    ],
)
def test_again(lost: int, shows: list[str], shell: Shell) -> None:
    """Chapter 15: as many datagrams are lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", shell.ports[1234]))

        def answer() -> None:
            for number in count(1):
                datagram, address = server.recvfrom(100)
                if not datagram:
                    return
                if number > lost:
                    server.sendto(datagram, address)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            assert shell.run("python solutions/15_again.py") == shows
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", server.getsockname())
            thread.join()


def test_again_where_nobody_listens(shell: Shell) -> None:
    """Chapter 15: a port that is closed is no answer."""
    assert shell.run("python solutions/15_again.py") == [*["nothing yet"] * 3, "nobody answers"]


def test_who(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chapter 16: its clients are told who they are."""
    server = shell.serve("python solutions/16_who.py")
    monkeypatch.chdir(shell.directory)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("echo.sock")
        said = read_to_end(client.recv).decode()
    assert said == f"you are {pwd.getpwuid(os.getuid()).pw_name}, process {os.getpid()}\r\n"
    assert stop(server) == []


def test_reuseport(shell: Shell) -> None:
    """Chapter 17: it runs twice on one port, and both processes get clients."""
    servers = [shell.serve("python solutions/17_reuseport.py") for _ in range(2)]
    seen = [0, 0]
    while not all(seen):
        with shell.connect() as client:
            client.sendall(b"hola mundo...")
            assert client.recv(100) == b"hola mundo..."
        seen = [len(server.wait_for("has a client", 0)) for server in servers]
    for server in servers:
        for line in stop(server):
            assert line == f"process {server.process.pid} has a client"


def test_limit(shell: Shell) -> None:
    """Chapter 18: the tests pass."""
    shown = shell.run("python -m twisted.trial ./solutions/18_limit.py")
    assert shown[-1] == "PASSED (successes=3)"


def test_the_tests_of_the_limit_can_fail(shell: Shell) -> None:
    """Chapter 18: without the limit they do."""
    solution = shell.directory / "solutions/18_limit.py"
    solution.write_text(re.sub(r"MAX_LENGTH = 1000", "MAX_LENGTH = 2000", solution.read_text()))
    shown = shell.run("python -m twisted.trial ./solutions/18_limit.py")
    assert shown[-1] == "FAILED (failures=2, successes=1)"


def test_together(shell: Shell) -> None:
    """Chapter 19: three answers, in order, and no question waits for the answer to another."""
    with socket.create_server(("127.0.0.1", shell.ports[1234])) as listener:
        asked: list[tuple[socket.socket, bytes]] = []

        def serve() -> None:
            for client, _ in (listener.accept() for _ in range(3)):
                with client.makefile("rb") as file:
                    asked.append((client, file.readline()))
            for client, line in reversed(asked):
                with client:
                    client.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        assert shell.run("python solutions/19_together.py") == ["uno", "dos", "tres"]
        thread.join()


def test_every_solution_is_tested() -> None:
    """Those of these chapters, here."""
    here = Path(__file__).read_text()
    later = [path.name for path in (STEPS / "solutions").glob("*.py") if int(path.name[:2]) > 10]
    assert later
    for name in later:
        assert f"solutions/{name}" in here, name
