"""Lists of what belongs to endpoints: the open connections of one, and the gallery's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from suite.admin.page.binding import FAILED, shown
from suite.admin.page.markup import NOTHING, Content, Markup, element
from suite.admin.page.wording import duration, plural, size

Entry = Mapping[str, Any]


def link_to(name: str) -> str:
    """Where the endpoint *name* has a page of its own."""
    return f"/?endpoint={quote(name)}"


# Connections.

#: What is shown of a connection, by the column's name; "TLS" where there is some.
_COLUMNS: Final[Mapping[str, Callable[[Entry], Content]]] = {
    "peer": lambda each: each["peer"],
    "state": lambda each: each["state"],
    "received": lambda each: size(each["received"]),
    "unsent": lambda each: size(each["owed"]),
    "age": lambda each: duration(each["age"]),
    "quiet": lambda each: duration(each["quiet"]),
    "TLS": lambda each: tls_words(each["tls"]),
    "faults": lambda each: each["faults"],
}


def connection_table(entry: Entry, page: Entry) -> Markup:
    """The open connections of *entry* on one *page* of the API; a script keeps it up to date."""
    name = entry["name"]
    columns = [column for column in _COLUMNS if column != "TLS" or entry["transport"] == "TLS"]
    rows = [_connection(each, columns) for each in page["connections"]]
    heads = [element("th", each, scope="col", data_column=each) for each in ("connection", *columns)]
    return element(
        "section",
        element(
            "h4",
            "Connections",
            element("span", f" of {name}", class_="for-readers"),
            id=f"connections-{name}",
        ),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *heads)),
                element("tbody", *rows),
                aria_labelledby=f"connections-{name}",
            ),
            class_="scrolled",
            tabindex=0,
            role="region",
            aria_labelledby=f"connections-{name}",
            hidden=not rows,
        ),
        element("p", "none open", class_="quiet none", hidden=bool(rows)),
        _next_connections(name, page["next"]),
        class_="connections",
    )


def _next_connections(name: str, after: str | None) -> Markup:
    if after is None:
        return NOTHING
    way = f"{link_to(name)}&connections={quote(after, safe='')}"
    return element("p", element("a", "Next connections", href=way), class_="next")


def _connection(each: Entry, columns: Sequence[str]) -> Markup:
    cells = [element("td", _COLUMNS[column](each)) for column in columns]
    return element("tr", element("th", each["id"], scope="row"), *cells)


def tls_words(tls: Entry | None) -> str:
    """What has been agreed on a TLS connection."""
    if not tls:
        return ""
    words = [tls["version"], tls["cipher"], "resumed" if tls["resumed"] else None]
    words += [tls["server_name"], tls["alpn"]]
    if tls["client_certificate"]:
        words.append(f"client {tls['client_certificate']}")
    return ", ".join(word for word in words if word)


# The gallery.


def gallery_list(entries: Sequence[Entry], manifest: Entry | None) -> Markup:
    """The gallery's endpoints, folded away; nothing without any."""
    if not entries:
        return NOTHING
    known = {each["name"]: each for each in manifest["specimens"]} if manifest else {}
    rows = [_specimen(entry, known.get(entry["gallery"])) for entry in entries]
    columns = ("specimen", "address", "what is wrong", "a client must", "clause", "accepted", "failed")
    return element(
        "details",
        element(
            "summary",
            element("h3", "Gallery"),
            element(
                "span",
                f" {plural(len(entries), 'endpoint')} to try TLS clients with",
                class_="quiet",
            ),
        ),
        element(
            "div",
            element(
                "table",
                element("caption", "The gallery's endpoints", class_="for-readers"),
                element("thead", element("tr", *(element("th", each, scope="col") for each in columns))),
                element("tbody", *rows),
            ),
            class_="scrolled",
            tabindex=0,
            role="region",
            aria_label="The gallery's endpoints",
        ),
        class_="gallery",
        id="gallery",
    )


def _specimen(entry: Entry, specimen: Entry | None) -> Markup:
    about = specimen or {}
    return element(
        "tr",
        element("th", element("a", entry["gallery"], href=link_to(entry["name"])), scope="row"),
        element("td", *(element("code", address) for address in entry["addresses"])),
        element("td", about.get("defect", "")),
        element("td", about.get("must", "")),
        element("td", about.get("clause", "")),
        element("td", shown(entry, "connections/accepted"), class_="count"),
        element("td", shown(entry, FAILED), class_="count"),
        data_name=entry["name"],
    )
