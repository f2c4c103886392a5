"""Compose files, run by podman-compose with the test's own storage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.containers import Podman
from tests.deploy.manifests import program


class Compose:
    """podman-compose on one project.

    :ivar podman: what runs its containers.
    """

    def __init__(
        self, podman: Podman, project: str, files: Sequence[Path], variables: Mapping[str, str]
    ) -> None:
        self.podman = podman
        self._project = project
        self._files = [option for file in files for option in ("-f", str(file))]
        path = f"{Path(program('podman-compose')).parent}:{os.environ['PATH']}"
        self._variables = {**variables, "PATH": path}

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it with *arguments*."""
        self.podman.environment.update(self._variables)
        options = ("-p", self._project, *self._files, *arguments)
        return self.podman.run(*options, program=program("podman-compose"), check=check, timeout=300)

    def container(self, service: str) -> str:
        """The name of the first container of *service*."""
        return f"{self._project}_{service}_1"


@contextmanager
def composed(
    podman: Podman, project: str, files: Sequence[Path], variables: Mapping[str, str]
) -> Iterator[Compose]:
    """The services of *files*, until the end: `suite` first, and the others when it is ready."""
    found = Compose(podman, project, files, variables)
    try:
        found("up", "-d", "--no-build", "suite")
        podman.wait_for_line(found.container("suite"), "ready")
        found("up", "-d", "--no-build")
        yield found
    finally:
        found("down", "-v", check=False)
