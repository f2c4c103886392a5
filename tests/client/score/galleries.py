"""A gallery of two specimens that shares no code with ours: Python's ``ssl`` and trustme's certificates."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trustme

from tests.foreign import serving


def specimen(name: str, port: int, must: str = "accept", **more: Any) -> dict[str, Any]:
    """An entry of a manifest."""
    return {
        "name": name,
        "port": port,
        "sni": f"{name}.localhost",
        "defect": f"About {name}.",
        "clause": "RFC 5280",
        "must": must,
        "errors": {},
        **more,
    }


def manifest(*specimens: dict[str, Any], ca: str | None = None, **more: Any) -> dict[str, Any]:
    """A manifest of *specimens*."""
    return {
        "version": 1,
        "host": "127.0.0.1",
        "domain": "localhost",
        "sni_port": 1,
        "ca": trustme.CA().cert_pem.bytes().decode() if ca is None else ca,
        "specimens": list(specimens),
        "left_out": [{"name": "rc5", "reason": "nobody speaks it"}],
        **more,
    }


@contextmanager
def fake_gallery(directory: Path) -> Iterator[Path]:
    """Serve ``good``, and ``untrusted-root``, to be refused; the path of the manifest.

    ``gone`` has a port at which nobody listens.
    """
    trusted, other = trustme.CA(), trustme.CA()
    with ExitStack() as stack:
        gone = stack.enter_context(socket.socket())
        gone.bind(("127.0.0.1", 0))
        ports = [stack.enter_context(_serving(ca)) for ca in (trusted, other)]
        found = manifest(
            specimen("good", ports[0]),
            specimen("untrusted-root", ports[1], "refuse", errors={"python": "certificate verify failed"}),
            specimen("either", ports[0], "either"),
            specimen("gone", gone.getsockname()[1], "refuse"),
            ca=trusted.cert_pem.bytes().decode(),
        )
        path = directory / "gallery.json"
        path.write_text(json.dumps(found))
        yield path


def _serving(ca: trustme.CA) -> AbstractContextManager[int]:
    """A server with a certificate of *ca*, which answers once; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)

    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    return serving(answer, context)
