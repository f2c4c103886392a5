"""A gallery of bad TLS for tests: in its own process, ready once constructed.

Rules: those of `suite.testing.suite`; a client that leaves a connection open is no error here, since a server
that hangs is part of the gallery.

With pytest, use the fixtures ``tls_gallery`` and ``bad_tls`` (`pytest_echo_suite`).
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from .errors import LIMIT, StartError
from .launch import command
from .process import pauses

#: Makes pytest show errors at the calling line of the test.
__tracebackhide__ = True

_INDEX: Final = re.compile(r"^gallery-index +TCP +(\S+):(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class TLSSpecimen:
    """One server of the gallery.

    :ivar name: its name, such as ``expired``.
    :ivar host: the host name to connect to, and to expect in the certificate.
    :ivar port: its port.
    :ivar ca: the certificate of the CA that a client is to trust, for the time of the test: a PEM file.
    :ivar defect: what is wrong with it, in a sentence.
    :ivar clause: where a standard says what a client must do about it.
    :ivar must: what a correct client does: ``accept``, ``refuse`` or ``either``.
    :ivar errors: the error that each TLS stack should raise, where it is known: ``openssl``, ``gnutls``,
        ``go``, ``python``, ``java``, ``chromium``.
    """

    name: str
    host: str
    port: int
    ca: Path
    defect: str
    clause: str
    must: str
    errors: Mapping[str, str]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new context for clients, which trusts the gallery's CA, and is otherwise Python's default."""
        return ssl.create_default_context(cafile=self.ca)


class TLSGallery:
    """A gallery in its own process, ready from construction until `close`.

    :ivar ca: the certificate of its CA: a PEM file.
    :ivar url: the URL of its index, a page for people; ``/gallery.json`` there is for programs.
    :ivar specimens: all that it serves, by name.
    :ivar left_out: what it cannot serve here: name → why.
    :raises StartError: it could not be started.
    """

    def __init__(self) -> None:
        self._resources = ExitStack()
        with ExitStack() as started:
            started.callback(self._resources.close)  # unless everything succeeds
            directory = Path(
                self._resources.enter_context(tempfile.TemporaryDirectory(prefix="tls-gallery-"))
            )
            self.ca = directory / "ca.pem"
            self._log = directory / "log"
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603  # it is this Python, and this package
                    command("gallery", "--ports", "0", "--ca", str(self.ca)),
                    cwd=directory,
                    stdin=subprocess.PIPE,  # its end tells the gallery that we are gone
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C goes to the tests only, which then close the gallery
                )
            self._resources.callback(self._end)
            host, port = self._ready()
            self.url = f"http://{host}:{port}/"
            manifest = _manifest(host, port)
            started.pop_all()
        self.specimens: Mapping[str, TLSSpecimen] = MappingProxyType(
            {each["name"]: _specimen(each, self.ca) for each in manifest["specimens"]}
        )
        self.left_out: Mapping[str, str] = MappingProxyType(
            {each["name"]: each["reason"] for each in manifest["left_out"]}
        )

    def _ready(self) -> tuple[str, int]:
        """The address of the index, once everything is served."""
        for _ in pauses(LIMIT):
            code = self._process.poll()
            log = self._log.read_text(errors="replace")
            if code is not None:
                raise StartError(log.rstrip("\n"), code)
            found = _INDEX.search(log)
            if found is not None and re.search("^ready", log, re.MULTILINE):
                return found[1], int(found[2])
        raise StartError(log, None)

    def __getitem__(self, name: str) -> TLSSpecimen:
        """The specimen with this name."""
        try:
            return self.specimens[name]
        except KeyError:
            why = self.left_out.get(name)
            expected = f"expected one of {', '.join(self.specimens)}" if why is None else why
            raise KeyError(f"no specimen {name!r}: {expected}") from None

    def close(self) -> None:
        """Stop the gallery and remove its files; a second call does nothing."""
        self._resources.close()

    def _end(self) -> None:
        self._process.terminate()
        for _ in pauses(LIMIT):
            if self._process.poll() is not None:
                break
        else:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _manifest(host: str, port: int) -> Any:
    connection = HTTPConnection(host, port, timeout=LIMIT)
    try:
        connection.request("GET", "/gallery.json")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _specimen(found: Mapping[str, Any], ca: Path) -> TLSSpecimen:
    name, port, defect = found["name"], found["port"], found["defect"]
    errors = MappingProxyType(found["errors"])
    return TLSSpecimen(name, "localhost", port, ca, defect, found["clause"], found["must"], errors)


def bad_specimens() -> list[str]:
    """The names of those that a correct client refuses, without a gallery that runs."""
    output = subprocess.check_output(command("specimens"), text=True, timeout=LIMIT)  # noqa: S603  # as above
    names: list[str] = json.loads(output)
    return names
