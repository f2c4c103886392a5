"""Minting when processes start together, or are killed: real ones, in one directory."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from suite import certs
from tests.helpers import write_config
from tests.running import ONE_LINE, PATIENCE, StartedSuite, TLSClient, run_suite, started

CONFIG = """
[endpoints]
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
"""

TOGETHER = 5

#: Mint with the clock in 2011, as on a first boot without a battery.
MINT_IN_2011 = """
import datetime
from pathlib import Path
from suite import certs
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2011, 1, 1, tzinfo=tz)
certs.datetime = Clock
certs.mint(Path("certs"))
"""

#: Mint, but die of SIGKILL before one of the system calls that change files.
MINT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from suite import certs
calls = 0
def mortal(call):
    def made(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return made
for name in ("mkdir", "open", "chmod", "fsync", "rename", "link", "unlink", "rmdir"):
    setattr(os, name, mortal(getattr(os, name)))
certs.mint_due(Path("certs"))
"""


def python(directory: Path, program: str, *arguments: str) -> int:
    """Run a Python *program*; return its exit code."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=directory, timeout=PATIENCE, check=False
    ).returncode


def lines_until_ready(suite: StartedSuite) -> list[str]:
    """What *suite* prints until it is ready."""
    assert suite.stdout is not None
    lines = []
    for line in suite.stdout:
        lines.append(line.decode())
        if line.startswith(b"ready"):
            break
    else:
        pytest.fail(f"not ready: {lines} {suite.said}")
    return lines


def echo(directory: Path, lines: list[str]) -> None:
    """Fail unless the suite that printed *lines* echoes to a client that trusts the CA in *directory*."""
    port = next(int(found[1]) for line in lines if (found := re.search(r"TLS +127\.0\.0\.1:(\d+)", line)))
    context = ssl.create_default_context(cafile=str(directory / "certs" / "ca.pem"))
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = TLSClient(sock, context)
        client.sendall(b"hola mundo")
        assert client.recv(100) == b"hola mundo"
        client.close_notify()
        assert client.recv(100) == b""


@pytest.mark.parametrize("left", ["nothing", "ca.pem", "an old set"])
@pytest.mark.parametrize("round_", range(2))
def test_suites_that_start_together_serve_with_one_set(tmp_path: Path, left: str, round_: int) -> None:
    write_config(tmp_path, CONFIG)
    if left == "ca.pem":
        certs.mint(tmp_path / "certs")
        for name in certs.MINTED[1:]:
            (tmp_path / "certs" / name).unlink()
    elif left == "an old set":
        assert python(tmp_path, MINT_IN_2011) == 0
    says = r'(\{[^\n]*"warn"[^\n]*server\.pem expired on 2013-04-04; it has been made anew"\}\n)?'
    with ExitStack() as stack:
        suites = [
            stack.enter_context(started(tmp_path, "--config", "config.toml", says=says))
            for _ in range(TOGETHER)
        ]
        said = [lines_until_ready(suite) for suite in suites]
        for lines in said:
            echo(tmp_path, lines)
        # One of them has made the set; the others say nothing of it.
        assert sum("made development certificates" in "".join(lines) for lines in said) == 1
        for suite in suites:
            suite.send_signal(signal.SIGTERM)
        assert [suite.wait(PATIENCE) for suite in suites] == [0] * TOGETHER
    assert sorted(os.listdir(tmp_path / "certs")) == sorted(certs.MINTED)


@pytest.mark.parametrize("call", [2, 8, 22, 26, 28, 31, 37, 40])
def test_after_a_kill_the_next_start_serves(tmp_path: Path, call: int) -> None:
    write_config(tmp_path, CONFIG)
    assert python(tmp_path, MINT_AND_DIE, str(call)) == -signal.SIGKILL
    with started(tmp_path, "--config", "config.toml") as suite:
        echo(tmp_path, lines_until_ready(suite))
        suite.send_signal(signal.SIGTERM)
        assert suite.wait(PATIENCE) == 0
    assert sorted(os.listdir(tmp_path / "certs")) == sorted(certs.MINTED)


def test_a_directory_that_cannot_be_written_is_worth_another_try(tmp_path: Path) -> None:
    """Exit code 1: systemd (RestartPreventExitStatus=2) starts the suite again."""
    write_config(tmp_path, CONFIG)
    (tmp_path / "certs").write_text("in the way")
    done = run_suite(tmp_path, "--config", "config.toml", says=ONE_LINE)
    assert done.returncode == 1
    assert "certs/ca.pem: cannot be written: File exists" in done.stderr
