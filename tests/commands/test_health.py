"""``health``: a running suite asked whether it is well, as a probe does."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.admin.asking_http import ask
from tests.client.admin.canned import canned, http
from tests.foreign import serving
from tests.running import PATIENCE, RunningSuite, run_suite, running, stuck, wait_until

CONFIG = """
[admin]
listen = ["unix:run/admin.sock", "tcp:0"]
[endpoints]
tcp = "tcp:0"
unix = "unix:echo.sock"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("health"), CONFIG) as suite:
        yield suite


@pytest.mark.parametrize("which", [[], ["--ready"], ["--startup"], ["--timeout", "30s"]])
def test_a_suite_that_is_well(suite: RunningSuite, which: list[str]) -> None:
    result = run_suite(suite.directory, "health", *which)
    assert (result.returncode, result.stdout) == (0, "ok\n")


def test_over_tcp_without_a_configuration(suite: RunningSuite, tmp_path: Path) -> None:
    port = suite.admin[1][1]
    for address in (f"tcp:127.0.0.1:{port}", f"http://localhost:{port}", f"unix:{suite.admin[0]}"):
        result = run_suite(tmp_path, "health", "--ready", "--admin", address)
        assert (result.returncode, result.stdout) == (0, "ok\n")


NOBODY = "no suite is listening there; expected one that has been started, or reloaded, with this admin"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--admin", "none.sock"], 2, "--admin 'none.sock' is not an admin interface; expected unix:run/"),
        (["--admin", "unix:none.sock"], 1, f"none.sock: {NOBODY}"),
        (["--admin", "unix:echo.sock"], 1, "echo.sock: it does not answer as an admin interface does"),
        (["--admin", "unix:config.toml"], 1, "config.toml: is not a socket; expected the admin interface"),
        (["--config", "none.toml"], 2, "none.toml: no such file; expected a configuration"),
        (["--timeout", "soon"], 2, "--timeout 'soon' is not a duration; expected one such as 250ms"),
        (["--timeout", "0"], 2, "--timeout '0' is too short; expected one such as 250ms"),
        (["--ready", "--startup"], 2, "python -m suite health: argument --startup: not allowed with"),
        (["--redy"], 2, "python -m suite health: unknown option --redy; did you mean --ready?"),
        (["tcp"], 2, "python -m suite health: unexpected argument 'tcp'"),
    ],
)
def test_what_goes_wrong_is_one_line(suite: RunningSuite, words: list[str], code: int, error: str) -> None:
    result = run_suite(suite.directory, "health", *words, says=rf"{re.escape(error)}[^\n]*\n")
    assert (result.returncode, result.stdout) == (code, "")


def test_without_an_admin_interface_the_way_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"\n')
    says = (
        r'config\.toml: admin: missing; expected a table \[admin\] with listen = "unix:run/admin\.sock", and'
        r" a reload \(SIGHUP\) to open it; or name that of a suite with --admin\n"
    )
    assert run_suite(tmp_path, "health", says=says).returncode == 2


def test_a_server_that_is_none_of_ours(suite: RunningSuite, tmp_path: Path) -> None:
    """Python's own, which answers every path with a page."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = re.findall(r"port (\d+)", server.stdout.readline())[0]
            says = rf"localhost:{port}: it does not answer /readyz as a suite does; [^\n]*\n"
            result = run_suite(tmp_path, "health", "--ready", "--admin", f"tcp:localhost:{port}", says=says)
            assert result.returncode == 1
        finally:
            server.kill()


def test_a_suite_that_refuses_to_answer_says_why(tmp_path: Path) -> None:
    body = '{"detail": "there are too many requests; expected fewer"}'
    with canned(tmp_path, http(body, "503 Service Unavailable", "application/problem+json")) as (place, _):
        where = f"unix:{place.addresses[0].path}"
        says = "there are too many requests; expected fewer\n"
        assert run_suite(tmp_path, "health", "--admin", where, says=says).returncode == 1


def test_a_suite_that_is_stopped_does_not_answer_in_time(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG) as suite:
        suite.process.send_signal(signal.SIGSTOP)
        try:
            says = r"run/admin\.sock: no answer within 0\.2 s\n"
            assert run_suite(tmp_path, "health", "--timeout", "200ms", says=says).returncode == 1
        finally:
            suite.process.send_signal(signal.SIGCONT)


def test_an_answer_in_pieces_has_no_more_time(tmp_path: Path) -> None:
    """One that never ends, and never pauses for as long as it may take."""

    def trickle(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):
            while not select.select([sock], [], [], 0.02)[0] or sock.recv(65536):
                sock.sendall(b"o")

    with serving(trickle) as port:
        says = rf"localhost:{port}: no answer within 0\.3 s\n"
        where = f"tcp:localhost:{port}"
        assert (
            run_suite(tmp_path, "health", "--timeout", "300ms", "--admin", where, says=says).returncode == 1
        )


def test_a_suite_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    with running(tmp_path, f'drain = "1m"\n{CONFIG}') as suite, ExitStack() as stack:
        echo = stuck(suite, stack)
        suite.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(suite.admin[0], "/readyz").status == 503, "it drains")
        results = [run_suite(tmp_path, "health", *which) for which in ([], ["--startup"], ["--ready"])]
        assert [(each.returncode, each.stdout) for each in results] == [
            (0, "ok\n"),
            (0, "ok\n"),
            (1, "draining\n"),
        ]
        echo.close()


def test_it_imports_what_it_needs_and_no_more(suite: RunningSuite) -> None:
    """Kubernetes may run it every second: neither Twisted nor what draws on terminals has a place in it."""
    code = (
        "import sys\n"
        "from suite.cli import main\n"
        "code = main(['health'])\n"
        "slow = ('twisted', 'OpenSSL', 'cryptography', 'rich', 'zope', 'suite.server', 'suite.endpoints')\n"
        "found = [name for name in slow if name in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=suite.directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
