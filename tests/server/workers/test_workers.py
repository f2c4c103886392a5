"""A suite of several processes: to the outside it is one."""

from __future__ import annotations

import json
import os
import platform
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from suite import certs
from suite.cores import cores
from tests import activate
from tests.forbidding import NUMBERS
from tests.forbidding import __file__ as forbidding
from tests.foreign import free_port
from tests.running import (
    FOUR_TRANSPORTS,
    PATIENCE,
    RunningSuite,
    TLSClient,
    cannot_run,
    is_gone,
    read_to_end,
    run_suite,
    running,
    wait_until,
)
from tests.server.test_reload import Traffic, echoes, reloaded
from tests.test_signals import AS_INIT, child_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers take Linux")

TWO: Final = ("--workers", "2", "--log", "json")

PYTHON: Final = (sys.executable, "-m", "suite")

#: What a worker that is killed has logged.
KILLED: Final = "killed by signal 9; another takes its place"

TCP: Final = '[endpoints]\ntcp = "tcp:0"\n'


def workers_of(suite: RunningSuite) -> list[int]:
    """The processes of the workers of *suite*, those that have just begun to be included."""
    return children_of(suite.process.pid)


def children_of(pid: int) -> list[int]:
    """The children of the process *pid*."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def all_gone(pids: Sequence[int]) -> bool:
    """Whether none of the processes *pids* runs any more."""
    return all(map(is_gone, pids))


def answer(suite: RunningSuite, endpoint: str, data: bytes) -> bytes:
    """What comes back on a new connection, or for a datagram."""
    with suite.connect(endpoint) as sock:
        if endpoint == "udp":
            sock.send(data)
            return sock.recv(65536)
        if endpoint == "tls":
            client = TLSClient(sock, suite.client_context())
            client.sendall(data)
            client.close_notify_and_fin()
            return read_to_end(client.recv)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock.recv)


def serving_workers(suite: RunningSuite, endpoint: str = "tcp", connections: int = 40) -> set[object]:
    """The workers that have logged something of *connections* new ones (the log is in JSON, at debug)."""
    before = len(suite.errors)
    for _ in range(connections):
        assert answer(suite, endpoint, b"who") == b"who"
    wait_until(lambda: len(closed_of(suite, endpoint, before)) >= connections, "all of them are in the log")
    return {event["worker"] for event in closed_of(suite, endpoint, before)}


def closed_of(suite: RunningSuite, endpoint: str, first: int = 0) -> list[dict[str, object]]:
    """The events of connections of *endpoint* that have ended."""
    events = [json.loads(line) for line in suite.errors[first:]]
    return [event for event in events if event.get("endpoint") == endpoint and "connection" in event]


def test_every_transport_is_served_by_all_workers_and_announced_once(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, *TWO, "--log-level", "debug") as suite:
        assert len(workers_of(suite)) == 2
        for endpoint in ("tcp", "tls", "unix", "udp"):
            for size in (1, 1000, 60_000):
                assert answer(suite, endpoint, b"x" * size) == b"x" * size
        assert serving_workers(suite) == {1, 2}
        assert serving_workers(suite, "tls") == {1, 2}
        assert sum("ready" in line for line in suite.lines) == 1
        assert sum(line.startswith("tcp") for line in suite.lines) == 1
        children = workers_of(suite)
    assert all_gone(children)


def test_connections_have_the_numbers_of_the_endpoint(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO, "--log-level", "debug") as suite:
        assert serving_workers(suite) == {1, 2}
        assert sorted(int(str(event["connection"])) for event in closed_of(suite, "tcp")) == [*range(1, 41)]


def test_limits_are_those_of_the_suite(tmp_path: Path) -> None:
    limits = "[limits]\nconnections = 6\nper_peer = 4\n"
    with running(tmp_path, TCP + limits, *TWO, asked_for=["refused"]) as suite, ExitStack() as stack:
        host, port = suite.addresses["tcp"]

        def connected(source: str) -> socket.socket:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(PATIENCE)
            sock.bind((source, 0))
            sock.connect((host, port))
            return sock

        for _ in range(4):
            assert echoes(connected("127.0.0.1"), b"mine")
        for _ in range(20):
            assert connected("127.0.0.1").recv(1) == b""  # per_peer
        for _ in range(2):
            assert echoes(connected("127.0.0.2"), b"mine")
        for _ in range(20):
            assert connected("127.0.0.3").recv(1) == b""  # connections


def test_a_source_has_its_rate_once(tmp_path: Path) -> None:
    """It comes from many ports, which the kernel alone would divide among the workers; so after a reload."""
    config = '[endpoints]\nudp = "udp:0"\n'
    limits = '[limits]\nrate = 1\nburst = 25\nrate_exempt = ["192.0.2.1"]\n'
    with running(tmp_path, config, *TWO, asked_for=["not answered"]) as suite:
        assert len(answered(suite, 100)) == 100
        reloaded(suite, config + limits)
        # One a second more, while they are being sent.
        assert 25 <= len(answered(suite, 100)) < 35
        reloaded(suite, config)
        assert len(answered(suite, 100)) == 100


def answered(suite: RunningSuite, datagrams: int) -> list[bytes]:
    """The answers to *datagrams*, each of another port, until none comes for a while."""
    with ExitStack() as stack:
        socks = [stack.enter_context(suite.connect("udp")) for _ in range(datagrams)]
        for number, sock in enumerate(socks):
            sock.send(b"%d" % number)
        poller = select.poll()
        for sock in socks:
            poller.register(sock, select.POLLIN)
        found: list[bytes] = []
        by_fd = {sock.fileno(): sock for sock in socks}
        while ready := poller.poll(300):
            found += [by_fd[fd].recv(100) for fd, _ in ready]
        return found


def test_the_gallery_is_the_same_at_each_worker(tmp_path: Path) -> None:
    gallery = '[gallery]\nports = 0\nonly = ["good", "expired"]\n'
    with running(tmp_path, TCP, *TWO, asked_for=[KILLED]) as suite:
        reloaded(suite, TCP + gallery)
        wait_until(lambda: "gallery-index" in suite.addresses, "there is a gallery")
        assert len(shown(suite, "gallery-expired")) == 1
        os.kill(workers_of(suite)[0], signal.SIGKILL)
        assert len(shown(suite, "gallery-expired") | shown(suite, "gallery-expired")) == 1
        authorities = {json.dumps(json.loads(manifest(suite))["ca"]) for _ in range(20)}
        assert len(authorities) == 1


def shown(suite: RunningSuite, endpoint: str) -> set[bytes]:
    """The certificates that an endpoint shows to many clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = set()
    for _ in range(20):
        with suite.connect(endpoint) as raw, context.wrap_socket(raw) as tls:
            found.add(tls.getpeercert(binary_form=True) or b"")
    return found


