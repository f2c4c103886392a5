"""What answers questions about a suite, beside its endpoints."""

from __future__ import annotations

from suite.admin.admin import Admin
from suite.admin.control import Control
from suite.admin.faults import FaultRequests
from suite.server.service import EchoSuite


def add(suite: EchoSuite) -> None:
    """Let *suite* have a control socket and an admin interface wherever its configuration says so."""
    faults = FaultRequests(suite)  # one, so that a fault has one id
    suite.companions += [Control(suite, faults), Admin(suite, faults)]
