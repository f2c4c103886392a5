"""The pictures of docs/admin.md: ``python -m tests.admin.page.screenshots`` makes them anew.

They are of a real suite with real clients: some echo, some are refused, some are struck by faults, and a
certificate has few days left. It takes two minutes, for the charts to have their history.
"""

from __future__ import annotations

import math
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import trustme
from PIL import Image

from tests.admin.page.browsing import browsing
from tests.helpers import ROOT
from tests.running import RunningSuite, running

TARGET: Final = ROOT / "docs" / "images"

#: Seconds that the charts have, a little more than they show.
HISTORY: Final = 125

#: Windows by what their pictures are called.
WINDOWS: Final = {
    "light-1280": ("light", 1280, 1400),
    "light-390": ("light", 390, 1400),
    "dark-390": ("dark", 390, 1400),
    "dark-1280": ("dark", 1280, 1400),  # with the details of an endpoint
}

CONFIG: Final = """
[endpoints]
tcp = "tcp:1234"
udp = "udp:1234"
tls = "ssl:4433:privateKey=server.key:certKey=server.pem"
unix = "unix:run/echo.sock"
[endpoints.slow]
listen = "tcp:1235"
faults = [{ latency = "200ms", jitter = "150ms" }]
[endpoints.narrow]
listen = "tcp:1236"
limits = { connections = 2, per_peer = 2, idle = "30s" }
[gallery]
ports = 0
[admin]
listen = "tcp:9901"
"""


def certify(directory: Path) -> None:
    """Make a certificate that has five days left."""
    now = datetime.now(UTC)
    until = now + timedelta(days=5, hours=7)
    issued = trustme.CA().issue_cert(
        "localhost",
        common_name="echo.example",
        organization_name="Example",
        organization_unit_name="Echo",
        not_before=now - timedelta(85),
        not_after=until,
    )
    (directory / "server.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (directory / "server.key").write_bytes(issued.private_key_pem.bytes())
    (directory / "server.key").chmod(0o600)
    (directory / "run").mkdir()


class Clients:
    """Clients of all kinds, until the block ends."""

    def __init__(self, suite: RunningSuite) -> None:
        self._suite = suite
        self._ending = threading.Event()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._context = context
        work: list[Callable[[], None]] = [partial(self._echo, "tcp", 9000, phase) for phase in (0, 1, 3)]
        work += [partial(self._echo, "slow", 3000, 2), partial(self._echo, "unix", 400, 0), self._echo_tls]
        work += [self._datagrams, self._mistake]
        work += [
            partial(self._visit, name) for name in ("narrow", "narrow", "narrow", "narrow", "slow", "tcp")
        ]
        self._threads = [threading.Thread(target=self._go_on, args=(each,)) for each in work]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, work: Callable[[], None]) -> None:
        while not self._ending.is_set():
            with suppress(OSError):  # it may be refused, and comes again
                work()
            self._rest(1)

    def _rest(self, most: float) -> bool:
        return self._ending.wait(random.uniform(most / 3, most))

    def _exchange(self, sock: socket.socket, size: int, phase: float) -> None:
        while not self._rest(0.25):
            phase += 0.05
            count = int(size * (1.3 + math.sin(phase)) * random.uniform(0.7, 1.3))
            sock.sendall(bytes(count))
            while count > 0:
                count -= len(sock.recv(65536)) or count

    def _echo(self, name: str, size: int, phase: float) -> None:
        with self._suite.connect(name) as sock:
            self._exchange(sock, size, phase)

    def _echo_tls(self) -> None:
        with (
            self._suite.connect("tls") as plain,
            self._context.wrap_socket(plain, server_hostname="echo.example") as sock,
        ):
            self._exchange(sock, 5000, 2)

    def _datagrams(self) -> None:
        with self._suite.connect("udp") as sock:
            while not self._rest(0.1):
                sock.send(bytes(random.randrange(600)))
                sock.recv(1000)

    def _mistake(self) -> None:
        """Speak plain HTTP to a TLS port, now and then."""
        self._rest(10)
        with self._suite.connect("tls") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.recv(1000)

    def _visit(self, name: str) -> None:
        with self._suite.connect(name) as sock:
            sock.sendall(b"hola mundo...")
            sock.recv(1000)
            self._rest(4)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1000)
        self._rest(4)


def take(suite: RunningSuite) -> None:
    """Take a picture for each of `WINDOWS`."""
    TARGET.mkdir(exist_ok=True)
    host, port = suite.admin[0]
    with browsing() as browser:
        # Charts that are not on the screen are not drawn.
        browser.do("open", url=f"http://{host}:{port}/", height=3000)
        browser.do("rest", seconds=HISTORY)
        for name, (scheme, width, height) in WINDOWS.items():
            browser.do("show", scheme=scheme, width=width, height=height)
            if name == "dark-1280":
                browser.do("click", selector="#endpoint-slow .more")
            browser.do("rest", seconds=3)
            path = TARGET / f"admin-{name}.png"
            browser.do("screenshot", path=str(path))
            with Image.open(path) as picture:
                small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(path, optimize=True)


def main() -> None:
    """Make them all."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certify(directory)
        refusals = ["refused", "certificate expires", "suppressed"]
        with running(directory, CONFIG, asked_for=refusals) as suite, Clients(suite):
            take(suite)


if __name__ == "__main__":
    main()
