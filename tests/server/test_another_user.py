"""A suite that has become another user: what that may not do is said, and stops nothing else.

At the end the files of UNIX sockets are removed, or named where that is not possible.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from suite import certs
from tests.running import PATIENCE, cannot_run, client_program, read_to_end, running, wait_until
from tests.server.test_reload import reloaded

PYTHON: Final = [sys.executable, "-m", "suite"]

#: What is said of a socket and its lock that cannot be removed.
LEFT: Final = "left behind: run/e.sock, run/e.sock.lock: Permission denied; the next start removes what it"

AS_NOBODY: Final = 'user = "nobody"\n[endpoints]\nplain = "tcp:0"\n'
UNIX: Final = 'unix = "unix:run/e.sock:mode=666"\n'

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have something to give up")

either = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])


def unix_echoes(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(b"hola")
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock.recv) == b"hola"


@either
def test_a_directory_that_was_made_belongs_to_the_user(entered_by_all: Path, options: Sequence[str]) -> None:
    """So nothing stays behind, and a socket that somebody removes is put right."""
    config = AS_NOBODY + UNIX
    with running(entered_by_all, config, *options, command=PYTHON, asked_for=["had been removed"]) as suite:
        assert (entered_by_all / "run").owner() == "nobody"
        os.unlink(entered_by_all / "run/e.sock")
        wait_until(lambda: any("it is there again" in line for line in suite.errors), "it is there again")
        assert unix_echoes(entered_by_all / "run/e.sock")
        assert "1 removed" in reloaded(suite, AS_NOBODY)
        assert os.listdir(entered_by_all / "run") == []
        assert "1 added" in reloaded(suite, config)
    assert os.listdir(entered_by_all / "run") == []


@either
def test_a_mode_that_it_may_not_change_changes_nothing(entered_by_all: Path, options: Sequence[str]) -> None:
    config = AS_NOBODY + UNIX
    with running(entered_by_all, config, *options, command=PYTHON, asked_for=["not reloaded: "]) as suite:
        refused = reloaded(suite, config.replace("mode=666", "mode=600"), "not reloaded: ")
        assert "endpoints.unix: cannot listen on run/e.sock: Operation not permitted" in refused
        assert "0 changed, 2 as before" in reloaded(suite, config)
        assert unix_echoes(entered_by_all / "run/e.sock")


@either
def test_what_stays_behind_is_named_and_removed_by_the_next_start(
    entered_by_all: Path, options: Sequence[str]
) -> None:
    """In a directory that was there before, and is root's."""
    (entered_by_all / "run").mkdir(mode=0o755)
    config = AS_NOBODY + UNIX
    for _ in range(2):
        with running(entered_by_all, config, *options, command=PYTHON, asked_for=["left behind"]) as suite:
            assert unix_echoes(entered_by_all / "run/e.sock")
        assert len([line for line in suite.errors if LEFT in line]) == 1
        assert sorted(os.listdir(entered_by_all / "run")) == ["e.sock", "e.sock.lock"]


@either
def test_what_a_reload_leaves_behind_it_cannot_take_back(
    entered_by_all: Path, options: Sequence[str]
) -> None:
    """The one takes effect all the same, the other changes nothing, and says why."""
    (entered_by_all / "run").mkdir(mode=0o755)
    for lock, why in (
        ("", "run/e.sock.lock: Permission denied"),
        (":lockfile=0", "the socket that is left there cannot be removed: Permission denied"),
    ):
        config = AS_NOBODY + UNIX.replace('"\n', f'{lock}"\n')
        asked_for = ["left behind: run/e.sock", "not reloaded: "]
        with running(entered_by_all, config, *options, command=PYTHON, asked_for=asked_for) as suite:
            assert "0 added, 1 removed, 0 changed, 1 as before" in reloaded(suite, AS_NOBODY)
            refused = reloaded(suite, config, "not reloaded: ")
            assert f"endpoints.unix: cannot listen on run/e.sock: {why}" in refused
            with suite.connect("plain") as sock:
                sock.sendall(b"hola")
                assert sock.recv(4) == b"hola"
        assert len([line for line in suite.errors if "left behind" in line]) == 1


@either
def test_a_file_system_that_has_become_read_only_stops_nothing(
    tmp_path: Path, options: Sequence[str]
) -> None:
    """Neither a reload, which closes what is removed in all workers, nor the end."""
    unshare, nsenter, mount = (client_program(name) for name in ("unshare", "nsenter", "mount"))
    if subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
        cannot_run("mounts cannot be unshared here")
    (tmp_path / "sock").mkdir()
    prepare = f'{mount} -t tmpfs none sock && exec "$@"'
    command = [unshare, "--mount", "sh", "-c", prepare, "sh", *PYTHON]
    only = '[endpoints]\ntcp = "tcp:0"\n'
    config = f'{only}a = "unix:sock/a.sock:lockfile=0"\nb = "unix:sock/b.sock:lockfile=0"\n'
    with running(tmp_path, config, *options, command=command, asked_for=["left behind"]) as suite:
        inside = [nsenter, "--mount", "--target", str(suite.process.pid)]
        subprocess.run([*inside, mount, "-o", "remount,ro", str(tmp_path / "sock")], check=True)
        assert "1 removed, 0 changed, 2 as before" in reloaded(suite, config.replace("b = ", "# "))
        asking = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for name, problem in (("a", ""), ("b", "ConnectionRefusedError")):
            path = str(tmp_path / f"sock/{name}.sock")
            asked = subprocess.run(
                [*inside, sys.executable, "-c", asking, path], capture_output=True, text=True, check=False
            )
            assert problem in asked.stderr
            assert bool(problem) == bool(asked.returncode)
        assert suite.stop(signal.SIGTERM) == 0
    for name in ("a", "b"):
        assert any(f"left behind: sock/{name}.sock: Read-only file system" in line for line in suite.errors)


@either
def test_what_it_may_not_see_any_more_has_not_changed(entered_by_all: Path, options: Sequence[str]) -> None:
    """Keys as Debian has them, and a socket for a group: no false alarm, and a reload without them works."""
    certs.mint(entered_by_all / "certs")
    os.chmod(entered_by_all / "certs", 0o710)
    (entered_by_all / "hidden").mkdir(mode=0o750)
    config = f'{AS_NOBODY}unix = "unix:hidden/e.sock"\n'
    tls = 'tls = "ssl:0:certs/server.key:certs/server.pem"\n'
    may_not = "nobody may not read certs/server.key, certs/server.pem: a reload that needs them fails"
    asked_for = [may_not, "left behind: hidden/e.sock, hidden/e.sock.lock: Permission denied", "not reloaded"]
    with running(entered_by_all, config + tls, *options, command=PYTHON, asked_for=asked_for) as suite:
        wait_until(lambda: sum(may_not in line for line in suite.errors) == 1, "it is said once")
        assert "0 added, 1 removed, 0 changed, 2 as before" in reloaded(suite, config)
        refused = reloaded(suite, config + 'unix2 = "unix:hidden/f.sock"\n', "not reloaded: ")
        assert (
            "endpoints.unix2: cannot listen on hidden/f.sock: hidden/f.sock.lock: Permission denied"
            in refused
        )
        other_mode = config.replace("e.sock", "e.sock:mode=600")
        refused = reloaded(suite, other_mode, "not reloaded: ")
        assert "endpoints.unix: cannot listen on hidden/e.sock: Permission denied" in refused
        assert "1 changed" in reloaded(suite, config.replace("e.sock", "e.sock:backlog=7"))
