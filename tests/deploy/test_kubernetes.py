"""The manifests: right by the schemas of Kubernetes, and by each other; the suite can serve what they say."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from suite.answers.host_report import VARIABLES
from suite.config.file import Config
from suite.config.file import load as load_config
from suite.endpoints.parser import parse
from tests.deploy.kustomize import Manifest, apply, rendered
from tests.deploy.manifests import DIRECTORY, find, load, render, validate
from tests.helpers import write_config
from tests.running import PATIENCE, optional_program

#: Those of the suite in a cluster.
OVERLAYS = ("base", "overlays/loadbalancer", "overlays/gateway", "overlays/hostnetwork")

#: All that there are; one is for a machine without Kubernetes, and `load` is Locust.
EVERYTHING = (*OVERLAYS, "overlays/podman", "load")

#: Kinds that are no part of Kubernetes, whose schemas are nowhere here: they are not checked.
NOT_CHECKED = {"Certificate", "Issuer", "ServiceMonitor", "Gateway", "TCPRoute", "UDPRoute", "TLSRoute"}

#: Components, each as an overlay over the base would use it.
COMPONENTS = ("cert-manager", "monitoring")


@pytest.fixture
def with_components(tmp_path: Path) -> list[Manifest]:
    """The base and all components, as a user's own overlay has them."""
    names = "".join(f"  - {DIRECTORY}/components/{name}\n" for name in COMPONENTS)
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources:\n  - {DIRECTORY}/base\ncomponents:\n{names}"
    )
    return rendered(tmp_path, load)