def manifest(suite: RunningSuite) -> bytes:
    """gallery.json."""
    with suite.connect("gallery-index") as sock:
        sock.sendall(b"GET /gallery.json HTTP/1.0\r\n\r\n")
        return read_to_end(sock.recv).partition(b"\r\n\r\n")[2]


# Ends that nobody has asked for.


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.stress)])
def test_a_worker_that_is_killed_is_replaced_and_the_port_is_always_served(
    tmp_path: Path, kills: int
) -> None:
    victims: set[int] = set()
    with running(tmp_path, TCP, *TWO, asked_for=[KILLED]) as suite:
        for number in range(kills):
            victim = workers_of(suite)[number % 2]
            victims.add(victim)
            os.kill(victim, signal.SIGKILL)
            for _ in range(10):
                # Not on the connection that goes with its worker, but on each that is made from now on.
                wait_until(lambda: _served(suite), "the port is served")
            wait_until(
                lambda: victim not in workers_of(suite) and len(workers_of(suite)) == 2,  # noqa: B023  # called before it changes
                "there are two again",
            )
        assert any(KILLED in line for line in suite.errors)
    assert len(victims) == kills


def _served(suite: RunningSuite) -> bool:
    try:
        return answer(suite, "tcp", b"hola") == b"hola"
    except ConnectionResetError:  # accepted by the worker that was just then killed
        return False


