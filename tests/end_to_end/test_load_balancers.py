"""Two suites behind a real load balancer: one of them ends under load, and no echo is lost.

The configurations are those of docs/load-balancers.md, with addresses and ports from here.
"""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.admin.asking_http import ask
from tests.foreign import free_port, nginx
from tests.helpers import ROOT
from tests.running import PATIENCE, RunningSuite, TCPAddress, client_program, running, wait_until

PAGE = (ROOT / "docs/load-balancers.md").read_text()


def from_page(language: str, start: str) -> str:
    """The example in *language* whose first line is *start*, a comment; without that line."""
    (found,) = re.findall(rf"^```{language}\n# {re.escape(start)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def here(text: str, *suites: RunningSuite, endpoint: str = "tcp") -> str:
    """*text* of the page, in which port 1234 of 192.0.2.1 and 192.0.2.2 is the *endpoint* of *suites*."""
    for number, suite in enumerate(suites, 1):
        _, port = suite.addresses[endpoint]
        there, now = f"192.0.2.{number}:1234", f"127.0.0.1:{port}"
        text = text.replace(f"{there} check port 9901", f"{now} check port {suite.admin[0][1]}")
        text = text.replace(there, now)
    return text


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


def served(lameduck: str) -> str:
    """The page's configuration of a suite, on loopback, and on ports that the system chooses."""
    text = from_page("toml", "config.toml").replace("192.0.2.9", "127.0.0.1")
    text = re.sub(r":\d+:interface=0\.0\.0\.0", ":0", text)
    return re.sub(r'^lameduck = ".*"$', f'lameduck = "{lameduck}"', text, flags=re.MULTILINE)


def _misbehaving(text: str, faults: str) -> str:
    """*text*, with *faults* at its TCP endpoint."""
    if not faults:
        return text
    changed = rf"tcp = {{ listen = \1, faults = {faults} }}"
    return re.sub(r'^tcp = (".*")$', changed, text, flags=re.MULTILINE)


@contextmanager
def two(
    directory: Path, lameduck: str = "250ms", faults: str = ""
) -> Iterator[tuple[RunningSuite, RunningSuite]]:
    """Two suites, the first of which is the one to end.

    :param lameduck: of the first one.
    :param faults: of its TCP endpoint, as a TOML array.
    """
    with ExitStack() as stack:
        suites = []
        for name, text in (("one", _misbehaving(served(lameduck), faults)), ("two", served("250ms"))):
            (directory / name).mkdir()
            suites.append(stack.enter_context(running(directory / name, text)))
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


@contextmanager
def haproxy(directory: Path, config: str) -> Iterator[tuple[str, int]]:
    """HAProxy with *config*, and where it listens in place of its ``bind``."""
    command = (client_program("haproxy"), "-db", "-f", "haproxy.cfg")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = config.replace("bind :1234", f"bind fd@{listening.fileno()}")
        assert f"fd@{listening.fileno()}" in config
        # What is lost shall show.
        config = config.replace("mode tcp", "mode tcp\n    retries 0")
        stats = f"global\n    stats socket unix@{directory}/stats.sock\n"
        (directory / "haproxy.cfg").write_text(stats + config)
        with program(directory, *command, pass_fds=(listening.fileno(),)) as process:

            def is_ready() -> bool:
                assert process.poll() is None, (directory / "output").read_text()
                try:
                    return bool(status_of(directory, "one"))
                except (FileNotFoundError, ConnectionRefusedError):
                    return False

            wait_until(is_ready, "HAProxy was ready")
            yield listening.getsockname()


def test_haproxy_looks_elsewhere_before_one_stops_accepting(tmp_path: Path) -> None:
    client_program("haproxy")
    with two(tmp_path, "10m") as (one, other):
        config = here(from_page("haproxy", "haproxy.cfg"), one, other)
        with haproxy(tmp_path, config) as address, Traffic(address) as traffic:
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


def test_the_suites_know_the_client_behind_haproxy(tmp_path: Path) -> None:
    client_program("haproxy")
    with two(tmp_path) as (one, other):
        config = here(from_page("haproxy", "haproxy.cfg"), one, other)
        with (
            haproxy(tmp_path, config) as address,
            socket.create_connection(address, PATIENCE, ("127.0.0.3", 0)) as sock,
        ):
            sock.sendall(b"hola")
            assert sock.recv(100) == b"hola"
            host, port = sock.getsockname()
            open_ones = [
                connection
                for suite in (one, other)
                for connection in ask(suite.admin[0], "/api/v1/connections").json["connections"]
            ]
    assert [each["peer"] for each in open_ones] == [f"{host}:{port}"]


def checked_by_probe(directory: Path, *suites: RunningSuite, patience: int = 1) -> str:
    """The configuration of the page in which HAProxy's checks are probes.

    :param patience: seconds in which each step of a probe has to succeed; on the page, one.
    """
    check = directory / "check-echo"
    script = from_page("sh", "/usr/local/bin/check-echo")
    assert "--timeout 1s " in script
    check.write_text(script.replace("--timeout 1s ", f"--timeout {patience}s "))
    check.chmod(0o755)
    front, back = from_page("haproxy", "haproxy.cfg").split("\nbackend echo\n")
    assert "httpchk" in back
    text = front + from_page("haproxy", "haproxy.cfg, instead of httpchk")
    text = text.replace("/usr/local/bin/check-echo", str(check))
    # A busy machine starts no probe within four seconds.
    assert "timeout check 4s" in text
    text = text.replace("timeout check 4s", f"timeout check {PATIENCE}s")
    return here(text.replace("/opt/echo-suite/bin", f"{sys.prefix}/bin"), *suites)


def test_by_the_exit_code_of_probe_haproxy_leaves_a_suite_that_changes_bytes(tmp_path: Path) -> None:
    """It can be connected to, and its `/readyz` says that all is well."""
    client_program("haproxy")
    with two(tmp_path, faults="[{ corrupt = 1 }]") as (one, other):
        with haproxy(tmp_path, checked_by_probe(tmp_path, one, other, patience=20)) as address:
            wait_until(lambda: status_of(tmp_path, "one") == "DOWN", "the probe has failed")
            assert status_of(tmp_path, "two").startswith("UP")
            with Traffic(address) as traffic:
                traffic.more(50)
        assert not traffic.problems
        assert ask(one.admin[0], "/readyz").status == 200


def test_and_a_suite_that_hangs_and_takes_it_again_when_it_does_not(tmp_path: Path) -> None:
    client_program("haproxy")
    with two(tmp_path) as (one, other), haproxy(tmp_path, checked_by_probe(tmp_path, one, other)):
        one.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: status_of(tmp_path, "one") == "DOWN", "the probe has failed")
        finally:
            one.process.send_signal(signal.SIGCONT)
        wait_until(lambda: status_of(tmp_path, "one").startswith("UP"), "the probe goes well again")


