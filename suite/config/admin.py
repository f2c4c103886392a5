"""The ``[admin]`` table: where a running suite shows what it does, over HTTP, and who may change it there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from suite.config.values import Values
from suite.text import one_line

KEYS: Final = ("hosts", "listen", "otlp", "token_file")

_LISTEN: Final = 'an endpoint description, such as "tcp:9901" or "unix:run/admin.sock", or an array of them'
_HOSTS: Final = 'an array of host names, such as ["echo.example"]'
_URL: Final = 'the URL of an OpenTelemetry collector, such as "http://127.0.0.1:4318"'
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@dataclass(frozen=True)
class AdminTable:
    """What the table says.

    :ivar listen: the descriptions of its sockets, one at least.
    :ivar token_file: the file with the token that allows changes over TCP; None: nobody may make any there.
    :ivar hosts: the names under which it may be asked for, beside ``localhost`` and every IP address.
    :ivar otlp: the URL of an OpenTelemetry collector that metrics are sent to; None: they are not.
    """

    listen: tuple[str, ...]
    token_file: Path | None = None
    hosts: frozenset[str] = frozenset()
    otlp: str | None = None


class _Admin(Values):
    """Reads the values of the table."""

    def listen(self, value: object, key: str) -> tuple[str, ...]:
        if isinstance(value, str):
            return (self.string(value, key, _LISTEN),)
        if not isinstance(value, list):
            raise self.wrong_type(key, value, _LISTEN)
        if not value:
            raise self.error(key, f"is empty; expected {_LISTEN}")
        return self.each(value, key, lambda item, key: self.string(item, key, _LISTEN))

    def token_file(self, value: object, key: str) -> Path:
        return self.path(value, key, "the path of a file with a token")

    def otlp(self, value: object, key: str) -> str:
        text = self.string(value, key, _URL)
        try:
            url = urlsplit(text)
            fits = url.scheme in ("http", "https") and bool(url.hostname)
            fits = fits and not (url.query or url.fragment)
            has_credentials = "@" in url.netloc
            _ = url.port  # which may be none
        except ValueError:
            fits = has_credentials = False
        if has_credentials:  # which are not shown
            raise self.error(
                key,
                "there is a user name or a password in the URL; expected one without, and credentials in the"
                " environment (OTEL_EXPORTER_OTLP_HEADERS)",
            )
        if not fits or not text.isascii() or not text.isprintable() or " " in text:
            raise self.error(key, f"{text!r} is not a URL of a collector; expected {_URL}")
        problem = _otlp_problem()
        if problem:
            raise self.error(key, problem)
        return text

    def hosts(self, value: object, key: str) -> frozenset[str]:
        if not isinstance(value, list):
            raise self.wrong_type(key, value, _HOSTS)
        return frozenset(self.each(value, key, self.host))

    def host(self, value: object, key: str) -> str:
        text = self.string(value, key, _HOSTS).lower()
        if not _HOST.fullmatch(text):
            raise self.error(key, f"{text!r} is not a host name; expected one without a port or a wildcard")
        return text.rstrip(".")


def _otlp_problem() -> str:
    """Why metrics cannot be sent; empty if they can.

    What sends them is imported here, where nothing waits, and at hand later.
    """
    try:
        for name in ("exporter.otlp.proto.http.metric_exporter", "sdk.metrics.export"):
            import_module(f"opentelemetry.{name}")
    except (ImportError, OSError) as error:
        name = getattr(error, "name", None) or ""
        if isinstance(error, ModuleNotFoundError) and name.partition(".")[0] == "opentelemetry":
            return "OpenTelemetry is not installed; expected echo-suite[otel]"
        return f"OpenTelemetry cannot be imported: {one_line(str(error))}; expected all of echo-suite[otel]"
    return ""


def read_admin(values: Values, value: object) -> AdminTable | None:
    """The table *value*; what is wrong with it is in the mistakes of *values*.

    :returns: None if it does not say where to listen.
    :raises ConfigError: it is no table, or has no `listen`.
    """
    reader = _Admin(values.file, values.directory, values.mistakes)
    if isinstance(value, str):
        raise reader.error("admin", f"{value!r} is a string; expected a table; did you mean admin.listen?")
    table = reader.table(value, "admin", KEYS)
    found = reader.values(
        table,
        "admin",
        {
            "hosts": reader.hosts,
            "listen": reader.listen,
            "otlp": reader.otlp,
            "token_file": reader.token_file,
        },
    )
    if "listen" not in table:
        raise reader.error("admin.listen", f"missing; expected {_LISTEN}")
    return AdminTable(**found) if found.get("listen") else None
