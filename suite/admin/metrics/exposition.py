"""The text that a scrape gets: Prometheus's format 0.0.4, or OpenMetrics 1.0 for whoever accepts it.

Rules: a long metric is written in turns of `SAMPLES` samples, so that no echo waits for the text about
thousands of endpoints. `prometheus_client` writes everything but these samples: it takes several times as
long as `_lines`, which the tests hold to its lines.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as _openmetrics
from prometheus_client.utils import floatToGoString

from suite.admin.metrics.family import EndpointFamily, Family, Value
from suite.admin.metrics.observed import Snapshot
from suite.admin.metrics.of_endpoints import ENDPOINTS
from suite.admin.metrics.of_suite import SUITE
from suite.server.pauses import Turns

#: Samples that are written in one go: about a millisecond.
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


async def read(snapshot: Snapshot, turns: Turns) -> AsyncIterator[tuple[Family, list[Value]]]:
    """Every metric, in pieces of `SAMPLES` values; one that has no values at all is one empty piece."""
    for family in (*SUITE, *snapshot.more):
        await turns.one_if_due()
        yield family, [*snapshot.values(family)]
    for each in ENDPOINTS:
        values = chain.from_iterable(
            each.values(key, observed) for key, observed in snapshot.endpoints.items()
        )
        async for piece in turns.between(pieces_of(values)):
            yield each, piece


def pieces_of(values: Iterable[Value]) -> Iterator[list[Value]]:
    """*values* in pieces of `SAMPLES`; none are one empty piece."""
    values = iter(values)
    yield [*islice(values, SAMPLES)]
    while piece := [*islice(values, SAMPLES)]:
        yield piece


async def text_of(metrics: AsyncIterable[tuple[Family, list[Value]]], form: Format) -> bytes:
    """The whole text of *metrics*; the pieces of each follow one another."""
    pieces: list[bytes] = []
    last: Family | None = None
    async for family, values in metrics:
        by_us = isinstance(family, EndpointFamily)
        if family is not last:
            whole = family.metric([] if by_us else values)
            pieces.append(form.write(_One(whole)).removesuffix(form.end))
            last = family
        if by_us:
            pieces.append(_lines(family, values))
    return b"".join([*pieces, form.end])


def _lines(family: Family, values: Iterable[Value]) -> bytes:
    """The lines of a counter's or gauge's *values*, the same in both formats."""
    order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
    names = ",".join(f'{family.labels[index]}="%s"' for index in order)
    line = f"{family.name}{{{names}}} %s\n"
    return "".join(
        [
            line % (*[_escaped(labels[index]) for index in order], floatToGoString(value))
            for labels, value in values
            if value is not None
        ]
    ).encode()


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