def status_of(directory: Path, server: str) -> str:
    """What HAProxy thinks of *server*."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(directory / "stats.sock"))
        sock.sendall(b"show stat\n")
        text = sock.makefile(encoding="utf-8").read()
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return next(row["status"] for row in rows if row["svname"] == server)


@contextmanager
def behind_nginx(directory: Path, *suites: RunningSuite) -> Iterator[tuple[TCPAddress, TCPAddress]]:
    """Run nginx as on the page; where it listens, for TCP and for UDP."""
    text = from_page("nginx", "nginx.conf")
    text = text.removeprefix("stream {\n").removesuffix("}\n")
    start, end = text.index("upstream echo_udp"), text.index("server {")
    text = here(text[:start], *suites) + here(text[start:end], *suites, endpoint="udp") + text[end:]
    ports = free_port(), free_port()
    for words, port in zip(("listen 1234;", "listen 1234 udp;"), ports, strict=True):
        assert words in text
        text = text.replace(words, words.replace("1234", f"127.0.0.1:{port}"))
    with nginx(directory, text, port=ports[0]):
        yield ("127.0.0.1", ports[0]), ("127.0.0.1", ports[1])


def test_nginx_goes_on_with_the_other(tmp_path: Path) -> None:
    """It has no checks of its own: it tries the next server when one refuses, and what is open is drained."""
    with two(tmp_path) as (one, other):
        with behind_nginx(tmp_path, one, other) as (address, _), Traffic(address) as traffic:
            traffic.more(50)
            assert accepted(one) > 0
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(PATIENCE) == 0
            traffic.more(50)
        assert not traffic.problems


def test_nginx_keeps_the_datagrams_of_a_host_at_one_suite_until_that_has_gone(tmp_path: Path) -> None:
    def echoes() -> bool:
        """From a new port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto(b"hola", address)
            try:
                return sock.recv(100) == b"hola"
            except TimeoutError:
                return False

    with two(tmp_path) as suites, behind_nginx(tmp_path, *suites) as (_, address):
        assert all(echoes() for _ in range(20))
        answered = [
            ask(suite.admin[0], "/api/v1/endpoints/udp").json["datagrams"]["answered"] for suite in suites
        ]
        assert sorted(answered) == [0, 20]
        gone = suites[answered.index(20)]
        gone.process.send_signal(signal.SIGTERM)
        assert gone.process.wait(PATIENCE) == 0
        wait_until(echoes, "the other one answers")
