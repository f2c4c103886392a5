"""``python -m suite`` whose TLS connections get the faults that are listed for the name they ask for.

``faults.json`` in the working directory lists them: name → a list of kind, value and, perhaps, ``after`` in
bytes or, as a float, in seconds. It stands in for configuration and proxying, which have tests of their own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from suite.__main__ import main
from suite.config.faults import Fault, Kind, Span
from suite.echo import Echo, EchoFactory
from suite.engine.tls import TLSPort
from suite.faults.decide import CLEAN, Decision
from suite.faults.tls import FaultyTLS


def fault(kind: str, value: Any, after: float | int | None = None) -> Fault:
    if after is None:
        return Fault(Kind(kind), value)
    span = Span(seconds=after) if isinstance(after, float) else Span(size=after)
    return Fault(Kind(kind), value, after=span)


class FaultyEcho(Echo):
    decision: Decision = CLEAN

    def client_hello(self, name: str | None) -> None:
        listed = json.loads(Path("faults.json").read_text()).get(name or "", [])
        self.decision = Decision(tuple(fault(*each) for each in listed), seed=7)


EchoFactory.protocol = FaultyEcho
TLSPort.transport = FaultyTLS

if __name__ == "__main__":
    sys.exit(main())
