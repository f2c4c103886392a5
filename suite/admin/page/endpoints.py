"""The card of an endpoint: what it is, and what happens there.

Rules: a card has all that can be known without scripts; those add charts, and controls from one template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suite.admin.page.binding import (
    FAILED,
    RECEIVED,
    REFUSED,
    SENT,
    alarming,
    both_ways,
    figure,
    line_chart,
    mirror_chart,
    rate_chart,
    rates,
    shown,
)
from suite.admin.page.details import details
from suite.admin.page.markup import NOTHING, Markup, element, join
from suite.admin.page.tables import link_to
from suite.admin.page.wording import days_left, duration, number, urgency

Entry = Mapping[str, Any]


def card(entry: Entry, key: str, connections: Entry | None = None) -> Markup:
    """The card of the endpoint *entry* (an endpoint of the API).

    :param key: what no other card has: its name, but for endpoints that leave while another has theirs.
    :param connections: a page of its connections, if its details are to be shown.
    """
    name = entry["name"]
    return element(
        "article",
        element("div", _who(entry, key), _figures(entry), class_="row"),
        element("div", _try(entry), None if connections else _more(name), class_="foot"),
        details(entry, connections) if connections else None,
        class_="card",
        id=f"endpoint-{key}",
        data_key=key,
        data_name=name,
        data_state=entry["state"],
        aria_labelledby=f"name-{key}",
    )


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


def _who(entry: Entry, key: str) -> Markup:
    name, faults = entry["name"], entry["faults"]["faults"]
    return element(
        "div",
        element(
            "div",
            element(
                "h3",
                element("a", name, href=link_to(name)),
                id=f"name-{key}",
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
            element(
                "span", element("span", "answer ", class_="for-readers"), entry["answer"], class_="badge"
            ),
            _certificate_badge(entry["certificate"]),
            class_="name",
        ),
        element("div", _addresses(entry), class_="address"),
        _main_limits(entry),
        element(
            "ul",
            *(_fault_chip(fault["id"], fault["fault"]) for fault in faults),
            class_="chips faults",
            hidden=not faults,
        ),
        class_="who",
    )


def _addresses(entry: Entry) -> Markup:
    addresses: Sequence[str] = entry["addresses"]
    if not addresses:
        return element("span", "not open", class_="quiet")
    return join(element("code", address) for address in addresses)


def _fault_chip(number_of: int, fault: str) -> Markup:
    words = element("span", "fault ", class_="for-readers"), fault
    return element("li", *words, class_="chip fault", data_key=number_of)


def _certificate_badge(certificate: Entry | None) -> Markup:
    if certificate is None:
        return NOTHING
    days = certificate["days"]
    return element("span", f"certificate {days_left(days)}", class_=f"badge {urgency(days)}".strip())


def _figures(entry: Entry) -> Markup:
    """What happens there, in numbers and charts."""
    name = entry["name"]
    figures = [
        figure(
            "received and sent",
            both_ways(entry),
            rates((RECEIVED, " in, "), (SENT, " out"), form="size"),
            mirror_chart(f"{name}: bytes received, and sent"),
        )
    ]
    if entry["transport"] == "UDP":
        answered = "datagrams/answered"
        chart = rate_chart(answered, f"{name}: datagrams answered")
        figures.insert(0, figure("answered", shown(entry, answered), rates((answered, "")), chart))
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
