"""Which worker gets a datagram: the one that limits its source.

Rules: a limit on the rate of a source holds for all workers because all of its datagrams go to one of them.
Where no rate is limited, the kernel spreads them by addresses and ports. A source on loopback that is exempt
from the rate, as all are by default, is many clients, which their ports spread.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, cast

from suite.config.limits import LOOPBACK, Limits, Network
from suite.engine.linux.reuseport import steer_by_connection, steer_by_source


def steer(sock: socket.socket, workers: int, limits: Limits) -> None:
    """Divide the datagrams of the group of *sock* among its *workers* as *limits* need it.

    :param sock: one of its sockets; each worker has one.
    :raises OSError: the system does not permit it.
    """
    if limits.rate is None:
        steer_by_connection(sock)
    else:
        exempt = {network.version for network in LOOPBACK if _covers(limits.rate_exempt, network)}
        steer_by_source(sock, workers, loopback_by_port=exempt)


def _covers(networks: Iterable[Network], part: Network) -> bool:
    """Whether all of *part* is in one of *networks*."""
    return any(each.version == part.version and part.subnet_of(cast(Any, each)) for each in networks)
