"""``faults``: which connections get which faults, and changing those of a running suite.

- ``explain`` says it before anybody connects, from the configuration alone
- ``list``, ``add``, ``remove`` and ``clear`` ask a running suite: `suite.commands.fault_control`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, cast

from suite.commands.console import say
from suite.commands.options import add_config, duration, environment_of, number, size
from suite.config.fault_text import shown, words
from suite.config.fault_values import LONGEST_DATAGRAM
from suite.config.faults import Kind
from suite.config.file import read
from suite.config.limits import address_of
from suite.endpoints.descriptions import Description
from suite.endpoints.parser import parse_all
from suite.errors import EXIT_OK, Mistakes, UsageError
from suite.faults import explain
from suite.gallery.places import with_gallery
from suite.text import suggest

#: The commands, and what ``--help`` says of them.
COMMANDS: Final = {
    "explain": "show which connections or datagrams of an endpoint will get which faults",
    "list": "list the faults of a running suite, with their ids",
    "add": "add faults to an endpoint of a running suite, all at once",
    "remove": "remove faults of an endpoint of a running suite by their ids",
    "clear": "remove all faults of an endpoint of a running suite, or of all endpoints",
}

#: The most connections that are explained at once.
MOST: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands of ``faults``."""
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        command.set_defaults(parser=command)
        if name == "explain":
            _add_explain(command)
        else:
            _control().add_arguments(command, name)


def _control() -> Any:
    """What speaks to a running suite; ``explain`` runs without it."""
    return import_module("suite.commands.fault_control")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add_config(parser, default=argparse.SUPPRESS)
    parser.add_argument("--endpoint", metavar="NAME", help="default: the only one that has faults")
    parser.add_argument(
        "--connections", metavar="N", default="20", help="how many, from the first; default: 20"
    )
    parser.add_argument(
        "--datagrams", metavar="N", default="20", help="the same for an endpoint of datagrams; default: 20"
    )
    parser.add_argument("--size", metavar="SIZE", default="64", help="of each datagram; default: 64")
    parser.add_argument(
        "--interval", metavar="TIME", default="200ms", help="from one datagram to the next; default: 200ms"
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="where they come from; default: 127.0.0.1"
    )
    parser.add_argument("--name", metavar="SNI", help="the name that they ask for; default: none")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def run(options: argparse.Namespace) -> int:
    """Run the command of ``faults``; return the exit code.

    :raises SuiteError: it cannot be followed.
    """
    if options.command is None:
        cast(argparse.ArgumentParser, options.parser).error(f"expected a command: {', '.join(COMMANDS)}")
    if options.command != "explain":
        code: int = _control().run(options, options.command)
        return code
    connections = number("--connections", options.connections, MOST, least=1)
    datagrams = number("--datagrams", options.datagrams, MOST, least=1)
    try:
        address_of(options.host)
    except ValueError:
        raise UsageError(
            f"--host {options.host!r} is not an address; expected one such as 192.0.2.1"
        ) from None
    description = _find(options)
    if options.name is not None and description.transport != "TLS":
        raise UsageError(f"--name: {description.transport} clients ask for no name; only those of TLS do")
    if description.endpoint.faults.requested:
        raise UsageError(
            f"endpoints.{description.endpoint.name}: clients choose their faults; expected an endpoint that"
            " declares its own"
        )
    if description.transport == "UDP":
        say(*_datagrams(description, options, datagrams))
    else:
        say(*_connections(description, options, connections))
    return EXIT_OK


