"""The suite for tests: runs in its own process, is ready once constructed, reports problems when closed.

With pytest, the fixtures ``echo_suite`` and ``make_echo_suite`` provide a `RunningSuite`.

- `suite`: `RunningSuite`
- `errors`: its exceptions
- `toml`: writes configurations
- `server`: the process that it starts
"""

from suite.testing.errors import Connection, Counts, CrashError, StartError, StillOpenError
from suite.testing.suite import FOUR_TRANSPORTS, PATIENCE, Address, Configuration, MakeEchoSuite, RunningSuite
from suite.testing.toml import to_toml

__all__ = [
    "FOUR_TRANSPORTS",
    "PATIENCE",
    "Address",
    "Configuration",
    "Connection",
    "Counts",
    "CrashError",
    "MakeEchoSuite",
    "RunningSuite",
    "StartError",
    "StillOpenError",
    "to_toml",
]
