"""The suite for tests: runs in its own process, is ready once constructed, reports problems when closed.

With pytest, the fixtures ``echo_suite`` and ``make_echo_suite`` provide a `RunningSuite`.

- `suite`: `RunningSuite`; `configuration`: what it is made from
- `errors`: its exceptions
- `gallery`: `TLSGallery`, bad TLS to be refused
- `toml`: writes configurations
- `process`: the process that it starts, by way of `launch`; `server`: what runs in it; `fault_log`: what that
  remembers of connections with faults
"""

from .configuration import FOUR_TRANSPORTS, Address, Configuration, Fault, Faults
from .errors import Connection, Counts, CrashError, FaultRecord, StartError, StillOpenError
from .gallery import TLSGallery, TLSSpecimen, bad_specimens
from .suite import PATIENCE, MakeEchoSuite, RunningSuite
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
    "TLSGallery",
    "TLSSpecimen",
    "bad_specimens",
    "to_toml",
]
