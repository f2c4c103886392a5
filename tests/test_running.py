"""The harness itself: what a process that a test starts leaves on standard error fails the test."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.running import ONE_LINE, check_stderr, level_of, run_suite, running, started, wait_until

TCP = '[endpoints]\ntcp = "tcp:0"\n'
EVENT = '{"time": "2026-11-25T12:00:00.000Z", "level": "warn", "message": "refused"}'


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (EVENT, ("warn", False)),
        (EVENT.replace("}", ', "failure": "…"}'), ("warn", True)),
        ("2026-11-25T12:00:00.000Z info tcp#1 127.0.0.1:5 ended", ("info", False)),
        ("Traceback (most recent call last):", (None, False)),
        ('    File "x.py", line 1', (None, False)),
        ("[]", (None, False)),
        ('{"level": "info"}', (None, False)),
        ("", (None, False)),
    ],
)
def test_the_level_of_a_line(line: str, level: tuple[str | None, bool]) -> None:
    assert level_of(line) == level


def test_a_warning_fails_the_test_unless_it_has_asked_for_it(tmp_path: Path) -> None:
    def provoke(*asked_for: str) -> None:
        with running(tmp_path, TCP, asked_for=asked_for) as suite:
            (tmp_path / "config.toml").write_text("[endpoints")
            suite.process.send_signal(signal.SIGHUP)
            wait_until(lambda: bool(suite.errors), "it complains")

    provoke("not reloaded: ")
    with pytest.raises(AssertionError, match=r"the suite has logged:\n.*not reloaded"):
        provoke("another thing")


@pytest.mark.parametrize("written", ["Traceback", "out of memory"])
def test_what_is_no_log_event_fails_the_test(tmp_path: Path, written: str) -> None:
    code = f"""
import sys
from suite.cli import main
print({written!r}, file=sys.stderr, flush=True)
sys.exit(main())
"""
    with (
        pytest.raises(AssertionError, match=f"the suite has logged:\n{written}"),
        running(tmp_path, TCP, command=[sys.executable, "-c", code], asked_for=[written]),
    ):
        pass


def test_a_command_must_say_what_is_expected_and_nothing_else(tmp_path: Path) -> None:
    assert run_suite(tmp_path, "check", says=ONE_LINE).returncode == 2
    with pytest.raises(AssertionError, match=r"on standard error: 'config\.toml: "):
        run_suite(tmp_path, "check")
    with pytest.raises(AssertionError, match="expected 'something'"):
        run_suite(tmp_path, "check", says="something")
    with (
        pytest.raises(AssertionError, match=r"on standard error: 'config\.toml: "),
        started(tmp_path, "check") as process,
    ):
        process.communicate()


def test_a_traceback_is_never_expected() -> None:
    check_stderr(b"fine\n", ONE_LINE)
    with pytest.raises(AssertionError, match="Traceback"):
        check_stderr("Traceback (most recent call last):\n", ".*")
