"""The score for people: the progress while it runs, and the table at its end.

Rules: progress goes to standard error, and only to a terminal; the report is plain lines; a total names
everything that the table has, and everything that is not known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from suite.client.score.score import how, last_line
from suite.client.score.verdicts import WRONG, Outcome, Result, Score, Verdict
from suite.output import Frames, reopened

#: Characters of a client's last line in the table.
WIDTH: Final = 100

BAR: Final = 40


@contextmanager
def progress(client: str, total: int) -> Iterator[Callable[[Result], None]]:
    """A function that shows progress, on a terminal."""
    stream = sys.stderr
    if stream is None or not stream.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  # needed on a terminal only
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (BarColumn(BAR), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    frames = Frames(reopened(stream.fileno()), stream.encoding)
    with Progress(*columns, console=Console(file=frames), transient=True) as bars:
        task = bars.add_task(client, total=total)
        wrong = 0

        def show(result: Result) -> None:
            nonlocal wrong
            wrong += result.verdict in WRONG
            bars.update(task, advance=1, description=f"{client}: {wrong} wrong; {result.exhibit.name}")

        try:
            yield show
        finally:
            frames.last = True


def report(score: Score, *, everything: bool = False) -> list[str]:
    """The score, line by line.

    :param everything: also what is right.
    """
    # What was not tried after an interruption is counted, and not listed: it says nothing of the client.
    rows = [*score.wrong, *(each for each in score.results if each.outcome is Outcome.UNREACHABLE)]
    if everything:
        rows += [each for each in score.results if each.verdict is Verdict.RIGHT]
    lines = [f"{score.client}: {len(score.results)} specimens in {score.seconds:.1f} s"]
    if rows:
        width = max(len(each.exhibit.name) for each in rows)
        lines.append("")
        for each in rows:
            known = " (known)" if each.key in score.known else ""
            word = str(each.verdict if each.verdict is not Verdict.UNKNOWN else each.outcome)
            word = f"right: {each.outcome}" if each.verdict is Verdict.RIGHT else word
            lines.append(f"  {each.exhibit.name:<{width}}  {word}{known}: {_details(each)}")
    lines += ["", total(score)]
    lines += [f"note: left out of the gallery: {name}: {why}" for name, why in score.left_out.items()]
    lines += [
        f"note: {each.exhibit.name} says nothing of this client, which {each.blind}"
        for each in score.results
        if each.blind
    ]
    other = [each.exhibit.name for each in score.results if each.as_expected is False]
    if other:
        lines.append(f"note: refused with another error than expected: {', '.join(other)}")
    lines += [f"note: not {verdict} any more: {name}" for name, verdict in score.mended]
    return lines


def _details(result: Result) -> str:
    """What is wrong with the specimen, or what the client has said of it."""
    defect = f"{result.exhibit.defect.rstrip('.')} ({result.exhibit.clause})"
    if result.ran is None:
        return defect
    match result.verdict:
        case Verdict.WRONGLY_ACCEPTED:
            return defect
        case Verdict.RIGHT if result.outcome is Outcome.ACCEPTED:
            return defect
        case Verdict.HUNG:
            return f"{defect}; {how(result.ran)}"
    line = last_line(result.ran)
    return f"{how(result.ran)}: {line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}"


def total(score: Score) -> str:
    """How many specimens had each verdict, in one line."""
    counts = score.counts
    tried = len(score.results) - counts[Verdict.UNKNOWN]
    parts = [f"{counts[Verdict.RIGHT]} of {tried} right"]
    parts += [f"{counts[verdict]} {verdict}" for verdict in WRONG if counts[verdict]]
    for outcome in (Outcome.UNREACHABLE, Outcome.NOT_TRIED):
        if number := sum(each.outcome is outcome for each in score.results):
            parts.append(f"{number} {outcome}")
    if score.known:
        parts.append(f"{len(score.news)} of the wrong ones new" if score.news else "nothing new")
    if score.interrupted:
        parts.append("interrupted")
    return f"total: {', '.join(parts)}"


def comparison(scores: Sequence[Score]) -> list[str]:
    """A table of several clients, one line for each."""
    width = max(len("client"), *(len(score.client) for score in scores))
    heads = ("right", *map(str, WRONG), "unknown")
    lines = [f"{'client':<{width}}" + "".join(f"  {head:>{len(head)}}" for head in heads)]
    for score in scores:
        counts = score.counts
        cells = (counts[Verdict.RIGHT], *(counts[verdict] for verdict in WRONG), counts[Verdict.UNKNOWN])
        lines.append(
            f"{score.client:<{width}}"
            + "".join(f"  {cell:>{len(head)}}" for head, cell in zip(heads, cells, strict=True))
        )
    return lines
