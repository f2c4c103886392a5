"""What the endpoints of one suite share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.engine.accept import Reserve
from suite.guard.datagrams import OwnPorts

if TYPE_CHECKING:
    from suite.guard.shared import WorkerShare  # which one process alone does not need


class Surroundings:
    """What the endpoints of one suite share.

    :ivar reactor: the reactor of them all.
    :ivar own_ports: the UDP ports of the suite.
    :ivar reserve: the file descriptor to release when there are no others.
    :ivar live_faults: whether a change of faults applies to open connections, too.
    :ivar exhibition: returns the gallery, and its open ports (`suite.gallery.index.Exhibition`).
    :ivar shared: what this process counts together with other workers; None: there are no others.
    """

    live_faults = False
    exhibition: Any = None
    shared: WorkerShare | None = None

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.own_ports = OwnPorts()
        self.reserve = Reserve()
