"""``python -m suite`` with every echo on the ring from its first message on, however few there are."""

import sys

from suite.__main__ import main
from suite.engine import reactor, ring

reactor.MIN_EVENTS = reactor.EngineReactor._min_events = 1  # type: ignore[misc]  # a constant, but for this
ring.MIN_BATCH = 1  # type: ignore[misc]
ring.MAX_SMALL_TURNS = sys.maxsize  # type: ignore[misc]

if __name__ == "__main__":
    sys.exit(main())
