"""The suite for tests: runs in its own process, is ready once constructed, reports problems when closed.

With pytest, the fixtures ``echo_suite`` and ``make_echo_suite`` provide a `RunningSuite`.

- `suite`: `RunningSuite`
- `errors`: its exceptions
- `toml`: writes configurations
- `process`: the process that it starts, by way of `launch`; `server`: what runs in it; `fault_log`: what that
  remembers of connections with faults
"""

from .errors import Connection, Counts, CrashError, FaultRecord, StartError, StillOpenError
from .suite import (
    FOUR_TRANSPORTS,
    PATIENCE,
    Address,
    Configuration,
    Fault,
    Faults,
    MakeEchoSuite,
    RunningSuite,
)
from .toml import to_toml

__all__ = [
    "FOUR_TRANSPORTS",
    "PATIENCE",
    "Address",
    "Configuration",
    "Connection",
    "Counts",
    "CrashError",
    "Fault",
    "FaultRecord",
    "Faults",
    "MakeEchoSuite",
    "RunningSuite",
    "StartError",
    "StillOpenError",
    "to_toml",
]
