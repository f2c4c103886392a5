"""How a running suite shuts down, reloads, and drops privileges."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.admin.asking_http import ask
from tests.running import (
    FOUR_TRANSPORTS,
    ONE_LINE,
    PATIENCE,
    RunningSuite,
    TLSClient,
    read_to_end,
    run_suite,
    running,
    running_on,
    stuck,
    wait_until,
)

REACTORS = ("echo-engine", "epoll", "poll")


def said(suite: RunningSuite, text: str) -> bool:
    """Whether a log entry contains *text*."""
    return any(text in line for line in suite.errors)


# Shutdown.


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("endpoint", ["tcp", "tls", "unix"])
def test_20_of_20_echoes_under_way_complete(tmp_path: Path, endpoint: str, reactor: str) -> None:
    """All clients are sending when the signal arrives, and read more slowly than they send."""
    data = os.urandom(2**20)
    complete: list[bool] = []
    half = threading.Barrier(21, timeout=PATIENCE)

    def client(suite: RunningSuite) -> None:
        with suite.connect(endpoint) as sock:
            stream: TLSClient | socket.socket = sock
            if endpoint == "tls":
                stream = TLSClient(sock, suite.client_context())
            received: list[bytes] = []
            reader = threading.Thread(target=lambda: received.append(read_to_end(stream.recv)))
            reader.start()
            stream.sendall(data[: 2**19])
            half.wait()
            for start in range(2**19, 2**20, 2**16):
                stream.sendall(data[start : start + 2**16])
                time.sleep(0.02)  # this client's pace
            if isinstance(stream, TLSClient):
                stream.close_notify()
            else:
                sock.shutdown(socket.SHUT_WR)
            reader.join(PATIENCE)
            complete.append(received == [data])

    with running(tmp_path, FOUR_TRANSPORTS, "--reactor", reactor) as suite:
        clients = [threading.Thread(target=client, args=(suite,)) for _ in range(20)]
        for one in clients:
            one.start()
        half.wait()
        suite.process.send_signal(signal.SIGTERM)
        for one in clients:
            one.join(PATIENCE)
        assert complete == [True] * 20
        assert suite.process.wait(PATIENCE) == 0


def test_connections_that_wait_to_be_accepted_are_served_to_their_end(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite, ExitStack() as stack:
        suite.process.send_signal(signal.SIGSTOP)
        # More connections than one turn accepts.
        waiting = [stack.enter_context(suite.connect("tcp")) for _ in range(200)]
        for sock in waiting:
            sock.sendall(b"hola")
            sock.shutdown(socket.SHUT_WR)
        suite.process.send_signal(signal.SIGTERM)
        suite.process.send_signal(signal.SIGCONT)
        assert {read_to_end(sock.recv) for sock in waiting} == {b"hola"}


def test_nobody_is_let_in_any_more(tmp_path: Path) -> None:
    with ExitStack() as stack, ExitStack() as held_up:
        suite = stack.enter_context(running(tmp_path, 'drain = "60s"\n' + FOUR_TRANSPORTS))
        busy = stack.enter_context(suite.connect("tcp"))
        busy.sendall(b"hola")
        assert busy.recv(4) == b"hola"
        stuck(suite, held_up)
        suite.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                suite.connect("tcp").close()
            except (ConnectionRefusedError, ConnectionResetError):
                return True  # reset, if it connected between the last accept and the close
            return False

        wait_until(refused, "a connection is refused")
        with suite.connect("udp") as sock:
            sock.send(b"hola")
            assert sock.recv(10) == b"hola", "UDP answers until the end"
        assert busy.recv(1) == b"", "quiet for a second, it is closed"
        held_up.close()
        assert suite.process.wait(PATIENCE) == 0


def test_who_does_not_finish_is_cut_off_in_the_end(tmp_path: Path) -> None:
    with ExitStack() as stack:
        suite = stack.enter_context(running(tmp_path, 'drain = "2s"\n' + FOUR_TRANSPORTS))
        stuck(suite, stack)
        start = time.monotonic()
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(PATIENCE) == 0
        assert time.monotonic() - start > 1.9


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_does_not_wait(
    tmp_path: Path, signals: tuple[signal.Signals, signal.Signals]
) -> None:
    with ExitStack() as stack:
        suite = stack.enter_context(running(tmp_path, 'drain = "1h"\n' + FOUR_TRANSPORTS))
        stuck(suite, stack)
        suite.process.send_signal(signals[0])
        wait_until(lambda: not listens(suite), "it has stopped listening")
        assert suite.process.poll() is None
        suite.process.send_signal(signals[1])
        assert suite.process.wait(PATIENCE) == 0


def listens(suite: RunningSuite) -> bool:
    try:
        suite.connect("tcp").close()
    except ConnectionRefusedError:
        return False
    return True


def test_an_idle_suite_ends_at_once(tmp_path: Path) -> None:
    """Whatever time it would have."""
    with running(tmp_path, 'drain = "1h"\n' + FOUR_TRANSPORTS) as suite:
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(PATIENCE) == 0


# Reloading.


def reload(suite: RunningSuite, config: str, answer: str = "] reloaded: ") -> None:
    """Have *suite* reload *config*, and wait until it logs *answer*."""
    (suite.directory / "config.toml").write_text(config)
    answer = answer.strip("] ")
    suite.asked_for.append(answer)
    before = len(suite.errors)
    suite.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any(answer in line for line in suite.errors[before:]), f"it says {answer!r}")


def connect_to_new(suite: RunningSuite, name: str) -> socket.socket:
    """Connect to the endpoint *name*, which added by a reload: stdout may be read after the log."""
    wait_until(lambda: name in suite.addresses, f"{name} is announced")
    return suite.connect(name)


def exchanges(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"hola")
        return sock.recv(4) == b"hola"
    except ConnectionError:
        return False


def serial(suite: RunningSuite, endpoint: str = "tls") -> int:
    """The serial number of the certificate that an endpoint presents."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suite.connect(endpoint) as sock:
        certificate = TLSClient(sock, context).tls.getpeercert(binary_form=True)
    assert certificate is not None
    from cryptography import x509

    return x509.load_der_x509_certificate(certificate).serial_number


