"""Endpoints for the tests of `suite.guard.streams`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from tests.guard.endpoint import GuardedEndpoint, disconnect


@pytest.fixture
def make_endpoint() -> Iterator[type[GuardedEndpoint]]:
    """The class, observed; at the end, an endpoint without connections must have nothing scheduled."""
    built: list[GuardedEndpoint] = []

    class Built(GuardedEndpoint):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            globalLogPublisher.addObserver(self.observe)
            built.append(self)

    yield Built
    for one in built:
        globalLogPublisher.removeObserver(one.observe)
        for protocol in [*one.guard.open]:
            disconnect(protocol)
        assert one.clock.getDelayedCalls() == []
