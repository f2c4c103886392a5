"""The manifests of deploy/kubernetes, and what the schemas of Kubernetes say of them.

YAML and schemas are read in a virtual environment of their own: ``make .venv/deploy/installed``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.deploy.kustomize import Manifest, rendered
from tests.helpers import ROOT
from tests.running import PATIENCE, cannot_run

DIRECTORY = ROOT / "deploy/kubernetes"

_READ = "import json, sys, yaml; json.dump([*yaml.safe_load_all(sys.stdin)], sys.stdout)"
_WRITE = "import json, sys, yaml; yaml.safe_dump_all(json.load(sys.stdin), sys.stdout)"

#: Says of each document what is wrong with it by the newest schema; null: nothing; "unknown": there is none.
_VALIDATE = """
import json, sys
import kubernetes_validate as schemas
newest, said = schemas.latest_version(), []
for document in json.load(sys.stdin):
    try:
        schemas.validate(document, newest, strict=True)
        said.append(None)
    except schemas.SchemaNotFoundError:
        said.append("unknown")
    except schemas.ValidationError as error:
        said.append(f"{[*error.path]}: {error.message}")
json.dump([newest, said], sys.stdout)
"""


def program(name: str) -> Path:
    """A program of that environment; without it the test is skipped."""
    path = Path(sys.prefix) / "deploy/bin" / name
    if not path.exists():
        cannot_run(f"{name} is not installed; `make .venv/deploy/installed` does that")
    return path


def _run(code: str, text: str) -> str:
    command: list[str | Path] = [program("python"), "-c", code]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout


@cache
def _read(text: str) -> str:
    return _run(_READ, text)


def load(text: str) -> list[Any]:
    """The documents of a YAML *text*."""
    found: list[Any] = json.loads(_read(text))
    return found


def dump(manifests: list[Manifest]) -> str:
    """*manifests* as one YAML text."""
    return _run(_WRITE, json.dumps(manifests))


def validate(manifests: list[Manifest]) -> tuple[str, list[str | None]]:
    """The newest version of the schemas, and what is wrong with each of *manifests* by it."""
    version, said = json.loads(_run(_VALIDATE, json.dumps(manifests)))
    return version, said


def render(name: str) -> list[Manifest]:
    """What ``kubectl kustomize deploy/kubernetes/NAME`` prints."""
    return rendered(DIRECTORY / name, load)


def find(manifests: list[Manifest], kind: str, name: str = "echo-suite") -> Manifest:
    """The one manifest of this *kind* and *name*."""
    (found,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found