@pytest.mark.parametrize("reactor", REACTORS)
def test_added_removed_changed_and_kept(tmp_path: Path, reactor: str) -> None:
    base = FOUR_TRANSPORTS + 'gone = "tcp:0"\nmoved = "unix:moved.sock"\n'
    with running(tmp_path, base, "--reactor", reactor) as suite, ExitStack() as stack:
        kept, gone = (stack.enter_context(suite.connect(name)) for name in ("tcp", "gone"))
        tls = stack.enter_context(suite.connect("tls"))
        client = TLSClient(tls, suite.client_context())
        old = dict(suite.addresses)
        assert exchanges(kept)
        assert exchanges(gone)
        reload(suite, FOUR_TRANSPORTS + 'added = "tcp:0"\nmoved = "unix:elsewhere.sock"\n')
        assert said(suite, "reloaded: 1 added, 1 removed, 1 changed, 4 as before")
        wait_until(lambda: "added" in suite.addresses, "it says where the new one is")
        with connect_to_new(suite, "added") as sock:
            assert exchanges(sock)
        with suite.connect("moved") as sock:
            assert exchanges(sock)
        assert old["moved"] != suite.addresses["moved"]
        assert not os.path.exists(old["moved"])
        with pytest.raises(ConnectionRefusedError):
            suite.connect("gone")
        assert {name: suite.addresses[name] for name in ("tcp", "udp", "tls")} == {
            name: old[name] for name in ("tcp", "udp", "tls")
        }
        assert exchanges(kept)
        client.sendall(b"hola")
        assert client.recv(4) == b"hola"
        assert gone.recv(1) == b"", "quiet, it is drained"


