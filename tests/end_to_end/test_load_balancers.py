"""Two suites behind a real load balancer: one of them ends under load, and no echo is lost."""

from __future__ import annotations

import csv
import io
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.admin.asking_http import ask
from tests.foreign import free_port, nginx
from tests.running import PATIENCE, RunningSuite, client_program, running, wait_until

SERVED = """
{lameduck}
[endpoints]
tcp = "tcp:0"
[admin]
listen = "tcp:0"
"""

HAPROXY = """
global
    stats socket unix@{directory}/stats.sock

defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout check 30s
    retries 0

frontend echo
    bind fd@{fileno}
    default_backend echo

backend echo
    balance roundrobin
    option httpchk GET /readyz
    default-server inter 50ms fall 1 rise 1
    server one 127.0.0.1:{one} check port {one_admin}
    server two 127.0.0.1:{two} check port {two_admin}
"""

NGINX = """
upstream echo {{
    server 127.0.0.1:{one};
    server 127.0.0.1:{two};
}}
server {{
    listen 127.0.0.1:{port};
    proxy_pass echo;
    proxy_half_close on;
}}
"""


class Traffic:
    """Clients that connect, have their bytes echoed, end their side, and expect no less and no more.

    :ivar made: the connections that went well.
    :ivar problems: what went wrong with the others.
    """

    def __init__(self, address: tuple[str, int], clients: int = 3) -> None:
        self.made = 0
        self.problems: list[str] = []
        self._address = address
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._ending.is_set():
            data = os.urandom(3000)
            try:
                with socket.create_connection(self._address, PATIENCE) as sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    back = sock.makefile("rb").read()
            except OSError as error:
                self.problems.append(repr(error))
            else:
                if back == data:
                    self.made += 1
                else:
                    self.problems.append(f"{len(back)} bytes of {len(data)}")
            self._ending.wait(0.002)

    def more(self, count: int) -> None:
        """Wait until there have been *count* more connections, or one that went wrong."""
        then = self.made
        wait_until(lambda: self.made >= then + count or bool(self.problems), "more was echoed")


@contextmanager
def two(directory: Path, lameduck: str = "") -> Iterator[tuple[RunningSuite, RunningSuite]]:
    """Two suites, the first of which is the one to end.

    :param lameduck: a line of its configuration.
    """
    with ExitStack() as stack:
        suites = []
        for name, line in (("one", lameduck), ("two", "")):
            (directory / name).mkdir()
            suites.append(stack.enter_context(running(directory / name, SERVED.format(lameduck=line))))
        yield suites[0], suites[1]


@contextmanager
def program(
    directory: Path, *command: str, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """*command*, ended at the end."""
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=output, pass_fds=pass_fds)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def accepted(suite: RunningSuite) -> int:
    count: int = ask(suite.admin[0], "/api/v1/endpoints/tcp").json["connections"]["accepted"]
    return count


def test_haproxy_looks_elsewhere_before_one_stops_accepting(tmp_path: Path) -> None:
    haproxy = client_program("haproxy")
    with (
        two(tmp_path, 'lameduck = "10m"') as (one, other),
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        config = HAPROXY.format(
            directory=tmp_path,
            fileno=listening.fileno(),
            one=one.addresses["tcp"][1],
            one_admin=one.admin[0][1],
            two=other.addresses["tcp"][1],
            two_admin=other.admin[0][1],
        )
        (tmp_path / "haproxy.cfg").write_text(config)
        command = (haproxy, "-db", "-f", "haproxy.cfg")
        with (
            program(tmp_path, *command, pass_fds=(listening.fileno(),)),
            Traffic(listening.getsockname()) as traffic,
        ):
            traffic.more(50)
            assert accepted(one) > 0
            one.process.send_signal(signal.SIGTERM)
            wait_until(lambda: status_of(tmp_path, "one") == "DOWN", "HAProxy had noticed")
            traffic.more(20)  # what was on its way has come
            before = accepted(one)
            traffic.more(50)
            assert accepted(one) == before
            assert ask(one.admin[0], "/readyz").text == "draining\n"
            one.process.send_signal(signal.SIGTERM)  # nobody is there any more
            assert one.process.wait(PATIENCE) == 0
            traffic.more(50)
        assert not traffic.problems


def status_of(directory: Path, server: str) -> str:
    """What HAProxy thinks of *server*."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(directory / "stats.sock"))
        sock.sendall(b"show stat\n")
        text = sock.makefile(encoding="utf-8").read()
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return next(row["status"] for row in rows if row["svname"] == server)


def test_nginx_goes_on_with_the_other(tmp_path: Path) -> None:
    """It has no checks of its own: it tries the next server when one refuses, and what is open is drained."""
    port = free_port()
    with two(tmp_path) as (one, other):
        stream = NGINX.format(one=one.addresses["tcp"][1], two=other.addresses["tcp"][1], port=port)
        with nginx(tmp_path, stream, port=port), Traffic(("127.0.0.1", port)) as traffic:
            traffic.more(50)
            assert accepted(one) > 0
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(PATIENCE) == 0
            traffic.more(50)
        assert not traffic.problems
