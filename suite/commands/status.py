"""``status``: what a running suite does, for a terminal: once, or refreshed in place.

Rules: in a pipe or a file there are no escapes, no line is cut, and an empty line follows each snapshot; with
``--json`` a snapshot is one line, of the interface's own documents. A terminal is left as it was, however the
command ends. While it watches on a terminal, a suite that does not answer is waited for.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from suite import __version__
from suite.client.admin.interface import Interface, RefusedError
from suite.client.admin.unreachable import UnreachableError
from suite.client.status.detail import connections_table, endpoint_detail, missing
from suite.client.status.overview import MOST_REFUSALS, overview, refusals_table
from suite.client.status.snapshot import (
    PAGE,
    Rates,
    Snapshot,
    clean,
    cleaned,
    connections,
    endpoint_of,
    refusals,
    take,
)
from suite.commands.admin_options import add_admin, add_token, place_of
from suite.commands.console import put
from suite.commands.options import duration
from suite.errors import EXIT_FAILURE, EXIT_OK, SuiteError, UsageError
from suite.signals import end_in

#: Between two snapshots, as of `watch` and `vmstat`.
DEFAULT_INTERVAL: Final = "2s"

#: Seconds that watching on a terminal may take to end once a signal has asked for that.
STUCK_TIME: Final = 2.0

#: Columns of what is no terminal: enough for every line.
UNLIMITED: Final = 1000

#: Connections that the detail of an endpoint has.
MOST_CONNECTIONS: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``status``."""
    add_admin(parser)
    add_token(parser)
    parser.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="default: the whole suite")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--connections", action="store_true", help="list who is connected, to ENDPOINT or to all"
    )
    what.add_argument("--refused", action="store_true", help="list who was refused lately, and why")
    parser.add_argument(
        "--watch",
        metavar="TIME",
        nargs="?",
        const=DEFAULT_INTERVAL,
        help=f"show it again and again until Ctrl-C, this often; default: {DEFAULT_INTERVAL}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document a line instead")


def run(options: argparse.Namespace) -> int:
    """Show what a suite does; return the exit code.

    :raises SuiteError: the suite cannot be asked, or has no such endpoint.
    """
    interval = None if options.watch is None else _interval(options)
    with Interface(place_of(options), options.token_file) as interface:
        view = View(interface, options)
        if interval is None:
            _print(view)
        elif options.json or not _is_terminal() or Console().is_dumb_terminal:
            _follow(view, interval)
        else:
            _watch(view, interval)
    return EXIT_OK


def _interval(options: argparse.Namespace) -> float:
    try:
        return duration("--watch", options.watch)
    except UsageError:
        if options.endpoint is None and not options.watch[:1].isdigit():  # `--watch tcp`
            raise UsageError(
                f"--watch {options.watch!r} is not a duration; expected one such as 2s, or the ENDPOINT first"
            ) from None
        raise


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


