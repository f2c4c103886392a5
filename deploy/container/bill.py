"""Complete the image's bill of materials: to its Python packages, add the Debian packages and Python itself.

    python3 bill.py BILL ROOT RESULT

BILL is CycloneDX, of the environment's Python packages; ROOT holds the image's files, as gather.py leaves
them. The result says as little of when and where it was made as BILL does, and the schema's validator has
nothing against it.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

SCHEMA = SchemaVersion.V1_6


def debian_packages(status: Path, system: dict[str, str]) -> Iterator[Component]:
    """A component for each entry in the directory *status*, and one for the *system* that they are of.

    Scanners want to know both the system, which must have no purl for some of them, and the source package.
    """
    name, version = system["ID"], system["VERSION_ID"]
    yield Component(
        type=ComponentType.OPERATING_SYSTEM, name=name, version=version, bom_ref=f"{name}-{version}"
    )
    for file in sorted(file for file in status.iterdir() if file.suffix != ".md5sums"):
        fields = dict(re.findall(r"^(\S+): (.*)$", file.read_text(), re.MULTILINE))
        qualifiers = {"arch": fields["Architecture"], "distro": f"{name}-{version}"}
        if source := fields.get("Source"):
            # `gcc-12 (12.2.0-14)`, where its version is another one.
            qualifiers["upstream"] = re.sub(r" \((.+)\)$", r"@\1", source)
        purl = PackageURL("deb", name, fields["Package"], fields["Version"], qualifiers)
        yield Component(
            name=fields["Package"],
            version=fields["Version"],
            description=fields.get("Description"),
            purl=purl,
            bom_ref=purl.to_string(),
        )


def python(status: Path) -> Component:
    """Python, which is the one that runs this.

    It has a CPE, by which scanners find what is wrong with that version, unless it is a Debian package, too:
    the package's version says what has been mended.
    """
    version = platform.python_version()
    program = str(Path(sys.executable).resolve().relative_to("/"))
    packaged = any(
        re.search(rf"  {re.escape(program)}$", sums.read_text(), re.MULTILINE)
        for sums in status.glob("*.md5sums")
    )
    purl = PackageURL("generic", None, "python", version)
    return Component(
        type=ComponentType.PLATFORM,
        name="python",
        version=version,
        purl=purl,
        bom_ref=purl.to_string(),
        cpe=None if packaged else f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
    )


def main(bill: Path, root: Path, result: Path) -> None:
    """Write *bill* to *result*, with what else is in *root*."""
    bom = Bom.from_json(json.loads(bill.read_text()))
    bom.serial_number = None  # which would be a random one
    status = root / "var/lib/dpkg/status.d"
    components = [python(status)]
    if status.is_dir():
        components += debian_packages(status, platform.freedesktop_os_release())
    bom.components.update(components)
    bom.register_dependency(bom.metadata.component, components)
    text = make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string(indent=2)
    if error := JsonStrictValidator(SCHEMA).validate_str(text):
        raise SystemExit(f"bill: {error}")
    result.write_text(text)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
