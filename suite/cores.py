"""How many processors this process may use: those it may run on, or what its control group has of them.

Containers have such a share (``docker run --cpus``, ``limits.cpu`` in Kubernetes), and so have services
(``CPUQuota=``): on a machine of 64 cores, 64 workers for a share of two would only wait for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

#: Which control groups this process is in (cgroups(7)), and where those are.
MEMBERSHIP: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")


def cores() -> int:
    """How many processors this process may use, one at least; a part of one counts as one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota()
    return there if share is None else max(1, min(there, math.ceil(share)))


def quota(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> float | None:
    """How many processors' time the control group of this process may take; None: there is no limit.

    The least of its own share and of those of the groups that it is in.
    """
    try:
        lines = membership.read_text().splitlines()
    except (OSError, ValueError):
        return None
    return min((share for line in lines for share in _shares(line, groups)), default=None)


def _shares(line: str, groups: Path) -> Iterator[float]:
    """The limits of the group that a *line* of `MEMBERSHIP` names, and of those around it."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if not controllers:  # version 2: Linux, admin-guide/cgroup-v2
        root, read = groups, _version_2
    elif "cpu" in controllers.split(","):  # version 1: scheduler/sched-bwc
        root, read = groups / controllers, _version_1
    else:
        return
    group = PurePosixPath(path.lstrip("/"))
    # Within a container, the path may be that outside of it; then its own group is the root here.
    for each in dict.fromkeys([group, *group.parents]):
        share = read(root / each)
        if share is not None:
            yield share


def _version_2(group: Path) -> float | None:
    try:
        most, period = (group / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version_1(group: Path) -> float | None:
    try:
        most = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return most / period if most > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
