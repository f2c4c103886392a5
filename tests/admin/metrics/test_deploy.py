"""What deploy/ has for Prometheus and Grafana asks for metrics that there are, in a language they know."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.admin.metrics.families import FAMILIES
from suite.admin.metrics.of_workers import WORKERS
from tests.running import PATIENCE, client_program

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "echo-suite.json"
RULES = DEPLOY / "prometheus" / "echo-suite.rules.yml"

#: What may follow the name of a histogram.
SUFFIXES = ("_bucket", "_count", "_sum")

EVERY = (*FAMILIES, *WORKERS)
NAMES = {family.name for family in EVERY if family.kind != "histogram"} | {
    family.name + suffix for family in EVERY if family.kind == "histogram" for suffix in SUFFIXES
}
LABELS = {label for family in EVERY for label in family.labels} | {"instance", "job", "le"}


def promtool(*arguments: str) -> str:
    """What promtool says; it must be content."""
    command = [client_program("promtool"), *arguments]
    ended = subprocess.run(
        command,
        cwd=DEPLOY / "prometheus",
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def queries(value: Any) -> Iterator[str]:
    """Every query in the dashboard, variables included."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("expr", "query") and isinstance(each, str) and each != "prometheus":
                yield each
            else:
                yield from queries(each)
    elif isinstance(value, list):
        for each in value:
            yield from queries(each)


def names_in(text: str) -> set[str]:
    """The names of metrics in PromQL."""
    return set(re.findall(r"\b(?:echo_suite|process)_\w+", text))


def labels_in(text: str) -> set[str]:
    """The labels that PromQL asks for, or adds up by."""
    found = set(re.findall(r'(\w+)=~?"', text))
    for words in re.findall(r"\bby \(([^)]*)\)", text):
        found |= {word.strip() for word in words.split(",")}
    return found


def test_the_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "echo-suite.rules.yml")
    assert "SUCCESS" in promtool("test", "rules", "echo-suite.tests.yml")


def test_every_alert_is_tested() -> None:
    tests = (RULES.parent / "echo-suite.tests.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert alerts
    assert {*re.findall(r"alertname: (\w+)", tests)} == {*alerts}


def test_the_rules_ask_for_what_there_is() -> None:
    expressions = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*))", RULES.read_text())
    assert len(expressions) == len(re.findall("- alert:", RULES.read_text()))
    for pair in expressions:
        expression = "".join(pair)
        assert names_in(expression) <= NAMES
        assert names_in(expression) or expression.startswith("up{")
        assert labels_in(expression) <= LABELS


def test_the_dashboard_asks_for_what_there_is() -> None:
    asked = [*queries(json.loads(DASHBOARD.read_text()))]
    assert len(asked) > 30
    for query in asked:
        assert names_in(query), query
        assert names_in(query) <= NAMES, query
        assert labels_in(query) <= LABELS, query


def test_the_dashboard_shows_what_is_told_of_endpoints() -> None:
    """Each metric of an endpoint is on it, but for those that its numbers are made of."""
    shown = names_in(DASHBOARD.read_text())
    missing = {
        family.name
        for family in FAMILIES
        if "endpoint" in family.labels and not any(name.startswith(family.name) for name in shown)
    }
    assert missing == {"echo_suite_endpoint_paused", "echo_suite_tls_handshakes_failed_total"}


def as_promtool_sees_it(query: str) -> str:
    """*query* with Grafana's variables filled in."""
    query = query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$endpoint", ".*")
    return re.sub(r"label_values\((.*), \w+\)", r"\1", query)


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:query{number}", "expr": as_promtool_sees_it(query)}
        for number, query in enumerate(queries(json.loads(DASHBOARD.read_text())))
    ]
    assert "$" not in json.dumps(rules)
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", str(path))


def test_panels_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + right, at["y"] + down) for right in range(at["w"]) for down in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not places & cells, panel["title"]
        places |= cells


@pytest.mark.parametrize("name", ["prometheus/prometheus.yml", "prometheus/echo-suite.rules.yml"])
def test_files_say_where_they_are_explained(name: str) -> None:
    assert "docs/metrics.md" in (DEPLOY / name).read_text()
