"""The image, built and run for real: as nobody, read-only, without rights, under podman's seccomp profile."""

from __future__ import annotations

import csv
import hashlib
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

#: Bytes that the image may have.
MOST = 150_000_000

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

#: Loads everything that can be loaded, with all that it needs, and all symbols.
LOADING = """
import ctypes, os, pathlib
for path in map(pathlib.Path, ("/opt", "/usr")):
    for library in path.rglob("*.so*"):
        ctypes.CDLL(library, os.RTLD_NOW)
"""

#: Prints the modules of the suite that cannot be imported.
IMPORTING = """
import importlib, pkgutil, suite
for found in pkgutil.walk_packages(suite.__path__, "suite."):
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        print(found.name, error.name)
"""

#: Prints what clients think of a server's certificate: one of Python's own, and `probe`.
HANDSHAKES = """
import json, socket, ssl, subprocess, sys
with socket.create_connection(("localhost", int(sys.argv[1]))) as sock:
    try:
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError as error:
        print(error.reason)
    else:
        print("trusted")
probe = ["echo-suite", "probe", "--count", "1", "--json", f"tls:localhost:{sys.argv[1]}"]
print(json.loads(subprocess.run(probe, capture_output=True).stdout)["ok"])
"""

#: Prints the address of a name in /etc/hosts, and that there is none of one that nobody has.
NAMES = """
import socket
print(socket.gethostbyname("localhost"))
try:
    print(socket.gethostbyname("nobody.invalid"))
except socket.gaierror:
    print("none")
"""

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


@pytest.fixture(scope="module")
def tree(podman: Podman, image: str) -> Iterator[Path]:
    """The image's files."""
    yield Path(podman("image", "mount", image))
    podman("image", "unmount", image)


def once(podman: Podman, image: str, code: str, *options: str) -> str:
    """What *code* prints in a container of its own."""
    entry = ("--entrypoint", "python", image, "-c", code)
    return podman("run", "--rm", "--network", "none", *HARD, *options, *entry)


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


def test_it_has_less_than_150_mb_and_no_secret(podman: Podman, image: str, tree: Path) -> None:
    assert int(podman("image", "inspect", "--format", "{{.Size}}", image)) < MOST
    own = {str(path.relative_to(tree)) for path in (tree / "etc/echo-suite").rglob("*")}
    assert own == {"etc/echo-suite/certs", "etc/echo-suite/config.toml"}
    assert {path.name for path in tree.iterdir()} == {
        "etc",
        "lib",
        "lib64",
        "opt",
        "run",
        "tmp",
        "usr",
        "var",
    }
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    # What the machine that builds trusts is not what the image does.
    of_base = podman("run", "--rm", "--network", "none", BASE, "cat", "/etc/ssl/certs/ca-certificates.crt")
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text().strip() == of_base


def test_it_has_no_programs_but_python_and_what_is_written_in_it(
    podman: Podman, image: str, tree: Path
) -> None:
    programs = {
        path
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o111 and ".so" not in path.name
    }
    compiled = {path for path in programs if path.read_bytes().startswith(b"\x7fELF")}
    assert [path.name.startswith("python3.") for path in compiled] == [True]
    scripts = {path for path in programs - compiled if path.parent == tree / "opt/echo-suite/bin"}
    assert {path.read_bytes().split(b"\n")[0] for path in scripts} == {b"#!/opt/echo-suite/bin/python"}
    names = {path.name for path in tree.rglob("*")}
    assert names.isdisjoint(
        {"sh", "bash", "dash", "busybox", "apt", "dpkg-query", "perl", "pip", "ensurepip"}
    )
    done = podman.run("run", "--rm", "--network", "none", "--entrypoint", "sh", image, check=False)
    assert done.returncode == 127
    assert "not found" in done.stderr