def test_a_worker_that_hangs_is_replaced_where_a_service_manager_watches(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        command = ["env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", "WATCHDOG_USEC=600000", *PYTHON]
        asked_for = ["does not answer; it is killed", KILLED]
        with running(tmp_path, TCP, *TWO, command=command, asked_for=asked_for) as suite:
            os.kill(workers_of(suite)[0], signal.SIGSTOP)
            wait_until(lambda: any(KILLED in line for line in suite.errors), "it is killed")
            wait_until(lambda: len(workers_of(suite)) == 2, "there are two again")
            assert [answer(suite, "tcp", b"hola") for _ in range(20)] == [b"hola"] * 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_that_hangs_keeps_no_reload_and_no_end_from_happening(
    tmp_path: Path, number: signal.Signals
) -> None:
    asked_for = ["does not answer; it is killed", KILLED]
    with running(tmp_path, TCP, *TWO, asked_for=asked_for) as suite:
        os.kill(workers_of(suite)[0], signal.SIGSTOP)
        reloaded(suite, TCP + 'new = "tcp:0"\n', '"reloaded: 1 added')
        wait_until(lambda: len(workers_of(suite)) == 2, "there are two again")
        assert [answer(suite, "new", b"hola") for _ in range(10)] == [b"hola"] * 10
        children = workers_of(suite)
        os.kill(children[1], signal.SIGSTOP)
        suite.process.send_signal(signal.SIGHUP)
        suite.process.send_signal(number)
        assert suite.process.wait(PATIENCE) == 0
        assert all_gone(children)


def test_a_worker_that_hangs_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    """While one is waited for, those that have answered drain."""
    asked_for = ["worker 1 does not answer; it is killed"]
    with running(tmp_path, TCP, *TWO, "--log-level", "debug", asked_for=asked_for) as suite:
        assert serving_workers(suite) == {1, 2}
        os.kill(workers_of(suite)[0], signal.SIGSTOP)
        suite.process.send_signal(signal.SIGTERM)
        assert suite.process.wait(PATIENCE) == 0
        assert len([line for line in suite.errors if "it is killed" in line]) == 1


def test_a_supervisor_without_descriptors_can_replace_its_workers(tmp_path: Path) -> None:
    config = TCP + '[admin]\nlisten = "unix:admin.sock"\n'
    with running(tmp_path, config, *TWO) as suite:
        used = len(os.listdir(f"/proc/{suite.process.pid}/fd"))
    command = ["sh", "-c", f'ulimit -n {used}; exec "$0" "$@"', *PYTHON]
    with running(tmp_path, config, *TWO, command=command, asked_for=[KILLED]) as suite, ExitStack() as stack:
        for _ in range(10):  # what may be free
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(tmp_path / "admin.sock"))
        for turn in range(4):
            victim = workers_of(suite)[turn % 2]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in workers_of(suite), "it has ended")  # noqa: B023  # called before it changes
            wait_until(lambda: len(workers_of(suite)) == 2, "there are two again")
            wait_until(lambda: _served(suite), "the port is served")


def test_where_memory_runs_out_a_worker_is_ended_rather_than_the_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO) as suite:
        scores = [
            int(Path(f"/proc/{pid}/oom_score_adj").read_text())
            for pid in (suite.process.pid, *workers_of(suite))
        ]
    assert [score - scores[0] for score in scores[1:]] == [min(100, 1000 - scores[0])] * 2


def test_what_waits_for_a_worker_that_dies_waits_for_the_next(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO, asked_for=[KILLED]) as suite, ExitStack() as stack:
        victim = workers_of(suite)[0]
        os.kill(victim, signal.SIGSTOP)
        socks = [stack.enter_context(suite.connect("tcp")) for _ in range(40)]
        for sock in socks:
            sock.sendall(b"hola")
        os.kill(victim, signal.SIGKILL)
        assert [sock.recv(4) for sock in socks] == [b"hola"] * 40


