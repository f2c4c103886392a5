"""One endpoint, and connections, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from suite.client.load.units import shown_size
from suite.client.status.overview import (
    STATES,
    bytes_line,
    connections_line,
    datagrams_line,
    facts,
    handshakes_line,
    plain_table,
    refusals_of,
    refused_text,
    shown_days,
)
from suite.client.status.snapshot import Document
from suite.client.status.words import NOTHING, by_word, shown_day, shown_duration


def endpoint_detail(
    endpoint: Document, connections: Sequence[Document], unanswered: Sequence[int] = ()
) -> RenderableType:
    """Everything about an *endpoint*.

    :param connections: some of its connections.
    :param unanswered: the workers of which it is not known which they have.
    """
    parts: list[RenderableType] = [facts([*_rows(endpoint)])]
    if connections:
        parts += [Text(), connections_table(connections, of_one=True)]
    more = endpoint["connections"]["open"] - len(connections)
    if unanswered:
        parts += [Text(), missing(unanswered)]
    elif more > 0 and endpoint["transport"] != "UDP":
        parts.append(Text(f"… {more:,} more; `status --connections {endpoint['name']}` has all", "dim"))
    return Group(*parts)


def missing(unanswered: Sequence[int]) -> Text:
    """Whose connections are not in a list: those of the workers *unanswered*."""
    names = ", ".join(map(str, unanswered))
    one = len(unanswered) == 1
    words = ("worker", "does", "its") if one else ("workers", "do", "their")
    return Text(
        "{} {} {} not answer: {} connections are not listed".format(words[0], names, *words[1:]), "red"
    )


def _rows(endpoint: Document) -> Iterator[tuple[str, RenderableType]]:
    title = Text(f"{endpoint['name']}: {endpoint['transport']} {', '.join(endpoint['addresses'])}, ")
    title.append(endpoint["state"], STATES.get(endpoint["state"], "yellow"))
    yield "endpoint", title
    answer = endpoint["answer"]
    answer += ", behind a PROXY header" * endpoint["proxied"]
    answer += f", gallery: {endpoint['gallery']}" if endpoint["gallery"] else ""
    yield "answers", Text(answer)
    if endpoint["try"]:
        yield "try", Text(endpoint["try"])
    if endpoint["certificate"]:
        yield "certificate", _certificate(endpoint["certificate"])
    yield "limits", Text(", ".join(_limits(endpoint["limits"])) or "none")
    yield "faults", Text(_faults(endpoint["faults"]))
    if endpoint["struck"]:
        yield "struck", Text(by_word(endpoint["struck"]), "magenta")
    if endpoint["transport"] == "UDP":
        yield "datagrams", Text(datagrams_line(endpoint["datagrams"]))
        counts = endpoint["datagrams"]
        traffic = {"received": counts["bytes_received"], "sent": counts["bytes_sent"]}
    else:
        yield "connections", Text(connections_line(endpoint))
        traffic = endpoint["bytes"]
    yield "bytes", Text(bytes_line(traffic, None))
    yield "refused", refused_text(refusals_of(endpoint))
    if endpoint["transport"] == "TLS":
        yield "handshakes", handshakes_line(endpoint["handshakes"])
        for each in endpoint["handshakes"]["by"]:
            resumed = ", resumed" * each["resumed"]
            yield "", Text(f"{each['count']:,} {each['version']}, {each['cipher']}{resumed}")


def _certificate(found: Document) -> Text:
    text = Text(f"{found['subject'] or NOTHING}; ")
    names = ", ".join(found["names"])
    if names:
        text.append(f"for {names}; ")
    text.append(f"from {shown_day(found['not_before'])} to {shown_day(found['not_after'])}, ")
    text.append_text(shown_days(found["days"]))
    text.append(" days left")
    return text


def _limits(limits: Document) -> Iterator[str]:
    """Each limit with its value, in the words of the configuration."""
    for name, value in limits.items():
        if value is None or value == []:
            continue
        yield f"{name} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value))
    return (
        shown_duration(value)
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _faults(faults: Document) -> str:
    if faults["replayed"]:
        return "as recorded of an earlier run"
    if faults["requested"]:
        return "what its clients request"
    listed = "; ".join(f"{each['id']}: {each['fault']}" for each in faults["faults"])
    return f"{listed} (seed {faults['seed']})" if listed else "none"


def connections_table(connections: Sequence[Document], *, of_one: bool = False) -> Table:
    """A row for each of *connections*.

    :param of_one: they are of one endpoint.
    """
    with_tls = any(each["tls"] for each in connections)
    with_faults = any(each["faults"] for each in connections)
    table = plain_table()
    for title, right in (
        ("id", False),
        ("peer", False),
        ("state", False),
        ("received", True),
        ("owed", True),
        ("age", True),
        ("quiet", True),
        *((("TLS", False),) * with_tls),
        *((("faults", False),) * with_faults),
    ):
        wraps = title in ("TLS", "faults")  # these give way first
        table.add_column(title, no_wrap=not wraps, overflow="fold", justify="right" if right else "left")
    for each in connections:
        cells: list[str | Text] = [
            Text(f"#{each['number']}" if of_one else each["id"]),
            Text(str(each["peer"] or NOTHING)),
            Text(each["state"]),
            shown_size(each["received"]),
            shown_size(each["owed"]) if each["owed"] is not None else NOTHING,
            shown_duration(each["age"]),
            shown_duration(each["quiet"]),
        ]
        if with_tls:
            cells.append(Text(_tls(each["tls"])))
        if with_faults:
            cells.append(Text(each["faults"] or NOTHING))
        table.add_row(*cells)
    return table


def _tls(tls: Document | None) -> str:
    if not tls:
        return NOTHING
    found = [tls["version"], tls["cipher"], "resumed" if tls["resumed"] else None, tls["server_name"]]
    return ", ".join(word for word in found if word)