class View:
    """What is shown, again and again.

    :param options: which of it.
    """

    def __init__(self, interface: Interface, options: argparse.Namespace) -> None:
        self._interface = interface
        self._endpoint: str | None = options.endpoint
        self._json: bool = options.json
        self._get: Callable[[bool], tuple[Any, Callable[[int, int | None], RenderableType]]]
        if options.connections:
            self._get = self._connections
        elif options.refused:
            self._get = self._refusals
        elif options.endpoint is not None:
            self._get = self._detail
        else:
            self._get = self._overview
        self._before: Snapshot | None = None

    def take(self, *, cut: bool = False) -> tuple[str, Callable[[int, int | None], RenderableType]]:
        """A snapshot now: as JSON, if that is wanted, and what shows it, given columns and lines.

        :param cut: whether only what a screen has room for is needed.
        :raises SuiteError: the suite cannot be asked, or has no such endpoint.
        """
        try:
            with self._understanding():
                document, show = self._get(cut)
                text = json.dumps(document) if self._json else ""
        finally:
            self._interface.close()  # it may be long until the next one

        def understood(width: int, height: int | None) -> RenderableType:
            with self._understanding():
                return show(width, height)

        return text, understood

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """Say so in one line if documents are not as expected: those of another version, perhaps."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise UnreachableError(
                str(self._interface.address),
                f"its answer cannot be understood ({error!r}); expected a suite of version {__version__}",
            ) from None

    def _overview(self, cut: bool) -> tuple[Any, Callable[[int, int | None], RenderableType]]:
        found = take(self._interface, PAGE if cut else None, MOST_REFUSALS)
        now = cleaned(found)
        rates = Rates(self._before, now)
        self._before = now
        document = {"status": found.status, "endpoints": found.endpoints}
        return document, lambda width, height: overview(now, rates, width, height)

    def _detail(self, _cut: bool) -> tuple[Any, Callable[[int, int | None], RenderableType]]:
        name = self._endpoint or ""
        endpoint = endpoint_of(self._interface, name)
        most = None if self._json else MOST_CONNECTIONS
        found, late = ([], []) if endpoint["transport"] == "UDP" else connections(self._interface, name, most)
        return _listed(found, late, endpoint=endpoint), lambda *_: endpoint_detail(
            clean(endpoint), clean(found), late
        )

    def _connections(self, cut: bool) -> tuple[Any, Callable[[int, int | None], RenderableType]]:
        if self._endpoint is not None:
            endpoint_of(self._interface, self._endpoint)  # says so if there is none
        found, late = connections(self._interface, self._endpoint, PAGE if cut else None)
        parts: list[RenderableType] = [connections_table(clean(found))] if found else []
        if late:
            parts.append(missing(late))
        empty = Text("nobody is connected")
        return _listed(found, late), lambda *_: Group(*parts) if parts else empty

    def _refusals(self, _cut: bool) -> tuple[Any, Callable[[int, int | None], RenderableType]]:
        if self._endpoint is not None:
            endpoint_of(self._interface, self._endpoint)
        found = refusals(self._interface, self._endpoint)
        empty = Text("nobody was refused lately")
        return {"events": found}, lambda *_: refusals_table(clean(found)) if found else empty


def _listed(found: list[Any], late: list[int], **others: Any) -> dict[str, Any]:
    """The document of a list of connections, with the workers that it lacks, if there are any."""
    return {**others, "connections": found, **({"unanswered": late} if late else {})}


# Once, and in a pipe.


def _print(view: View) -> bool:
    """Show one snapshot; return False if nobody reads it any more."""
    text, show = view.take()
    if text:
        return put(f"{text}\n")
    if _is_terminal():
        console = Console()
        return put(_rendered(show(console.width, None), console.width, color=True))
    return put(_rendered(show(UNLIMITED, None), UNLIMITED))


def _rendered(what: RenderableType, width: int, *, color: bool = False) -> str:
    """*what* as text, without spaces at the ends of lines."""
    file = io.StringIO()
    # Whether there are colors at all, as the environment says of the real terminal.
    system: Any = Console().color_system if color else None
    console = Console(
        file=file,
        width=width,
        color_system=system,
        force_terminal=color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(what)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _follow(view: View, interval: float) -> None:
    """Print a snapshot every *interval* seconds, until Ctrl-C, or until nobody reads them.

    :raises SuiteError: the suite does not answer any more.
    """
    due = time.monotonic()
    try:
        while True:
            text, show = view.take()
            if not put(f"{text}\n" if text else f"{_rendered(show(UNLIMITED, None), UNLIMITED)}\n"):
                return
            due = _wait(due, interval)
    except KeyboardInterrupt:
        return


def _wait(due: float, interval: float) -> float:
    """Wait until the next snapshot is due; return when that was. What is late is left out."""
    due = max(due + interval, time.monotonic())
    time.sleep(max(0.0, due - time.monotonic()))
    return due


# On a terminal.


def _watch(view: View, interval: float) -> None:
    """Refresh a terminal in place every *interval* seconds until Ctrl-C; the last snapshot stays on it."""
    console = Console(highlight=False, markup=False, emoji=False)
    last: Callable[[int, int | None], RenderableType] | None = None
    due = time.monotonic()
    try:
        with _restored(), Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
            while True:
                problem = ""
                try:
                    _, last = view.take(cut=True)
                except (RefusedError, UnreachableError) as error:
                    if last is None or error.exit_code != EXIT_FAILURE:
                        raise
                    problem = str(error)
                live.update(_screen(last, console, interval, problem), refresh=True)
                due = _wait(due, interval)
    except KeyboardInterrupt:
        pass
    except OSError as error:  # the terminal has gone
        raise SuiteError(f"standard output: {error.strerror}") from None
    if last is not None:
        put(_rendered(last(console.width, console.height), console.width, color=True))


def _screen(
    show: Callable[[int, int | None], RenderableType], console: Console, interval: float, problem: str
) -> RenderableType:
    now = time.strftime("%H:%M:%S")
    title = Text(f"{now}, every {interval:g} s; Ctrl-C ends", "dim", no_wrap=True, overflow="ellipsis")
    if problem:
        title = Text(
            f"{now}: {problem}; below is the last answer", "bold red", no_wrap=True, overflow="ellipsis"
        )
    return Group(title, show(console.width, console.height - 1))


@contextmanager
def _restored() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that the terminal is restored, but with its exit code.

    Both also end it while nobody reads the terminal, as when the connection that it is behind hangs.
    """

    def stop(number: int, _frame: object) -> NoReturn:
        end_in(STUCK_TIME, 128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