def test_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    """It reaps whom nobody else does, and still knows how its workers have ended."""
    if subprocess.run([*AS_INIT, "true"], capture_output=True, check=False).returncode:
        cannot_run("no PID namespaces here")
    command = [*AS_INIT, *PYTHON]
    suite = RunningSuite(tmp_path, TCP, *TWO, command=command)
    supervisor = child_of(suite.process.pid)
    for _ in range(2):
        children = children_of(supervisor)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        wait_until(lambda: children[0] not in children_of(supervisor), "it has ended")  # noqa: B023  # called before it changes
        wait_until(lambda: len(children_of(supervisor)) == 2, "there are two again")
        wait_until(lambda: _served(suite), "the port is served")
    enter = ["nsenter", "--target", str(supervisor), "--pid"]
    orphan = "sleep 2 </dev/null >/dev/null 2>&1 & echo done"
    subprocess.run([*enter, "sh", "-c", orphan], stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
    wait_until(lambda: len(children_of(supervisor)) == 3, "there is an orphan")
    wait_until(lambda: len(children_of(supervisor)) == 2, "it is reaped")
    os.kill(supervisor, signal.SIGTERM)
    assert suite.process.wait(PATIENCE) == 0
    suite.asked_for.append(KILLED)
    suite.stop()
    assert not suite.complaints()


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.stress)])
def test_no_worker_outlives_the_supervisor(tmp_path: Path, kills: int) -> None:
    config = f'[endpoints]\ntcp = "tcp:{free_port()}"\nunix = "unix:echo.sock"\n'
    for _ in range(kills):
        suite = RunningSuite(tmp_path, config, *TWO)
        with Traffic(suite.addresses["tcp"]) as traffic:
            wait_until(partial(traffic.has_made, 20), "there is traffic")
            children = workers_of(suite)
            assert suite.stop(signal.SIGKILL) == -signal.SIGKILL
            wait_until(partial(all_gone, children), "its workers have ended")
        assert not suite.complaints()
    with running(tmp_path, config, *TWO) as suite:  # nothing has been left behind that is in the way
        assert answer(suite, "unix", b"hola") == b"hola"


# Signals.


def test_sigterm_drains_every_worker(tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path, FOUR_TRANSPORTS, *TWO)
    with ExitStack() as stack:
        socks = [stack.enter_context(suite.connect("tcp")) for _ in range(20)]
        assert all(echoes(sock, b"before") for sock in socks)
        suite.process.send_signal(signal.SIGTERM)
        for sock in socks:
            sock.sendall(b"after")
            sock.shutdown(socket.SHUT_WR)
        assert [read_to_end(sock.recv) for sock in socks] == [b"after"] * 20
    assert suite.stop() == 0
    assert not suite.complaints()


def test_sigquit_waits_for_nobody(tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path, 'drain = "60s"\n' + TCP, *TWO)
    with suite.connect("tcp") as sock:
        assert echoes(sock, b"before")
        children = workers_of(suite)
        assert suite.stop(signal.SIGQUIT) == 0
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert all_gone(children)


def test_what_is_said_to_a_worker_is_for_the_supervisor(tmp_path: Path) -> None:
    """Ctrl-C and a service manager's SIGTERM reach every process of a group."""
    with running(tmp_path, TCP, *TWO) as suite, suite.connect("tcp") as sock:
        assert echoes(sock, b"before")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            for worker in workers_of(suite):
                os.kill(worker, number)
        assert echoes(sock, b"after")
        assert len(workers_of(suite)) == 2


def test_a_log_file_is_opened_again_by_all(tmp_path: Path) -> None:
    log = tmp_path / "suite.log"
    arguments = ("--workers", "2", "--log", "json", "--log-level", "debug", "--log-file", "suite.log")
    with running(tmp_path, TCP, *arguments) as suite:
        assert answer(suite, "tcp", b"one") == b"one"
        log.rename(tmp_path / "old.log")
        suite.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, "the log is opened again")

        def writing() -> set[object]:
            assert answer(suite, "tcp", b"more") == b"more"
            return {json.loads(line).get("worker") for line in log.read_text().splitlines()}

        wait_until(lambda: {1, 2} <= writing(), "both workers write there")


def test_a_status_is_the_sum(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO) as suite:
        for _ in range(30):
            assert answer(suite, "tcp", b"1234567890") == b"1234567890"

        def total() -> str:
            suite.process.send_signal(signal.SIGUSR2)
            found = [line for line in suite.errors if "status: 1 endpoints" in line]
            return found[-1] if found else ""

        wait_until(lambda: "0 open, 30 accepted, 300 bytes" in total(), "all of them are counted")


