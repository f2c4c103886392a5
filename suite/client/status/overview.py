"""A suite as a whole, for a terminal: what the page shows.

Rules: numbers are those of the interface, and a dash where there are none; a narrow terminal gets fewer
columns, and no row takes two lines; a column that has nothing to say is left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from suite.client.load.units import shown_size
from suite.client.status.snapshot import Document, Rates, Snapshot
from suite.client.status.words import (
    NOTHING,
    by_word,
    counted,
    shown_count,
    shown_day,
    shown_duration,
    shown_instant,
    shown_rate,
)
from suite.reasons import Reason
from suite.text import shown

#: Columns from which on a terminal has room for everything.
WIDE: Final = 130

#: Certificates, and refusals, that the overview has.
MOST_CERTIFICATES: Final = 5
MOST_REFUSALS: Final = 5

#: Endpoints that the overview has on any screen, and columns that a name and an address have.
FEWEST: Final = 3
NARROWEST: Final = 8

#: Days before the end of a certificate that call for attention, and those that call for it now.
SOON: Final = 30
VERY_SOON: Final = 7

#: What each reason means.
MEANINGS: Final = {str(reason): reason.meaning for reason in Reason}

#: What the style of each state is.
STATES: Final = {"serving": "green", "paused": "yellow", "draining": "yellow", "starting": "yellow"}


def overview(now: Snapshot, rates: Rates, width: int, height: int | None = None) -> RenderableType:
    """Everything about a suite.

    :param width: the columns of the terminal.
    :param height: the lines that there are room for; None: as many as needed.
    """
    head = facts(head_rows(now.status, rates))
    if height is None:
        after = _after(now, MOST_CERTIFICATES, MOST_REFUSALS)
        return Group(head, Text(), *_endpoints(now, rates, width, None), *after)
    # What else there is: an empty line, the titles, and the line that says how many more there are.
    left = height - _height(Group(head), width) - 3
    enough = min(len(now.endpoints), max(FEWEST, left // 2))
    for certificates, refusals in _SHARES:
        after = _after(now, certificates, refusals)
        room = max(FEWEST, left - _height(Group(*after), width))
        if left - _height(Group(*after), width) >= enough:
            break
    return Group(head, Text(), *_endpoints(now, rates, width, room), *after)


#: How many certificates and refusals a screen has, from one with much room to one with none.
_SHARES: Final = ((MOST_CERTIFICATES, MOST_REFUSALS), (3, 3), (1, 2), (1, 1), (1, 0), (0, 0))


def _after(now: Snapshot, certificates: int, refusals: int) -> list[RenderableType]:
    """What comes after the endpoints."""
    return [*_certificates(now.status, certificates), *_refusals(now.refusals[:refusals])]


def _height(what: RenderableType, width: int) -> int:
    """The lines that *what* takes in *width* columns."""
    console = Console(width=width, file=io.StringIO())
    return len(console.render_lines(what, console.options.update(height=None)))


# The suite.


def facts(rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """Rows of a name and what there is to say of it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def head_rows(status: Document, rates: Rates) -> list[tuple[str, RenderableType]]:
    """What there is to say of the suite as a whole."""
    rows: list[tuple[str, RenderableType]] = [
        ("suite", _state(status)),
        ("config", f"{shown(status['config'])}: {_endpoint_counts(status)}"),
        ("connections", connections_line(status, rates)),
        ("bytes", bytes_line(status["bytes"], rates.total(status, "bytes", "received"))),
        ("refused", refused_text(status["connections"]["refused"])),
        ("handshakes", handshakes_line(status["handshakes"])),
        ("datagrams", datagrams_line(status["datagrams"])),
    ]
    if status["struck"]:
        rows.append(("faults", f"struck: {by_word(status['struck'])}"))
    rows += [("not served", Text(each["problem"], "yellow")) for each in status["not_served"]]
    if status["reloads"]["last"] is not None:
        rows.append(("reloads", _reloads(status["reloads"])))
    if status.get("workers"):
        rows.append(("workers", _workers(status["workers"])))
    rows.append(("process", _process(status)))
    return rows