def test_new_handshakes_see_the_new_certificate_and_old_connections_go_on(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite, suite.connect("tls") as sock:
        client = TLSClient(sock, suite.client_context())
        before = serial(suite)
        assert serial(suite) == before
        shutil.rmtree(tmp_path / "certs")
        assert run_suite(tmp_path, "certs").returncode == 0
        assert serial(suite) == before
        reload(suite, FOUR_TRANSPORTS)
        assert serial(suite) != before
        client.sendall(b"hola")
        assert client.recv(4) == b"hola"


def test_new_limits_hold_for_those_who_are_there(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite, suite.connect("tcp") as sock:
        assert exchanges(sock)
        reload(suite, FOUR_TRANSPORTS + '[limits]\nidle = "1s"\n')
        assert said(suite, "0 added, 0 removed, 4 changed, 0 as before")
        assert sock.recv(1) == b""


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("[endpoints", "config.toml: not TOML"),
        ('[endpoints]\ntcp = "tpc:0"', "config.toml: endpoints.tcp.listen: 'tpc' is not an endpoint type"),
        ('[endpoints]\ntls = "ssl:0:no.key:no.pem"', "no.pem: no such file"),
        ('user = "nobody"\n' + FOUR_TRANSPORTS, "config.toml: user: a change to 'nobody' requires a restart"),
    ],
)
def test_a_bad_configuration_changes_nothing_and_is_told_as_check_tells_it(
    tmp_path: Path, config: str, complaint: str
) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite, suite.connect("tcp") as sock:
        reload(suite, config, "not reloaded: ")
        assert complaint in next(line for line in suite.errors if "not reloaded" in line)
        checked = run_suite(tmp_path, "check", says=f"({ONE_LINE})*")
        if checked.returncode:  # a change that requires a restart is valid in itself
            lines = checked.stderr.splitlines()

            def logged() -> list[str]:
                return [line for line in suite.errors if "not reloaded" in line]

            wait_until(lambda: len(logged()) == len(lines), "each is logged")
            assert [one for one, line in zip(lines, logged(), strict=True) if one not in line] == []
        assert exchanges(sock)
        with suite.connect("tls") as other:
            TLSClient(other, suite.client_context())


def test_a_certificate_that_does_not_match_its_key_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite:
        before = serial(suite)
        shutil.copy(tmp_path / "certs/client.key", tmp_path / "certs/server.key")
        reload(suite, FOUR_TRANSPORTS, "not reloaded: ")
        assert serial(suite) == before


def test_a_port_that_is_taken_changes_nothing_at_all(tmp_path: Path) -> None:
    """No new endpoint is open, and old ones that were closed for them are open again."""
    with running(tmp_path, FOUR_TRANSPORTS) as suite, socket.socket() as stranger, ExitStack() as stack:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = suite.addresses["tcp"][1]
        sock = stack.enter_context(suite.connect("tcp"))
        assert exchanges(sock)
        config = FOUR_TRANSPORTS.replace('tcp = "tcp:0"', f'tcp = "tcp:{port}"')
        config += f'fine = "tcp:0"\ntaken = "tcp:{stranger.getsockname()[1]}"\n'
        reload(suite, config, "not reloaded: ")
        assert said(suite, "endpoints.taken: cannot listen on")
        assert "fine" not in suite.addresses
        assert exchanges(sock)
        with suite.connect("tcp") as other:
            assert exchanges(other)
        reload(suite, config.replace("taken", "# taken"))
        with connect_to_new(suite, "fine") as other:
            assert exchanges(other)


def test_an_address_may_change_hands(tmp_path: Path) -> None:
    """A new endpoint needs the address of an old one."""
    config = '[endpoints]\none = "unix:a.sock"\nother = "unix:b.sock"\n'
    with running(tmp_path, config) as suite, suite.connect("one") as sock:
        assert exchanges(sock)
        reload(suite, '[endpoints]\none = "unix:b.sock"\nother = "unix:a.sock"\n')
        for name in ("a.sock", "b.sock"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(tmp_path / name))
                assert exchanges(client)


