"""The card of an endpoint, and the list of the gallery's, which is folded away.

Rules: a card has all that can be known without scripts; those add charts, and controls from one template.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from suite.admin.page.binding import (
    FAILED,
    RECEIVED,
    REFUSED,
    SENT,
    counted,
    ends,
    handshakes,
    line_chart,
    mirror_chart,
    rate,
    rate_chart,
    shown,
    struck,
    value_at,
)
from suite.admin.page.markup import NOTHING, Content, Markup, element, join
from suite.admin.page.wording import UNKNOWN, day, duration, number, plural, size

#: Days that a certificate has left when it is time to renew it; the suite warns then, too.
FEW_DAYS: Final = 7

#: How the limits are shown that are no plain numbers.
_DURATIONS: Final = frozenset({"handshake", "half_close", "idle", "keepalive", "lifetime", "stall"})
#: Names of a certificate that are shown.
MOST_NAMES: Final = 8

_SIZES: Final = frozenset({"bytes"})

Entry = Mapping[str, Any]


def card(entry: Entry, connections: Entry | None = None) -> Markup:
    """The card of the endpoint *entry* (an endpoint of the API).

    :param connections: a page of its connections, if its details are to be shown.
    """
    name = entry["name"]
    return element(
        "article",
        element("div", _who(entry), _figures(entry), class_="row"),
        element("div", _try(entry), _main_limits(entry), None if connections else _more(name), class_="foot"),
        _details(entry, connections) if connections else None,
        class_="card",
        id=f"endpoint-{name}",
        data_name=name,
        data_state=entry["state"],
        aria_labelledby=f"name-{name}",
    )


def link_to(name: str) -> str:
    """Where the endpoint *name* has a page of its own."""
    return f"/?endpoint={quote(name)}"


def _more(name: str) -> Markup:
    """The way to its details, which a script shows in place."""
    return element(
        "a",
        "Details",
        element("span", f" of {name}", class_="for-readers"),
        class_="more",
        href=link_to(name),
    )


def _main_limits(entry: Entry) -> Markup:
    limits = entry["limits"]
    words = []
    if "rate" in limits:
        most = limits["rate"]
        words.append("no rate limit" if most is None else f"{number(most)} a second from one source")
    if "connections" in limits:
        words.append(f"at most {number(limits['connections'])} open")
    if "per_peer" in limits:
        words.append(f"{number(limits['per_peer'])} from one peer")
    if limits.get("idle") is not None:
        words.append(f"idle {duration(limits['idle'])}")
    return element("p", ", ".join(words), class_="limits quiet")


def _who(entry: Entry) -> Markup:
    name = entry["name"]
    return element(
        "div",
        element(
            "div",
            element(
                "h3",
                element("a", name, href=link_to(name)),
                id=f"name-{name}",
            ),
            element("span", entry["transport"], class_="badge"),
            element(
                "strong",
                entry["state"],
                class_="badge strong",
                data_text="state",
                hidden=entry["state"] == "serving",
            ),
            element("span", "PROXY", class_="badge", title="PROXY headers are expected")
            if entry["proxied"]
            else None,
            class_="name",
        ),
        element("div", _addresses(entry), class_="address"),
        element(
            "ul",
            element("li", element("span", "answer ", class_="for-readers"), entry["answer"], class_="chip"),
            _certificate_chip(entry["certificate"]),
            join(_fault_chip(fault["fault"]) for fault in entry["faults"]["faults"]),
            class_="chips",
        ),
        class_="who",
    )


def _addresses(entry: Entry) -> Markup:
    addresses: Sequence[str] = entry["addresses"]
    if not addresses:
        return element("span", "not open", class_="quiet")
    return join(element("code", address) for address in addresses)


def _fault_chip(fault: str) -> Markup:
    return element("li", element("span", "fault ", class_="for-readers"), fault, class_="chip fault")


def urgency(days: int) -> str:
    """How urgent it is to renew a certificate with *days* left: a class of the style sheet."""
    return "bad" if days < 0 else "warning" if days < FEW_DAYS else ""


def days_left(days: int) -> str:
    """*days*, whole ones, for people."""
    return "expired" if days < 0 else f"{plural(days, 'day')} left"


def _certificate_chip(certificate: Entry | None) -> Markup:
    if certificate is None:
        return NOTHING
    days = certificate["days"]
    return element("li", f"certificate {days_left(days)}", class_=f"chip {urgency(days)}".strip())


def _figures(entry: Entry) -> Markup:
    """What happens there, in numbers and charts."""
    name = entry["name"]
    figures = [
        figure(
            "received and sent",
            join((shown(entry, RECEIVED, "size"), " in, ", shown(entry, SENT, "size"), " out")),
            join((rate(RECEIVED, "size"), rate(SENT, "size"))),
            mirror_chart(f"{name}: bytes received, and sent"),
        )
    ]
    if entry["transport"] == "UDP":
        answered = "datagrams/answered"
        chart = rate_chart(answered, f"{name}: datagrams answered")
        figures.insert(0, figure("answered", shown(entry, answered), rate(answered), chart))
        figures.append(alarming(entry, "unanswered", REFUSED))
    else:
        opened = "connections/open"
        figures.insert(
            0, figure("open", shown(entry, opened), None, line_chart(opened, f"{name}: open connections"))
        )
        figures += [
            figure("accepted", shown(entry, "connections/accepted")),
            alarming(entry, "refused", REFUSED),
            alarming(entry, "failed", FAILED),
        ]
    return element("dl", *figures, class_="figures")


def figure(name: str, total: Markup, rates: Content = None, chart: Content = None) -> Markup:
    """A number with its *name*.

    :param total: the number itself.
    :param rates: how fast it grows, which is of more interest while it is known.
    """
    classes = "figure charted" if chart else "figure"
    value = element("span", total, class_="total")
    return element("div", element("dt", name), element("dd", value, rates, chart), class_=classes)


def alarming(entry: Entry, name: str, paths: str) -> Markup:
    """A number that is of interest when it is not 0."""
    number_shown = element("span", shown(entry, paths), class_="total")
    zero = not value_at(entry, paths)
    return element(
        "div",
        element("dt", name),
        element("dd", number_shown),
        class_="figure alarming",
        data_zero="true" if zero else "false",
        data_watch=paths,
    )


def _try(entry: Entry) -> Markup:
    """The command to try it with; a script adds a button that copies it."""
    if not entry["try"]:
        return NOTHING
    return element(
        "p",
        element("span", "try", class_="quiet"),
        element("code", entry["try"], class_="command"),
        class_="try",
    )


# Details.


def _details(entry: Entry, connections: Entry) -> Markup:
    """What a card does not show: controls, limits, counts by reason, and connections.

    :param connections: a page of its connections.
    """
    streams = entry["transport"] != "UDP"
    return element(
        "div",
        element("div", class_="controls"),
        connection_table(entry, connections) if streams else None,
        element(
            "div",
            _section("Refused and ended", counted("ends", ends(entry))),
            _section("Faults struck", counted("struck", struck(entry))),
            _section("TLS handshakes", counted("handshakes", handshakes(entry)))
            if entry["transport"] == "TLS"
            else None,
            _certificate(entry["certificate"]),
            _declared(entry),
            _limits(entry["limits"]),
            class_="columns",
        ),
        class_="details",
        data_of=entry["name"],
    )


def definitions(title: str, pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Names and values under a *title*; nothing without any."""
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    if not rows:
        return NOTHING
    return element("section", element("h4", title), element("dl", *rows, class_="pairs"))


