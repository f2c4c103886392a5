"""The ways in: the command line, the console script, `twist` and `twistd`, and the wheel they come in."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from suite import __version__
from suite.cli import main
from tests.helpers import ROOT
from tests.running import (
    FOUR_TRANSPORTS,
    ONE_LINE,
    PATIENCE,
    RunningSuite,
    check_stderr,
    echo,
    listens,
    run_suite,
    running,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("measured")

BIN = Path(sys.executable).parent
TCP = '[endpoints]\ntcp = "tcp:0"'

TWIST = (str(BIN / "twist"), "--log-format", "text", "echo-suite")
TWISTD = (str(BIN / "twistd"), "-n", "--pidfile=", "echo-suite")


@pytest.mark.parametrize("command", [["-m", "suite"], [str(BIN / "echo-suite")]])
def test_the_version(tmp_path: Path, command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, *command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == f"echo-suite {__version__}\n"


def test_check_says_what_would_be_bound_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes((ROOT / "config.toml").read_bytes())
    result = run_suite(tmp_path, "check", "--config", "config.toml")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "tcp          TCP   127.0.0.1:1234",
        "udp          UDP   127.0.0.1:1234",
        "tls          TLS   127.0.0.1:4433",
        "unix         UNIX  run/echo.sock",
        "serving will make development certificates in certs",
        "config.toml: 4 endpoints, no errors",
    ]
    assert os.listdir(tmp_path) == ["config.toml"]


def test_the_configuration_may_be_named_before_the_command_too(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(TCP)
    for arguments in (("check", "--config", "other.toml"), ("--config", "other.toml", "check")):
        assert run_suite(tmp_path, *arguments).stdout.endswith("other.toml: 1 endpoint, no errors\n")


def test_certs_makes_them_and_says_what_is_next(tmp_path: Path) -> None:
    result = run_suite(tmp_path, "certs", "here")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        *(f"wrote here/{who}.{what}" for who in ("ca", "server", "client") for what in ("pem", "key")),
        "next: python -m suite --config config.toml",
    ]
    for path in (tmp_path / "here").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = run_suite(tmp_path, "certs", "here", says=ONE_LINE)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        "here/ca.pem: already exists, and nothing was changed; use it, or replace all certificates and keys"
        " there: python -m suite certs here --force\n"
    )
    before = (tmp_path / "here/ca.pem").read_bytes()
    assert run_suite(tmp_path, "certs", "here", "--force").returncode == 0
    assert (tmp_path / "here/ca.pem").read_bytes() != before


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run_suite(tmp_path, "certs", "file/certs", says=ONE_LINE)
    assert result.returncode == 1
    assert result.stderr == "file/certs/ca.pem: cannot be written: Not a directory\n"


@pytest.mark.parametrize("arguments", [["--nonsense"], ["serve"], ["check", "--conf", "x"]])
def test_a_wrong_command_line_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert any(argument in err for argument in arguments[-2:])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--prot", "1234"],
            "python -m suite: unknown option --prot; endpoints and their ports are declared",
        ),
        (
            ["connect", "tcp:localhost:1234", "--xyzzy"],
            "python -m suite connect: unknown option --xyzzy (usage: ",
        ),
        (["--confg", "x"], "python -m suite: unknown option --confg; did you mean --config?"),
        (["prob"], "python -m suite: 'prob' is not a command; did you mean probe?"),
        (["--log=text", "--log-level", "info", "prob"], "python -m suite: 'prob' is not a command"),
        (["xyzzy"], "python -m suite: 'xyzzy' is not a command; expected check, certs, probe, connect, load"),
        (["-"], "python -m suite: '-' is not a command; expected"),
        (["serve"], "python -m suite: 'serve' is not a command; serving needs no command: python -m suite"),
        (["run"], "python -m suite: 'run' is not a command; serving needs no command: python -m suite"),
        (["stop"], "python -m suite: 'stop' is not a command; signals do that: SIGTERM ends a suite"),
        (["version"], "python -m suite: 'version' is not a command; did you mean --version?"),
        (["-v"], "python -m suite: unknown option -v; did you mean --version?"),
        (["-p", "1234"], "python -m suite: unknown option -p; endpoints and their ports are declared"),
        (["gallery", "scor"], "python -m suite gallery: 'scor' is not a command; did you mean score?"),
        (
            ["faults", "explain", "tcp"],
            "python -m suite faults explain: unexpected argument 'tcp'; did you mean --endpoint tcp? (",
        ),
        (["check", "--config", ""], "python -m suite check: argument --config: '' is empty; expected a path"),
        (
            ["probe", "tls:a:1", "--ca", ""],
            "python -m suite probe: argument --ca: '' is empty; expected a path",
        ),
        (["help"], "python -m suite: 'help' is not a command; did you mean --help?"),
        (["help", "probe"], "python -m suite: 'help' is not a command; did you mean probe --help?"),
        (
            ["config.toml"],
            "python -m suite: 'config.toml' is not a command; did you mean --config config.toml?",
        ),
        (
            ["check", "config.toml"],
            "python -m suite check: unexpected argument 'config.toml'; did you mean --config config.toml?"
            " (usage: python -m suite check ",
        ),
        (
            ["check", "more"],
            "python -m suite check: unexpected argument 'more' (usage: python -m suite check ",
        ),
        (
            ["connect", "localhost", "1234"],
            "python -m suite connect: unexpected argument '1234'; did you mean tcp:localhost:1234?"
            " (usage: python -m suite connect ",
        ),
        (["load", "::1", "1234"], "python -m suite load: unexpected argument '1234' ("),
        (
            ["probe", "--cuont", "1", "tcp:a:1"],
            "python -m suite probe: unknown option --cuont; did you mean --count",
        ),
        (["connect"], "python -m suite connect: the following arguments are required: TARGET (usage: python"),
        (
            ["check", "--config"],
            "python -m suite check: argument --config: expected one argument (usage: python",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_is_one_line_with_the_usage_of_its_command(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(expected)
    assert len(err.splitlines()) == 1
    assert "(usage: python -m suite" in err


def test_certificates_are_not_written_into_a_configuration(tmp_path: Path) -> None:
    """Neither over one that is there, nor into a directory of such a name."""
    result = run_suite(tmp_path, "certs", "config.toml", says=ONE_LINE)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "certs: 'config.toml' is a file; expected the directory to write to, such as certs\n"
    )
    (tmp_path / "file").write_text("")
    assert "'file' is a file" in run_suite(tmp_path, "certs", "file", says=ONE_LINE).stderr
    assert os.listdir(tmp_path) == ["file"]
    unset = run_suite(tmp_path, "certs", "", says=ONE_LINE)  # the variable of a shell
    assert (unset.returncode, os.listdir(tmp_path)) == (2, ["file"])
    assert unset.stderr == "certs: '' is not a directory; expected the one to write to, such as certs\n"


def test_a_negative_number_is_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Although ``-4`` is an option, which is none."""
    assert main(["probe", "tcp:localhost:1", "--count", "-1"]) == 2
    assert capsys.readouterr().err == "--count '-1' is out of range; expected 0 to 1000000000\n"


