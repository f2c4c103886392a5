"""The image, built and run for real: as nobody, read-only, without rights, under podman's seccomp profile."""

from __future__ import annotations

import itertools
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.admin.asking_http import ask
from tests.deploy.containers import BASE, Podman
from tests.deploy.talking import Talk
from tests.helpers import ROOT
from tests.running import HARMLESS, PATIENCE, client_program, wait_until

pytestmark = pytest.mark.container

#: Bytes that the image may have more than its base.
MOST_ADDED = 150_000_000

#: All transports, with certificates that are minted into a tmpfs.
CONFIG = """
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:/run/echo-suite/echo.sock:mode=666"

[admin]
listen = "tcp:0"
"""

#: How it is run.
HARD = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")

#: Of containers.
NUMBERS = itertools.count(1)

#: Has a child that outlives it, in a container.
ORPHAN = "import os, time\nif os.fork() == 0: time.sleep(0.2)"

#: Prints the processes of a container that are left over: neither the first nor this one.
PROCESSES = (
    "import os; print([n for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())])"
)

#: Prints what io_uring_setup(2) says.
URING = (
    "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True);"
    " print(libc.syscall(425, 1, None), errno.errorcode[ctypes.get_errno()])"
)


class Container:
    """A running container of the suite.

    :ivar addresses: where each endpoint listens, by name; ``admin``, too.
    :ivar directory: what it shares with the host, if anything.
    """

    directory = Path()

    def __init__(self, podman: Podman, name: str) -> None:
        self.podman = podman
        self.name = name
        podman.wait_for_line(name, "ready")
        self.addresses: dict[str, tuple[str, int]] = {}
        for line in podman.lines(name):
            found = re.match(r"(\S+) +(?:TCP|UDP|TLS|HTTP) +(\S+):(\d+)", line)
            if found:
                self.addresses[found[1]] = (found[2], int(found[3]))

    def python(self, code: str) -> str:
        """What *code* prints, run in the container."""
        return self.podman("exec", self.name, "python3", "-c", code)

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.podman.run("logs", self.name).stderr.splitlines() if line]

    def stop(self) -> int:
        """Stop it as `podman stop` does; return its exit code."""
        self.podman("stop", "-t", "20", self.name)
        return int(self.podman.inspect(self.name)["State"]["ExitCode"])


@contextmanager
def running(podman: Podman, image: str, *arguments: str | Path, network: str = "host") -> Iterator[Container]:
    """A container; by default on the host's network, where the system chooses ports that are free."""
    name = f"echo-suite-test-{next(NUMBERS)}"
    podman("run", "-d", "--name", name, "--network", network, *HARD, *arguments, image)
    try:
        yield Container(podman, name)
    finally:
        podman("rm", "-f", "-t", "0", name)


@pytest.fixture(scope="module")
def shared(podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container that tests leave as it is, with a directory shared with it in `directory`."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "run").mkdir()
    (directory / "run").chmod(0o777)
    (directory / "config.toml").write_text(CONFIG)
    mounts = (
        *("-v", f"{directory}/config.toml:/etc/echo-suite/config.toml:ro"),
        *("-v", f"{directory}/run:/run/echo-suite"),
        *("--tmpfs", "/etc/echo-suite/certs"),
    )
    with running(podman, image, *mounts) as container:
        container.directory = directory
        yield container


def client(*command: str | Path, text: str = "hola mundo...\n") -> str:
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=True, shell=False
    )
    return done.stdout


def test_the_image_says_how_it_is_to_be_run(podman: Podman, image: str) -> None:
    found = podman.inspect(image)
    config = found["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Entrypoint"] == ["echo-suite"]
    assert found["Healthcheck"]["Test"] == ["CMD", "echo-suite", "health"]
    assert set(config["ExposedPorts"]) == {"1234/tcp", "1234/udp", "4433/tcp", "9901/tcp"}
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()
    }
    assert labels["title"] == "echo-suite"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == "test"


def test_it_adds_less_than_150_mb_and_no_secret(podman: Podman, image: str) -> None:
    assert podman.inspect(image)["Size"] - podman.inspect(BASE)["Size"] < MOST_ADDED
    code = "from pathlib import Path; print(*Path('/etc/echo-suite').rglob('*'), *Path('/src').rglob('*'))"
    found = podman(
        "run", "--rm", "--network", "host", *HARD, "--entrypoint", "python3", image, "-c", code
    ).split()
    assert sorted(found) == ["/etc/echo-suite/certs", "/etc/echo-suite/config.toml"]


def test_tcp_by_nc(shared: Container) -> None:
    host, port = shared.addresses["tcp"]
    assert client(client_program("nc"), "-N", host, str(port)) == "hola mundo...\n"


def test_udp_by_nc(shared: Container) -> None:
    host, port = shared.addresses["udp"]
    assert client(client_program("nc"), "-u", "-W", "1", host, str(port)) == "hola mundo...\n"


