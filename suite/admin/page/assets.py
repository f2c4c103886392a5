"""The files of the page: its style sheets, its scripts and its icon.

Rules: their names stand in one table, and each has a route of its own, so that nothing that a client sends
is ever a path; they are read once, when the interface is opened; a browser asks whether its copy is still
the right one, so that a page never runs with the scripts of another version.
"""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files
from typing import Any, Final

from suite.admin.exchange import Call, Response
from suite.admin.route import Route

_STYLE: Final = "text/css; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"

#: The media type of each file in ``static/``.
KINDS: Final = {
    "page.css": _STYLE,
    "layout.css": _STYLE,
    "parts.css": _STYLE,
    "icon.svg": "image/svg+xml",
    "main.js": _SCRIPT,
    "api.js": _SCRIPT,
    "cards.js": _SCRIPT,
    "chart.js": _SCRIPT,
    "connections.js": _SCRIPT,
    "controls.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "events.js": _SCRIPT,
    "live.js": _SCRIPT,
    "notice.js": _SCRIPT,
    "overview.js": _SCRIPT,
    "wording.js": _SCRIPT,
}


def _asset(name: str, kind: str) -> Route:
    body = files(__package__).joinpath("static", name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    whole, unchanged = Response(200, body, kind, headers), Response(304, b"", kind, headers)
    return Route("GET", f"/static/{name}", partial(_answer, whole, unchanged, tag))


async def _answer(whole: Response, unchanged: Response, tag: str, _site: Any, call: Call) -> Response:
    known = call.http.getHeader("if-none-match") or ""
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return unchanged if tag in tags or tags == ["*"] else whole


ROUTES: Final = tuple(_asset(name, kind) for name, kind in KINDS.items())
