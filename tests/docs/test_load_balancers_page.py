"""docs/load-balancers.md: what is not run is at least consistent.

tests/end_to_end/test_load_balancers.py runs the rest.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from suite.cli import build_parser
from suite.config import file as config
from tests.deploy.manifests import load
from tests.helpers import ROOT

PAGE = (ROOT / "docs/load-balancers.md").read_text()

#: What stands on the page for a suite's addresses in each of the configurations.
SUITES = ("192.0.2.1", "192.0.2.2")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_configuration_of_the_suites_is_one_and_has_what_balancers_ask_for(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "config.toml").write_text(text)
    found = config.load(tmp_path / "config.toml")
    assert [endpoint.name for endpoint in found.endpoints] == ["tcp", "udp"]
    assert found.admin is not None
    assert found.admin.listen == ("tcp:9901:interface=0.0.0.0",)
    for language in ("haproxy", "nginx", "yaml"):
        assert all(address in blocks(language)[0] for address in SUITES)


def test_envoy_sends_headers_to_the_echoes_and_none_with_its_checks() -> None:
    (document,) = load(blocks("yaml")[0])
    resources = document["static_resources"]
    (listener,) = resources["listeners"]
    (cluster,) = resources["clusters"]
    ((proxy,),) = (chain["filters"] for chain in listener["filter_chains"])
    assert proxy["typed_config"]["cluster"] == cluster["name"] == cluster["load_assignment"]["cluster_name"]
    endpoints = [each["endpoint"] for each in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    assert [each["address"]["socket_address"]["address"] for each in endpoints] == [*SUITES]
    assert {each["health_check_config"]["port_value"] for each in endpoints} == {9901}
    (check,) = cluster["health_checks"]
    (plain,) = cluster["transport_socket_matches"]
    assert check["transport_socket_match_criteria"] == plain["match"]
    header = cluster["transport_socket"]["typed_config"]
    assert header["config"] == {"version": "V2"}
    assert header["transport_socket"] == plain["transport_socket"]


def test_the_annotations_for_aws_ask_readyz_and_send_headers() -> None:
    (found,) = load(blocks("yaml")[1])
    prefix = "service.beta.kubernetes.io/aws-load-balancer-"
    assert all(name.startswith(prefix) and isinstance(value, str) for name, value in found.items())
    assert found[f"{prefix}healthcheck-path"] == "/readyz"
    assert found[f"{prefix}healthcheck-port"] == "9901"


@pytest.mark.parametrize("line", re.findall(r"echo-suite ((?:probe|health) [^;>]*)", PAGE))
def test_every_command_exists(line: str) -> None:
    arguments = shlex.split(line.replace("$3:$4", "192.0.2.1:1234"))
    build_parser(arguments).parse_args(arguments)
