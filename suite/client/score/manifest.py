"""``gallery.json``: what a gallery says of itself, read from a URL or a file, and checked in full.

Rules: keys that are not known here are ignored, so that newer galleries can be scored; what is needed and is
missing or of another type is an error that names it. The names in it may come from a stranger: each is a DNS
label, and what people are shown is one line.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from suite.errors import SuiteError, UsageError
from suite.gallery.specimens import Must
from suite.text import one_line, shown

#: The version of the format that is read here.
VERSION: Final = 1

#: The largest manifest in bytes; one has about 50 KiB.
LARGEST: Final = 16 * 2**20

#: Seconds that a gallery may take for each step of sending its manifest.
PATIENCE: Final = 30

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class ManifestError(SuiteError):
    """A gallery whose manifest cannot be had or used.

    :ivar place: its URL, or the path of the file.
    :ivar problem: what is wrong with it, and what was expected.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"{self.place}: {self.problem}")


@dataclass(frozen=True)
class Exhibit:
    """One specimen of a running gallery.

    :ivar name: its name.
    :ivar port: the port that serves it alone.
    :ivar defect: what is wrong with it, in a sentence.
    :ivar clause: where a standard says so.
    :ivar must: what a correct client does with it.
    :ivar errors: the error that each TLS stack should raise, where it is known.
    """

    name: str
    port: int
    defect: str
    clause: str
    must: Must
    errors: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """A running gallery.

    :ivar host: the address or name at which it listens.
    :ivar ca: the certificate of the CA to be trusted, PEM.
    :ivar exhibits: its specimens.
    :ivar left_out: what it does not have: name → why.
    """

    host: str
    ca: str
    exhibits: tuple[Exhibit, ...]
    left_out: Mapping[str, str]

    @property
    def target(self) -> str:
        """The host name that clients are to connect to, which the certificates name.

        The certificates of a gallery on this machine name ``localhost``.
        """
        return "localhost" if self.host in ("127.0.0.1", "::1", "0.0.0.0", "::", "") else self.host  # noqa: S104  # it is read

    @property
    def good(self) -> Exhibit:
        """The specimen without a defect, which every client must accept before it can be scored.

        :raises LookupError: there is none.
        """
        for exhibit in self.exhibits:
            if exhibit.name == "good":
                return exhibit
        raise LookupError("good")


def read_manifest(place: str) -> Manifest:
    """The manifest at *place*, the URL of a gallery or of its manifest, or the path of a file.

    :raises ManifestError: it cannot be read, or is no manifest.
    :raises UsageError: *place* cannot be one.
    """
    if "://" in place:
        return parse_manifest(place, _fetched(place))
    path = Path(place)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        hint = ""
        if isinstance(error, FileNotFoundError):
            hint = "; expected gallery.json or the URL of a gallery, http://HOST:PORT"
        raise UsageError(f"--gallery {shown(path)}: {error.strerror or error}{hint}") from None
    return parse_manifest(shown(path), data)


def _fetched(url: str) -> bytes:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
        parts = parts._replace(netloc="")
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"--gallery {url!r} is no URL of a gallery; expected http://HOST:PORT")
    path = parts.path if parts.path.endswith(".json") else f"{parts.path.rstrip('/')}/gallery.json"
    connection = HTTPConnection(parts.hostname, port or 80, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        data = response.read(LARGEST + 1)
    except (OSError, HTTPException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        raise ManifestError(url, f"no gallery answers there: {why}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise ManifestError(url, f"no gallery answers there: HTTP status {response.status} for {path}")
    return data


def parse_manifest(place: str, data: bytes) -> Manifest:
    """The manifest that *data* is.

    :param place: where it comes from, for people.
    :raises ManifestError: it is none.
    """
    if len(data) > LARGEST:
        raise ManifestError(place, f"more than {LARGEST:,} bytes are no gallery.json")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(place, f"this is not a gallery.json: {error}") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise ManifestError(place, f"this is not a gallery.json: version {version!r}; expected {VERSION}")
    fields = _Fields(place, "", found)
    ca = fields.text("ca")
    try:
        ssl.PEM_cert_to_DER_cert(
            ca[ca.index("-----BEGIN") :].split("-----END")[0] + "-----END CERTIFICATE-----"
        )
    except ValueError:
        fields.refuse("ca", "a certificate, PEM", ca[:40])
    exhibits = tuple(_exhibit(each) for each in fields.tables("specimens"))
    if len({exhibit.name for exhibit in exhibits}) < len(exhibits):
        raise ManifestError(place, "specimens: two of them have the same name")
    left_out = {each.text("name"): each.text("reason") for each in fields.tables("left_out")}
    return Manifest(fields.text("host"), ca, exhibits, MappingProxyType(left_out))


def _exhibit(fields: _Fields) -> Exhibit:
    name = fields.text("name")
    if not _LABEL.fullmatch(name):
        fields.refuse("name", "a DNS label", name)
    must = fields.text("must")
    if must not in set(Must):
        fields.refuse("must", "accept, refuse or either", must)
    port = fields.found.get("port")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        fields.refuse("port", "1 to 65535", port)
    errors = fields.found.get("errors", {})
    if not isinstance(errors, dict) or not all(isinstance(each, str) for each in errors.values()):
        fields.refuse("errors", "a text for each stack", errors)
    return Exhibit(
        name, port, fields.text("defect"), fields.text("clause"), Must(must), MappingProxyType(errors)
    )


class _Fields:
    """A table of the manifest.

    :param place: where the manifest comes from, for people.
    :param path: where the table is in it.
    """

    def __init__(self, place: str, path: str, found: Mapping[str, Any]) -> None:
        self.found = found
        self._place = place
        self._path = path

    def refuse(self, key: str, expected: str, value: object) -> NoReturn:
        """:raises ManifestError: always."""
        raise ManifestError(self._place, f"{self._path}{key}: {value!r} is not {expected}"[:200])

    def text(self, key: str) -> str:
        """The text under *key*."""
        value = self.found.get(key)
        if not isinstance(value, str):
            self.refuse(key, "a text", value)
        return value

    def tables(self, key: str) -> list[_Fields]:
        """The list of tables under *key*."""
        value = self.found.get(key)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.refuse(key, "a list of tables", value)
        return [_Fields(self._place, f"{key}[{n}].", each) for n, each in enumerate(value)]
