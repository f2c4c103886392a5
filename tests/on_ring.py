"""``python -m suite`` with every echo on the ring from its first message on, however few there are."""

import sys

from suite.cli import main
from suite.engine import reactor, ring

reactor.CROWD = reactor.EngineReactor._crowd = 1  # type: ignore[misc]  # a constant, but for this
ring.FEW = 1  # type: ignore[misc]
ring.PATIENCE = sys.maxsize  # type: ignore[misc]

if __name__ == "__main__":
    sys.exit(main())