def test_tls_by_openssl_with_a_certificate_minted_into_a_tmpfs(shared: Container, tmp_path: Path) -> None:
    host, port = shared.addresses["tls"]
    ca = tmp_path / "ca.pem"
    ca.write_text(shared.podman("exec", shared.name, "cat", "certs/ca.pem") + "\n")
    openssl = client_program("openssl")
    command = (
        openssl,
        "s_client",
        "-connect",
        f"{host}:{port}",
        "-CAfile",
        ca,
        "-verify_return_error",
        "-quiet",
    )
    with subprocess.Popen(
        [*command, "-no_ign_eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hola mundo...\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hola mundo...\n"
        process.stdin.close()


def test_unix_by_nc_on_a_shared_volume(shared: Container) -> None:
    path = shared.directory / "run/echo.sock"
    assert client(client_program("nc"), "-NU", path) == "hola mundo...\n"


def test_it_is_healthy_by_its_own_health_check(podman: Podman, image: str) -> None:
    """With the configuration in the image, on a network of its own, where its ports are fixed."""
    with running(podman, image, network="none") as container:
        assert container.addresses == {
            "admin": ("127.0.0.1", 9901),
            "tcp": ("0.0.0.0", 1234),
            "udp": ("0.0.0.0", 1234),
        }
        podman("healthcheck", "run", container.name)
        assert podman.inspect(container.name)["State"]["Health"]["Status"] == "healthy"
        assert container.stop() == 0


def test_the_first_process_is_the_suite_without_rights(shared: Container) -> None:
    status = shared.podman("exec", shared.name, "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Name"] == "echo-suite"
    assert fields["Uid"].split() == ["65532"] * 4
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    writing = "import pathlib; pathlib.Path('/opt/echo-suite/x').touch()"
    done = shared.podman.run("exec", shared.name, "python3", "-c", writing, check=False)
    assert "Read-only file system" in done.stderr


def test_orphans_leave_no_zombies(shared: Container) -> None:
    shared.python(ORPHAN)
    wait_until(lambda: shared.python(PROCESSES) == "[]", "nothing is left of an orphan")


def test_without_io_uring_it_serves_many_and_logs_nothing_about_it(shared: Container) -> None:
    """The default seccomp profile forbids it."""
    assert shared.python(URING) in ("-1 EPERM", "-1 ENOSYS")
    socks = [socket.create_connection(shared.addresses["tcp"], PATIENCE) for _ in range(20)]
    for round_ in range(5):
        for sock in socks:
            sock.sendall(b"%d" % round_)
        assert [sock.recv(1) for sock in socks] == [b"%d" % round_] * 20
    for sock in socks:
        sock.close()
    assert [event for event in shared.events() if event["level"] not in HARMLESS] == []


def test_stopping_drains_and_ends_with_0(podman: Podman, image: str, tmp_path: Path) -> None:
    """An echo that is under way when `podman stop` is called is finished."""
    tmp_path.chmod(0o755)  # pytest makes it for one user
    (tmp_path / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"\n[admin]\nlisten = "tcp:0"\n')
    with running(podman, image, "-v", f"{tmp_path}:/etc/echo-suite:ro") as container:
        address = container.addresses["admin"]
        with socket.create_connection(container.addresses["tcp"], PATIENCE) as sock:
            talk = Talk(sock)
            with podman.stopping(container.name) as stopping:
                wait_until(lambda: ask(address, "/readyz").status == 503, "it drains")
                talk.finish()
                assert talk.ended_well()
                assert stopping.wait(PATIENCE) == 0
        state = podman.inspect(container.name)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0)
        assert container.events() == []


def test_a_bad_variable_is_one_line(podman: Podman, image: str) -> None:
    done = podman.run(
        "run", "--rm", "--network", "host", *HARD, "-e", "ECHO_SUITE_TCP=tcp:x", image, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "ECHO_SUITE_TCP: port 'x' is not a number; expected 0 to 65535"


def test_certificates_that_nobody_can_mint_are_one_line(podman: Podman, image: str) -> None:
    """Without a tmpfs for them."""
    tls = "ECHO_SUITE_TLS=ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
    options = ("run", "--rm", "--network", "none", *HARD, "-e", tls)
    done = podman.run(*options, image, check=False)
    assert done.returncode == 1
    assert done.stderr == "certs/ca.pem: cannot be written: Read-only file system"


def test_its_commands_are_there_too(podman: Podman, image: str) -> None:
    """As a client: probe, from a container, of one that serves."""
    with running(podman, image, network="none") as container:
        network = f"container:{container.name}"
        said = podman(
            "run", "--rm", "--network", network, *HARD, image, "probe", "tcp:127.0.0.1:1234", "--json"
        )
        assert json.loads(said)["ok"]
        assert container.stop() == 0


def test_kill_reloads(podman: Podman, image: str, tmp_path: Path) -> None:
    """Where the directory is mounted: a file that is mounted stays the one that it was."""
    tmp_path.chmod(0o755)
    (tmp_path / "config.toml").write_text('[endpoints]\na = "tcp:0"\n')
    with running(podman, image, "-v", f"{tmp_path}:/etc/echo-suite:ro") as container:
        (tmp_path / "config.toml").write_text('[endpoints]\nb = "tcp:0"\n')
        podman("kill", "--signal", signal.Signals.SIGHUP.name, container.name)
        wait_until(lambda: any("1 added" in event["message"] for event in container.events()), "it reloads")


def test_the_bill_of_materials_has_what_is_locked(podman: Podman, tmp_path: Path) -> None:
    """As CycloneDX, against whose schema it has been validated when it was made."""
    podman.build("sbom", tmp_path)
    found = json.loads((tmp_path / "echo-suite.cdx.json").read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "echo-suite"
    assert found["metadata"]["component"]["version"]
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    normal = re.compile(r"[-_.]+")
    listed = {(normal.sub("-", each["name"]).lower(), each["version"]) for each in found["components"]}
    assert listed == {(normal.sub("-", name).lower(), version) for name, version in locked}
