"""A suite that was forked is as good as one that was executed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forking import ForkedSuite
from tests.running import PATIENCE, running

PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


def test_output_and_exit_code(tmp_path: Path) -> None:
    """They are those of one that was executed, and so is what it makes of its standard input."""
    for arguments, code in ((["--version"], 0), (["check", "--config", "/dev/stdin"], 2), (["--what"], 2)):
        executed = subprocess.run(
            [sys.executable, "-m", "suite", *arguments],
            cwd=tmp_path,
            input="what = 1",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        with ForkedSuite(*arguments, cwd=tmp_path, text=True, **PIPES) as process:
            output, errors = process.communicate("what = 1", timeout=PATIENCE)
        assert (output, errors) == (executed.stdout, executed.stderr)
        assert process.returncode == executed.returncode == code


def test_a_signal_that_kills_it(tmp_path: Path) -> None:
    """It is a child of the test's, which sees what it died of."""
    (tmp_path / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"\n')
    with ForkedSuite(cwd=tmp_path, **PIPES) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL


def test_descriptors_and_directory(tmp_path: Path) -> None:
    """It has those that it is given, under their numbers, and no others of ours."""
    with socket.socket() as ours, running(tmp_path, '[endpoints]\ntcp = "tcp:0"\n') as suite:
        without = set(os.listdir(f"/proc/{suite.process.pid}/fd"))
    with (
        socket.socket() as given,
        running(tmp_path, '[endpoints]\ntcp = "tcp:0"\n', pass_fds=[given.fileno()]) as suite,
    ):
        own = Path(f"/proc/{suite.process.pid}")
        there = own / "fd" / str(given.fileno())
        assert there.readlink() == Path(f"/proc/self/fd/{given.fileno()}").readlink()
        assert (own / "cwd").readlink() == tmp_path
        assert len(os.listdir(own / "fd")) == len(without) + 1
    assert ours.fileno() < 0


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "LISTEN_FDS"])
def test_what_only_an_executed_process_would_see(tmp_path: Path, name: str) -> None:
    """Such a test is told so."""
    environment = {**os.environ, name: "1"}
    with ForkedSuite("--version", cwd=tmp_path, env=environment, text=True, **PIPES) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (
        1,
        f"{name} is only read by a process that is executed, which this one is not\n",
    )
