"""What the page shows of the suite as a whole: state, totals, reasons, certificates, events, reloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from suite.admin.page.binding import (
    FAILED,
    GROUPS,
    RECEIVED,
    REFUSED,
    SENT,
    STRUCK,
    alarming,
    both_ways,
    counted,
    figure,
    handshakes,
    line_chart,
    mirror_chart,
    paths_of,
    rates,
    shown,
    struck,
    value_at,
)
from suite.admin.page.markup import NOTHING, Content, Markup, element, join
from suite.admin.page.tables import link_to
from suite.admin.page.wording import clock, day, days_left, duration, instant, number, urgency
from suite.reasons import Reason

#: Certificates that are shown at once.
FEW_CERTIFICATES: Final = 6

Document = Mapping[str, Any]

_LEVELS: Final = ("debug", "info", "warn", "error")


def health(status: Document) -> str:
    """The state in one word, for the style sheet and for people."""
    return "not ready" if status["state"] == "serving" and not status["ready"] else status["state"]


def header(status: Document, time: str) -> Markup:
    """The bar at the top; *time* is when the page was made."""
    return element(
        "header",
        element(
            "div",
            element("img", src="/static/icon.svg", alt="", width=28, height=28),
            element("h1", "echo suite"),
            element("span", status["version"], class_="quiet version"),
            class_="brand",
        ),
        element("strong", health(status), class_="state", id="state", data_state=health(status)),
        element("span", f"as of {clock(time)} UTC", id="link", class_="link", role="status"),
        element(
            "div",
            element("button", "Reload configuration", type="button", data_do="reload"),
            element("button", "Drain…", type="button", data_do="drain", class_="danger"),
            element("button", "Token…", type="button", data_do="token"),
            class_="actions",
            hidden=True,
        ),
        class_="bar",
    )


def reasons_not_ready(status: Document) -> Markup:
    """Why it is not ready, if it is not; the place stays."""
    reasons = [*status["reasons"], *(each["problem"] for each in status["not_served"])]
    return element(
        "div",
        element("strong", "Not ready"),
        element("ul", *(element("li", each) for each in reasons)),
        id="reasons",
        class_="banner",
        hidden=not reasons,
    )


def glance(status: Document) -> Markup:
    """Totals, the two that change most with a chart."""
    return element(
        "section",
        element("h2", "At a glance", class_="for-readers"),
        element(
            "dl",
            figure(
                "open connections",
                shown(status, "connections/open"),
                None,
                line_chart("connections/open", "Open connections"),
            ),
            figure(
                "received and sent",
                both_ways(status),
                rates((RECEIVED, " in, "), (SENT, " out"), form="size"),
                mirror_chart("Bytes received, and sent"),
            ),
            class_="figures hero",
        ),
        element(
            "dl",
            figure("endpoints", shown(status, "endpoints")),
            figure("accepted", shown(status, "connections/accepted"), rates(("connections/accepted", ""))),
            alarming(status, "refused", REFUSED),
            alarming(status, "failed", FAILED),
            figure("datagrams", shown(status, "datagrams/received"), rates(("datagrams/received", ""))),
            figure(
                "TLS handshakes", shown(status, "handshakes/completed"), rates(("handshakes/completed", ""))
            ),
            alarming(status, "faults struck", STRUCK),
            figure("reactor lag, p99", shown(status, "reactor/lag/p99", "duration")),
            figure(
                "descriptors",
                join((shown(status, "descriptors/open"), " of ", shown(status, "descriptors/limit"))),
            ),
            figure("up for", shown(status, "uptime", "duration")),
            class_="figures rest",
        ),
        id="glance",
    )


def _panel(title: str, *contents: Content, identity: str, class_: str | None = None) -> Markup:
    return element(
        "section",
        element("h2", title, id=f"{identity}-title"),
        *contents,
        id=identity,
        class_=f"panel {class_ or ''}".strip(),
        aria_labelledby=f"{identity}-title",
    )


# By reason.

_GROUP_TITLES: Final[Mapping[str, str]] = {
    "refused": "Refused, or not answered",
    "failed": "Failed",
    "wanted": "Other ends",
}


def reasons(status: Document) -> Markup:
    """Refusals, failures and other ends by reason, each with its meaning; what has not happened is hidden."""
    groups = []
    for group, members in GROUPS.items():
        count = sum(bool(value_at(status, paths_of(reason, group))) for reason in members)
        groups.append(
            element(
                "tbody",
                element("tr", element("th", _GROUP_TITLES[group], scope="rowgroup", colspan=2)),
                *(_reason(status, reason, group) for reason in members),
                element(
                    "tr", element("td", "none", colspan=2, class_="quiet"), class_="none", hidden=count > 0
                ),
                data_group=group,
            )
        )
    return _panel(
        "Why connections ended",
        element(
            "table",
            element(
                "thead",
                element(
                    "tr",
                    element("th", "reason", scope="col"),
                    element("th", "count", scope="col", class_="count"),
                ),
                class_="for-readers",
            ),
            *groups,
        ),
        identity="by-reason",
    )


def _reason(status: Document, reason: Reason, group: str) -> Markup:
    paths = paths_of(reason, group)
    return element(
        "tr",
        element(
            "th", element("b", reason), " ", element("span", _meaning(reason), class_="quiet"), scope="row"
        ),
        element("td", shown(status, paths), class_="count"),
        data_reason=reason,
        hidden=not value_at(status, paths),
    )


def _meaning(reason: Reason) -> str:
    return reason.meaning.removeprefix("refused: ").replace("UDP, not answered:", "UDP:")


def counts(status: Document) -> Markup:
    """Faults by kind, and TLS handshakes by what was agreed."""
    return join(
        (
            _panel("Faults struck", counted("struck", struck(status)), identity="struck"),
            _panel("TLS handshakes", counted("handshakes", handshakes(status)), identity="handshakes"),
        )
    )


# Certificates.


def certificates(status: Document) -> Markup:
    """Certificates, those first that end first."""
    rows = [*map(_certificate, status["certificates"])]
    few, rest = rows[:FEW_CERTIFICATES], rows[FEW_CERTIFICATES:]
    return _panel(
        "Certificates",
        _certificate_table(few) if few else element("p", "none", class_="quiet"),
        element("details", element("summary", f"{len(rest)} more"), _certificate_table(rest))
        if rest
        else None,
        identity="certificates",
    )


def _certificate_table(rows: Sequence[Markup]) -> Markup:
    return element(
        "table",
        element(
            "thead",
            element(
                "tr",
                element("th", "endpoint", scope="col"),
                element("th", "ends", scope="col", class_="count"),
            ),
            class_="for-readers",
        ),
        element("tbody", *rows),
    )


def _certificate(each: Document) -> Markup:
    return element(
        "tr",
        element(
            "th",
            element("a", each["endpoint"], href=link_to(each["endpoint"])),
            " ",
            element("span", each["subject"], class_="quiet"),
            scope="row",
        ),
        element(
            "td",
            element("span", days_left(each["days"]), class_=urgency(each["days"]) or None),
            element("br"),
            element("span", day(each["not_after"]), class_="quiet"),
            class_="count",
        ),
    )


# Reloads, and the process.


def reload(status: Document) -> Markup:
    """How reloads have gone, and what was wrong with the last one."""
    reloads = status["reloads"]
    problem = reloads["problem"]
    return _panel(
        "Reloads",
        element(
            "p",
            shown(status, "reloads/good"),
            " took effect, ",
            shown(status, "reloads/bad"),
            " did not",
            element(
                "span",
                f"; the last one {instant(reloads['last'])}" if reloads["last"] else "",
                id="last-reload",
            ),
        ),
        element("pre", problem or "", id="reload-problem", class_="problem", hidden=not problem),
        identity="reloads",
    )


def process(status: Document) -> Markup:
    """What it runs as."""
    reactor = status["reactor"]
    pairs: tuple[tuple[str, Content], ...] = (
        ("process", str(status["pid"])),
        ("configuration", element("code", status["config"])),
        ("started", instant(status["started"])),
        ("reactor", reactor["name"]),
        ("timers", shown(status, "reactor/timers")),
        ("lag, p50", shown(status, "reactor/lag/p50", "duration")),
        ("lag, most", shown(status, "reactor/lag/max", "duration")),
        ("leaving", join((shown(status, "leaving"), " endpoints"))),
        ("log lines suppressed", shown(status, "log/suppressed")),
        ("log lines lost", shown(status, "log/lost")),
    )
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return _panel("Process", element("dl", *rows, class_="pairs"), identity="process")


def workers(status: Document) -> Markup:
    """The processes that serve, if there are several."""
    found = status.get("workers", [])
    if not found:
        return NOTHING
    columns = (
        ("state", "word"),
        ("pid", "word"),
        ("open", "number"),
        ("restarts", "number"),
        ("since", "instant"),
    )
    heads = [element("th", name, scope="col") for name in ("worker", *(name for name, _ in columns))]
    rows = [
        element(
            "tr",
            element("th", str(each["number"]), scope="row"),
            *(element("td", shown(status, f"workers/{place}/{name}", form)) for name, form in columns),
        )
        for place, each in enumerate(found)
    ]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    scrolled = element(
        "div", table, class_="scrolled", tabindex=0, role="region", aria_label="List of workers"
    )
    return _panel("Workers", scrolled, identity="workers")


# Events.


def events(found: Sequence[Document]) -> Markup:
    """What has been logged lately, the newest first; a script adds what is logged now."""
    return _panel(
        "Events",
        element("div", class_="filters", id="filters"),
        element(
            "ol",
            *map(event, reversed(found)),
            id="log",
            class_="log",
            tabindex=0,
            aria_label="Events, the newest first",
        ),
        element("p", "none so far", class_="quiet none", hidden=bool(found)),
        identity="events",
        class_="wide",
    )


def event(each: Document) -> Markup:
    """One event."""
    where = each.get("endpoint") or ""
    if where and each.get("connection") is not None:
        where = f"{where}#{each['connection']}"
    facts = [str(each["reason"])] if each.get("reason") else []
    if each.get("received") is not None:
        facts.append(f"{number(each['received'])} bytes")
    if each.get("duration") is not None:
        facts.append(duration(each["duration"]))
    return element(
        "li",
        element("time", clock(each["time"]), datetime=each["time"]),
        element("span", each["level"], class_="level"),
        element("span", where, class_="where"),
        element(
            "span",
            element("span", each.get("peer") or "", class_="peer") if each.get("peer") else NOTHING,
            " " if each.get("peer") else None,
            each["message"],
            element("span", f" ({', '.join(facts)})", class_="quiet") if facts else NOTHING,
            class_="message",
        ),
        data_id=each["id"],
        data_level=each["level"],
    )
