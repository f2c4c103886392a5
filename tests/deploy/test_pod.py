"""The manifests run as a pod under ``podman kube play``: it becomes ready, echoes, and drains.

Podman 4.3 is no Kubernetes: what it does not know is replaced by the overlay `podman`. It has no Services and
no kubelet, so the test itself asks what the kubelet's HTTP probes would.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.admin.asking_http import ask
from tests.deploy.containers import Podman
from tests.deploy.manifests import dump, find, render
from tests.deploy.talking import Talk
from tests.foreign import free_port
from tests.running import PATIENCE, TLSClient, client_program, wait_until

pytestmark = pytest.mark.container

#: Echoes that are under way when the pod is stopped: so many over TCP, and as many over TLS.
ECHOES = 10

Address = tuple[str, int]


class Pod:
    """The pod of the overlay `podman`, on ports of its own.

    :ivar addresses: where each port of it is published, by name.
    :ivar container: the name of the suite's container.
    """

    def __init__(self, podman: Podman, image: str, file: Path) -> None:
        manifests = render("overlays/podman")
        spec = find(manifests, "Deployment")["spec"]["template"]["spec"]
        self.podman = podman
        self.file = file
        self.addresses: dict[str, Address] = {}
        (container,) = spec["containers"]
        for each in (*spec["initContainers"], container):
            each["image"] = image
        (whole,) = find(render("base"), "Deployment")["spec"]["template"]["spec"]["containers"]
        self.probes = {
            name: whole[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
        }
        for port in container["ports"]:
            port["hostPort"] = free_port()
            self.addresses[port["name"]] = ("127.0.0.1", port["hostPort"])
        file.write_text(dump(manifests))
        self.container = "echo-suite-pod-0-echo-suite"

    def play(self) -> None:
        """Start it, and wait until it is ready."""
        self.podman("play", "kube", self.file)
        self.podman.wait_for_line(self.container, "ready")

    def down(self) -> None:
        """Remove it, and what it leaves behind: podman has named volumes for emptyDir and ConfigMaps."""
        self.podman.run("play", "kube", "--down", self.file, check=False)
        self.podman.run("volume", "rm", "-f", "certs", "run", "echo-suite", check=False)

    def status(self, probe: str) -> int:
        """What a probe of the kubelet's gets."""
        assert self.probes[probe]["port"] == "admin"
        return ask(self.addresses["admin"], self.probes[probe]["path"]).status


@pytest.fixture
def pod(podman: Podman, image: str, tmp_path: Path) -> Iterator[Pod]:
    found = Pod(podman, image, tmp_path / "pod.yaml")
    found.down()
    found.play()
    yield found
    found.down()


def by_client(*command: str | Path) -> str:
    text = "hola mundo...\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout


def test_a_pod_becomes_ready_echoes_on_all_transports_and_drains(pod: Pod, tmp_path: Path) -> None:
    podman = pod.podman
    assert [pod.status(probe) for probe in pod.probes] == [200, 200, 200]
    assert podman("exec", pod.container, "echo-suite", "health") == "ok"

    nc = client_program("nc")
    tcp, udp = pod.addresses["tcp"], pod.addresses["udp"]
    assert by_client(nc, "-N", tcp[0], str(tcp[1])) == "hola mundo...\n"
    assert by_client(nc, "-u", "-W", "1", udp[0], str(udp[1])) == "hola mundo...\n"
    inside = ("exec", "-i", pod.container, "echo-suite", "connect", "unix:/run/echo-suite/echo.sock")
    assert podman.run(*inside, text="hola mundo...\n").stdout == "hola mundo...\n"
    ca = tmp_path / "ca.pem"
    printing = "print(open('/certs/ca.pem').read())"
    ca.write_text(podman("exec", pod.container, "python", "-c", printing))
    context = ssl.create_default_context(cafile=ca)

    with socket.create_connection(pod.addresses["report"], PATIENCE) as sock:
        report = json.loads(sock.makefile("rb").read())
    assert report["host"]["pod"] == "echo-suite-pod-0"
    assert {"namespace", "node"}.isdisjoint(report["host"])  # which there are not, without Kubernetes

    with ExitStack() as stack:
        plain = [stack.enter_context(socket.create_connection(tcp, PATIENCE)) for _ in range(ECHOES)]
        below = [
            stack.enter_context(socket.create_connection(pod.addresses["tls"], PATIENCE))
            for _ in range(ECHOES)
        ]
        talks = [*map(Talk, plain), *(Talk(TLSClient(sock, context)) for sock in below)]
        with podman.stopping(pod.container) as stopping:
            wait_until(lambda: pod.status("readiness") == 503, "it is not ready any more")
            assert pod.status("liveness") == 200
            for talk in talks:
                talk.finish()
            assert [talk.ended_well() for talk in talks] == [True] * 2 * ECHOES
            assert stopping.wait(PATIENCE) == 0
    assert podman.inspect(pod.container)["State"]["ExitCode"] == 0
    logged = podman.run("logs", pod.container).stderr
    assert [line for line in logged.splitlines() if '"level": "info"' not in line] == []
