"""What the card of an endpoint does not show: limits, counts by reason, its certificate, its connections.

Rules: it is made for one endpoint at a time, so that a page of a hundred stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from suite.admin.page.binding import counted, ends, handshakes, struck
from suite.admin.page.markup import NOTHING, Content, Markup, element
from suite.admin.page.tables import connection_table
from suite.admin.page.wording import UNKNOWN, day, days_left, duration, number, size, urgency

#: How the limits are shown that are no plain numbers.
_DURATIONS: Final = frozenset({"handshake", "half_close", "idle", "keepalive", "lifetime", "stall"})
_SIZES: Final = frozenset({"bytes"})

#: Names of a certificate that are shown.
MOST_NAMES: Final = 8

Entry = Mapping[str, Any]


def details(entry: Entry, connections: Entry) -> Markup:
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