def test_everything_in_it_can_be_loaded(podman: Podman, image: str) -> None:
    """All libraries and extensions find what they need, and so do the suite's modules, but for extras."""
    assert once(podman, image, LOADING) == ""
    missing = once(podman, image, IMPORTING).splitlines()
    assert missing == ["suite.admin.metrics.otlp opentelemetry", "suite.client.locust_user locust"]


def test_it_is_compiled_and_dated_and_has_the_files_that_its_packages_list(tree: Path) -> None:
    sources = [path for path in tree.rglob("*.py") if not path.is_symlink()]
    assert len(sources) > 1000
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", compiled  # by hash, unchecked
    assert {path.lstat().st_mtime for path in tree.rglob("*")} == {0.0}
    records = list(tree.glob("opt/echo-suite/lib/python3.*/site-packages/*.dist-info/RECORD"))
    assert {"echo_suite", "twisted"} <= {path.parent.name.split("-")[0] for path in records}
    for record in records:
        packages = record.parent.parent
        with record.open(newline="") as lines:
            assert [name for name, *_ in csv.reader(lines) if not (packages / name).exists()] == []


def test_scanners_find_each_debian_package_that_it_has_a_file_of(podman: Podman, tree: Path) -> None:
    """As in distroless images: a file for each package, and its checksums, in dpkg's status.d."""
    directory = tree / "var/lib/dpkg/status.d"
    aside = (directory, tree / "usr/share/doc")
    files = [
        "/" + str(path.relative_to(tree))
        for path in tree.rglob("*")
        if (path.is_symlink() or path.is_file()) and not any(path.is_relative_to(each) for each in aside)
    ]
    # dpkg knows some of them by their names before /lib was a link to /usr/lib.
    files += [name.removeprefix("/usr") for name in files if name.startswith("/usr/lib")]
    base = ("run", "--rm", "-i", "--network", "none", BASE)
    of = podman.run(*base, "xargs", "-d", "\n", "dpkg", "-S", check=False, text="\n".join(files)).stdout
    # Of a directory there are several: /lib.
    packages = {line.split(":")[0] for line in of.splitlines() if ", " not in line} | {"ca-certificates"}
    assert len(packages) > 10
    listed = {path.name for path in directory.iterdir()}
    assert listed == packages | {f"{name}.md5sums" for name in packages}
    asked = podman(*base, "dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n")
    known = {line.split("\t")[0]: line.split("\t")[1:] for line in asked.splitlines()}
    for package in packages:
        entry = (directory / package).read_text()
        fields = dict(re.findall(r"^(\S+): (.+)$", entry, re.MULTILINE))
        assert [fields["Version"], fields["Architecture"]] == known[package]
        assert (tree / f"usr/share/doc/{package}/copyright").stat().st_size
        for line in (directory / f"{package}.md5sums").read_text().splitlines():
            digest, name = line.split(maxsplit=1)
            assert hashlib.md5((tree / name).read_bytes()).hexdigest() == digest, name
    assert "libc.so.6" in (directory / "libc6.md5sums").read_text()
    release = podman(*base, "cat", "/etc/os-release", "/etc/debian_version")
    found = (tree / "usr/lib/os-release").read_text() + (tree / "etc/debian_version").read_text()
    assert found.strip() == release


def test_users_time_zones_and_locales_are_there(podman: Podman, image: str) -> None:
    users = "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser('~'))"
    assert once(podman, image, users) == "echo-suite /"
    options = ("--user", "1234:1234", "-e", "TZ=Asia/Kathmandu", "-e", "LC_ALL=C.UTF-8")
    code = "import locale, time; print(time.strftime('%z'), locale.setlocale(locale.LC_ALL, ''))"
    assert once(podman, image, code, *options) == "+0545 C.UTF-8"
    assert "no errors" in podman("run", "--rm", "--network", "none", *HARD, *options, image, "check")


