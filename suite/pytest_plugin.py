"""The pytest plugin: an echo suite as a fixture. It is installed with the package.

Rules: test runs that do not use it pay nothing, so the fixtures import what they need; errors that
`suite.testing` raises when a suite is closed are errors at the teardown of the test (for the session's suite,
of the last test).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from suite.testing import Configuration, MakeEchoSuite, RunningSuite

#: Makes pytest show errors at the line of the test.
__tracebackhide__ = True

#: The session's suite while it runs.
running = pytest.StashKey["RunningSuite"]()


@pytest.fixture(scope="session")
def echo_suite(pytestconfig: pytest.Config) -> Iterator[RunningSuite]:
    """A suite with a TCP, a UDP, a TLS and a UNIX endpoint, for the whole session."""
    from suite.testing import RunningSuite  # noqa: PLC0415  # see above

    with RunningSuite() as suite:
        pytestconfig.stash[running] = suite
        yield suite


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Clear the records of the session's suite before any fixture of this test runs."""
    if running in item.config.stash and "echo_suite" in getattr(item, "fixturenames", ()):
        item.config.stash[running].clear()


@pytest.fixture
def make_echo_suite(request: pytest.FixtureRequest) -> MakeEchoSuite:
    """Starts a suite with any configuration; it is closed after the test."""
    from suite.testing import PATIENCE, RunningSuite  # noqa: PLC0415  # see above

    def make(config: Configuration = None, *, patience: float = PATIENCE) -> RunningSuite:
        suite = RunningSuite(config, patience=patience)
        request.addfinalizer(suite.close)
        return suite

    return make
