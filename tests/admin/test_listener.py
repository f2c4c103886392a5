"""Where the admin interface listens: opened with the endpoints, moved by a reload, closed at the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.admin.asking_http import Connection, ask
from tests.commands.test_doors import TWIST, TWISTD
from tests.running import (
    REACTORS,
    RunningSuite,
    listens,
    run_suite,
    running,
    running_on,
    stuck,
    wait_until,
)

ENDPOINTS = '[endpoints]\ntcp = "tcp:0"\nunix = "unix:echo.sock"\n'
UNIX = '[admin]\nlisten = "unix:run/admin.sock"\n'
TCP = '[admin]\nlisten = "tcp:0"\n'
BOTH = '[admin]\nlisten = ["tcp:0", "unix:run/admin.sock"]\n'

SOCKET = "run/admin.sock"

#: What is asked for: short, and not open to everybody, as health is.
PATH = "/api/v1/faults"

#: A token, and another.
TOKEN, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


def answers(address: Any, **options: Any) -> bool:
    """Whether the admin interface at *address* does."""
    return ask(address, PATH, **options).status == 200


def write_token(directory: Path, token: str, mode: int = 0o600) -> None:
    (directory / "token").write_text(f"{token}\n")
    (directory / "token").chmod(mode)


def reload(suite: RunningSuite, config: str, answer: str = "reloaded: ") -> str:
    """Have *suite* reload *config*; return the line that it logs."""
    (suite.directory / "config.toml").write_text(config)
    before = len([line for line in suite.errors if answer in line])
    suite.process.send_signal(signal.SIGHUP)

    def lines() -> list[str]:
        return [line for line in suite.errors if answer in line][before:]

    wait_until(lambda: bool(lines()), answer)
    return lines()[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[RunningSuite]:
    with running(tmp_path, ENDPOINTS + BOTH) as suite:
        yield suite


# The start, and the end.


def test_it_is_announced_before_the_endpoints_and_answers(suite: RunningSuite) -> None:
    (host, port), path = suite.admin
    assert suite.lines[:2] == [f"admin        HTTP  127.0.0.1:{port}", f"admin        HTTP  {SOCKET}"]
    assert path == str(suite.directory / SOCKET)
    assert answers((host, port))
    assert answers(path)


def test_its_file_is_for_its_owner_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path, ENDPOINTS + UNIX):
        assert mode(tmp_path / SOCKET) == 0o600
    assert os.listdir(tmp_path / "run") == []


def test_another_mode_and_no_lock_file(tmp_path: Path) -> None:
    with running(tmp_path, ENDPOINTS + UNIX.replace("sock", "sock:mode=660:lockfile=0")):
        assert mode(tmp_path / SOCKET) == 0o660
        assert os.listdir(tmp_path / "run") == ["admin.sock"]


def test_without_a_word_there_is_none_and_nothing_for_it_is_imported(tmp_path: Path) -> None:
    """Who has no admin interface does not wait for one."""
    (tmp_path / "start.py").write_text(
        "import sys\n"
        "from suite.__main__ import main\n"
        "code = main()\n"
        "names = ('twisted.web', 'prometheus_client', 'suite.admin.site', 'rich')\n"
        "found = [name for name in names if name in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else code)\n"
    )
    with running(tmp_path, ENDPOINTS, command=[sys.executable, "start.py"]) as suite:
        assert suite.admin == []
        assert not any("admin" in line for line in suite.lines)


@pytest.mark.parametrize("reactor", REACTORS)
def test_every_reactor_has_it(tmp_path: Path, reactor: str) -> None:
    """Also its end is the same: a client that is connected holds up nothing."""
    with running_on(reactor, tmp_path, ENDPOINTS + BOTH) as suite, ExitStack() as stack:
        for address in suite.admin:
            idle = Connection(address)
            stack.callback(idle.close)
            idle.request("GET", PATH)
            idle.getresponse().read()
            assert answers(address)
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(60) == 0


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
def test_under_twisted_it_is_there_as_well(tmp_path: Path, command: tuple[str, ...]) -> None:
    suite = RunningSuite(tmp_path, ENDPOINTS + BOTH, command=command)
    try:
        assert [answers(address) for address in suite.admin] == [True, True]
    finally:
        suite.stop()
    assert os.listdir(tmp_path / "run") == []


def test_what_a_killed_suite_has_left_is_replaced(tmp_path: Path) -> None:
    killed = RunningSuite(tmp_path, ENDPOINTS + UNIX)
    killed.stop(signal.SIGKILL)
    assert not listens(tmp_path / SOCKET)
    with running(tmp_path, ENDPOINTS + UNIX) as suite:
        assert answers(suite.admin[0])


def test_one_that_somebody_has_removed_is_there_again(suite: RunningSuite) -> None:
    suite.asked_for.append("had been removed or replaced")
    (suite.directory / SOCKET).unlink()
    wait_until(lambda: listens(suite.directory / SOCKET), "it is there again")
    assert answers(suite.admin[1])


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_if_it_cannot_be_opened_nothing_is(tmp_path: Path, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "run").write_text("a file")
        where = f"tcp:{port}" if kind == "tcp" else "unix:run/a"
        config = f'[endpoints]\ne = "unix:e.sock"\n[admin]\nlisten = ["unix:b.sock", "{where}"]\n'
        (tmp_path / "config.toml").write_text(config)
        says = (
            rf"admin: cannot listen on 127\.0\.0\.1:{port}: Address already in use\n"
            if kind == "tcp"
            else r"admin: cannot listen on run/a: [^\n]*\n"
        )
        assert run_suite(tmp_path, "--config", "config.toml", says=says).returncode == 1
    assert not any(path.is_socket() for path in tmp_path.iterdir())


def test_a_second_suite_says_that_the_first_has_it(suite: RunningSuite) -> None:
    (suite.directory / "other.toml").write_text('[endpoints]\nother = "unix:other.sock"\n' + UNIX)
    says = r"admin: cannot listen on run/admin\.sock: .*\.lock is held by a running server\n"
    assert run_suite(suite.directory, "--config", "other.toml", says=says).returncode == 1
    assert answers(suite.admin[1])


# What a configuration may say.


def test_check_lists_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(ENDPOINTS + BOTH.replace("tcp:0", "tcp:9901"))
    said = run_suite(tmp_path, "check").stdout.splitlines()
    assert "admin        HTTP  127.0.0.1:9901" in said
    assert f"admin        HTTP  {SOCKET}" in said
    assert said[-1] == "config.toml: 2 endpoints, no errors"


EXPECTED = "cannot be used; expected a tcp:, tcp6: or unix: description, such as tcp:9901"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('listen = "ssl:0"', f"admin.listen: 'ssl:0' {EXPECTED}"),
        ('listen = "udp:0"', f"admin.listen: 'udp:0' {EXPECTED}"),
        ('listen = "haproxy:tcp:0"', f"admin.listen: 'haproxy:tcp:0' {EXPECTED}"),
        ('listen = "systemd:domain=INET:index=0"', "admin.listen: 'systemd:domain=INET:index=0' cannot"),
        ('listen = "nonsense:1"', f"admin.listen: 'nonsense:1' {EXPECTED}"),
        ('listen = "tcp:99999"', "admin.listen: port '99999' is out of range; expected 0 to 65535"),
        ('listen = "tcp:9901:interface=eth0"', "admin.listen: interface 'eth0' is not an address"),
        ('listen = "unix:a:mode=rw"', "admin.listen: mode 'rw' is not a file mode; expected three octal"),
        (r'listen = "unix:\u0000a"', "admin.listen: 'unix:\\x00a' is an abstract socket, open to everybody"),
        (
            'listen = "unix:e.sock"',
            "admin.listen: e.sock is taken by endpoints.e; expected a path of its own",
        ),
        ('listen = "tcp:1234"', "admin.listen: 127.0.0.1:1234 is taken by endpoints.t; expected an address"),
        ('listen = ["tcp:7", "tcp:7"]', "admin.listen: 127.0.0.1:7 is taken by admin.listen; expected an"),
        ('listen = "unix:c.sock"', "admin.listen: c.sock is taken by control; expected a path of its own"),
        ("listen = []", "admin.listen: is empty; expected an endpoint description"),
        ("listen = 9901", "admin.listen: 9901 is an integer; expected an endpoint description"),
        ("listen = [9901]", "admin.listen: 9901 is an integer; expected an endpoint description"),
        ("", "admin.listen: missing; expected an endpoint description, such as"),
        ('listen = "tcp:0"\nport = 1', "admin.port: unknown key"),
        ('listen = "tcp:0"\ntoken-file = "token"', "admin.token-file: unknown key; did you mean token_file?"),
        ('listen = "tcp:0"\nhosts = "echo.example"', "admin.hosts: 'echo.example' is a string; expected an"),
        ('listen = "tcp:0"\nhosts = ["*.example"]', "admin.hosts: '*.example' is not a host name; expected"),
        ('listen = "tcp:0"\nhosts = ["echo:9901"]', "admin.hosts: 'echo:9901' is not a host name; expected"),
        ('listen = "tcp:0"\nhosts = [""]', "admin.hosts: "),
        ('listen = "tcp:0"\ntoken_file = "none"', "admin.token_file: none cannot be read: No such file or"),
        (
            'listen = "tcp:0"\ntoken_file = "."',
            "admin.token_file: . cannot be read: Is a directory; expected",
        ),
        ('listen = "tcp:0"\ntoken_file = "open"', "admin.token_file: open has mode 644, so that others may"),
        ('listen = "tcp:0"\ntoken_file = "empty"', "admin.token_file: empty contains no token; expected 16"),
        ('listen = "tcp:0"\ntoken_file = "short"', "admin.token_file: short contains no token; expected 16"),
        ('listen = "tcp:0"\ntoken_file = "lines"', "admin.token_file: lines contains no token; expected 16"),
    ],
)
def test_one_that_cannot_be_is_one_line(tmp_path: Path, table: str, says: str) -> None:
    """For `check` as for serving; and nothing is opened."""
    files = {"open": TOKEN, "empty": "\n", "short": "0123456789abcde", "lines": f"{TOKEN}\n{TOKEN}\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    (tmp_path / "config.toml").write_text(
        f'control = "unix:c.sock"\n[endpoints]\ne = "unix:e.sock"\nt = "tcp:1234"\n[admin]\n{table}\n'
    )
    for arguments in (["check"], []):
        result = run_suite(tmp_path, *arguments, says=rf"config\.toml: {re.escape(says)}[^\n]*\n")
        assert result.returncode == 2
    assert sorted(os.listdir(tmp_path)) == sorted(["config.toml", *files])


# Reloads.


def test_a_reload_opens_moves_and_closes_it(tmp_path: Path) -> None:
    with running(tmp_path, ENDPOINTS) as suite:
        reload(suite, ENDPOINTS + UNIX)
        wait_until(lambda: len(suite.admin) == 1, "it is announced")
        assert answers(suite.admin[0])
        reload(suite, ENDPOINTS + UNIX.replace("admin.sock", "other.sock:mode=640"))
        wait_until(lambda: len(suite.admin) == 2, "the other is announced")
        assert answers(suite.admin[1])
        assert sorted(os.listdir(tmp_path / "run")) == ["other.sock", "other.sock.lock"]
        assert mode(tmp_path / "run/other.sock") == 0o640
        reload(suite, ENDPOINTS + TCP)
        wait_until(lambda: len(suite.admin) == 3, "the port is announced")
        assert answers(suite.admin[2])
        assert os.listdir(tmp_path / "run") == []
        reload(suite, ENDPOINTS)
        with pytest.raises(ConnectionRefusedError):
            answers(suite.admin[2])
        reload(suite, ENDPOINTS + UNIX)
        wait_until(lambda: len(suite.admin) == 4, "it is announced again")
        assert answers(suite.admin[3])


def test_a_reload_leaves_it_where_it_is_with_its_connections(suite: RunningSuite) -> None:
    inode = (suite.directory / SOCKET).stat().st_ino
    with ExitStack() as stack:
        connections = [Connection(address) for address in suite.admin]
        for connection in connections:
            stack.callback(connection.close)
            connection.request("GET", PATH)
            assert connection.getresponse().read()
        used = [connection.sock for connection in connections]
        reload(suite, ENDPOINTS + BOTH + "hosts = ['echo.example']\n")
        for connection, sock in zip(connections, used, strict=True):
            connection.request("GET", PATH, headers={"Host": "echo.example"})
            response = connection.getresponse()
            assert (response.status, connection.sock) == (200, sock)
            response.read()
        # The one that goes takes no connection with it.
        reload(suite, ENDPOINTS + TCP)
        for connection, sock in zip(connections, used, strict=True):
            connection.request("GET", PATH)
            response = connection.getresponse()
            assert (response.status, connection.sock) == (200, sock)
            response.read()
    assert inode
    assert len(suite.admin) == 2
    assert answers(suite.admin[0])


def test_a_reload_that_fails_leaves_it_as_it_was(suite: RunningSuite) -> None:
    suite.asked_for.append("not reloaded")
    (suite.directory / "taken").mkdir()
    moved = '[admin]\nlisten = ["unix:run/new.sock", "unix:taken"]\nhosts = ["echo.example"]\n'
    line = reload(suite, ENDPOINTS + moved, "not reloaded")
    assert "admin: cannot listen on taken: it exists and is not a socket" in line
    assert sorted(os.listdir(suite.directory / "run")) == ["admin.sock", "admin.sock.lock"]
    assert [answers(address) for address in suite.admin] == [True, True]
    other = {"Host": "echo.example"}
    assert ask(suite.admin[0], PATH, headers=other).status == 421
    # An endpoint that cannot be opened keeps a new admin interface from being opened, too.
    failing = ENDPOINTS + 'bad = "unix:taken"\n' + UNIX.replace("admin.sock", "new.sock")
    assert "endpoints.bad: cannot listen" in reload(suite, failing, "not reloaded: endpoints.bad")
    assert sorted(os.listdir(suite.directory / "run")) == ["admin.sock", "admin.sock.lock"]


def test_a_reload_that_cannot_be_read_leaves_it_as_it_was(suite: RunningSuite) -> None:
    suite.asked_for.append("not reloaded")
    line = reload(suite, ENDPOINTS + BOTH + "token_file = 'none'\n", "not reloaded")
    assert "config.toml: admin.token_file: none cannot be read: No such file or directory" in line
    assert [answers(address) for address in suite.admin] == [True, True]


def test_a_reload_changes_the_token_and_the_old_one_is_refused(tmp_path: Path) -> None:
    write_token(tmp_path, TOKEN)
    config = ENDPOINTS + TCP + 'token_file = "token"\n'
    with running(tmp_path, config, asked_for=["not reloaded"]) as suite:
        address = suite.admin[0]
        assert answers(address, token=TOKEN)
        write_token(tmp_path, OTHER)
        assert answers(address, token=TOKEN), "nobody has asked for a reload yet"
        reload(suite, config)
        refused = ask(address, PATH, token=TOKEN)
        assert refused.status == 401
        assert refused.json["detail"] == "the token is not the one in admin.token_file"
        assert answers(address, token=OTHER)
        write_token(tmp_path, TOKEN, 0o644)
        assert "has mode 644" in reload(suite, config, "not reloaded")
        assert answers(address, token=OTHER), "a reload that fails changes nothing"
        reload(suite, ENDPOINTS + TCP)
        assert ask(address, PATH, token=OTHER).status == 403


def test_what_a_token_is_needed_for(tmp_path: Path) -> None:
    """A change over TCP, and everything but health and metrics from another machine."""
    write_token(tmp_path, TOKEN)
    listen = '[admin]\nlisten = ["tcp:0:interface=0.0.0.0", "unix:run/admin.sock"]\ntoken_file = "token"\n'
    with running(tmp_path, ENDPOINTS + listen) as suite:
        (_, port), path = suite.admin
        near, far = ("127.0.0.1", port), (own_address(), port)
        pause = "/api/v1/endpoints/tcp/pause"
        for address, token, reads, changes in (
            (path, None, 200, 200),
            (near, None, 200, 401),
            (near, TOKEN, 200, 200),
            (near, OTHER, 401, 401),
            (far, None, 401, 401),
            (far, TOKEN, 200, 200),
            (far, OTHER, 401, 401),
        ):
            assert ask(address, PATH, token=token).status == reads
            assert ask(address, pause, "POST", token=token).status == changes
            assert ask(address, "/healthz").status == 200
            assert ask(address, "/metrics").status == 200
        refused = ask(far, PATH)
        assert refused.headers["www-authenticate"] == 'Bearer realm="echo-suite"'
        assert "from another machine, takes the token in admin.token_file" in refused.json["detail"]


def test_our_own_commands_say_which_token_is_missing(tmp_path: Path) -> None:
    write_token(tmp_path, TOKEN)
    listen = '[admin]\nlisten = "tcp:0:interface=0.0.0.0"\ntoken_file = "token"\n'
    with running(tmp_path, ENDPOINTS + listen) as suite:
        far = f"tcp:{own_address()}:{suite.admin[0][1]}"
        says = (
            r"this, asked for from another machine, takes the token in admin\.token_file; expected [^\n]*\n"
        )
        assert run_suite(tmp_path, "status", "--admin", far, says=says).returncode == 2
        assert run_suite(tmp_path, "status", "--admin", far, "--token-file", "token").returncode == 0
        assert run_suite(tmp_path, "health", "--ready", "--admin", far).stdout == "ok\n"


def own_address() -> str:
    """An address of this machine that is not on loopback: who comes from there is as good as far away."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        address: str = sock.getsockname()[0]
        return address


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_has_it_as_well_after_a_reload_too(entered_by_all: Path) -> None:
    """Opened with the rights of the start; what would need those later is refused, and changes nothing."""
    config = f'user = "nobody"\n{ENDPOINTS}[admin]\nlisten = ["tcp:84:127.0.0.9", "unix:admin.sock"]\n'
    command = [sys.executable, "-m", "suite"]
    with running(entered_by_all, config, command=command, asked_for=["not reloaded", "left behind"]) as suite:
        status = Path(f"/proc/{suite.process.pid}/status").read_text()
        assert re.search(r"^Uid:\t[1-9]", status, re.MULTILINE)
        assert [answers(address) for address in suite.admin] == [True, True]
        # Nothing is left to be read or imported that this user may not read.
        pages = ("/", "/metrics", "/readyz", "/static/page.css", "/api/v1/status", "/api/v1/openapi.json")
        assert [ask(suite.admin[0], page).status for page in pages] == [200] * len(pages)
        assert "2 as before" in reload(suite, config)
        assert [answers(address) for address in suite.admin] == [True, True]
        refused = reload(suite, config.replace("tcp:84", "tcp:85"), "not reloaded")
        assert "admin: cannot listen on 127.0.0.9:85: Permission denied" in refused
        assert [answers(address) for address in suite.admin] == [True, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_who_cannot_read_the_code_gets_none_by_a_reload(entered_by_all: Path) -> None:
    """One line says so; or it opens, where everybody can read everything."""
    before = f'user = "nobody"\n{ENDPOINTS}'
    command = [sys.executable, "-m", "suite"]
    with running(entered_by_all, before, command=command, asked_for=["not reloaded", "left behind"]) as suite:
        line = reload(suite, before + TCP, "reloaded: ")
        if "not reloaded" in line:
            assert "config.toml: admin: cannot be served: " in line
            assert "2 as before" in reload(suite, before)
        else:
            wait_until(lambda: bool(suite.admin), "it is announced")
            assert answers(suite.admin[0])


# The end.


def test_it_answers_during_the_drain_and_holds_nothing_up(tmp_path: Path) -> None:
    config = f'drain = "1m"\n{ENDPOINTS}{BOTH}'
    with running(tmp_path, config) as suite, ExitStack() as stack:
        echo = stuck(suite, stack)
        for address in suite.admin:
            half = stack.enter_context(socket.socket(socket.AF_UNIX if isinstance(address, str) else 2))
            half.connect(address)
            half.sendall(b"GET / HTTP/1.1\r\n")
        suite.process.send_signal(signal.SIGTERM)
        port = suite.addresses["tcp"][1]

        def closed() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) != 0

        wait_until(closed, "it accepts no more")
        for address in suite.admin:
            assert [ask(address, f"/{which}z").status for which in ("health", "startup")] == [200, 200]
            not_ready = ask(address, "/readyz")
            assert (not_ready.status, not_ready.text) == (503, "draining\n")
            assert answers(address)
        echo.close()
        assert suite.process.wait(60) == 0
