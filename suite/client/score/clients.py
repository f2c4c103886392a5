"""Clients that are known by name: how each is called, and how to tell what it did.

Rules: each is called as its manual advises for a connection that matters, with a time limit of its own where
it has an option for one. It has accepted when it shows the answer of the server and succeeds: several TLS
clients report a complete handshake although the server refuses them (TLS 1.3 lets a client finish first).
They offer a protocol (ALPN) where they can, since only such a client can be answered with another one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from suite.client.score.running import Exchange, Ran

#: Where the clients are that we have written.
PROGRAMS: Final = str(Path(__file__).with_name("programs"))

#: What a specimen answers to a request; a plain echo answers it with itself.
ANSWER: Final = b"HTTP/1."

_REQUEST: Final = Exchange(b"GET / HTTP/1.0\r\n\r\n", ANSWER)

#: Messages in English, whoever runs it.
_ENGLISH: Final = MappingProxyType({"LC_ALL": "C.UTF-8"})


@dataclass(frozen=True)
class Client:
    """A client, and how it is run.

    In commands, ``{host}``, ``{port}``, ``{ca}`` (the path of the CA's certificate), ``{name}`` (the
    specimen's), ``{programs}`` (ours) and ``{directory}`` (a temporary one) are replaced.

    :ivar name: for people.
    :ivar command: its command line.
    :ivar stack: its TLS stack, as the manifest names it; None: not known.
    :ivar prepare: what is run once before.
    :ivar needs: the programs that it needs.
    :ivar exchange: what it is given to say.
    :ivar shows: what has to be in its output when it has accepted; None: its exit code says it all.
    :ivar environment: what is different in its environment; values as in commands.
    :ivar slow: how many times slower than others it is to start.
    """

    name: str
    command: tuple[str, ...]
    stack: str | None = None
    prepare: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()
    exchange: Exchange | None = None
    shows: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    slow: int = 1

    def accepted(self, ran: Ran) -> bool:
        """Whether *ran*, which has ended by itself, has accepted the server."""
        return ran.exit_code == 0 and (self.shows is None or self.shows in ran.output)

    @property
    def missing(self) -> str | None:
        """A program that it needs and that is not installed; None: all are."""
        return next((program for program in self.needs if shutil.which(program) is None), None)


def _chromium() -> Client:
    """Chromium, headless: what counts is the page that it shows."""
    # Chromium refuses to run its sandbox as root, as in most containers.
    root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    database = "sql:{directory}/home/.pki/nssdb"
    return Client(
        "chromium",
        (
            *("chromium", "--headless", *root, "--disable-gpu", "--disable-breakpad", "--no-first-run"),
            *("--disable-background-networking", "--user-data-dir={directory}/profile-{name}"),
            *("--timeout=8000", "--dump-dom", "https://{host}:{port}/"),
        ),
        "chromium",
        prepare=(
            ("mkdir", "-p", "{directory}/home/.pki/nssdb"),
            ("certutil", "-N", "-d", database, "--empty-password"),
            ("certutil", "-A", "-d", database, "-n", "gallery", "-t", "C,,", "-i", "{ca}"),
        ),
        needs=("chromium", "certutil"),
        shows=b"This client has accepted it",
        environment={"HOME": "{directory}/home"},
        slow=6,
    )


_ALL: Final = (
    Client(
        "openssl",
        (
            *("openssl", "s_client", "-connect", "{host}:{port}", "-servername", "{host}"),
            *("-verify_hostname", "{host}", "-CAfile", "{ca}", "-verify_return_error", "-brief"),
            *("-alpn", "http/1.1"),
        ),
        "openssl",
        needs=("openssl",),
        exchange=_REQUEST,
        shows=ANSWER,
        environment=_ENGLISH,
    ),
    Client(
        "gnutls",
        ("gnutls-cli", "--x509cafile", "{ca}", "--alpn", "http/1.1", "--port", "{port}", "{host}"),
        "gnutls",
        needs=("gnutls-cli",),
        exchange=_REQUEST,
        shows=ANSWER,
        environment=_ENGLISH,
    ),
    Client(
        "curl",
        (
            *("curl", "--silent", "--show-error", "--include", "--disable", "--connect-timeout", "5"),
            *("--max-time", "8", "--noproxy", "*", "--cacert", "{ca}", "https://{host}:{port}/"),
        ),
        needs=("curl",),
        shows=ANSWER,
        environment=_ENGLISH,
    ),
    Client(
        "wget",
        (
            *("wget", "--no-config", "--no-proxy", "--no-hsts", "--timeout=5", "--tries=1", "--no-verbose"),
            *("--save-headers", "--output-document=-", "--ca-certificate={ca}", "https://{host}:{port}/"),
        ),
        needs=("wget",),
        shows=ANSWER,
        environment=_ENGLISH,
    ),
    Client(
        "python-ssl",
        (sys.executable, "-I", "{programs}/python_ssl.py", "{host}", "{port}", "{ca}"),
        "python",
        shows=ANSWER,
    ),
    Client(
        "twisted",
        (sys.executable, "-I", "{programs}/twisted_client.py", "{host}", "{port}", "{ca}"),
        shows=ANSWER,
    ),
    Client(
        "node",
        ("node", "{programs}/node_client.js", "{host}", "{port}", "{ca}"),
        needs=("node",),
        shows=ANSWER,
    ),
    Client(
        "java",
        ("java", "-Xshare:auto", "-cp", "{directory}", "JavaClient", "{host}", "{port}", "{ca}"),
        "java",
        prepare=(("javac", "-d", "{directory}", "{programs}/JavaClient.java"),),
        needs=("java", "javac"),
        shows=ANSWER,
        slow=3,
    ),
    Client(
        "go",
        ("{directory}/go-client", "{host}", "{port}", "{ca}"),
        "go",
        prepare=(("go", "build", "-o", "{directory}/go-client", "{programs}/go_client.go"),),
        needs=("go",),
        shows=ANSWER,
    ),
    _chromium(),
)

#: By name.
CLIENTS: Final[Mapping[str, Client]] = MappingProxyType({client.name: client for client in _ALL})


def filled(text: str, values: Mapping[str, str]) -> str:
    """*text* with each ``{key}`` of *values* replaced; other braces stay, as in JSON."""
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text