def test_a_status_says_whom_it_lacks(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO, asked_for=["does not answer"]) as suite, ExitStack() as stack:
        for _ in range(30):
            assert echoes(stack.enter_context(suite.connect("tcp")), b"hola")
        victim = workers_of(suite)[0]
        os.kill(victim, signal.SIGSTOP)
        suite.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: any("status: 1 endpoints" in line for line in suite.errors), "there is a status")
        os.kill(victim, signal.SIGCONT)
        events = [json.loads(line) for line in suite.errors]
        [lacks] = [event for event in events if "does not answer" in event["message"]]
        assert lacks["message"].startswith(f"worker 1 (process {victim}) does not answer; its connections")
        [total] = [event for event in events if "status: 1 endpoints" in event["message"]]
        assert lacks["open"] + total["open"] == 30


# Reloading.


def test_a_worker_that_hangs_in_the_middle_of_a_reload_does_not_keep_it_from_happening(
    tmp_path: Path,
) -> None:
    """It was alive when the reload began."""
    asked_for = ["does not answer; it is killed", KILLED, "reloaded"]
    config = "".join(f'more{number} = "tcp:0"\n' for number in range(150))
    with running(tmp_path, TCP, *TWO, asked_for=asked_for) as suite:
        victim = workers_of(suite)[1]
        (suite.directory / "config.toml").write_text(TCP + config)
        used = len(os.listdir(f"/proc/{victim}/fd"))
        suite.process.send_signal(signal.SIGHUP)
        # It has been given its first sockets.
        wait_until(lambda: len(os.listdir(f"/proc/{victim}/fd")) > used + 50, "it prepares")
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: any("reloaded: 150 added" in line for line in suite.errors), "it is reloaded")
        wait_until(lambda: victim not in workers_of(suite), "it has been replaced")
        wait_until(lambda: "more149" in suite.addresses, "the new endpoints are announced")
        assert answer(suite, "more149", b"hola") == b"hola"


def test_a_reload_changes_all_workers_and_no_connection_is_lost(tmp_path: Path) -> None:
    port = free_port()
    before = f'[endpoints]\na = "tcp:{port}"\n'
    after = f'[endpoints]\nb = "tcp:{port}:backlog=10"\nnew = "tcp:0"\n[limits]\nidle = "60m"\n'
    with running(tmp_path, before, *TWO) as suite, ExitStack() as stack:
        socks = [stack.enter_context(suite.connect("a")) for _ in range(20)]
        assert all(echoes(sock) for sock in socks)
        with Traffic(suite.addresses["a"]) as traffic:
            for config in (after, before) * 5:
                made = traffic.made + 10
                assert "reloaded" in reloaded(suite, config)
                wait_until(partial(traffic.has_made, made), "there is traffic")
        assert traffic.problems == []
        del suite.addresses["new"]  # of the last time: it has another port each time
        reloaded(suite, after)
        for _ in range(20):
            assert answer(suite, "new", b"new") == b"new"
        assert all(echoes(sock) for sock in socks)


def test_a_reload_that_one_cannot_follow_changes_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = f'other = "tcp:{taken.getsockname()[1]}"\n'
        with running(tmp_path, TCP, *TWO, asked_for=["not reloaded"]) as suite:
            line = reloaded(suite, TCP + 'one = "tcp:0"\n' + other, "not reloaded")
            assert "Address already in use" in line
            assert "one" not in suite.addresses
            assert answer(suite, "tcp", b"hola") == b"hola"
            assert "1 as before" in reloaded(suite, TCP)


