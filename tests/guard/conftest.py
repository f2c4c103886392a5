"""Endpoints for the tests of `suite.guard.streams`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guard.endpoint import GuardedEndpoint, observed


@pytest.fixture
def make_endpoint() -> Iterator[type[GuardedEndpoint]]:
    """The class, observed; at the end, an endpoint without connections must have nothing scheduled."""
    with observed(GuardedEndpoint) as made:
        yield made