def _limits(limits: Entry) -> Markup:
    return definitions("Limits", ((name.replace("_", " "), _limit(name, limits[name])) for name in limits))


def _limit(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "any"
    if name in _DURATIONS:
        return duration(value)
    if name in _SIZES:
        return size(value)
    return number(value) if isinstance(value, (int, float)) else str(value)


def _declared(entry: Entry) -> Markup:
    faults = entry["faults"]
    pairs: list[tuple[str, Content]] = [("description", element("code", entry["listen"]))]
    if faults["faults"]:
        pairs.append(("seed of its faults", UNKNOWN if faults["seed"] is None else str(faults["seed"])))
    if faults["replayed"]:
        pairs.append(("faults", "replayed from a log"))
    if faults["requested"]:
        pairs.append(("faults", "clients may ask for some"))
    return definitions("Declared", pairs)


def _certificate(certificate: Entry | None) -> Markup:
    if certificate is None:
        return NOTHING
    return definitions(
        "Certificate",
        (
            ("subject", certificate["subject"] or "empty"),
            ("names", _names(certificate["names"])),
            ("valid from", day(certificate["not_before"])),
            (
                "to",
                element(
                    "span",
                    f"{day(certificate['not_after'])}, {days_left(certificate['days'])}",
                    class_=urgency(certificate["days"]) or None,
                ),
            ),
        ),
    )


def _names(names: Sequence[str]) -> str:
    shown_names = ", ".join(names[:MOST_NAMES])
    rest = len(names) - MOST_NAMES
    return f"{shown_names} and {number(rest)} more" if rest > 0 else shown_names or "none"


def _section(title: str, *contents: Content) -> Markup:
    return element("section", element("h4", title), *contents)


# Connections.

_COLUMNS: Final = ("connection", "peer", "state", "received", "unsent", "age", "quiet", "TLS", "faults")


def connection_table(entry: Entry, page: Entry) -> Markup:
    """The open connections of *entry* on one *page* of the API; a script keeps it up to date."""
    name = entry["name"]
    rows = [_connection(each) for each in page["connections"]]
    following = page["next"]
    return element(
        "section",
        element("h4", "Connections", id=f"connections-{name}"),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *(element("th", each, scope="col") for each in _COLUMNS))),
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
        element(
            "p",
            element("a", "next connections", href=f"{link_to(name)}&connections={quote(following, safe='')}"),
        )
        if following
        else None,
        class_="connections wide",
    )


def _connection(each: Entry) -> Markup:
    cells = (
        each["peer"],
        each["state"],
        size(each["received"]),
        size(each["owed"]),
        duration(each["age"]),
        duration(each["quiet"]),
        tls_words(each["tls"]),
        each["faults"],
    )
    return element(
        "tr",
        element("th", each["id"], scope="row"),
        *(element("td", cell) for cell in cells),
        data_id=each["id"],
    )


def tls_words(tls: Entry | None) -> str:
    """What has been agreed on a TLS connection."""
    if not tls:
        return ""
    words = [tls["version"], tls["cipher"], "resumed" if tls["resumed"] else None]
    words += [tls["server_name"], tls["alpn"]]
    if tls["client_certificate"]:
        words.append(f"client {tls['client_certificate']['subject']}")
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
                f" {plural(len(entries), 'endpoint')} with TLS to be refused or accepted",
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
