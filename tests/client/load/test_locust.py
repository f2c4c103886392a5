"""The Locust user: a distributed run as in docs/load.md, the words of its failures, and deploy/locust."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.foreign import free_port
from tests.helpers import ROOT
from tests.running import FOUR_TRANSPORTS, PATIENCE, RunningSuite, running

#: A run ends when it has done enough, not after a time that a busy machine may need to begin.
ENOUGH = """\
import gevent
from locust import events
from locust.runners import WorkerRunner


@events.init.add_listener
def quits_after_enough(environment, **_):
    def watch():
        while environment.stats.total.num_requests < 60:
            gevent.sleep(0.1)
        environment.runner.quit()

    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(watch)
"""

LOCUSTFILE = """\
from suite.client.locust_user import EchoUser


class Messages(EchoUser):
    size = 4096
    ca = "certs/ca.pem"
    {more}
"""

#: What the image and the manifests run.
DEPLOYED = ROOT / "deploy/locust/locustfile.py"


@pytest.fixture(autouse=True)
def _locust() -> None:
    """Skip without Locust, except in CI, where it must be installed."""
    if importlib.util.find_spec("locust") is None:
        message = "locust is not installed (pip install 'echo-suite[locust]')"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS) as suite:
        yield suite


def run_locust(
    directory: Path,
    target: str,
    more: str = "",
    *,
    workers: int = 0,
    file: Path = Path("locustfile.py"),
    run_time: str = "",
) -> tuple[int, list[dict[str, Any]], str]:
    """Run Locust, as a master with *workers* if there are any; return its exit code, statistics and log.

    :param more: a line of the class, in the *file* that is made here.
    :param run_time: how long it takes, instead of until it has done enough.
    """
    (directory / "locustfile.py").write_text(LOCUSTFILE.format(more=more))
    (directory / "enough.py").write_text(ENOUGH)
    files = f"{file}" if run_time else f"{file},enough.py"
    locust = (sys.executable, "-m", "locust", "-f", files)
    plan = (
        "--headless",
        "-u",
        "6",
        "-r",
        "6",
        "-t",
        run_time or f"{PATIENCE:.0f}s",
        "--host",
        target,
        "--json",
    )
    port = str(free_port())
    there = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
    here = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
    processes = [
        subprocess.Popen(
            [*locust, *there],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(workers)
    ]
    try:
        done = subprocess.run(
            [*locust, *plan, *((*here, "--expect-workers", str(workers)) if workers else ())],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert [process.wait(PATIENCE) for process in processes] == [0] * workers
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    ("endpoint", "workers"),
    [("tcp", 2), ("tls", 0), ("unix", 0), ("udp", 0)],
    ids=["tcp", "tls", "unix", "udp"],
)
def test_all_that_is_sent_comes_back(suite: RunningSuite, endpoint: str, workers: int) -> None:
    if endpoint == "unix":
        target = "unix:echo.sock"
    else:
        host, port = suite.addresses[endpoint]
        target = f"{endpoint}:{host}:{port}"
    code, (statistics,), said = run_locust(suite.directory, target, workers=workers)
    assert code == 0, said
    assert statistics["name"] == "echo 4096 B"
    assert statistics["method"] == endpoint.upper()
    assert statistics["num_requests"] > 6
    assert statistics["num_failures"] == 0
    assert statistics["total_content_length"] == statistics["num_requests"] * 4096
    assert 0 < statistics["min_response_time"] <= statistics["max_response_time"]


def test_a_failure_has_its_word(suite: RunningSuite) -> None:
    code, (refused,), said = run_locust(suite.directory, f"tcp:127.0.0.1:{free_port()}")
    assert code == 1
    assert refused["name"] == "connect"
    assert refused["num_failures"] == refused["num_requests"] > 0
    assert "refused" in said
    host, port = suite.addresses["tls"]
    code, (misnamed,), said = run_locust(
        suite.directory, f"tls:{host}:{port}", more='server_name = "www.example.org"'
    )
    assert code == 1
    assert misnamed["num_failures"] == misnamed["num_requests"] > 0
    assert "cert-name" in said


@pytest.mark.parametrize("faults", ["", "faults = [{ corrupt = 0.001 }]"], ids=["as-sent", "corrupt"])
def test_a_distributed_run_of_the_deployed_file_fails_if_bytes_come_back_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str
) -> None:
    """Of its workers, that compare them, as of the master, which only counts."""
    monkeypatch.setenv("ECHO_SIZE", "4096")
    with running(tmp_path, f'[endpoints.tcp]\nlisten = "tcp:0"\n{faults}') as suite:
        host, port = suite.addresses["tcp"]
        code, statistics, said = run_locust(tmp_path, f"tcp:{host}:{port}", workers=2, file=DEPLOYED)
    (echoes,) = (row for row in statistics if row["name"] == "echo 4096 B")
    if faults:
        assert code == 1
        assert 0 < echoes["num_failures"] <= echoes["num_requests"]
        assert "mismatch" in said
    else:
        assert code == 0, said
        assert echoes["num_failures"] == 0


#: A worker that takes its time to end; half a second is what Locust gives it.
SLOW = """\
import gevent
from locust import events
from locust.runners import WorkerRunner