def test_a_hangup_while_it_ends_is_nothing(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS) as suite, suite.connect("tcp") as sock:
        assert exchanges(sock)
        suite.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(suite), "it has stopped listening")
        suite.process.send_signal(signal.SIGHUP)
        assert suite.process.wait(PATIENCE) == 0


# A service manager.


def test_a_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence of sd_notify(3): ready, reloading and ready again, watchdog, stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0echo-suite-manager-{os.getpid()}")
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@echo-suite-manager-{os.getpid()}")
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)

        def hears(*words: str) -> None:
            """Read messages until each of *words* has appeared, in order."""
            for word in words:
                while word not in manager.recv(4096).decode().split("\n"):
                    pass

        with running(tmp_path, FOUR_TRANSPORTS) as suite:
            hears("READY=1", "WATCHDOG=1", "WATCHDOG=1")
            reload(suite, FOUR_TRANSPORTS)
            hears("RELOADING=1", "READY=1", "WATCHDOG=1")
            reload(suite, "[endpoints", "not reloaded: ")
            hears("RELOADING=1", "READY=1")
            suite.process.send_signal(signal.SIGTERM)
            hears("STOPPING=1")


# Dropping privileges.


def a_free_low_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no port is free below 1024")


def status_of(pid: int) -> dict[str, list[str]]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to have something to give up")
def test_root_opens_a_low_port_and_is_nobody_from_then_on(entered_by_all: Path) -> None:
    port = a_free_low_port()
    config = f'user = "nobody"\n[endpoints]\nlow = "tcp:{port}"\n'
    with running(entered_by_all, config, command=[sys.executable, "-m", "suite"]) as suite:
        nobody = int(subprocess.check_output(["id", "-u", "nobody"], text=True))
        group = int(subprocess.check_output(["id", "-g", "nobody"], text=True))
        status = status_of(suite.process.pid)
        assert status["Uid"] == [str(nobody)] * 4
        assert status["Gid"] == [str(group)] * 4
        assert set(status["Groups"]) <= {str(group)}
        assert int(status["CapEff"][0], 16) == 0
        with suite.connect("low") as sock:
            assert exchanges(sock)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ('user = "no such user"', "config.toml: user: no such user 'no such user'"),
        ('user = "nobody"\ngroup = "no such group"', "config.toml: group: no such group 'no such group'"),
        ('group = "nogroup"', "config.toml: group: 'nogroup' is set without a user"),
        ("user = 4711", "config.toml: user: 4711 is an integer; expected the name of a user"),
    ],
)
def test_nobody_by_that_name(tmp_path: Path, config: str, complaint: str) -> None:
    (tmp_path / "config.toml").write_text(config + FOUR_TRANSPORTS)
    for command in ([], ["check"]):
        ended = run_suite(tmp_path, *command, says=ONE_LINE)
        assert ended.returncode == 2
        assert ended.stderr.startswith(complaint)


@pytest.mark.parametrize("reactor", ["echo-engine", "asyncio"])
def test_a_lame_duck_accepts_and_is_not_ready(tmp_path: Path, reactor: str) -> None:
    config = 'lameduck = "60m"\n[admin]\nlisten = "unix:admin.sock"\n' + FOUR_TRANSPORTS
    with running_on(reactor, tmp_path, config) as suite:
        assert ask(suite.admin[0], "/readyz").status == 200
        suite.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(suite.admin[0], "/readyz").text == "draining\n", "it was no longer ready")
        with suite.connect("tcp") as sock:
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"
        suite.process.send_signal(signal.SIGTERM)  # the second one does not wait
        assert suite.process.wait(PATIENCE) == 0
    assert any("no longer ready; accepting for another 3" in line for line in suite.errors)


def test_a_lame_duck_stops_accepting_by_itself(tmp_path: Path) -> None:
    with running(tmp_path, 'lameduck = "250ms"\n' + FOUR_TRANSPORTS) as suite:
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(PATIENCE) == 0