def test_a_reload_for_which_one_has_no_descriptors_changes_nothing(tmp_path: Path) -> None:
    more = "".join(f'more{number} = "tcp:0"\n' for number in range(20))
    with running(tmp_path, TCP, *TWO, asked_for=["not reloaded"]) as suite:
        children = workers_of(suite)
        used = len(os.listdir(f"/proc/{children[1]}/fd"))
        limits = resource.prlimit(children[1], resource.RLIMIT_NOFILE)
        resource.prlimit(children[1], resource.RLIMIT_NOFILE, (used + 10, limits[1]))
        assert "no file descriptors left" in reloaded(suite, TCP + more, "not reloaded")
        assert "more1" not in suite.addresses
        assert [answer(suite, "tcp", b"hola") for _ in range(20)] == [b"hola"] * 20
        held = Path(f"/proc/{children[1]}/fd")
        wait_until(lambda: len(os.listdir(held)) == used, "the clients are gone, and nothing else is left")
        resource.prlimit(children[1], resource.RLIMIT_NOFILE, limits)
        reloaded(suite, TCP + more, '"reloaded: 20 added')
        assert workers_of(suite) == children


def test_the_number_of_workers_takes_a_restart(tmp_path: Path) -> None:
    with running(tmp_path, "workers = 2\n" + TCP, asked_for=["not reloaded"]) as suite:
        line = reloaded(suite, "workers = 3\n" + TCP, "not reloaded")
        assert "config.toml: workers: a change to 3 requires a restart; expected 2 as before" in line


def test_workers_that_come_later_serve_what_has_been_reloaded(tmp_path: Path) -> None:
    with running(tmp_path, TCP, *TWO, "--log-level", "debug", asked_for=[KILLED]) as suite:
        reloaded(suite, TCP + 'new = "tcp:0"\n')
        wait_until(lambda: "new" in suite.addresses, "the new endpoint is announced")
        for worker in workers_of(suite):
            os.kill(worker, signal.SIGKILL)
        assert serving_workers(suite, "new") == {1, 2}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_workers_that_come_later_need_no_rights_of_the_start(entered_by_all: Path) -> None:
    """Neither the key nor the port is nobody's to open."""
    certs.mint(entered_by_all / "certs")
    os.chmod(entered_by_all / "certs", 0o700)
    config = f'user = "nobody"\n{FOUR_TRANSPORTS}'
    arguments = (*TWO, "--log-level", "debug")
    asked_for = [KILLED, "nobody may not read", "left behind"]
    with running(entered_by_all, config, *arguments, command=PYTHON, asked_for=asked_for) as suite:
        for worker in workers_of(suite):
            assert Path(f"/proc/{worker}").stat().st_uid != 0
            os.kill(worker, signal.SIGKILL)
        assert serving_workers(suite, "tls") == {1, 2}


def test_certificates_are_renewed_in_all(tmp_path: Path) -> None:
    with running(tmp_path, FOUR_TRANSPORTS, *TWO, "--log-level", "debug") as suite:
        assert answer(suite, "tls", b"hola") == b"hola"
        shutil.rmtree(tmp_path / "certs")
        certs.mint(tmp_path / "certs")
        wait_until(lambda: any("files have changed" in line for line in suite.errors), "they are read again")
        assert serving_workers(suite, "tls") == {1, 2}  # each is verified against the new CA


# Inherited sockets.


def test_inherited_sockets_are_shared(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        config = '[endpoints]\ntcp = "systemd:domain=INET:name=tcp"\nudp = "systemd:domain=INET:name=udp"\n'
        fds = [tcp.fileno(), udp.fileno()]
        command = [sys.executable, activate.__file__, f"tcp={fds[0]}", f"udp={fds[1]}", "--", *TWO]
        with running(tmp_path, config, command=command, pass_fds=fds, asked_for=[KILLED]) as suite:
            suite.addresses = {"tcp": tcp.getsockname(), "udp": udp.getsockname()}
            for _ in range(20):
                assert answer(suite, "tcp", b"tcp") == b"tcp"
                assert answer(suite, "udp", b"udp") == b"udp"
            for worker in workers_of(suite):
                os.kill(worker, signal.SIGKILL)
            assert answer(suite, "udp", b"udp") == b"udp"


# What is said of them.


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("workers = 0", 'workers: 0 cannot be used; expected 1 to 256, or "auto" for one a core'),
        ("workers = 1000", 'workers: 1000 cannot be used; expected 1 to 256, or "auto" for one a core'),
        ('workers = "two"', "workers: 'two' cannot be used; expected 1 to 256, or \"auto\" for one a core"),
        ("workers = true", "workers: expected 1 to 256"),
    ],
)
def test_bad_numbers_are_one_line(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "config.toml").write_text(f"{line}\n{TCP}")
    result = run_suite(tmp_path, "check", "--config", "config.toml", says=r"config\.toml: workers: [^\n]+\n")
    assert result.returncode == 2
    assert problem.partition(": expected")[0] in result.stderr
    assert "1 to 256" in result.stderr


