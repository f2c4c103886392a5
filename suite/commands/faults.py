"""``faults``: which connections get which faults, and changing those of a running suite.

- ``explain`` says it before anybody connects, from the configuration alone
- ``list``, ``add``, ``remove`` and ``clear`` ask a running suite: `suite.commands.fault_control`
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from typing import Any, Final, cast

from suite.commands.console import say
from suite.commands.options import add_config, number
from suite.config.fault_text import shown, words
from suite.config.file import read
from suite.config.limits import address_of
from suite.endpoints.descriptions import Description
from suite.endpoints.parser import parse_all
from suite.errors import EXIT_OK, Mistakes, UsageError
from suite.faults import explain
from suite.text import suggest

#: The commands, and what ``--help`` says of them.
COMMANDS: Final = {
    "explain": "tell which connections or datagrams of an endpoint will get which faults",
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
    descriptions = parse_all(read(options.config, mistakes), mistakes)
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
        raise UsageError(f"--endpoint {name!r} is no endpoint{suggest(name, by_name)}")
    return by_name[name]


def _connections(description: Description, options: argparse.Namespace, count: int) -> list[str]:
    """What connections get, in lines."""
    faults = description.endpoint.faults
    host = None if description.transport == "UNIX" and not description.proxied else options.host
    decisions = explain.connections(faults, count, host, options.name)
    totals = explain.totals(decision.faults for decision in decisions)
    if options.json:
        rows = [
            {
                "connection": nth,
                "faults": [words(fault) for fault in decision.faults],
                "seed": decision.seed,
            }
            for nth, decision in enumerate(decisions, start=1)
        ]
        return [_document(description, host, options.name, connections=rows, totals=totals)]
    lines = [_heading(description, host, options.name)]
    width = len(f"{count}")
    lines += [
        f"#{nth:<{width}}  {'; '.join(map(shown, decision.faults)) or 'no fault'}"
        for nth, decision in enumerate(decisions, start=1)
    ]
    lines += [f"{amount} of {count}: {kind}" for kind, amount in totals.items()]
    lines.append(f"{sum(not decision for decision in decisions)} of {count}: no fault")
    lines += [
        f"note: for others than {_whom(host, options.name)}: {shown(fault)}"
        for fault in explain.unreached(faults, decisions)
    ]
    return lines


def _heading(description: Description, host: str | None, name: str | None) -> str:
    endpoint = description.endpoint
    return f"{endpoint.name}: {description.transport}, seed {endpoint.faults.seed}, for {_whom(host, name)}"


def _whom(host: str | None, name: str | None) -> str:
    whom = "a local client" if host is None else f"a client at {host}"
    return f"{whom} that asks for {name}" if name is not None else whom


def _document(description: Description, host: str | None, name: str | None, **rows: Any) -> str:
    """Everything as JSON."""
    endpoint = description.endpoint
    document = {
        "endpoint": endpoint.name,
        "transport": description.transport,
        "seed": endpoint.faults.seed,
        "host": host,
        "name": name,
    }
    return json.dumps(document | rows)


def _datagrams(description: Description, options: argparse.Namespace, count: int) -> list[str]:
    """What datagrams get, in lines."""
    raise NotImplementedError