def _find(options: argparse.Namespace) -> Description:
    """The endpoint to explain.

    :raises SuiteError: the configuration is wrong, or there is no such endpoint.
    """
    mistakes = Mistakes()
    config = read(options.config, mistakes, environment_of(options.config))
    with mistakes.noted():
        config = with_gallery(config)
    descriptions = parse_all(config, mistakes)
    mistakes.raise_any()
    by_name = {description.endpoint.name: description for description in descriptions}
    faulty = [name for name, description in by_name.items() if description.endpoint.faults]
    name = options.endpoint
    if name is None:
        if len(faulty) != 1:
            there_are = f"expected one of {', '.join(faulty)}" if faulty else "no endpoint has faults"
            raise UsageError(f"--endpoint NAME is missing; {there_are}")
        (name,) = faulty
    if name not in by_name:
        raise UsageError(f"--endpoint {name!r} is not an endpoint{suggest(name, by_name)}")
    return by_name[name]


def _connections(description: Description, options: argparse.Namespace, count: int) -> list[str]:
    """What connections get, in lines."""
    faults = description.endpoint.faults
    host = None if description.transport == "UNIX" and not description.proxied else options.host
    decisions = explain.connections(faults, count, host, options.name)
    rows = [
        {"connection": nth, "faults": [words(fault) for fault in decision.faults], "seed": decision.seed}
        for nth, decision in enumerate(decisions, start=1)
    ]
    return _lines(
        description,
        {"host": host, "name": options.name},
        ("connections", rows),
        ["; ".join(map(shown, decision.faults)) or "no fault" for decision in decisions],
        [[fault.kind for fault in decision.faults] for decision in decisions],
        json_wanted=options.json,
    )


def _datagrams(description: Description, options: argparse.Namespace, count: int) -> list[str]:
    """What happens to datagrams, in lines."""
    bytes_each = size("--size", options.size, LONGEST_DATAGRAM)
    interval = duration("--interval", options.interval, zero=True)
    verdicts = explain.datagrams(description.endpoint.faults, count, options.host, bytes_each, interval)
    rows = [
        {
            "datagram": verdict.number,
            "faults": [str(kind) for kind in verdict.kinds],
            "lost": verdict.lost,
            "size": bytes_each if verdict.size is None else verdict.size,
            "corrupted": [offset for offset, _ in verdict.changes],
            "duplicated": verdict.duplicated,
            "reordered": verdict.reordered,
            "delay": verdict.delay,
            "rate": verdict.rate,
        }
        for verdict in verdicts
    ]
    return _lines(
        description,
        {"host": options.host, "size": bytes_each, "interval": interval},
        ("datagrams", rows),
        [str(verdict) for verdict in verdicts],
        [verdict.kinds for verdict in verdicts],
        json_wanted=options.json,
    )


def _lines(
    description: Description,
    asked: Mapping[str, Any],
    rows: tuple[str, list[dict[str, Any]]],
    texts: Sequence[str],
    struck: Sequence[Sequence[Kind]],
    *,
    json_wanted: bool,
) -> list[str]:
    """What was found, for people or as JSON.

    :param asked: what it depends on, beside the configuration.
    :param rows: what each gets, as JSON, and the name of that.
    :param texts: the same for people.
    :param struck: the kinds of faults that each gets.
    """
    endpoint = description.endpoint
    totals = explain.totals(struck)
    clean = sum(not kinds for kinds in struck)
    if json_wanted:
        head = {"endpoint": endpoint.name, "transport": description.transport, "seed": endpoint.faults.seed}
        return [json.dumps({**head, **asked, rows[0]: rows[1], "totals": totals, "clean": clean})]
    host, name = asked["host"], asked.get("name")
    whom = "a local client" if host is None else f"a client at {host}"
    whom += f" that asks for {name}" if name is not None else ""
    lines = [f"{endpoint.name}: {description.transport}, seed {endpoint.faults.seed}, {rows[0]} of {whom}"]
    count, width = len(texts), len(f"{len(texts)}")
    lines += [f"#{nth:<{width}}  {text}" for nth, text in enumerate(texts, start=1)]
    lines += [f"{amount} of {count}: {kind}" for kind, amount in totals.items()]
    lines.append(f"{clean} of {count}: no fault")
    lines += [f"note: not for {whom}: {shown(fault)}" for fault in explain.unreached(endpoint.faults, struck)]
    return lines