@pytest.mark.parametrize(
    ("command", "line", "key"),
    [
        ("check", '[endpoints]\ntcp = "unix:run/\u00f1.sock"', "endpoints.tcp.listen: address"),
        ("check", f'{TCP}\n[tls]\nchain = "\u00f1.pem"', "tls.chain:"),
        ("status", f'{TCP}\n[admin]\nlisten = "unix:run/\u00f1.sock"', "admin.listen: address"),
    ],
)
def test_a_path_that_the_locale_lacks_is_one_line(tmp_path: Path, command: str, line: str, key: str) -> None:
    (tmp_path / "config.toml").write_text(line, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "suite", command],
        cwd=tmp_path,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    check_stderr(result.stderr, says=ONE_LINE)
    assert result.returncode == 2
    assert result.stderr.startswith(f"config.toml: {key} ")
    assert "in this locale (ascii); expected LC_ALL=C.UTF-8 in the environment" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--log", "jsn", "--log 'jsn': no such format; did you mean json?"),
        ("--log", "", "--log '': no such format; expected json or text"),
        ("--log-level", "inf", "--log-level 'inf': no such level; did you mean info?"),
        (
            "--log-level",
            "\x1b[31m\n",
            "--log-level '\\x1b[31m\\n': no such level; expected critical or debug",
        ),
    ],
)
def test_a_log_that_does_not_exist_is_2_and_nothing_is_made(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    (tmp_path / "config.toml").write_text(FOUR_TRANSPORTS)
    result = run_suite(tmp_path, option, value, says=ONE_LINE)
    assert result.returncode == 2
    assert result.stderr.startswith(said)
    assert os.listdir(tmp_path) == ["config.toml"]


@pytest.mark.parametrize("command", ["check", "certs"])
def test_only_serving_has_a_log(tmp_path: Path, command: str) -> None:
    result = run_suite(tmp_path, command, "--log", "json", says=ONE_LINE)
    assert result.returncode == 2
    assert result.stderr.startswith(f"python -m suite {command}: unknown option --log; ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("epol", "--reactor 'epol': no such reactor; did you mean epoll?"),
        ("kqueue", "--reactor 'kqueue': does not work here: "),
        ("uvloop", "--reactor 'uvloop': no such reactor; expected asyncio or "),
    ],
)
def test_a_reactor_that_does_not_exist_or_work_here_is_2(tmp_path: Path, name: str, said: str) -> None:
    if name == "kqueue" and sys.platform != "linux":
        pytest.skip("there is a kqueue here")
    (tmp_path / "config.toml").write_text(TCP)
    result = run_suite(tmp_path, "--reactor", name, says=ONE_LINE)
    assert result.returncode == 2
    if sys.platform == "linux" and "expected" in said:  # only what works here is offered
        assert " epoll" in result.stderr
        assert not re.search("kqueue|win32|iocp|cf", result.stderr)
    assert result.stderr.startswith(said)


