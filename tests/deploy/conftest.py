"""Podman, and the image of this checkout."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.containers import Podman, turn


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    with turn():
        yield Podman()


@pytest.fixture(scope="session")
def image(podman: Podman) -> str:
    return podman.build()