def test_it_finds_others_by_name(podman: Podman, image: str) -> None:
    """On a network of podman's, whose server of names knows containers; itself by /etc/hosts."""
    network = "echo-suite-test-names"
    podman.run("network", "rm", "-f", network, check=False)
    podman("network", "create", network)
    try:
        options = ("--dns-option", "ndots:2")
        with running(podman, image, *options, network=network) as container:
            command = ("probe", f"tcp:{container.name}:1234", "--json")
            said = podman("run", "--rm", "--network", network, *options, *HARD, image, *command)
            assert json.loads(said)["ok"]
            assert container.python(NAMES).split() == ["127.0.0.1", "none"]
    finally:
        podman.run("network", "rm", "-f", network, check=False)


@pytest.mark.parametrize("mounted", [True, False])
def test_its_clients_trust_the_certificates_in_etc_ssl(
    podman: Podman, image: str, shared: Container, tmp_path: Path, mounted: bool
) -> None:
    """Both those that use OpenSSL of `cryptography`, as probe does, and Python's own."""
    ca = tmp_path / "ca.pem"
    ca.write_text(shared.python("print(open('certs/ca.pem').read())"))
    ca.chmod(0o644)
    tmp_path.chmod(0o755)
    mount = ("-v", f"{ca}:/etc/ssl/certs/ca-certificates.crt:ro") if mounted else ()
    options = ("run", "--rm", "--network", "host", *HARD, *mount, "--entrypoint", "python", image)
    _, port = shared.addresses["tls"]
    said = podman(*options, "-c", HANDSHAKES, str(port)).split()
    assert said == (["trusted", "True"] if mounted else ["CERTIFICATE_VERIFY_FAILED", "False"])


def test_tcp_by_nc(shared: Container) -> None:
    host, port = shared.addresses["tcp"]
    assert client(client_program("nc"), "-N", host, str(port)) == "hola mundo...\n"


def test_udp_by_nc(shared: Container) -> None:
    host, port = shared.addresses["udp"]
    assert client(client_program("nc"), "-u", "-W", "1", host, str(port)) == "hola mundo...\n"


def test_tls_by_openssl_with_a_certificate_minted_into_a_tmpfs(shared: Container, tmp_path: Path) -> None:
    host, port = shared.addresses["tls"]
    ca = tmp_path / "ca.pem"
    ca.write_text(shared.python("print(open('certs/ca.pem').read())"))
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
    status = shared.python("print(open('/proc/1/status').read())")
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


def test_the_bill_of_materials_has_all_that_is_in_it(podman: Podman, tree: Path, tmp_path: Path) -> None:
    """As CycloneDX, against whose schema it has been validated when it was made."""
    podman.build("sbom", tmp_path)
    found = json.loads((tmp_path / "echo-suite.cdx.json").read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "echo-suite"
    assert found["metadata"]["component"]["version"]
    assert "serialNumber" not in found

    def listed(kind: str) -> set[str]:
        return {
            each["purl"] for each in found["components"] if each.get("purl", "").startswith(f"pkg:{kind}/")
        }

    locked = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    normal = re.compile(r"[-_.]+")
    pinned = {f"pkg:pypi/{normal.sub('-', name).lower()}@{version}" for name, version in locked}
    assert {purl.partition("?")[0].replace("zope.", "zope-") for purl in listed("pypi")} == pinned
    (version,) = re.findall(
        r"^version = (.+)$", (tree / "opt/echo-suite/pyvenv.cfg").read_text(), re.MULTILINE
    )
    assert listed("generic") == {f"pkg:generic/python@{version}"}
    packages = {path.name for path in (tree / "var/lib/dpkg/status.d").iterdir() if path.suffix != ".md5sums"}
    purl = re.compile(r"pkg:deb/debian/([^@]+)@[^?]+\?arch=\w+&distro=debian-12(&upstream=[\w.%+-]+)?")
    assert {match[1] for each in listed("deb") if (match := purl.fullmatch(each))} == packages
    assert len(listed("deb")) == len(packages)
    systems = [each for each in found["components"] if each["type"] == "operating-system"]
    assert [(each["name"], each["version"]) for each in systems] == [("debian", "12")]
