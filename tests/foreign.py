"""Servers that are not ours: some that answer, and some that do what a server should not."""

from __future__ import annotations

import secrets
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import trustme

from tests.running import PATIENCE, client_program, wait_until

Handler = Callable[[socket.socket], object]

#: The lowest port that tests choose themselves.
FIRST_PORT: Final = 10_000


@contextmanager
def serving(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a TCP server whose connections *handler* gets, one after another.

    :param context: if given, it gets them when their TLS handshake is over, or is left out if that fails.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    problems: list[Exception] = []

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # it has been shut down
            with sock:
                sock.settimeout(PATIENCE)
                try:
                    if context is None:
                        handler(sock)
                    else:
                        with suppress(OSError), context.wrap_socket(sock, server_side=True) as encrypted:
                            handler(encrypted)
                except ConnectionError:
                    pass  # it is the client's to leave
                except Exception as error:  # noqa: BLE001  # raised below
                    problems.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not problems, problems


@contextmanager
def datagrams(handler: Callable[[socket.socket, bytes, tuple[str, int]], object]) -> Iterator[int]:
    """The port of a UDP server whose datagrams *handler* gets, with their sender."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    over = b"it is over"

    def receive() -> None:
        while True:
            data, sender = sock.recvfrom(65536)
            if data == over:
                return
            handler(sock, data, sender)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        yield port
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(over, ("127.0.0.1", port))
        thread.join(PATIENCE)
        sock.close()
    assert not thread.is_alive()


def echo(sock: socket.socket) -> None:
    """What a server should do."""
    while data := sock.recv(65536):
        sock.sendall(data)


def silent(sock: socket.socket) -> None:
    """Take everything, and say nothing."""
    while sock.recv(65536):
        pass


def reset(sock: socket.socket) -> None:
    """Cut the connection off when something has come (SO_LINGER 0: by a RST)."""
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def receive(sock: socket.socket, size: int) -> bytes:
    """*size* bytes, or fewer before an end."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


@contextmanager
def program(*command: str, port: int, cwd: Path | None = None) -> Iterator[None]:
    """A server program, from when it listens on *port* until the end."""
    process = subprocess.Popen(
        [client_program(command[0]), *command[1:]],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None

    def listening() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until(listening, f"{command[0]} listens")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stderr.close()


@contextmanager
def nginx(directory: Path, stream: str, *, port: int) -> Iterator[None]:
    """Run nginx with its stream module, from when it listens on *port* until the end.

    :param directory: where its files go.
    :param stream: what is in the ``stream`` block of its configuration.
    """
    client_program("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian's libnginx-mod-stream
    if not module.exists():
        pytest.skip("nginx has no stream module")
    (directory / "nginx.conf").write_text(f"""
load_module {module};
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr;
events {{ }}
stream {{ {stream} }}
""")
    with program("nginx", "-p", str(directory), "-c", f"{directory}/nginx.conf", port=port):
        yield


def free_port() -> int:
    """A port that nothing has, over TCP or UDP, for programs that cannot choose one themselves.

    It is none of those that the system gives to sockets that take any, as others' do all the time, unless it
    may give them all.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if end <= FIRST_PORT:
        end = 2**16
    while True:
        port = FIRST_PORT + secrets.randbelow(end - FIRST_PORT)
        with ExitStack() as stack:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    stack.enter_context(socket.socket(type=kind)).bind(("", port))
            except OSError:
                continue
            return port


class Authority:
    """A CA with its file in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.file = directory / "authority.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def context(self, *names: str, days: tuple[float, float] = (-1, 30)) -> ssl.SSLContext:
        """A server's context, with a certificate for *names*.

        :param days: from when until when the certificate is valid, from now.
        """
        now = datetime.now(UTC)
        certificate = self.ca.issue_cert(
            *names, not_before=now + timedelta(days=days[0]), not_after=now + timedelta(days=days[1])
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context
