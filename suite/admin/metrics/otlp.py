"""The same metrics for an OpenTelemetry collector, by its protocol: OTLP over HTTP (``echo-suite[otel]``).

Rules: what is sent is what ``/metrics`` says at the time, under the same names without ``_total``; it is read
in the reactor's thread, in turns, and encoded and sent in another; one sending at a time. A collector that
cannot be reached is logged once, and so is its return; nothing is kept for it, because counters go on.
"""

from __future__ import annotations

import logging
import netrc  # noqa: F401  # the library does so when it first sends
import time
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from suite import __version__
from suite.admin.lag import BUCKETS
from suite.admin.metrics.exposition import read
from suite.admin.metrics.family import Family
from suite.admin.metrics.observed import CountedTurns
from suite.admin.route import Site
from suite.server.threads import defer_to_daemon

log = Logger()

#: Seconds between two sendings.
INTERVAL: Final = 15.0

#: Seconds until the first: most suites have opened everything by then.
FIRST: Final = 1.0

#: Seconds that one may take, attempts after errors included.
TIMEOUT: Final = 10.0

#: The path of metrics at a collector (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Request").
PATH: Final = "/v1/metrics"

#: Units, as OpenTelemetry has them (UCUM).
_UNITS: Final = {"bytes": "By", "seconds": "s"}

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


def load(url: str) -> None:
    """Import what the library only imports for a collector, such as the one at *url*.

    Whom the suite becomes later may not read it.

    :raises ImportError: something of it is missing.
    """
    _client(url).shutdown()
    _resource()


def _client(url: str) -> OTLPMetricExporter:
    return OTLPMetricExporter(url.rstrip("/") + PATH, timeout=TIMEOUT)


def _resource() -> Resource:
    return Resource.create({"service.name": "echo-suite", "service.version": __version__})


class Exporter:
    """Sends the metrics of *site* to the collector at *url*, from `start` to `stop`."""

    def __init__(self, site: Site, url: str) -> None:
        self.url = url
        self._site = site
        self._clock: Any = site.suite.reactor
        self._next: IDelayedCall | None = None
        self._sending: Deferred[None] | None = None
        self._reachable = True
        # What the library logs, with tracebacks, would go to standard error; its result says the same.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._resource: Resource | None = None
        self._exporter: OTLPMetricExporter | None = None

    def start(self) -> None:
        """Send soon, and every `INTERVAL` seconds from then on."""
        self._next = self._clock.callLater(FIRST, self._begin)

    def _begin(self) -> None:
        self._next = None
        self._sending = Deferred.fromCoroutine(self._send())
        self._sending.addErrback(self._failed).addCallback(self._sent)

    def stop(self) -> None:
        """Send no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()

    @staticmethod
    def _failed(why: Failure) -> None:
        if why.check(CancelledError) is None:
            log.failure("metrics were not sent", why)

    def _sent(self, _: object) -> None:
        if self._sending is not None:
            self._sending = None
            self._next = self._clock.callLater(INTERVAL, self._begin)

    async def _send(self) -> None:
        reached = await defer_to_daemon(self._clock, self._export, await self._read())
        if reached != self._reachable:
            self._reachable = reached
            if reached:
                log.info("metrics are sent to {url} again", url=self.url)
            else:
                log.warn("metrics cannot be sent to {url}; they will be tried again", url=self.url)

    def _export(self, metrics: list[Metric]) -> bool:
        """Send *metrics*, in a thread of its own; return whether they have arrived."""
        if self._exporter is None or self._resource is None:  # they look around in the system
            self._exporter, self._resource = _client(self.url), _resource()
        scope = ScopeMetrics(InstrumentationScope("echo-suite", __version__), metrics, "")
        data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        return self._exporter.export(data) is MetricExportResult.SUCCESS

    async def _read(self) -> list[Metric]:
        site, turns = self._site, CountedTurns(self._clock)
        began = self._clock.seconds()
        points: dict[Family, list[Any]] = {}
        await site.observer.lock.acquire()
        try:
            snapshot = await site.observer.observe(turns)
            async for family, values in read(snapshot, turns):
                metric = family.metric(values)
                points.setdefault(family, []).extend(_points(metric, site.suite.started_at))
        finally:
            site.observer.lock.release()
            site.factory.budget.charge(turns.worked or self._clock.seconds() - began)
        return [_metric(family, found) for family, found in points.items() if found]


def _metric(family: Family, points: list[Any]) -> Metric:
    """The *points* of *family*, as OpenTelemetry has them."""
    data: Sum | Gauge | Histogram = Gauge(points)
    if family.kind == "counter":
        data = Sum(points, _CUMULATIVE, is_monotonic=True)
    elif family.kind == "histogram":
        data = Histogram(points, _CUMULATIVE)
    # An instant in seconds is no duration, but has the same unit.
    return Metric(family.name.removesuffix("_total"), family.meaning, _UNITS.get(family.unit, "1"), data)


def _points(metric: Any, started: float) -> Iterable[NumberDataPoint | HistogramDataPoint]:
    """The values of *metric*, one of `prometheus_client`."""
    since, now = int(started * 1e9), time.time_ns()
    if metric.type != "histogram":
        for sample in metric.samples:
            yield NumberDataPoint(sample.labels, since, now, sample.value)
        return
    totals = [sample.value for sample in metric.samples if sample.name.endswith("_bucket")]
    counts = [int(total - before) for before, total in zip([0, *totals], totals, strict=False)]
    whole = {sample.name.rpartition("_")[2]: sample.value for sample in metric.samples}
    unknown: Any = None  # the least and the most
    yield HistogramDataPoint(
        {}, since, now, int(whole["count"]), whole["sum"], counts, BUCKETS, unknown, unknown
    )
