"""The text that a scrape gets: Prometheus's format 0.0.4, or OpenMetrics 1.0 for whoever accepts it.

Rules: each line is `prometheus_client`'s own; a long metric is written in turns of `SAMPLES` samples, so that
no echo waits for the text about thousands of endpoints.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as _openmetrics

from suite.admin.metrics.families import ENDPOINTS, SUITE, Family, Value
from suite.admin.metrics.observed import Snapshot
from suite.server.pauses import Turns

#: Samples that are written in one go: about two milliseconds.
SAMPLES: Final = 500

#: The end of a document in OpenMetrics.
_END: Final = b"# EOF\n"


class _One:
    """A registry that has one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class Format(NamedTuple):
    """A format of the text.

    :ivar kind: its media type.
    :ivar write: writes what a registry has.
    :ivar end: what ends a document.
    """

    kind: str
    write: Callable[[_One], bytes]
    end: bytes


TEXT: Final = Format(CONTENT_TYPE_PLAIN_0_0_4, generate_latest, b"")
OPENMETRICS: Final = Format(_openmetrics.CONTENT_TYPE_LATEST, _openmetrics.generate_latest, _END)


def chosen(accept: str) -> Format:
    """The format for a client that accepts *accept*: OpenMetrics if it names that, and does not refuse it."""
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip().replace(" ", "") for part in each.split(";"))
        named = dict(parameter.partition("=")[::2] for parameter in parameters)
        if kind == "application/openmetrics-text" and not _is_zero(named.get("q", "1")):
            version = named.get("version", "1.0.0")
            if version.split(".")[0] in ("0", "1"):
                return OPENMETRICS
    return TEXT


def _is_zero(weight: str) -> bool:
    return not weight.strip("0.")


async def metrics_of(snapshot: Snapshot, turns: Turns) -> AsyncIterator[tuple[Family, Metric]]:
    """Every metric, in pieces of `SAMPLES` values; one that has no values at all is one empty piece."""
    for family in SUITE:
        await turns.one_if_due()
        yield family, family.metric(family.read(snapshot))
    for each in ENDPOINTS:
        values = chain.from_iterable(
            each.values(key, observed) for key, observed in snapshot.endpoints.items()
        )
        async for piece in turns.between(_pieces(values)):
            yield each, each.metric(piece)


def _pieces(values: Iterable[Value]) -> Iterator[list[Value]]:
    values = iter(values)
    piece = [*islice(values, SAMPLES)]
    yield piece
    while piece := [*islice(values, SAMPLES)]:
        yield piece


async def written(snapshot: Snapshot, form: Format, turns: Turns) -> bytes:
    """The whole text of *snapshot*."""
    pieces: list[bytes] = []
    last: Family | None = None
    async for family, metric in metrics_of(snapshot, turns):
        text = form.write(_One(metric)).removesuffix(form.end)
        if family is last:  # its head has been written
            while text.startswith(b"# "):
                text = text.partition(b"\n")[2]
        pieces.append(text)
        last = family
    return b"".join([*pieces, form.end])
