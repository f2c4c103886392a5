"""Locust's distributed run in containers: deploy/locust/compose.yaml by podman-compose, the Jobs as pods."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.composing import composed
from tests.deploy.containers import Podman
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import dump, load, render
from tests.helpers import ROOT
from tests.running import wait_until

FILE = ROOT / "deploy/locust/compose.yaml"

#: Where a master writes its statistics while it runs: a place that can be written to in every container.
CSV = "/dev/shm/run"


def end_when_reported(podman: Podman, master: str, failure: str = "") -> None:
    """End a run as soon as the *master* knows of messages, and of the *failure*.

    Workers report every three seconds, and have half a second for the rest when a run is over: after a short
    one, on a busy machine, the master may know of nothing.
    """
    process = Path(f"/proc/{podman.inspect(master)['State']['Pid']}")

    def reported() -> bool:
        assert process.exists(), podman.run("logs", master)
        try:
            requests, failures = (
                Path(f"{process}/root{CSV}_{name}.csv").read_text() for name in ("stats", "failures")
            )
        except FileNotFoundError:  # it has not begun
            return False
        return re.search(r"^,Aggregated,[1-9]", requests, re.MULTILINE) is not None and failure in failures

    wait_until(reported, f"{master} knows of messages, and of {failure!r}")
    podman("kill", "--signal", "TERM", master)


def services() -> dict[str, Any]:
    (found,) = load(FILE.read_text())
    return dict(found["services"])


def test_the_master_expects_the_workers_that_there_are_and_nobody_has_rights() -> None:
    found = services()
    workers = [each for each in found.values() if "--worker" in each.get("command", ())]
    assert f"--expect-workers={len(workers)}" in found["master"]["command"]
    assert all("--master-host=master" in worker["command"] for worker in workers)
    for service in found.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "ports" not in service


@pytest.mark.container
@pytest.mark.parametrize(("target", "code"), [("tcp:suite:1234", 0), ("tcp:suite:9", 1)])
def test_compose_ends_with_the_exit_code_of_the_master(
    podman: Podman, image: str, tmp_path: Path, target: str, code: int
) -> None:
    """With messages that are echoed, and where nobody listens."""
    variables = {
        "ECHO_SUITE_IMAGE": image,
        "ECHO_SUITE_LOCUST_IMAGE": podman.locust(),
        "TARGET": target,
        "USERS": "4",
        "RUN_TIME": "5m",
    }
    reporting = tmp_path / "reporting.yaml"
    reporting.write_text(json.dumps({"services": {"master": {"environment": {"LOCUST_CSV": CSV}}}}))
    with composed(podman, "echo-suite-load-test", [FILE, reporting], variables) as compose:
        master = compose.container("master")
        end_when_reported(podman, master, "refused" if code else "")
        said = podman.run("wait", master).stdout
        log = podman.run("logs", master).stderr
        assert said == f"{code}\n", log
        if code:
            assert "refused" in log
        else:
            codes = [podman("wait", compose.container(worker)) for worker in ("worker1", "worker2")]
            assert codes == ["0", "0"]
            assert "no message was sent" not in log


#: A suite that answers with changed bytes, rarely.
CORRUPTING = """
[endpoints.tcp]
listen = "tcp:1234:interface=0.0.0.0"
faults = [{ corrupt = 0.00001 }]
"""

NETWORK = "echo-suite-load-test-pods"


def pods_of(image: str) -> list[Manifest]:
    """The pods of the Jobs, for a run that the test ends; podman 4.3 does not know Jobs themselves."""
    found = []
    for job in (each for each in render("load") if each["kind"] == "Job"):
        template = job["spec"]["template"]
        (container,) = template["spec"]["containers"]
        container |= {"image": image, "imagePullPolicy": "Never"}
        replaced = {"--host": "--host=tcp:suite:1234", "--run-time": "--run-time=5m"}
        container["args"] = [replaced.get(word.split("=")[0], word) for word in container["args"]]
        if "--master" in container["args"]:
            container["args"].append(f"--csv={CSV}")
        name = job["metadata"]["name"]
        count = job["spec"].get("parallelism", 1)
        found += [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"{name}-{number}" if count > 1 else name},
                "spec": template["spec"],
            }
            for number in range(count)
        ]
    return found


@pytest.mark.container
def test_the_job_fails_if_bytes_come_back_changed(podman: Podman, image: str, tmp_path: Path) -> None:
    """The master's, that is; the workers have done what they were to do."""
    tmp_path.chmod(0o755)  # pytest makes it for one user
    (tmp_path / "config.toml").write_text(CORRUPTING)
    pods = tmp_path / "pods.yaml"
    pods.write_text(dump(pods_of(podman.locust())))
    podman.run("network", "rm", "-f", NETWORK, check=False)
    podman("network", "create", NETWORK)
    try:
        mount = ("-v", f"{tmp_path}:/etc/echo-suite:ro")
        podman("run", "-d", "--name", "suite", "--network", NETWORK, *mount, image)
        podman.wait_for_line("suite", "ready")
        podman("play", "kube", "--network", NETWORK, pods)
        end_when_reported(podman, "master-locust", "mismatch")
        assert podman("wait", "master-locust") == "1", podman.run("logs", "master-locust").stderr
        assert "mismatch" in podman.run("logs", "master-locust").stderr
        assert [podman("wait", f"workers-{number}-locust") for number in range(2)] == ["0", "0"]
    finally:
        podman.run("play", "kube", "--down", pods, check=False)
        podman.run("rm", "-f", "-t", "0", "suite", check=False)
        podman.run("network", "rm", "-f", NETWORK, check=False)
