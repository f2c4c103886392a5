"""What the process uses of the system."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from suite.admin import usage

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)


def test_descriptors() -> None:
    before = usage.descriptors()
    assert before.open is not None
    pipe = os.pipe()
    try:
        after = usage.descriptors()
        assert after.open == before.open + 2
    finally:
        for fd in pipe:
            os.close(fd)
    assert after.limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_descriptors_where_the_directory_has_no_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before Linux 6.2 they have to be listed; the listing has a descriptor of its own."""
    expected = usage.descriptors().open

    class Sizeless:
        st_size = 0

    monkeypatch.setattr(Path, "stat", lambda _: Sizeless())
    assert usage.descriptors().open == expected
    monkeypatch.undo()
    monkeypatch.setattr(usage, "_DESCRIPTORS", tmp_path / "none")
    monkeypatch.setattr(usage, "_MEMORY", tmp_path / "none")
    assert usage.descriptors().open is None
    assert usage.resident_bytes() is None


def test_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert usage.descriptors().limit is None


def test_memory_and_time() -> None:
    resident = usage.resident_bytes()
    assert resident is not None
    assert 2**20 < resident < 2**40
    before = usage.cpu_seconds()
    sum(range(10**6))
    assert usage.cpu_seconds() > before
