"""Podman, and the image of this checkout."""

from __future__ import annotations

import pytest

from tests.deploy.containers import Podman


@pytest.fixture(scope="session")
def podman() -> Podman:
    return Podman()


@pytest.fixture(scope="session")
def image(podman: Podman) -> str:
    return podman.build()
