"""`suite.signals`: what arrives before anything can act on it is remembered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from suite.signals import MEANINGS, OTHERS, Action, Signals
from tests.running import PATIENCE, cannot_run, check_stderr

#: ``python -m suite`` that gets signals as soon as it catches them; their numbers come first.
EARLY = """
import os, signal, sys
from suite.signals import Signals

catch = Signals.catch
early, sys.argv[1:] = sys.argv[1].split(","), sys.argv[2:]

def caught(self):
    catch(self)
    Signals.catch = catch
    print(*[name for name in ("argparse", "twisted") if name in sys.modules], file=sys.stderr)
    for number in early:
        os.kill(os.getpid(), int(number))

Signals.catch = caught
from suite.__main__ import main
sys.exit(main())
"""

#: A process 1 of its own, as in a container.
AS_INIT = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Signals that are caught, and handled as before after the test."""
    before = {number: signal.getsignal(number) for number in Signals()._actions}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # As in a process that has just started: other tests may have left theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    found = Signals()
    found.catch()
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_signals_are_remembered_until_somebody_listens(signals: Signals) -> None:
    heard: list[int] = []
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
        signal.raise_signal(number)
    assert not signals.stopping
    signals.connect(heard.append)
    assert heard == [signal.SIGHUP, signal.SIGUSR2]
    signal.raise_signal(signal.SIGTERM)
    assert heard[2:] == [signal.SIGTERM]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGXCPU", "SIGRTMIN"])
def test_a_signal_to_stop_is_known_before_anybody_listens(signals: Signals, name: str) -> None:
    signal.raise_signal(getattr(signal, name))
    assert signals.stopping


def test_no_signal_that_would_end_a_process_is_left_out(signals: Signals) -> None:
    """But for those of a crash, and the two that nobody can handle."""
    # signal(7): the default action of these is to terminate the process.
    fatal = {
        *("SIGALRM", "SIGHUP", "SIGINT", "SIGIO", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSTKFLT", "SIGTERM"),
        *("SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGXCPU"),
    }
    assert fatal <= {*MEANINGS, *OTHERS}
    realtime = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
    fatal.remove("SIGALRM")  # pytest-timeout has it here
    for number in (*map(signal.Signals.__getitem__, fatal), *realtime):
        assert signal.getsignal(number) == signals._arrived
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python's own doing
        assert signal.getsignal(getattr(signal, name)) == signal.SIG_IGN


def test_a_mask_of_the_parent_is_undone() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    before = {number: signal.getsignal(number) for number in Signals()._actions}
    try:
        Signals().catch()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert blocked.isdisjoint(Signals()._actions)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_what_is_caught_for_nothing_does_what_it_would_have_done(signals: Signals) -> None:
    """A command such as `probe` is interrupted as ever, even if the signal came before it began."""
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.release()
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_that_another_has_set_is_left_to_it() -> None:
    """`twistd` opens its log file again at SIGUSR1."""

    def theirs(*_: object) -> None:
        pass

    before = {number: signal.getsignal(number) for number in Signals()._actions}
    signal.signal(signal.SIGUSR1, theirs)
    signal.signal(signal.SIGTERM, theirs)
    try:
        ours = Signals()
        ours.catch()
        assert signal.getsignal(signal.SIGUSR1) is theirs
        assert signal.getsignal(signal.SIGTERM) == ours._arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_each_action_has_a_signal() -> None:
    assert {*MEANINGS.values()} == {*Action}


# The process.


def run_early(
    directory: Path, *numbers: int, arguments: Sequence[str] = (), init: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the suite with early signals to its end."""
    (directory / "config.toml").write_text('[endpoints]\nunix = "unix:echo.sock"\n')
    early = ",".join(str(int(number)) for number in numbers)
    done = subprocess.run(
        [*(AS_INIT if init else ()), sys.executable, "-c", EARLY, early, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    imported, _, said = done.stderr.partition("\n")
    assert imported == "", "nothing slow has been imported yet"
    done.stderr = said
    return done


@pytest.fixture(params=[False, True], ids=["a process", "process 1"])
def init(request: pytest.FixtureRequest) -> bool:
    wanted: bool = request.param
    if wanted and subprocess.run([*AS_INIT, "true"], capture_output=True, check=False).returncode:
        cannot_run("no PID namespaces here")
    return wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_stop_in_the_first_moment_is_a_clean_end(
    tmp_path: Path, number: signal.Signals, init: bool
) -> None:
    done = run_early(tmp_path, number, init=init)
    assert (done.returncode, done.stdout) == (0, "")
    check_stderr(done.stderr)
    assert os.listdir(tmp_path) == ["config.toml"]


def test_told_to_stop_twice_before_it_serves_it_does_not_finish_what_it_is_doing(tmp_path: Path) -> None:
    done = run_early(tmp_path, signal.SIGTERM, signal.SIGTERM)
    assert (done.returncode, done.stdout) == (1, "")
    check_stderr(done.stderr)


@pytest.mark.parametrize("command", [("check",), ("certs",), ("probe", "udp:127.0.0.1:9", "--count", "0")])
def test_a_command_that_is_interrupted_before_it_began_says_so(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = run_early(tmp_path, signal.SIGINT, arguments=command)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "interrupted\n")


def test_a_command_has_no_use_for_other_signals(tmp_path: Path) -> None:
    assert run_early(tmp_path, signal.SIGUSR1, arguments=["check"]).returncode == -signal.SIGUSR1


def test_other_signals_in_the_first_moment_are_acted_on_once_it_serves(tmp_path: Path, init: bool) -> None:
    (tmp_path / "config.toml").write_text('[endpoints]\nunix = "unix:echo.sock"\n')
    numbers = f"{signal.SIGHUP:d},{signal.SIGUSR1:d},{signal.SIGUSR2:d}"
    command = [*(AS_INIT if init else ()), sys.executable, "-c", EARLY, numbers, "--log", "text"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        try:
            expected = ["reloaded: 0 added", "no log file to open", "status: 1 endpoints", "status: 0 open"]
            lines: list[str] = []
            while expected:
                line = process.stderr.readline().decode()
                assert line, lines
                lines.append(line)
                expected = [one for one in expected if one not in line]
            os.kill(child_of(process.pid) if init else process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert not (tmp_path / "echo.sock").exists()


def child_of(pid: int) -> int:
    """The only child of the process *pid*."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_ctrl_c_during_the_first_import_ends_the_process_in_silence() -> None:
    """Before any signal can be remembered: no traceback of an import."""
    code = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "suite.signals":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
from suite.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
