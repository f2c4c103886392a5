"""The pytest plugin: an echo suite as a fixture. Installing the package installs it.

Rules: a test run that does not use it pays nothing for it, so what it needs is imported by the
fixtures; what `suite.testing` has to complain about when a suite is closed is an error of the test
(or the last of the session's) at teardown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from suite.testing import Configuration, MakeEchoSuite, RunningSuite

#: What goes wrong in here is shown at the line of the test.
__tracebackhide__ = True

#: Where the session's suite is noted while it runs.
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
    """Have the session's suite forget what earlier tests have sent, before any fixture of this one."""
    if running in item.config.stash and "echo_suite" in getattr(item, "fixturenames", ()):
        item.config.stash[running].clear()


@pytest.fixture
def make_echo_suite(request: pytest.FixtureRequest) -> MakeEchoSuite:
    """Starts a suite of any configuration; it ends with the test."""
    from suite.testing import PATIENCE, RunningSuite  # noqa: PLC0415  # see above

    def make(config: Configuration = None, *, patience: float = PATIENCE) -> RunningSuite:
        suite = RunningSuite(config, patience=patience)
        request.addfinalizer(suite.close)
        return suite

    return make