def _state(status: Document) -> Text:
    text = Text(f"echo-suite {status['version']}, ")
    text.append(status["state"], STATES.get(status["state"], "red"))
    if status["ready"]:
        text.append(", ready", "green")
    else:
        text.append(f", not ready: {'; '.join(status['reasons']) or NOTHING}", "bold red")
    text.append(f", for {shown_duration(status['uptime'])}, process {status['pid']}")
    return text


def _endpoint_counts(status: Document) -> str:
    found = counted(status["endpoints"], "endpoint")
    if status["leaving"]:
        found += f", {status['leaving']:,} leaving"
    if status["paused"]:
        found += f"; paused: {', '.join(status['paused'][:MOST_CERTIFICATES])}"
        found += ", …" * (len(status["paused"]) > MOST_CERTIFICATES)
    return found


def connections_line(found: Document, rates: Rates | None = None) -> str:
    """The connections of a suite or an endpoint."""
    counts = found["connections"]
    text = f"{counts['open']:,} open, {counts['accepted']:,} accepted"
    if rates is not None and rates.known:
        text += f" ({shown_rate(rates.total(found, 'connections', 'accepted'))}/s)"
    ended = by_word(counts["ended"], 4)
    return text + (f"; ended: {ended}" if ended else "")


def bytes_line(counts: Mapping[str, int], rate: float | None) -> str:
    """The bytes of a suite or an endpoint."""
    text = f"{shown_size(counts['received'])} in, {shown_size(counts['sent'])} out"
    return text + (f" ({shown_size(round(rate))}/s in)" if rate is not None else "")


def refused_text(counts: Mapping[str, int]) -> Text:
    """Refused connections by reason; yellow if there are any."""
    total = sum(counts.values())
    return Text(f"{total:,}: {by_word(counts)}", "yellow") if total else Text("none")


def handshakes_line(counts: Document) -> Text:
    """TLS handshakes, and why some have failed."""
    text = Text(f"{counts['completed']:,} completed, {counts['resumed']:,} of them resumed; ")
    failed = sum(counts["failed"].values())
    if failed:
        text.append(f"{failed:,} failed: {by_word(counts['failed'])}", "yellow")
    else:
        text.append("none failed")
    return text


def datagrams_line(counts: Document) -> str:
    """Datagrams, and why some have not been answered."""
    text = f"{counts['received']:,} received, {counts['answered']:,} answered"
    unanswered = by_word(counts["unanswered"])
    return text + (f"; not answered: {unanswered}" if unanswered else "")


def _reloads(reloads: Document) -> Text:
    text = Text(f"{reloads['good']:,} good, ")
    text.append(f"{reloads['bad']:,} bad", "yellow" if reloads["bad"] else "")
    text.append(f"; last at {shown_instant(reloads['last'])}")
    if reloads["problem"]:
        text.append(f", which changed nothing: {reloads['problem']}", "bold red")
    return text


def _workers(workers: Sequence[Document]) -> Text:
    """How many of the workers serve, and how many connections each has."""
    serving = [each for each in workers if each["state"] == "serving"]
    silent = [each for each in workers if each["state"] == "silent"]
    counts = ", ".join(
        f"{each['pid']}: {shown_count(each['open'])}" for each in workers if each["open"] is not None
    )
    text = Text(f"{len(serving)} of {len(workers)} serve", "" if len(serving) == len(workers) else "yellow")
    text.append(f" (open, by process: {counts})" if counts else "", "default")
    for each in silent:
        text.append(f"; worker {each['number']} (process {each['pid']}) does not answer", "bold red")
    restarts = sum(each["restarts"] for each in workers)
    text.append(f"; {counted(restarts, 'restart')}", "yellow" if restarts else "default")
    return text