def test_it_can_be_interrupted_where_a_shell_has_set_sigint_to_be_ignored(tmp_path: Path) -> None:
    """So a shell without job control does to what it starts in the background."""
    ignored = ("/bin/sh", "-c", 'trap "" INT; exec "$0" -m suite "$@"', sys.executable)
    suite = RunningSuite(tmp_path, TCP, command=ignored)
    assert suite.stop(signal.SIGINT) == 0
    assert not suite.complaints()


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
def test_twisted_runs_it_too(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "run.log").write_text(
        "2026-01-02T03:04:05.678Z info tcp#2 127.0.0.1:40000 faults: limit=2B seed=5\n"
    )
    suite = RunningSuite(tmp_path, FOUR_TRANSPORTS, "--replay", "run.log", command=command)
    try:
        with suite.connect("tcp") as sock:
            assert echo(sock, b"hola", lambda: sock.shutdown(1)) == b"hola"
        with suite.connect("tcp") as sock:
            assert echo(sock, b"hola", lambda: sock.shutdown(1)) == b"ho"
        with suite.connect("tcp") as sock:
            assert echo(sock, b"hola", lambda: sock.shutdown(1)) == b"hola"
        with suite.connect("udp") as sock:
            sock.send(b"hola")
            assert sock.recv(100) == b"hola"
        assert (tmp_path / "echo.sock").is_socket()
        (tmp_path / "config.toml").write_text(FOUR_TRANSPORTS + 'added = "tcp:0"')
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "added" in suite.addresses, "it has read the configuration again")
    finally:
        suite.stop(signal.SIGTERM)
    assert not (tmp_path / "echo.sock").exists()


