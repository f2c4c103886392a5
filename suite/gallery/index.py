"""The index of a gallery: a page for people, gallery.json for programs, and the CA to download.

Rules: GET and HEAD only; what a page says is true at the time of the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any, Final

from typing_extensions import override

from suite.answers.answer import StreamAnswer
from suite.echo import EchoFactory
from suite.gallery.collection import Gallery
from suite.gallery.http import LONGEST_HEAD, Document, is_whole, response
from suite.guard.streams import Guard

#: What the index is about: the gallery that is served, and its open ports by what they serve.
Exhibition = Callable[[], tuple[Gallery, Mapping[str, int]]]


class IndexPage(StreamAnswer):
    """One connection to the index.

    :param exhibition: what it is about.
    """

    def __init__(self, exhibition: Exhibition, guard: Guard, most: int | None = None) -> None:
        super().__init__(guard, most)
        self._exhibition = exhibition
        self._head = b""

    @override
    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.reason is not None:
            return
        self._head += data
        if is_whole(self._head):
            self.finish(respond(self._head, *self._exhibition()))
        elif len(self._head) > LONGEST_HEAD:
            self.finish(response("431 Request Header Fields Too Large"))


class IndexFactory(EchoFactory):
    """One `IndexPage` for every connection."""

    def __init__(self, guard: Guard, exhibition: Exhibition) -> None:
        super().__init__(guard)
        self._exhibition = exhibition

    @property
    def protocol(self) -> Any:  # type: ignore[override]  # whatever the answer of the configuration is
        """Makes the protocol of a connection."""
        return partial(IndexPage, self._exhibition)

    @property
    def measured(self) -> Any:  # type: ignore[override]
        """The same, where the limit `bytes` applies."""
        return partial(IndexPage, self._exhibition)


def respond(head: bytes, gallery: Gallery, ports: Mapping[str, int]) -> bytes:
    """The response to the request that *head* begins."""
    method, _, rest = head.partition(b"\n")[0].decode("latin-1").strip().partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/") or not target.startswith(("/", "http://")):
        return response("400 Bad Request")
    if method not in ("GET", "HEAD"):
        return response("405 Method Not Allowed", headers=("Allow: GET, HEAD",))
    path = "/" + target.removeprefix("http://").partition("/")[2].partition("?")[0]
    make = DOCUMENTS.get(path)
    if make is None:
        return response("404 Not Found", Document("text/plain", b"see /\n"), body=method == "GET")
    return response("200 OK", make(gallery, ports), body=method == "GET")


# The documents.


def _page(gallery: Gallery, ports: Mapping[str, int]) -> Document:
    manifest = gallery.manifest(ports)
    host, domain, sni_port = (escape(str(manifest[key])) for key in ("host", "domain", "sni_port"))
    rows = "".join(map(_row, manifest["specimens"]))
    left_out = "".join(
        f"<li><b>{escape(each['name'])}</b>: {escape(each['reason'])}" for each in manifest["left_out"]
    )
    text = (
        f"{_HEAD}<h1>Bad TLS, always fresh</h1>"
        f"<p>{len(manifest['specimens'])} specimens on {host}, each on a port of its own, and all of them on"
        f" port {sni_port}, where the name that a client asks for chooses: <code>expired.{domain}</code>,"
        " or <code>expired</code> in any other domain.</p>"
        "<p>Clients are to trust <a href=/ca.pem download>this CA</a>, made when the gallery was started"
        f" (SHA-256 <code>{gallery.fingerprint}</code>), and no other server may use it. For programs:"
        " <a href=/gallery.json>gallery.json</a>; revocations: <a href=/ca.crl>ca.crl</a>.</p>"
        "<table><tr><th>specimen<th>port<th>what is wrong<th>a correct client must<th>clause</tr>"
        f"{rows}</table>" + (f"<h2>Left out on this machine</h2><ul>{left_out}</ul>" if left_out else "")
    )
    return Document("text/html; charset=utf-8", f"{text}</html>\n".encode())


_HEAD: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>Bad TLS</title><style>body{font:16px/1.4 system-ui,sans-serif;margin:2em auto;max-width:70em;"
    "padding:0 1em;color-scheme:light dark}table{border-collapse:collapse}td,th{text-align:left;padding:.2em"
    " .8em .2em 0;vertical-align:top;border-bottom:1px solid #8884}code{overflow-wrap:anywhere}</style>"
)


def _row(entry: Mapping[str, Any]) -> str:
    name, port = escape(entry["name"]), entry["port"]
    cells = (
        f"<a href='https://localhost:{port}/'>{name}</a>",
        str(port),
        escape(entry["defect"]),
        escape(entry["must"]),
        escape(entry["clause"]),
    )
    return "<tr>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _manifest(gallery: Gallery, ports: Mapping[str, int]) -> Document:
    text = json.dumps(gallery.manifest(ports), indent=2, ensure_ascii=False)
    return Document("application/json", f"{text}\n".encode())


def _authority(gallery: Gallery, _ports: Mapping[str, int]) -> Document:
    return Document("application/x-pem-file", gallery.authority.pem)


def _revocations(gallery: Gallery, _ports: Mapping[str, int]) -> Document:
    return Document("application/pkix-crl", gallery.authority.crl)


#: By path.
DOCUMENTS: Final[Mapping[str, Callable[[Gallery, Mapping[str, int]], Document]]] = {
    "/": _page,
    "/ca.crl": _revocations,
    "/ca.pem": _authority,
    "/gallery.json": _manifest,
}
