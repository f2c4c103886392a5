"""Runs a client against every specimen of a gallery, several at a time.

Rules: there is no score without two proofs that the client's exit means something: it succeeds with ``good``,
and it does not succeed where nobody listens. A specimen that does not accept our own connection is
unreachable, and not refused. Whatever ends a score ends all processes that it has started.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from suite.client.score.clients import PROGRAMS, Client, filled
from suite.client.score.manifest import Exhibit, Manifest
from suite.client.score.offer import offer_of, why_blind
from suite.client.score.running import Ran, run
from suite.client.score.verdicts import CRASHES, Outcome, Result, Score
from suite.client_hello import ClientHello
from suite.errors import SuiteError, UsageError
from suite.text import one_line

#: Seconds for a preparation, such as compiling the client.
PREPARATION: Final = 300.0

#: Seconds for our own connection to a specimen.
REACH: Final = 5.0

#: What a shell exits with after a signal has ended a command: this and the signal's number.
_SHELL: Final = 128


class NoScoreError(SuiteError):
    """A client that cannot be scored.

    :ivar client: its name.
    :ivar problem: why not.
    """

    def __init__(self, client: str, problem: str) -> None:
        super().__init__(client, problem)
        self.client = client
        self.problem = problem

    def __str__(self) -> str:
        return one_line(f"no score for {self.client}: {self.problem}")


class Scoring:
    """One client against one gallery.

    :param manifest: the gallery.
    :param limit: seconds that each run may take.
    :param jobs: how many run at a time.
    :param directory: a temporary one, for the CA's certificate and the client's own files.
    """

    def __init__(
        self,
        manifest: Manifest,
        client: Client,
        *,
        limit: float,
        jobs: int,
        directory: Path,
    ) -> None:
        self._manifest = manifest
        self._client = client
        self._limit = limit * client.slow
        self._jobs = jobs
        self._directory = directory
        self._ca = directory / "ca.pem"
        self._ca.write_text(manifest.ca)
        self._offer: ClientHello | None = None

    def check(self) -> None:
        """Check that the client can be run at all.

        :raises UsageError: it cannot.
        """
        missing = self._client.missing
        if missing is not None:
            raise UsageError(f"{self._client.name} cannot be scored: {missing} is not installed")
        if self._client.prepare:
            return
        program = self._command(self._client.command, {})[0]
        if shutil.which(program) is None:
            raise UsageError(
                f"no command {program!r}; expected a program, with {{host}} {{port}} {{ca}} after it"
            )

    async def score(self, show: Callable[[Result], object]) -> Score:
        """Run all of it; when it is cancelled, what has been done until then.

        :param show: called with each result.
        :raises NoScoreError: the client cannot be scored.
        """
        began = time.monotonic()
        results: dict[str, Result] = {}
        await self._prepare()
        await self._prove()
        self._offer = await offer_of(self._connect_to)
        interrupted = False
        try:
            await self._run_all(results, show)
        except asyncio.CancelledError:
            interrupted = True
        exhibits = self._manifest.exhibits
        return Score(
            self._client.name,
            [results.get(each.name) or Result(each, Outcome.NOT_TRIED) for each in exhibits],
            self._manifest.left_out,
            time.monotonic() - began,
            interrupted,
        )

    async def _run_all(self, results: dict[str, Result], show: Callable[[Result], object]) -> None:
        waiting = iter(self._manifest.exhibits)

        async def work() -> None:
            for exhibit in waiting:  # shared: each takes the next
                results[exhibit.name] = await self._try(exhibit)
                show(results[exhibit.name])

        async with asyncio.TaskGroup() as group:
            for _ in range(self._jobs):
                group.create_task(work())

    async def _prepare(self) -> None:
        for command in self._client.prepare:
            ran = await self._run(command, {}, PREPARATION)
            if ran.exit_code != 0:
                raise NoScoreError(self._client.name, f"{command[0]} failed: {last_line(ran)}")

    async def _prove(self) -> None:
        """:raises NoScoreError: what the client exits with says nothing."""
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it, and not listening
            ran = await self._connect_to(nobody.getsockname()[1])
        if not ran.hung and self._client.accepted(ran):
            raise NoScoreError(
                self._client.name, "it succeeds where nobody listens, so its exit code says nothing"
            )
        try:
            good = self._manifest.good
        except LookupError:
            raise NoScoreError(
                self._client.name, "the gallery has no specimen `good` to begin with"
            ) from None
        result = await self._try(good)
        if result.outcome is Outcome.UNREACHABLE:
            raise NoScoreError(
                self._client.name, f"the gallery does not answer at {self._manifest.target}:{good.port}"
            )
        if result.outcome is not Outcome.ACCEPTED:
            said = "" if result.ran is None else f" ({how(result.ran)}): {last_line(result.ran)}"
            raise NoScoreError(self._client.name, f"it does not accept even `good`: {result.outcome}{said}")

    async def _try(self, exhibit: Exhibit) -> Result:
        if not await self._reachable(exhibit):
            return Result(exhibit, Outcome.UNREACHABLE)
        ran = await self._run(
            self._client.command,
            {"name": exhibit.name, "port": str(exhibit.port), "host": self._manifest.target},
        )
        outcome = self._outcome(ran)
        error = exhibit.errors.get(self._client.stack or "")
        expected = None
        if outcome is Outcome.REFUSED and error is not None:
            expected = names_error(ran.text, error)
        return Result(exhibit, outcome, ran, expected, why_blind(exhibit.name, self._offer))

    async def _connect_to(self, port: int) -> Ran:
        """Run the client against *port* of this machine."""
        values = {"name": "nobody", "port": str(port), "host": "localhost"}
        return await self._run(self._client.command, values)

    def _outcome(self, ran: Ran) -> Outcome:
        if ran.hung:
            return Outcome.HUNG
        code = ran.exit_code
        if code is None or (code > _SHELL and code - _SHELL in CRASHES):
            return Outcome.CRASHED
        return Outcome.ACCEPTED if self._client.accepted(ran) else Outcome.REFUSED

    async def _reachable(self, exhibit: Exhibit) -> bool:
        try:
            async with asyncio.timeout(REACH):
                _, writer = await asyncio.open_connection(self._manifest.target, exhibit.port)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True

    def _command(self, command: Sequence[str], values: Mapping[str, str]) -> list[str]:
        ours = {"ca": str(self._ca), "directory": str(self._directory), "programs": PROGRAMS}
        return [filled(word, {**values, **ours}) for word in command]

    async def _run(
        self, command: Sequence[str], values: Mapping[str, str], limit: float | None = None
    ) -> Ran:
        changes = self._client.environment
        environment = None
        if changes:
            environment = {
                **os.environ,
                **dict(zip(changes, self._command([*changes.values()], {}), strict=True)),
            }
        try:
            return await run(
                self._command(command, values),
                self._limit if limit is None else limit,
                directory=Path.cwd(),
                environment=environment,
                exchange=self._client.exchange,
            )
        except OSError as error:
            raise NoScoreError(self._client.name, f"{command[0]}: {error.strerror or error}") from None


def names_error(text: str, error: str) -> bool:
    """Whether *text*, which a client has printed, names *error*, whatever the case and what is around it."""
    wanted = error.casefold().rstrip(".")
    said = text.casefold()
    # Stacks write a class before the message, which clients leave out.
    return wanted in said or wanted.rpartition(": ")[2] in said


def how(ran: Ran) -> str:
    """How *ran* ended, for people."""
    if ran.hung:
        return f"ended after {ran.seconds:.1f} s"
    return f"exit code {ran.exit_code}" if ran.signal is None else f"signal {ran.signal}"


def last_line(ran: Ran) -> str:
    """The last line that *ran* has printed on standard error, or else on standard output."""
    for stream in (ran.errors, ran.output):
        lines = [line.strip() for line in stream.decode(errors="replace").splitlines() if line.strip()]
        if lines:
            return one_line(lines[-1])
    return "it has printed nothing"


def run_scoring(scoring: Scoring, show: Callable[[Result], object]) -> Score:
    """Run *scoring* to its end, or to the first Ctrl-C or SIGTERM.

    :raises KeyboardInterrupt: it was interrupted before there was anything to score.
    :raises NoScoreError: the client cannot be scored.
    """
    try:
        return asyncio.run(_interruptible(scoring, show))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except ExceptionGroup as group:
        raise _first(group) from None


async def _interruptible(scoring: Scoring, show: Callable[[Result], object]) -> Score:

    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, task.cancel)
    return await scoring.score(show)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The first of the errors in *group*."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
