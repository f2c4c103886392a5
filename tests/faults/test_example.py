"""docs/faults.toml, the example that declares every fault."""

from __future__ import annotations

from suite.config.faults import Kind
from suite.config.file import load
from suite.server.plan import Plan
from tests.helpers import ROOT

EXAMPLE = ROOT / "docs" / "faults.toml"


def test_every_fault_is_in_it() -> None:
    declared = {fault.kind for endpoint in load(EXAMPLE).endpoints for fault in endpoint.faults.entries}
    assert declared == set(Kind)


def test_it_can_be_served() -> None:
    assert Plan(EXAMPLE, mint=False).lines()[-1].endswith("23 endpoints, no errors")
