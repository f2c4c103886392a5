"""As much of kustomize as deploy/kubernetes uses: neither Debian nor PyPI has the program itself.

Where there is a kubectl, a test compares what both make of it.

Rules: what it does not know is an error, never passed over; patches are JSON patches, whose meaning RFC 6902
says in full, and a patch that strikes nothing is an error, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

#: A manifest, as YAML has it.
Manifest = dict[str, Any]

#: What a kustomization may say here.
KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "images"}


def rendered(directory: Path, load: Any) -> list[Manifest]:
    """What ``kubectl kustomize`` makes of *directory*.

    :param load: reads all documents of a YAML text.
    """
    return _built(directory, load, [])


def _built(directory: Path, load: Any, found: list[Manifest]) -> list[Manifest]:
    (kustomization,) = load((directory / "kustomization.yaml").read_text())
    assert not kustomization.keys() - KNOWN, kustomization.keys() - KNOWN
    expected = "Component" if kustomization["apiVersion"].endswith("v1alpha1") else "Kustomization"
    assert kustomization["kind"] == expected
    for name in kustomization.get("resources", ()):
        path = directory / name
        found += _built(path, load, []) if path.is_dir() else load(path.read_text())
    for name in kustomization.get("components", ()):
        found = _built(directory / name, load, found)
    for patch in kustomization.get("patches", ()):
        assert patch.keys() == {"target", "patch"}, patch.keys()
        (operations,) = load(patch["patch"])
        targets = [manifest for manifest in found if _is_meant(manifest, patch["target"])]
        assert targets, f"{directory}: nothing is {patch['target']}"
        for target in targets:
            apply(operations, target)
    images = {
        image["name"]: f"{image['newName']}:{image['newTag']}" for image in kustomization.get("images", ())
    }
    for container in _containers(found):
        name = re.sub(":[^:/]*$", "", container["image"])
        container["image"] = images.get(name, container["image"])
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in found]
    assert len(set(names)) == len(names), names
    return found


def _is_meant(manifest: Manifest, target: Mapping[str, str]) -> bool:
    """Whether *target* means *manifest*; its values are patterns for the whole of a name."""
    assert not target.keys() - {"kind", "name"}, target
    values = {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}
    return all(re.fullmatch(pattern, values[key]) for key, pattern in target.items())


def _containers(manifests: list[Manifest]) -> list[dict[str, Any]]:
    pods = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "Job")
    ]
    return [
        container
        for pod in pods
        for key in ("initContainers", "containers")
        for container in pod.get(key, ())
    ]


def apply(operations: list[dict[str, Any]], document: Any) -> None:
    """Apply a JSON patch (RFC 6902) to *document*."""
    for operation in operations:
        *way, last = [
            part.replace("~1", "/").replace("~0", "~")
            for part in operation["path"].removeprefix("/").split("/")
        ]
        place = document
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key: Any = last
        if isinstance(place, list):
            key = len(place) if last == "-" else int(last)
        kind = operation["op"]
        if kind == "add" and isinstance(place, list):
            place.insert(key, deepcopy(operation["value"]))
        elif kind == "add":
            place[key] = deepcopy(operation["value"])
        elif kind == "replace":
            place[key]  # it has to be there
            place[key] = deepcopy(operation["value"])
        elif kind == "remove":
            del place[key]
        elif kind == "test":
            assert place[key] == operation["value"], operation
        else:
            raise ValueError(f"{kind} is not known here")