@pytest.mark.parametrize("number", ["0", "-1", "two", "257", ""])
def test_bad_options_are_one_line(tmp_path: Path, number: str) -> None:
    (tmp_path / "config.toml").write_text(TCP)
    says = r"--workers '[^']*': cannot be used; expected 1 to 256, or \"auto\" for one a core\n"
    result = run_suite(tmp_path, f"--workers={number}", "--config", "config.toml", says=says)
    assert result.returncode == 2


def test_check_says_how_many_there_will_be(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("workers = 3\n" + TCP)
    result = run_suite(tmp_path, "check", "--config", "config.toml")
    assert result.stdout.endswith("config.toml: 1 endpoint, 3 workers, no errors\n")


def test_sockets_that_others_open_cannot_be_shared(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('workers = 2\n[endpoints]\nstdio = "stdio:"\n')
    result = run_suite(tmp_path, "check", "--config", "config.toml", says=r"config\.toml: [^\n]+\n")
    assert result.returncode == 2


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="no numbers of system calls for this machine")
def test_sandboxes_that_forbid_what_it_asks_for(tmp_path: Path) -> None:
    """`SystemCallFilter=~@resources`, for one; without memory to share, it says so."""
    command = [sys.executable, forbidding, "prlimit64", *PYTHON]
    with running(tmp_path, TCP, *TWO, command=command) as suite:
        assert [answer(suite, "tcp", b"hola") for _ in range(10)] == [b"hola"] * 10
    command = [sys.executable, forbidding, "memfd_create", *PYTHON, *TWO]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    said = "2 workers cannot share memory: Function not implemented; expected workers = 1\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("arguments", [("--workers", "1"), ()])
def test_one_worker_is_one_process_that_imports_nothing_for_others(
    tmp_path: Path, arguments: Sequence[str]
) -> None:
    (tmp_path / "start.py").write_text(
        "import sys\n"
        "from suite.__main__ import main\n"
        "code = main()\n"
        "rooms = ('suite.server.workers', 'suite.admin.workers')\n"
        "files = ('suite.guard.shared', 'suite.guard.steering')\n"
        "found = [name for name in sys.modules if name.startswith((*rooms, *files))]\n"
        "sys.exit(f'imported: {found}' if found else code)\n"
    )
    config = TCP + '[admin]\nlisten = "unix:admin.sock"\n'
    with running(tmp_path, config, command=[sys.executable, "start.py", *arguments]) as suite:
        assert workers_of(suite) == []
        assert answer(suite, "tcp", b"hola") == b"hola"
        assert run_suite(tmp_path, "status").stdout.startswith("suite ")


def test_auto_is_one_a_core(tmp_path: Path) -> None:
    with running(tmp_path, 'workers = "auto"\n' + TCP) as suite:
        assert len(workers_of(suite)) == (cores() if cores() > 1 else 0)


def test_threads_of_clients_all_get_their_bytes(tmp_path: Path) -> None:
    """Every byte, from both workers, at the same time."""
    data = os.urandom(2**20)
    with running(tmp_path, FOUR_TRANSPORTS, *TWO) as suite:
        problems: list[str] = []

        def exchange(endpoint: str) -> None:
            if answer_of_many(suite, endpoint, data) != data:
                problems.append(endpoint)

        threads = [
            threading.Thread(target=exchange, args=(endpoint,))
            for endpoint in ("tcp", "unix")
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert problems == []


def answer_of_many(suite: RunningSuite, endpoint: str, data: bytes) -> bytes:
    """What comes back of *data*, which is more than the kernel holds."""
    with suite.connect(endpoint) as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = read_to_end(sock.recv)
        sender.join(PATIENCE)
        return received