def _process(status: Document) -> Text:
    """How the process is; what is not known is left out."""
    found = []
    descriptors = status.get("descriptors")
    if descriptors is not None:
        counts = (shown_count(descriptors["open"]), shown_count(descriptors["limit"]))
        found.append("{} of {} descriptors".format(*counts))
    found.append(f"reactor {status['reactor']['name']}")
    lag = status["reactor"].get("lag")
    if lag is not None and lag["p99"] is not None:
        found.append(f"99 % of its turns are at most {lag['p99'] * 1000:.1f} ms late")
    log = status.get("log")
    if log is not None and (log["suppressed"] or log["lost"]):
        found.append(f"log: {log['suppressed']:,} lines suppressed, {log['lost']:,} lost")
    return Text("; ".join(found))


# Endpoints.


def plain_table(**options: Any) -> Table:
    """A table without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", **options)


def _endpoints(now: Snapshot, rates: Rates, width: int, room: int | None) -> Iterator[RenderableType]:
    wide = width >= WIDE
    listed = now.endpoints
    if room is not None and room < len(listed):
        listed = sorted(listed, key=_activity, reverse=True)[:room]
    columns = [*_columns(now.endpoints, rates, wide=wide)]
    rows = [[cell(each) for _, _, cell in columns] for each in listed]
    limits = _limits([title for title, _, _ in columns], rows, width)
    table = plain_table()
    for title, options, _ in columns:
        table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=limits.get(title), **options)
    for row in rows:
        table.add_row(*row)
    yield table
    more = now.status["endpoints"] - len(listed)
    if more > 0:
        which = "" if room is None else " that are less busy"
        yield Text(f"… {more:,} more{which}; `status NAME` shows one", "dim")


def _limits(titles: Sequence[str], rows: Sequence[Sequence[str | Text]], width: int) -> dict[str, int]:
    """How wide names and addresses may be, so that there is room for the numbers."""
    widths = {
        title: max(cell_len(title), *(cell_len(str(row[place])) for row in rows))
        for place, title in enumerate(titles)
        if rows
    }
    if not widths:
        return {}
    name, address = widths.pop("endpoint"), widths.pop("address")
    left = width - sum(widths.values()) - 2 * (len(titles) - 1)
    if name + address <= left:
        return {}
    address = max(NARROWEST, min(address, left // 2))
    return {"endpoint": max(NARROWEST, left - address), "address": address}


def _columns(endpoints: Sequence[Document], rates: Rates, *, wide: bool) -> Iterator[tuple[str, Any, Any]]:
    """The columns that fit: title, rich's options, and what makes a cell of an endpoint's document."""
    right = {"justify": "right"}
    yield "endpoint", {}, lambda e: Text(e["name"])
    yield "", {}, lambda e: e["transport"]
    yield "address", {}, _address
    if wide:
        yield "answer", {}, lambda e: e["answer"]
    if wide or any(each["state"] != "serving" for each in endpoints):
        yield "state", {}, lambda e: Text(e["state"], STATES.get(e["state"], "yellow"))
    yield "open", right, lambda e: NOTHING if _datagrams(e) else shown_count(e["connections"]["open"])
    yield "accepted", right, lambda e: shown_count(e[_kind(e)][_COUNTER[_kind(e)]])
    if rates.known:
        yield "/s", right, lambda e: shown_rate(rates.endpoint(e, _kind(e), _COUNTER[_kind(e)]))
        if wide:
            yield "bytes/s", right, lambda e: _byte_rate(e, rates)
    if wide:
        yield "bytes in", right, lambda e: shown_size(_bytes_in(e))
    yield "refused", {} if wide else right, lambda e: _refused(e, wide=wide)
    if any(each["handshakes"]["failed"] for each in endpoints):
        yield "failed", right, lambda e: _warned(sum(e["handshakes"]["failed"].values()))
    if any(_has_faults(each) for each in endpoints):
        yield "faults", right, _faults
    if any(each["certificate"] for each in endpoints):
        yield "days", right, lambda e: shown_days(e["certificate"] and e["certificate"]["days"])


#: The counter of each kind of traffic that says how many clients came.
_COUNTER: Final = {"connections": "accepted", "datagrams": "received"}


def _activity(endpoint: Document) -> tuple[int, int]:
    """What decides which endpoints come first where not all have room."""
    return endpoint["connections"]["open"], endpoint[_kind(endpoint)][_COUNTER[_kind(endpoint)]]


def _datagrams(endpoint: Document) -> bool:
    return bool(endpoint["transport"] == "UDP")


def _kind(endpoint: Document) -> str:
    return "datagrams" if _datagrams(endpoint) else "connections"


def _bytes_in(endpoint: Document) -> int:
    found: int = endpoint["bytes"]["received"] + endpoint["datagrams"]["bytes_received"]
    return found


def _byte_rate(endpoint: Document, rates: Rates) -> str:
    path = ("datagrams", "bytes_received") if _datagrams(endpoint) else ("bytes", "received")
    rate = rates.endpoint(endpoint, *path)
    return NOTHING if rate is None else shown_size(round(rate))


def _address(endpoint: Document) -> Text:
    addresses = endpoint["addresses"] or [endpoint["listen"]]
    more = f" +{len(addresses) - 1}" if len(addresses) > 1 else ""
    return Text(f"{addresses[0]}{more}")


def refusals_of(endpoint: Document) -> dict[str, int]:
    """Refused connections, and datagrams that were not answered, by reason."""
    return {**endpoint["datagrams"]["unanswered"], **endpoint["connections"]["refused"]}


def _refused(endpoint: Document, *, wide: bool) -> Text:
    counts = refusals_of(endpoint)
    total = sum(counts.values())
    if wide and total:
        return Text(by_word(counts, 3), "yellow")
    return _warned(total)


def _warned(count: int) -> Text:
    return Text(f"{count:,}", "yellow" if count else "")


def _has_faults(endpoint: Document) -> bool:
    faults = endpoint["faults"]
    return bool(faults["faults"] or faults["requested"] or faults["replayed"])


def _faults(endpoint: Document) -> Text:
    faults = endpoint["faults"]
    if faults["requested"] or faults["replayed"]:
        return Text("clients'" if faults["requested"] else "replayed", "magenta")
    count = len(faults["faults"])
    return Text(f"{count}", "magenta" if count else "")


def shown_days(days: float | None) -> Text:
    """The days that a certificate has left."""
    if days is None:
        return Text(NOTHING)
    style = "bold red" if days < VERY_SOON else "yellow" if days < SOON else ""
    return Text(f"{days:,.0f}", style)


# What calls for attention.


def _certificates(status: Document, most: int) -> Iterator[RenderableType]:
    found = status["certificates"][:most]
    if not found:
        return
    table = plain_table()
    for title in ("certificates end", "days", "endpoint", "subject"):
        table.add_column(
            title,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if title == "days" else "left",
        )
    for each in found:
        table.add_row(
            shown_day(each["not_after"]),
            shown_days(each["days"]),
            Text(each["endpoint"]),
            Text(each["subject"] or NOTHING),
        )
    yield Text()
    yield table


def _refusals(events: Sequence[Document]) -> Iterator[RenderableType]:
    if events:
        yield Text()
        yield refusals_table(events)


def refusals_table(events: Sequence[Document]) -> Table:
    """Who was refused, and why: a row for each of *events*."""
    table = plain_table()
    for title in ("refused at", "endpoint", "peer", "reason", "why"):
        table.add_column(title, no_wrap=title != "why", overflow="fold")
    for event in events:
        reason = str(event.get("reason") or NOTHING)
        table.add_row(
            shown_instant(event["time"]),
            Text(str(event.get("endpoint") or NOTHING)),
            Text(str(event.get("peer") or NOTHING)),
            Text(reason, "yellow"),
            Text(_why(reason, event["message"])),
        )
    return table


def _why(reason: str, message: str) -> str:
    """What *message* says; where that is no more than the word, what the word means."""
    if message == "refused" and reason in MEANINGS:
        return MEANINGS[reason].removeprefix("refused: ")
    return message.removeprefix("closed: ")
