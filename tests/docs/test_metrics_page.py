"""docs/metrics.md says what there is."""

from __future__ import annotations

import re

from suite.admin.metrics.families import FAMILIES
from suite.admin.metrics.family import ENDPOINT, Family
from suite.admin.metrics.of_endpoints import ENDPOINTS
from suite.admin.metrics.of_suite import SUITE
from suite.admin.metrics.of_workers import WORKERS
from tests.admin.metrics.test_deploy import NAMES, RULES, labels_in, names_in
from tests.docs.test_docs import rows
from tests.helpers import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text()


def row(family: Family) -> list[str]:
    """The row of *family* in one of the tables."""
    labels = [label for label in family.labels if label not in ENDPOINT]
    meaning = family.meaning.removesuffix(".")
    return [f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in labels), meaning]


def test_the_page_has_every_metric() -> None:
    assert rows(PAGE, "metric") == [row(family) for family in (*SUITE, *ENDPOINTS, *WORKERS)]


def test_the_page_names_no_other() -> None:
    histograms = {family.name for family in FAMILIES if family.kind == "histogram"}
    named = {name for name in names_in(PAGE) if not name.endswith("_")}
    assert named <= NAMES | histograms
    for query in re.findall(r"promtool query instant \S+ '(.*)'", PAGE):
        assert names_in(query)
        assert labels_in(query) <= {"endpoint", "reason", "state", "job"}


def test_the_page_has_every_alert() -> None:
    rules = re.findall(r"- alert: (\w+)[\s\S]*?severity: (\w+)", RULES.read_text())
    assert [(name.strip("`"), severity) for name, _, severity in rows(PAGE, "alert")] == rules
