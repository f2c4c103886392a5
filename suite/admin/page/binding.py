"""Numbers of the page that know where they come from.

Rules: an element that shows a number of the API names its place there (``data-path``) and its form
(``data-as``); the server writes the number into it, and ``static/overview.js`` goes on doing so each second.
What is drawn is in ``data-chart`` elements, which are empty without scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from suite.admin.page import wording
from suite.admin.page.markup import Content, Markup, element, join
from suite.reasons import REFUSALS, Reason

#: How a number is shown, by the name of the form.
FORMS: Final[Mapping[str, Callable[[Any], str]]] = {
    "number": wording.number,
    "size": wording.size,
    "duration": wording.duration,
    "instant": wording.instant,
    "word": str,
}

#: Ends that somebody wanted: a peer, a limit that is there for ending connections, a fault, an operator.
_WANTED: Final = frozenset(
    reason for reason in Reason if reason.level == "debug" or reason in ("fault", "operator")
)

#: Refusals, failures and other ends.
GROUPS: Final[Mapping[str, tuple[Reason, ...]]] = {
    "refused": tuple(reason for reason in Reason if reason in REFUSALS),
    "failed": tuple(reason for reason in Reason if reason not in REFUSALS and reason not in _WANTED),
    "wanted": tuple(reason for reason in Reason if reason in _WANTED),
}

#: Where each of them is counted; what is refused at its header has been a connection before.
FAILED: Final = " ".join(f"connections/ended/{reason}" for reason in GROUPS["failed"])
REFUSED: Final = "connections/refused datagrams/unanswered"
RECEIVED: Final = "bytes/received datagrams/bytes_received"
STRUCK: Final = "struck"
SENT: Final = "bytes/sent datagrams/bytes_sent"


def paths_of(reason: str, group: str) -> str:
    """Where ends for *reason* are counted, given its group in `GROUPS`."""
    if group == "refused":
        return f"connections/refused/{reason} datagrams/unanswered/{reason}"
    return f"connections/ended/{reason}"


def value_at(document: Mapping[str, Any], paths: str) -> Any:
    """What stands in *document* at *paths*: names separated by ``/``, and several by spaces, which are added.

    Of a mapping it is the sum of its values; a count that is not there is 0. None is unknown. Names in a list
    are places.
    """
    found = [_at(document, path.split("/")) for path in paths.split()]
    if len(found) == 1:
        return found[0]
    return None if None in found else sum(found)


def _at(value: Any, names: list[str]) -> Any:
    for depth, name in enumerate(names):
        if isinstance(value, list):
            value = value[int(name)]
        elif isinstance(value, Mapping):
            value = value.get(name, 0 if depth else None)
        else:
            return None
    return sum(value.values()) if isinstance(value, Mapping) else value


def shown(document: Mapping[str, Any], paths: str, form: str = "number") -> Markup:
    """The number at *paths*."""
    return element("span", FORMS[form](value_at(document, paths)), data_path=paths, data_as=form)


def both_ways(document: Mapping[str, Any]) -> Markup:
    """The bytes received, and sent."""
    return join((shown(document, RECEIVED, "size"), " in, ", shown(document, SENT, "size"), " out"))


def rates(*parts: tuple[str, str], form: str = "number") -> Markup:
    """Room for how much is added in a second, which only a script can tell: places, and what follows each."""
    contents = [
        join((element("span", wording.UNKNOWN, data_rate=paths, data_as=form), after))
        for paths, after in parts
    ]
    return element("span", *contents, class_="rates", hidden=True)


def line_chart(paths: str, label: str) -> Markup:
    """Room for a chart of the number at *paths*."""
    return element("div", class_="chart line", data_chart="line", data_of=paths, data_label=label)


def rate_chart(paths: str, label: str) -> Markup:
    """Room for a chart of how much is added at *paths* in a second."""
    return element("div", class_="chart rising", data_chart="rate", data_of=paths, data_label=label)


def mirror_chart(label: str) -> Markup:
    """Room for a chart of bytes: those received above a line, those sent below it.

    An endpoint that gives everything back is its own reflection.
    """
    return element(
        "div", class_="chart mirror", data_chart="mirror", data_of=RECEIVED, data_below=SENT, data_label=label
    )


def counted(name: str, found: Iterable[tuple[str, int, str]]) -> Markup:
    """Counts by a word each, which come and go: word, count, and a class of the style sheet.

    :param name: what they are, for a script that keeps them up to date.
    """
    rows = [
        element(
            "div",
            element("dt", word),
            element("dd", wording.number(count)),
            data_key=word,
            class_=kind or None,
        )
        for word, count, kind in found
    ]
    return join(
        (
            element("dl", *rows, class_="pairs counts", data_counted=name, hidden=not rows),
            element("p", "none so far", class_="quiet none", hidden=bool(rows)),
        )
    )


def ends(document: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Refusals and ends by reason, those that have happened, each with its group."""
    for group, reasons in GROUPS.items():
        for reason in reasons:
            count = value_at(document, paths_of(reason, group))
            if count:
                yield str(reason), count, group


def handshakes(document: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """TLS handshakes by what was agreed, and those that failed by why."""
    for each in document["handshakes"]["by"]:
        resumed = ", resumed" if each["resumed"] else ""
        yield f"{each['version']} {each['cipher']}{resumed}", each["count"], ""
    for word, count in document["handshakes"]["failed"].items():
        yield f"failed: {word}", count, "failed"


def struck(document: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Connections and datagrams that faults have struck, by kind."""
    for kind, count in document[STRUCK].items():
        yield kind, count, ""


def figure(name: str, total: Markup, speed: Content = None, chart: Content = None) -> Markup:
    """A number with its *name*.

    :param total: the number itself.
    :param speed: how fast it grows, which is of more interest while it is known.
    """
    classes = "figure charted" if chart else "figure"
    value = element("span", total, class_="total")
    return element("div", element("dt", name), element("dd", speed, value, chart), class_=classes)


def alarming(document: Mapping[str, Any], name: str, paths: str) -> Markup:
    """A number that is of interest when it is not 0."""
    number_shown = element("span", shown(document, paths), class_="total")
    zero = not value_at(document, paths)
    return element(
        "div",
        element("dt", name),
        element("dd", number_shown),
        class_="figure alarming",
        data_zero="true" if zero else "false",
        data_watch=paths,
    )
