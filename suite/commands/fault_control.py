"""``faults list|add|remove|clear``: the faults of a running suite, over its control socket or over HTTP.

Rules: the suite says what is wrong with a request, since only the suite knows its endpoints; what is printed
is what is in force afterwards; an exit code of 1 says that the suite could not be asked, 2 that it refuses.
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from suite.client.admin.address import has_only_admin
from suite.client.admin.faults import request_faults
from suite.client.admin.interface import Interface
from suite.client.admin.unreachable import UnreachableError, why_not
from suite.commands.admin_options import add_admin, add_token, place_of
from suite.commands.console import say
from suite.commands.options import default_config
from suite.config import file as config
from suite.endpoints.companions import parse_companions
from suite.errors import EXIT_OK, ConfigError, Mistakes, SuiteError, UsageError
from suite.text import one_line, shown

#: Seconds that the suite may take to answer.
PATIENCE: Final = 30.0

#: Bytes of an answer: more than any suite has to say.
LONGEST_ANSWER: Final = 64 * 2**20

#: The subcommands, and what ``--help`` says of them.
COMMANDS: Final = {
    "list": "list the faults of a running suite, with their ids",
    "add": "add faults to an endpoint of a running suite, all at once",
    "remove": "remove faults of an endpoint of a running suite by their ids",
    "clear": "remove all faults of an endpoint of a running suite, or of all endpoints",
}


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the options and arguments of *command*, one of `COMMANDS`."""
    parser.add_argument("--control", metavar="PATH", help="the control socket; default: the configuration's")
    add_admin(parser)
    add_token(parser)
    parser.add_argument("--json", action="store_true", help="print the suite's answer as it is")
    if command in ("list", "clear"):
        parser.add_argument("endpoint", nargs="?", help="the name of an endpoint; default: all of them")
    else:
        parser.add_argument("endpoint", help="the name of an endpoint")
    if command == "add":
        parser.add_argument(
            "faults", nargs="+", metavar="FAULT", help="such as latency=200ms jitter=50ms reset after=64KiB"
        )
    if command == "remove":
        parser.add_argument("ids", nargs="+", metavar="ID", help="the id of a fault, from the list")


def run(options: argparse.Namespace, command: str) -> int:
    """Ask the suite to follow *command*, and print what is in force then; return the exit code.

    :raises SuiteError: there is no suite to ask, or it refuses.
    """
    request: dict[str, Any] = {"do": command}
    if options.endpoint is not None:
        request["endpoint"] = options.endpoint
    if command == "add":
        request["faults"] = [" ".join(options.faults)]
    if command == "remove":
        request["ids"] = [_id(text) for text in options.ids]
    answer = _answer(options, request)
    if options.json:
        say(json.dumps(answer))
    elif answer["ok"]:
        say(*table(answer))
    if not answer["ok"]:
        raise refused(answer)
    return EXIT_OK


def _answer(options: argparse.Namespace, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the suite answers to *request*, over its control socket or its admin interface.

    :raises SuiteError: it cannot be asked.
    """
    if options.control is not None and options.admin is not None:
        raise UsageError("--control does not go with --admin; expected one of them")
    if options.control is None and (options.admin is not None or has_only_admin(_file(options))):
        with Interface(place_of(options), options.token_file) as interface:
            return request_faults(interface, request)
    return ask(control_path(options), request)


def _file(options: argparse.Namespace) -> Path:
    file: Path = getattr(options, "config", None) or default_config()
    return file


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UsageError(f"{text!r} is not the id of a fault; expected a number from `faults list`")
    return int(text)


def refused(answer: Mapping[str, Any]) -> SuiteError:
    """The error for an *answer* that says why a request was refused."""
    problem = str(answer.get("error", "the suite has refused, and does not say why"))
    return SuiteError(one_line(problem)) if answer.get("kind") == "busy" else UsageError(problem)


# The socket.


def control_path(options: argparse.Namespace) -> str:
    """The path of the control socket.

    :raises ConfigError: the configuration cannot be read, or has none.
    """
    if options.control is not None:
        return str(options.control).removeprefix("unix:")
    file = _file(options)
    mistakes = Mistakes()
    settings = config.read(file, mistakes)  # other mistakes in it are no reason not to speak to the suite
    if settings.control is None:
        mistakes.raise_any()  # perhaps that of this very line
        raise ConfigError(
            shown(file),
            "control",
            'missing; expected a control socket, such as control = "unix:run/control.sock" at the top of the'
            " file, or an admin interface ([admin]), and a reload (SIGHUP) to open it; or name that of a"
            " suite with --control or --admin",
        )
    wrong = Mistakes()
    found = parse_companions(settings, (), wrong)["control"]
    wrong.raise_any()
    return found[0].arguments["address"]


def ask(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the suite that listens at *path* answers to *request*.

    :raises UnreachableError: it cannot be asked, or does not answer.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
        except OSError as error:
            raise UnreachableError(path, why_not(path, "control socket", error)) from None
        try:
            line = _exchange(sock, json.dumps(request).encode() + b"\n")
            answer = json.loads(line)
        except TimeoutError:
            raise UnreachableError(path, f"no answer within {PATIENCE:g} s") from None
        except (OSError, ValueError):
            answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise UnreachableError(
            path, "it does not answer as a control socket does; expected that of a running suite"
        )
    return answer


def _exchange(sock: socket.socket, line: bytes) -> bytes:
    """Send *line*, and return the line that answers it."""
    with suppress(BrokenPipeError):  # it has closed, and said why, perhaps
        sock.sendall(line)
    answer = bytearray()
    while not answer.endswith(b"\n") and len(answer) < LONGEST_ANSWER:
        more = sock.recv(65536)
        if not more:
            break
        answer += more
    return bytes(answer)


# For people.


def table(answer: Mapping[str, Any]) -> Iterator[str]:
    """What *answer* says is in force, for people: a line for each fault."""
    rows = [
        (str(name), str(found["seed"]), str(fault["id"]), str(fault["fault"]))
        for name, found in answer["endpoints"].items()
        for fault in found["faults"]
    ]
    if rows:
        head = ("endpoint", "seed", "id", "fault")
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
        for name, seed, number, fault in [head, *rows]:
            yield f"{name:<{widths[0]}}  {seed:>{widths[1]}}  {number:>{widths[2]}}  {fault}"
    quiet = [name for name, found in answer["endpoints"].items() if not found["faults"]]
    for name in quiet:
        requested = answer["endpoints"][name]["requested"]
        yield f"{name}: {'what its clients request' if requested else 'no faults'}"
    if not rows and not quiet:
        yield "no faults"
