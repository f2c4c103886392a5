"""``gallery score``: run a client against every specimen of the gallery, and say what it got wrong."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from suite.client.score.clients import CLIENTS, Client
from suite.client.score.document import Baseline, read_baseline, to_json
from suite.client.score.junit import to_junit
from suite.client.score.manifest import Manifest, read_manifest
from suite.client.score.own import own_gallery
from suite.client.score.report import comparison, progress, report
from suite.client.score.score import Scoring, run_scoring
from suite.client.score.verdicts import Score
from suite.commands.console import put, say
from suite.commands.options import duration, file_path, number
from suite.cores import cores
from suite.errors import EXIT_FAILURE, EXIT_OK, SuiteError, UsageError
from suite.text import near, shown, suggest

#: The TLS stacks whose errors a gallery knows.
STACKS: Final = ("chromium", "gnutls", "go", "java", "openssl", "python")

_EXPECTED: Final = f"; expected a command with {{host}} {{port}} {{ca}}, or one of {', '.join(CLIENTS)}"

#: The most runs at a time.
MOST_JOBS: Final = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gallery score``."""
    parser.usage = "python -m suite gallery score [options] -- COMMAND {host} {port} {ca}"
    parser.add_argument(
        "words",
        metavar="COMMAND",
        nargs="*",
        help="the client: a command in which {host}, {port} and {ca} are replaced, and which exits with 0 if"
        f" it accepts the server; or some of {', '.join(CLIENTS)}",
    )
    parser.add_argument(
        "--gallery",
        metavar="URL",
        help="a running gallery, http://HOST:PORT, or the file of its gallery.json; default: one of its own",
    )
    parser.add_argument("--limit", metavar="TIME", default="10s", help="time for each specimen; default: 10s")
    parser.add_argument("--jobs", metavar="N", help="specimens at a time; default: two for each CPU")
    parser.add_argument("--stack", metavar="NAME", help=f"the client's TLS stack: {', '.join(STACKS)}")
    parser.add_argument("--all", action="store_true", help="also list what is right")
    parser.add_argument("--list", action="store_true", help="list the clients that are known by name")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument("--junit", metavar="FILE", type=file_path, help="also write JUnit's XML to FILE")
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        type=file_path,
        help="fail only on what is not wrong in FILE, which --json has written",
    )


def run(options: argparse.Namespace) -> int:
    """Score the clients; return the exit code: 0 if nothing is wrong, or nothing new.

    :raises SuiteError: there is no score.
    """
    if options.list:
        width = max(map(len, CLIENTS))
        say(*(f"{name:<{width}}  {_availability(client)}" for name, client in CLIENTS.items()))
        return EXIT_OK
    if not options.words:
        cast(argparse.ArgumentParser, options.parser).error(
            f"no client; expected a command with {{host}} {{port}} {{ca}}, or one of {', '.join(CLIENTS)}"
        )
    clients = parse_clients(options.words, options.stack)
    limit = duration("--limit", options.limit)
    jobs = 2 * cores() if options.jobs is None else number("--jobs", options.jobs, MOST_JOBS, least=1)
    known: Baseline = {} if options.baseline is None else read_baseline(options.baseline)
    if options.junit is not None and not options.junit.absolute().parent.is_dir():
        raise UsageError(f"--junit {shown(options.junit)}: there is no such directory")
    scores: list[Score] = []
    with tempfile.TemporaryDirectory(prefix="score-", ignore_cleanup_errors=True) as directory:
        for client in clients:  # before a gallery is started
            _scoring(Manifest("", "", (), {}), client, Path(directory), limit, jobs).check()
        gallery = own_gallery() if options.gallery is None else nullcontext(options.gallery)
        with gallery as place:
            manifest = read_manifest(place)
            for nth, client in enumerate(clients):
                own = Path(directory, str(nth))
                own.mkdir()
                score = _score(manifest, client, own, limit, jobs)
                scores.append(replace(score, known=known.get(client.name, frozenset())))
                if not options.json:
                    say(*report(scores[-1], everything=options.all), *[""] * (nth + 1 < len(clients)))
                if score.interrupted:
                    break
    if options.json:
        put(f"{to_json(scores)}\n")
    elif len(scores) > 1:
        say("", *comparison(scores))
    if options.junit is not None:
        _write(options.junit, to_junit(scores))
    return EXIT_OK if all(score.ok for score in scores) and len(scores) == len(clients) else EXIT_FAILURE


def parse_clients(words: Sequence[str], stack: str | None) -> list[Client]:
    """The clients that the *words* of the command line are: names, or the words of one command.

    :raises UsageError: they are neither.
    """
    if stack is not None and stack not in STACKS:
        raise UsageError(f"--stack {stack!r} is not known{suggest(stack, STACKS)}")
    if all(word in CLIENTS for word in words):
        return [CLIENTS[word] for word in dict.fromkeys(words)]
    if not any("{port}" in word for word in words):
        if len(words) == 1:
            raise UsageError(
                f"{words[0]!r} is not a client known by name{near(words[0], CLIENTS) or _EXPECTED}"
            )
        raise UsageError(
            f"no {{port}} in {' '.join(words)!r}; expected a command with {{host}} {{port}} {{ca}}"
        )
    return [Client(shlex.join(words), tuple(words), stack)]


def _availability(client: Client) -> str:
    missing = client.missing
    return "installed" if missing is None else f"{missing} is not installed"


def _scoring(manifest: Manifest, client: Client, directory: Path, limit: float, jobs: int) -> Scoring:
    return Scoring(manifest, client, limit=limit, jobs=jobs, directory=directory)


def _score(manifest: Manifest, client: Client, directory: Path, limit: float, jobs: int) -> Score:
    with progress(client.name, len(manifest.exhibits)) as show:
        return run_scoring(_scoring(manifest, client, directory, limit, jobs), show)


def _write(path: Path, data: bytes) -> None:
    """Write *data* to the file at *path*.

    :raises SuiteError: it cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SuiteError(f"{shown(path)}: {error.strerror or error}") from None
