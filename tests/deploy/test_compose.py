"""deploy/container/compose.yaml, run by podman-compose: through HAProxy to the suite, and seen by Prometheus.

HAProxy and Prometheus are Debian's, since their images cannot be pulled here; their configurations are those
that the file mounts.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.asking_http import ask
from tests.deploy.composing import Compose, composed
from tests.deploy.containers import Podman
from tests.deploy.manifests import load
from tests.foreign import free_port
from tests.helpers import ROOT
from tests.running import PATIENCE, client_program, wait_until

DIRECTORY = ROOT / "deploy/container"

#: The ports that compose.yaml publishes.
PORTS = (1234, 1235, 4433, 9090)


def compose_file() -> dict[str, Any]:
    (found,) = load((DIRECTORY / "compose.yaml").read_text())
    return dict(found)


def test_everything_that_is_mounted_is_there_and_nothing_is_published_to_others() -> None:
    for service in compose_file()["services"].values():
        for volume in service["volumes"]:
            assert (DIRECTORY / volume.split(":")[0]).is_file(), volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]


def test_the_image_and_the_compose_file_have_configurations_that_are_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from suite.cli import main

    monkeypatch.chdir(tmp_path)
    for name, count in (("config.toml", 2), ("compose.toml", 4)):
        shutil.copy(DIRECTORY / name, tmp_path)
        assert main(["check", "--config", name]) == 0
        assert f"{name}: {count} endpoints, no errors" in capsys.readouterr().out


def test_prometheus_accepts_its_configuration() -> None:
    promtool = client_program("promtool")
    file = DIRECTORY / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done


class Behind:
    """compose.yaml, with ports of its own.

    :ivar ports: those that are published here, by those that the file has.
    """

    def __init__(self, podman: Podman, image: str, directory: Path) -> None:
        for path in DIRECTORY.iterdir():
            if path.is_file():  # not what Python has compiled there
                shutil.copy(path, directory)
        self.ports = dict(zip(PORTS, (free_port() for _ in PORTS), strict=True))
        file, peers = directory / "compose.yaml", directory / "peers.yaml"
        text = file.read_text()
        text = re.sub(r"127\.0\.0\.1:(\d+):", lambda found: f"127.0.0.1:{self.ports[int(found[1])]}:", text)
        file.write_text(text)
        # The image of Docker Hub has a way in of its own.
        services = {"prometheus": {"entrypoint": ["/usr/bin/prometheus"]}}
        peers.write_text(json.dumps({"services": services}))
        self.files = (file, peers)
        self.variables = {
            "ECHO_SUITE_IMAGE": image,
            "HAPROXY_IMAGE": podman.peers(),
            "PROMETHEUS_IMAGE": podman.peers(),
        }


def _echoes(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, PATIENCE) as sock:
            sock.sendall(b"hola mundo...")
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(100) == b"hola mundo..."
    except OSError:  # HAProxy does not listen yet, or has not seen the suite ready
        return False


def _read(address: tuple[str, int]) -> bytes:
    """Everything that comes from *address*; nothing if HAProxy has nobody to pass the connection to."""
    with socket.create_connection(address, PATIENCE) as sock:
        return sock.makefile("rb").read()


@pytest.fixture(scope="module")
def behind(podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory) -> Behind:
    return Behind(podman, image, tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="module")
def compose(podman: Podman, behind: Behind) -> Iterator[Compose]:
    with composed(podman, "echo-suite-test", behind.files, behind.variables) as found:
        yield found


@pytest.mark.container
def test_through_haproxy_to_the_suite_and_seen_by_prometheus(behind: Behind, compose: Compose) -> None:
    address = ("127.0.0.1", behind.ports[1234])
    wait_until(lambda: _echoes(address), "HAProxy leads to the suite")
    nc = client_program("nc")
    done = subprocess.run(
        [nc, "-u", "-W", "1", "127.0.0.1", str(address[1])],
        input="hola mundo...\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "hola mundo...\n"

    # HAProxy checks each of its backends on its own.
    reporting = ("127.0.0.1", behind.ports[1235])
    wait_until(lambda: _read(reporting) != b"", "HAProxy leads to the report")
    report = json.loads(_read(reporting))
    assert report["proxy"]["version"] == 2
    assert report["peer"] != report["proxy"]["peer"]  # whom the header names, not HAProxy

    def counted() -> bool:
        query = "/api/v1/query?query=up%7Bjob%3D%22echo-suite%22%7D"
        try:
            answer = ask(("127.0.0.1", behind.ports[9090]), query)
        except OSError:  # it does not listen yet
            return False
        found = answer.json["data"]["result"] if answer.status == 200 else []
        return [each["value"][1] for each in found] == ["1"]

    wait_until(counted, "Prometheus has scraped the suite")
    logged = compose.podman.run("logs", compose.container("suite")).stderr
    assert [line for line in logged.splitlines() if '"level": "info"' not in line] == []


@pytest.mark.container
def test_haproxy_finds_a_suite_that_has_started_again_with_another_address(
    behind: Behind, compose: Compose, image: str
) -> None:
    podman, suite = compose.podman, compose.container("suite")

    def address() -> str:
        (network,) = podman.inspect(suite)["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    published = ("127.0.0.1", behind.ports[1234])
    wait_until(lambda: _echoes(published), "HAProxy leads to the suite")
    before = address()
    podman("stop", "-t", "20", suite)
    (network,) = podman.inspect(suite)["NetworkSettings"]["Networks"]
    another = podman("run", "-d", "--network", network, "--ip", before, image)
    try:
        podman("start", suite)
        assert address() != before
        wait_until(lambda: _echoes(published), "HAProxy leads to it again")
    finally:
        podman("rm", "-f", "-t", "0", another)
