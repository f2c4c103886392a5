"""The document at ``/``, which a browser shows, with or without scripts.

Rules: it says what the API says, of one page of endpoints or of one endpoint, and nothing else; long lists
are made in turns; no script and no style stands in it, so that the policy sent with it can forbid them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from suite.admin.exchange import Call, Problem, Response
from suite.admin.page import assets, panels
from suite.admin.page.controls import templates
from suite.admin.page.endpoints import card
from suite.admin.page.markup import Markup, element, join
from suite.admin.page.tables import gallery_list
from suite.admin.route import Route, Site
from suite.server.pauses import Turns

#: What a browser may do with the page: load its own files, and ask its own server.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS: Final = {"Content-Security-Policy": POLICY}

#: Endpoints on one page, events and connections.
MOST_ENDPOINTS: Final = 100
MOST_EVENTS: Final = 100
MOST_CONNECTIONS: Final = 50

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Contents:
    """What a page shows: documents of the API.

    :ivar time: when they were made, as RFC 3339 has it.
    :ivar endpoints: those of one page.
    :ivar after: the name behind which it begins; empty: it is the first.
    :ivar following: where the next one begins; None: there is none.
    :ivar only: whether it is about one endpoint, whose details and `connections` are shown.
    :ivar gallery: the manifest; None: there is none.
    :ivar events: the latest ones, in their order.
    """

    time: str
    status: Document
    endpoints: Sequence[Document]
    after: str = ""
    following: str | None = None
    only: bool = False
    connections: Document = field(default_factory=lambda: {"connections": [], "next": None})
    gallery: Document | None = None
    events: Sequence[Document] = ()


async def render(contents: Contents, turns: Turns) -> bytes:
    """The document that shows *contents*."""
    cards: list[Markup] = []
    specimens = []
    seen: Counter[str] = Counter()
    async for entry in turns.between(contents.endpoints):
        if entry["gallery"] and not contents.only:
            specimens.append(entry)
        else:
            name = entry["name"]
            seen[name] += 1
            key = name if seen[name] == 1 else f"{name}~{seen[name]}"
            cards.append(card(entry, key, contents.connections if contents.only else None))
    gallery = gallery_list(specimens, contents.gallery)
    await turns.one_if_due()
    status = contents.status
    main = element(
        "main",
        panels.glance(status),
        _endpoints(contents, join(cards), gallery),
        panels.events(contents.events),
        element(
            "div",
            panels.reasons(status),
            panels.certificates(status),
            panels.counts(status),
            panels.reload(status),
            panels.workers(status),
            panels.process(status),
            class_="side",
        ),
        id="main",
    )
    body = element(
        "body",
        element("a", "Skip to the endpoints", href="#endpoints", class_="skip"),
        panels.header(status, contents.time),
        panels.reasons_not_ready(status),
        element("div", id="notice", class_="notice", role="alert"),
        main,
        _footer(),
        templates(),
        data_after=contents.after,
        data_only=contents.endpoints[0]["name"] if contents.only else None,
        data_limit=MOST_ENDPOINTS,
        data_last_event=contents.events[-1]["id"] if contents.events else None,
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", f"{panels.health(status)} \N{EN DASH} echo suite"),
        element("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        *(
            element("link", rel="stylesheet", href=f"/static/{name}")
            for name in ("page.css", "layout.css", "parts.css")
        ),
        element("script", src="/static/main.js", type="module"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode("utf-8", "backslashreplace")


def _endpoints(contents: Contents, cards: Markup, gallery: Markup) -> Markup:
    """The endpoints of the page, and the ways to others."""
    total = contents.status["endpoints"]
    ways = []
    if contents.only:
        ways.append(element("a", "All endpoints", href="/"))
    if contents.after:
        ways.append(element("a", "First page", href="/"))
    if contents.following:
        ways.append(element("a", "Next page", href=f"/?after={quote(contents.following)}", rel="next"))
    count = len(contents.endpoints)
    paged = bool(contents.after or contents.following)
    part = f"{count:,} of {total:,} on this page" if paged else None
    return element(
        "section",
        element(
            "div",
            element("h2", "Endpoint" if contents.only else "Endpoints", id="endpoints-title"),
            element("span", part, class_="quiet") if part else None,
            element("div", id="all-controls"),
            class_="heading",
        ),
        element("div", cards, id="cards"),
        element("div", gallery, id="gallery-list"),
        element("nav", *ways, aria_label="Pages of endpoints", class_="pages") if ways else None,
        id="endpoints",
        class_="wide",
        aria_labelledby="endpoints-title",
    )


def _footer() -> Markup:
    links = (
        ("Metrics", "/metrics"),
        ("Status as JSON", "/api/v1/status"),
        ("API", "/api/v1/openapi.json"),
    )
    return element("footer", *(element("a", name, href=path) for name, path in links))


# The handler.

_KNOWN: Final = ("after", "connections", "endpoint")


async def page(site: Site, call: Call) -> Response:
    """``GET /``: the endpoints behind ``after``, or one ``endpoint`` with its ``connections`` behind an id.

    :raises Problem: there is no such endpoint, or nothing of the kind can be asked for.
    """
    for name in call.query:
        if name not in _KNOWN:
            raise Problem(400, f"the query: {name}: unknown name; expected {' or '.join(_KNOWN)}")
    name = call.query.get("endpoint", "")
    contents = await (_one(site, call, name) if name else _several(site, call))
    body = await render(contents, Turns(site.suite.reactor))
    return Response(200, body, "text/html; charset=utf-8", HEADERS)


async def _several(site: Site, call: Call) -> Contents:
    after = call.query.get("after", "")
    query = {"limit": str(MOST_ENDPOINTS), **({"after": after} if after else {})}
    found = await _asked(site, call, "/api/v1/endpoints", query)
    return await _contents(
        site,
        call,
        endpoints=found["endpoints"],
        following=found["next"],
        after=after,
    )


async def _one(site: Site, call: Call, name: str) -> Contents:
    entry = await _asked(site, call, "/api/v1/endpoints/{name}", {}, {"name": name})
    behind = call.query.get("connections")
    query = {"endpoint": name, "limit": str(MOST_CONNECTIONS), **({"after": behind} if behind else {})}
    connections = await _asked(site, call, "/api/v1/connections", query)
    return await _contents(site, call, endpoints=[entry], only=True, connections=connections)


async def _contents(site: Site, call: Call, **others: Any) -> Contents:
    return Contents(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        status=await _asked(site, call, "/api/v1/status", {}),
        gallery=await _asked(site, call, "/api/v1/gallery", {})
        if site.suite.plan.gallery is not None
        else None,
        events=(await _asked(site, call, "/api/v1/events/recent", {"limit": str(MOST_EVENTS)}))["events"],
        **others,
    )


async def _asked(
    site: Site,
    call: Call,
    path: str,
    query: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
) -> Any:
    """What the API answers at *path*, that of a route, so that page and API never differ."""
    handler: Any = next(each.handler for each in site.routes if (each.method, each.path) == ("GET", path))
    response = await handler(site, replace(call, query=query, parameters=parameters or {}))
    return json.loads(response.body)


ROUTES: Final = (Route("GET", "/", page), *assets.ROUTES)