def pod_of(manifests: list[Manifest]) -> dict[str, Any]:
    pod: dict[str, Any] = find(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def config_of(manifests: list[Manifest], directory: Path) -> Config:
    """What the suite reads of the ConfigMap."""
    text = find(manifests, "ConfigMap")["data"]["config.toml"]
    return load_config(write_config(directory, text))


def check_schemas(manifests: list[Manifest]) -> None:
    version, said = validate(manifests)
    assert tuple(map(int, version.split("."))) >= (1, 37)
    for manifest, problem in zip(manifests, said, strict=True):
        expected = "unknown" if manifest["kind"] in NOT_CHECKED else None
        assert problem == expected, (manifest["kind"], manifest["metadata"]["name"])


@pytest.mark.parametrize("overlay", EVERYTHING)
def test_manifests_are_right_by_the_newest_schemas(overlay: str) -> None:
    """Strictly: no unknown field."""
    manifests = render(overlay)
    check_schemas(manifests)
    names = {each["metadata"].get("namespace") for each in manifests if each["kind"] != "Namespace"}
    assert names == {"echo-suite-load" if overlay == "load" else "echo-suite"}


def test_so_are_they_with_all_components(with_components: list[Manifest]) -> None:
    check_schemas(with_components)


def by_kubectl(directory: Path) -> list[Manifest]:
    """What the real program makes of *directory*."""
    command = [optional_program("kubectl"), "kustomize", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[Manifest] = load(done.stdout)
    return found


def in_order(manifests: list[Manifest]) -> list[Manifest]:
    """In an order that says nothing."""
    return sorted(manifests, key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.parametrize("overlay", EVERYTHING)
def test_kustomize_makes_of_them_what_our_own_does(overlay: str) -> None:
    assert in_order(by_kubectl(DIRECTORY / overlay)) == in_order(render(overlay))


def test_so_it_does_with_all_components(tmp_path: Path, with_components: list[Manifest]) -> None:
    """It takes relative paths only."""
    file = tmp_path / "kustomization.yaml"
    file.write_text(file.read_text().replace(f"- {DIRECTORY}/", f"- {os.path.relpath(DIRECTORY, tmp_path)}/"))
    assert in_order(by_kubectl(tmp_path)) == in_order(with_components)


def test_a_wrong_manifest_is_found() -> None:
    """Or the tests above would show nothing."""
    manifests = render("base")
    pod_of(manifests)["containers"][0]["readinesProbe"] = {}
    find(manifests, "Service")["spec"]["ports"][0]["port"] = "x"
    assert [problem for problem in validate(manifests)[1] if problem is not None and "x" in problem]
    assert len([problem for problem in validate(manifests)[1] if problem is not None]) == 2


def test_patches_do_what_rfc_6902_says() -> None:
    """Its examples A.1 to A.5, A.8 and A.14, and a path that is not there."""
    document: dict[str, Any] = {"foo": ["bar", "baz"], "a/b": 1}
    apply([{"op": "add", "path": "/foo/1", "value": "qux"}], document)
    apply([{"op": "add", "path": "/foo/-", "value": "end"}], document)
    apply([{"op": "replace", "path": "/a~1b", "value": 2}], document)
    assert document == {"foo": ["bar", "qux", "baz", "end"], "a/b": 2}
    apply([{"op": "test", "path": "/foo/1", "value": "qux"}, {"op": "remove", "path": "/foo/1"}], document)
    assert document == {"foo": ["bar", "baz", "end"], "a/b": 2}
    with pytest.raises(KeyError):
        apply([{"op": "replace", "path": "/none", "value": 1}], document)
    with pytest.raises(AssertionError):
        apply([{"op": "test", "path": "/foo/0", "value": "qux"}], document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configuration_is_one_and_its_ports_are_those_of_the_pod(overlay: str, tmp_path: Path) -> None:
    manifests = render(overlay)
    config = config_of(manifests, tmp_path)
    listening = {
        (endpoint.endpoint.name, endpoint.transport): int(endpoint.arguments["port"])
        for endpoint in parse(config)
        if endpoint.transport != "UNIX"
    }
    assert config.admin is not None
    (admin,) = config.admin.listen
    (container,) = pod_of(manifests)["containers"]
    ports = {port["name"]: (port["containerPort"], port["protocol"]) for port in container["ports"]}
    assert ports.pop("admin") == (int(admin.split(":")[1]), "TCP")
    assert ports == {
        name: (port, "UDP" if transport == "UDP" else "TCP") for (name, transport), port in listening.items()
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_policies_and_routes_lead_to_ports_that_there_are(overlay: str) -> None:
    manifests = render(overlay)
    (container,) = pod_of(manifests)["containers"]
    ports = {(port["name"], port["protocol"]) for port in container["ports"]}
    services = {}
    for service in (each for each in manifests if each["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["protocol"]) in ports
            services[service["metadata"]["name"], port["port"]] = port["protocol"]
        assert service["spec"]["selector"] == find(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    policy = find(manifests, "NetworkPolicy")["spec"]
    assert {(port["port"], port["protocol"]) for rule in policy["ingress"] for port in rule["ports"]} == ports
    for route in (each for each in manifests if each["kind"].endswith("Route")):
        (rule,) = route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        protocol = "UDP" if route["kind"] == "UDPRoute" else "TCP"
        assert services[backend["name"], backend["port"]] == protocol
        (parent,) = route["spec"]["parentRefs"]
        listeners = find(manifests, "Gateway", parent["name"])["spec"]["listeners"]
        (listener,) = (each for each in listeners if each["name"] == parent["sectionName"])
        assert listener["allowedRoutes"]["kinds"] == [{"kind": route["kind"]}]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_drain(overlay: str, tmp_path: Path) -> None:
    manifests = render(overlay)
    pod = pod_of(manifests)
    (container,) = pod["containers"]
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop + config_of(manifests, tmp_path).drain < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_restricted(overlay: str) -> None:
    """As Pod Security's standard "restricted" asks, and a read-only root as well."""
    pod = pod_of(render(overlay))
    check_restricted(pod)
    assert all(volume.keys() - {"name"} <= {"configMap", "emptyDir", "secret"} for volume in pod["volumes"])
    assert bool(pod.get("hostNetwork")) == (overlay == "overlays/hostnetwork")


def check_restricted(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_a_load_balancer_keeps_the_address_of_the_client() -> None:
    manifests = render("overlays/loadbalancer")
    for name in ("echo-suite", "echo-suite-udp"):
        spec = find(manifests, "Service", name)["spec"]
        assert (spec["type"], spec["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert "type" not in find(manifests, "Service", "echo-suite-admin")["spec"]


def test_a_load_balancer_has_time_to_find_and_to_leave_a_node() -> None:
    """By its own checks: three, ten seconds apart, are usual."""
    deployment = find(render("overlays/loadbalancer"), "Deployment")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert deployment["minReadySeconds"] > 3 * 10
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > 3 * 10
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_two_configurations_differ_in_where_the_admin_interface_listens() -> None:
    texts = [
        tomllib.loads(find(render(overlay), "ConfigMap")["data"]["config.toml"])
        for overlay in ("base", "overlays/hostnetwork")
    ]
    assert texts[0].pop("admin") != texts[1].pop("admin")
    assert texts[0] == texts[1]


def test_cert_manager_provides_the_files_that_the_configuration_names(
    with_components: list[Manifest], tmp_path: Path
) -> None:
    pod = pod_of(with_components)
    assert "initContainers" not in pod
    (volume,) = (each for each in pod["volumes"] if each["name"] == "certs")
    assert volume["secret"]["secretName"] == find(with_components, "Certificate")["spec"]["secretName"]
    assert volume["secret"]["defaultMode"] == 0o440  # or the suite refuses the key
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "certs")
    files = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    (tls,) = (each for each in parse(config_of(with_components, tmp_path)) if each.transport == "TLS")
    assert files == {tls.arguments["privateKey"], tls.arguments["certKey"]}


def test_prometheus_may_ask_under_the_names_of_the_service(tmp_path: Path) -> None:
    manifests = render("base")
    service = find(manifests, "Service", "echo-suite-admin")["metadata"]
    admin = config_of(manifests, tmp_path).admin
    assert admin is not None
    assert f"{service['name']}.{service['namespace']}.svc" in admin.hosts


def test_the_report_tells_pod_node_and_namespace() -> None:
    (container,) = pod_of(render("base"))["containers"]
    fields = {each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in container["env"]}
    assert fields == {
        VARIABLES["pod"]: "metadata.name",
        VARIABLES["namespace"]: "metadata.namespace",
        VARIABLES["node"]: "spec.nodeName",
    }


def test_the_load_has_the_workers_that_its_master_expects_and_they_find_it() -> None:
    manifests = render("load")
    master, workers = (find(manifests, "Job", name)["spec"] for name in ("master", "workers"))
    pods = [job["template"]["spec"] for job in (master, workers)]
    for pod in pods:
        check_restricted(pod)
        # Or variables of a Service called locust-master would be taken for options.
        assert pod["enableServiceLinks"] is False
    assert (master["backoffLimit"], pods[0]["restartPolicy"]) == (0, "Never")
    arguments = [pod["containers"][0]["args"] for pod in pods]
    assert workers["parallelism"] == workers["completions"]
    assert f"--expect-workers={workers['parallelism']}" in arguments[0]
    service = find(manifests, "Service", "master")
    assert f"--master-host={service['metadata']['name']}" in arguments[1]
    labels = master["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (port,) = service["spec"]["ports"]
    (listening,) = pods[0]["containers"][0]["ports"]
    assert port["targetPort"] == listening["name"]
    assert listening["containerPort"] == port["port"] == 5557  # Locust's own default
    suite = find(render("base"), "Service")
    at = f"{suite['metadata']['name']}.{suite['metadata']['namespace']}"
    (tcp,) = (each["port"] for each in suite["spec"]["ports"] if each["name"] == "tcp")
    assert f"--host=tcp:{at}:{tcp}" in arguments[0]


def test_every_file_is_used() -> None:
    """By a kustomization beside it."""
    for file in DIRECTORY.rglob("*.yaml"):
        if file.name != "kustomization.yaml":
            named = (file.parent / "kustomization.yaml").read_text()
            assert re.search(rf"^  - {re.escape(file.name)}$", named, re.MULTILINE), file
