"""Endpoints and TLS connections with faults, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from suite import certs
from suite.config.faults import Fault
from tests.engine.test_stream import context_of
from tests.faults.endpoint import FaultyEndpoint
from tests.faults.tls_wire import Faulty, Wire
from tests.guard.endpoint import observed


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs")
    certs.mint(made)
    return made


@pytest.fixture(scope="module")
def context(certificates: Path) -> SSL.Context:
    return context_of(certificates)


@pytest.fixture
def wire(context: SSL.Context) -> Iterator[Callable[..., Wire]]:
    made = []

    def make(*faults: Fault, **options: Any) -> Wire:
        protocol = options.pop("protocol", None) or Faulty(*faults)
        made.append(Wire(options.pop("context", context), protocol, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def make() -> Iterator[type[FaultyEndpoint]]:
    """The class, observed; at the end its connections are lost, and then nothing may be scheduled."""
    with observed(FaultyEndpoint) as made:
        yield made
