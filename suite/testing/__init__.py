"""The suite inside a test: in a process of its own, ready when you have it, loud when it is closed too early.

With pytest, the fixtures ``echo_suite`` and ``make_echo_suite`` give you a `RunningSuite`.

- `suite`: `RunningSuite`
- `errors`: what it raises
- `toml`: configurations from mappings
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
