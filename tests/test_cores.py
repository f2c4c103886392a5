"""How many processors a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite import cores as module
from suite.cores import cores, quota


def groups(directory: Path, membership: str, **files: str) -> float | None:
    """The quota of a process with this *membership*, where there are these *files*."""
    (directory / "cgroup").write_text(membership)
    for name, content in files.items():
        path = directory / "groups" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return quota(directory / "cgroup", directory / "groups")


@pytest.mark.parametrize(
    ("membership", "files", "share"),
    [
        ("0::/\n", {"cpu_DOT_max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu_DOT_max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        # As systemd has it: the slice around it may have less.
        ("0::/a/b\n", {"a__b__cpu_DOT_max": "300000 100000\n", "a__cpu_DOT_max": "150000 100000\n"}, 1.5),
        # Version 1 in a container: the path is that outside of it.
        (
            "2:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n",
            {
                "cpu,cpuacct__cpu_DOT_cfs_quota_us": "250000\n",
                "cpu,cpuacct__cpu_DOT_cfs_period_us": "100000\n",
            },
            2.5,
        ),
        ("1:cpu:/\n", {"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu_DOT_max": "nonsense\n"}, None),
        ("nonsense\n", {}, None),
    ],
)
def test_quota(tmp_path: Path, membership: str, files: dict[str, str], share: float | None) -> None:
    assert groups(tmp_path, membership, **files) == share


def test_without_control_groups_there_is_none(tmp_path: Path) -> None:
    assert quota(tmp_path / "cgroup", tmp_path) is None


@pytest.mark.parametrize(("share", "most"), [(0.2, 1), (1.5, 2), (1000.0, 10**6), (None, 10**6)])
def test_cores(monkeypatch: pytest.MonkeyPatch, share: float | None, most: int) -> None:
    monkeypatch.setattr(module, "quota", lambda: share)
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert cores() == min(there, most)