@pytest.mark.parametrize("command", [TWIST, TWISTD], ids=["twist", "twistd"])
def test_under_twisted_errors_are_one_line_and_an_exit_code(tmp_path: Path, command: tuple[str, ...]) -> None:
    def run(config: str, *options: str) -> tuple[int, str]:
        (tmp_path / "config.toml").write_text(config)
        result = subprocess.run(
            [*command, "--config", "config.toml", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        check_stderr(result.stderr, ONE_LINE)
        return result.returncode, result.stderr

    assert run('[endpoints]\ntcp = "tcp:port"') == (
        2,
        "config.toml: endpoints.tcp.listen: port 'port' is not a number; expected 0 to 65535\n",
    )
    assert run('workers = 2\n[endpoints]\ntcp = "tcp:0"') == (
        2,
        "config.toml: workers: 2 processes take python -m suite; expected 1 under twist\n",
    )
    code, said = run('[endpoints]\ntcp = "tcp:0"', "--replay", "missing.log")
    assert (code, said[:63]) == (2, "--replay missing.log: cannot be read: No such file or directory")
    (tmp_path / "file").mkdir()
    code, said = run('[endpoints]\nfirst = "unix:echo.sock"\nsecond = "unix:file"')
    assert (code, said) == (
        1,
        "endpoints.second: cannot listen on file: it exists and is not a socket\n",
    )
    assert not (tmp_path / "echo.sock").exists()


def test_a_plugin_runs_beside_a_suite_that_serves(tmp_path: Path) -> None:
    with running(tmp_path, '[endpoints]\nunix = "unix:echo.sock"'):
        result = subprocess.run(
            [*TWIST, "--config", "config.toml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    check_stderr(result.stderr, ONE_LINE)
    assert result.returncode == 1
    assert "is held by a running server" in result.stderr


def test_inherited_sockets_are_served(tmp_path: Path) -> None:
    """``fd:`` and ``systemd:``, as a parent that has bound them passes them on."""
    (tmp_path / "start.py").write_text(
        "import os, socket, sys\n"
        "for number in (3, 4):\n"
        "    sock = socket.socket()\n"
        "    sock.bind(('127.0.0.1', 0))\n"
        "    sock.listen()\n"
        "    os.dup2(sock.fileno(), number + 20)\n"
        "os.dup2(23, 3)\n"
        "os.dup2(24, 4)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='echo', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'suite', *sys.argv[1:]])\n"
    )
    config = '[endpoints]\nsystemd = "systemd:domain=INET:name=echo"\nfd = "fd:4"'
    with running(tmp_path, config, command=[sys.executable, "start.py"]) as suite:
        suite.addresses = {
            line.split()[0]: (line.split()[2].split(":")[0], int(line.rpartition(":")[2]))
            for line in suite.lines
            if "127.0.0.1" in line and "ready" not in line
        }
        for endpoint in ("systemd", "fd"):
            with suite.connect(endpoint) as sock:
                end = sock.shutdown
                assert echo(sock, b"hola", lambda end=end: end(1)) == b"hola"  # type: ignore[misc]


def test_an_inherited_unix_socket_is_served_and_left_to_its_owner(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "import os, socket, sys\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        "sock.bind('echo.sock')\n"
        "sock.listen()\n"
        "os.dup2(os.dup2(sock.fileno(), 23), 3)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='echo', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'suite', *sys.argv[1:]])\n"
    )
    config = '[endpoints]\nunix = "systemd:domain=UNIX:name=echo"'
    with (
        running(tmp_path, config, command=[sys.executable, "start.py"]) as suite,
        suite.connect("unix") as sock,
    ):
        assert echo(sock, b"hola", lambda: sock.shutdown(1)) == b"hola"
    assert (tmp_path / "echo.sock").is_socket()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_standard_output_that_is_not_utf_8(tmp_path: Path, encoding: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "suite", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"commands:" in result.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["probe", "--help"]])
def test_help_that_does_not_fit(arguments: list[str], tmp_path: Path) -> None:
    """As every result: it is on standard error, and the exit code says so."""
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "suite", *arguments],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == 1
    first, *_, last = result.stderr.splitlines()
    assert first.startswith(("echo-suite ", "usage: "))
    assert last == "standard output: No space left on device"


def test_a_full_standard_output(tmp_path: Path) -> None:
    """A command's result is on standard error instead; a server serves all the same."""
    (tmp_path / "config.toml").write_text('[endpoints]\nunix = "unix:echo.sock"')
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "suite", "check"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 1
        *lines, last = result.stderr.splitlines()
        assert (lines[0].split()[1:], last) == (
            ["UNIX", "echo.sock"],
            "standard output: No space left on device",
        )
        with subprocess.Popen([sys.executable, "-m", "suite"], cwd=tmp_path, stdout=full) as process:
            try:
                wait_until(lambda: listens(tmp_path / "echo.sock"), "it listens")
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(tmp_path / "echo.sock"))
                    assert echo(sock, b"hola", lambda: sock.shutdown(1)) == b"hola"
            finally:
                process.terminate()
            assert process.wait(PATIENCE) == 0
