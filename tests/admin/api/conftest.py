"""A running suite for the tests of a module, and its API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.api.asking_api import API, CONFIG, NOT_SERVED, TOKEN
from tests.running import RunningSuite, running


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("api")
    token = directory / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    with running(directory, CONFIG, asked_for=[NOT_SERVED]) as suite:
        yield suite


@pytest.fixture(scope="module")
def api(suite: RunningSuite) -> API:
    return API(suite)