from suite.client import locust_user

locust_user.REPORTING = {reporting}


@events.test_stop.add_listener
def takes_its_time(environment, **_):
    if isinstance(environment.runner, WorkerRunner):
        gevent.sleep(2)
"""


@pytest.mark.parametrize("reporting", [PATIENCE, 0.1], ids=["waits", "waits in vain"])
def test_what_a_slow_worker_reports_last_counts_or_the_run_fails(
    suite: RunningSuite, tmp_path: Path, reporting: float
) -> None:
    """A run that is shorter than the three seconds between reports, so that everything is in the last one."""
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW.format(reporting=reporting))
    host, port = suite.addresses["tcp"]
    code, statistics, said = run_locust(
        tmp_path, f"tcp:{host}:{port}", workers=1, file=Path(f"locustfile.py,{slow}"), run_time="1s"
    )
    if reporting == PATIENCE:
        assert code == 0, said
        assert statistics[0]["num_requests"] > 0
    else:
        assert code == 1
        assert "1 of the workers did not report within 0.1 s what they sent last" in said


def run_deployed(directory: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the log of a Locust that is to end by itself."""
    command = (sys.executable, "-m", "locust", "-f", str(DEPLOYED), "--headless", *arguments)
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stderr


def test_a_size_and_a_target_that_are_none_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = run_deployed(tmp_path, "--host", "tcp:127.0.0.1:x")
    assert code == 1
    expected = "--host: 'tcp:127.0.0.1:x': port 'x' is not a number; expected 1 to 65535"
    assert said.splitlines()[-1] == expected
    assert "Traceback" not in said
    for size in ("0", "x", "1KiB"):
        monkeypatch.setenv("ECHO_SIZE", size)
        code, said = run_deployed(tmp_path, "--host", "tcp:127.0.0.1:1")
        assert code == 1
        assert said == f"ECHO_SIZE: {size!r} is not a size; expected a number of bytes, at least 1\n"


@pytest.mark.parametrize(
    ("host", "more", "expected"),
    [
        (
            "localhost:1234",
            "",
            "--host: 'localhost:1234': 'localhost' is not a kind of target; did you mean tcp:",
        ),
        (
            "tls:localhost:1",
            "",
            "Messages: 'certs/ca.pem' cannot be used: No such file or directory; expected PEM",
        ),
        (
            "tls:localhost:1",
            "ca, certificate = None, __file__",
            "Messages: 'locustfile.py' cannot be used: ",
        ),
        (None, "host = 'tpc:localhost:1'", "--host: 'tpc:localhost:1': 'tpc' is not a kind of target"),
    ],
)
def test_a_setting_of_a_user_that_cannot_be_used_is_one_line(
    tmp_path: Path, host: str | None, more: str, expected: str
) -> None:
    """Before anything is started, whatever the locustfile."""
    (tmp_path / "locustfile.py").write_text(
        LOCUSTFILE.format(more=more.replace("__file__", "'locustfile.py'"))
    )
    command = [sys.executable, "-m", "locust", "--headless", *([] if host is None else ["--host", host])]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(expected)
    assert "Traceback" not in done.stderr


def test_a_run_that_has_sent_nothing_fails(tmp_path: Path) -> None:
    """Nobody is started; Locust's own exit code would be 0."""
    code, said = run_deployed(tmp_path, "--host", "tcp:127.0.0.1:1", "--users", "0", "--run-time", "1s")
    assert code == 1
    assert "no message was sent" in said
