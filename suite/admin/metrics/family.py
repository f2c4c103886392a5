"""What a metric is: its name, its type, its labels and what it means, and its values as a library has them.

Rules: names and units are by Prometheus's conventions (prometheus.io/docs/practices/naming); what a peer
sends is no label, and each label has few values; what is not known has no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import Metric

from suite.admin.lag import Histogram
from suite.admin.metrics.observed import Observed, Snapshot
from suite.server.tally import Key

#: What all names of the suite's own begin with.
PREFIX: Final = "echo_suite_"

#: The labels of what is told of each endpoint.
ENDPOINT: Final = ("endpoint", "transport")

#: The values of a metric: those of its labels, and a number or a histogram.
Value = tuple[tuple[str, ...], "float | Histogram | None"]


@dataclass(frozen=True)
class Family:
    """One metric.

    :ivar name: its name, as PromQL has it, but for the suffixes of a histogram.
    :ivar kind: ``counter``, ``gauge``, ``histogram`` or ``info``.
    :ivar meaning: what it means, in a line.
    :ivar labels: the names of its labels.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """Its name in OpenMetrics, which has no suffix."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """Its unit: ``seconds``, ``bytes``; empty if it has none."""
        last = self.base.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""

    def metric(self, values: Iterable[Value]) -> Metric:
        """The metric with these *values*; None stands for none."""
        metric = Metric(self.base, self.meaning, self.kind, self.unit)
        for labels, value in values:
            named = dict(zip(self.labels, labels, strict=True))
            if isinstance(value, Histogram):
                for bound, count in value.cumulative():
                    le = "+Inf" if bound == float("inf") else str(bound)
                    metric.add_sample(f"{self.base}_bucket", {**named, "le": le}, count)
                metric.add_sample(f"{self.base}_count", named, count)
                metric.add_sample(f"{self.base}_sum", named, value.sum)
            elif value is not None:
                metric.add_sample(self.name, named, float(value))
        return metric


@dataclass(frozen=True)
class SuiteFamily(Family):
    """A metric of the suite as a whole.

    :ivar read: reads its values.
    """

    read: Callable[[Snapshot], Iterable[Value]] = lambda _: ()


@dataclass(frozen=True)
class EndpointFamily(Family):
    """A metric of each endpoint; `labels` begin with `ENDPOINT`.

    :ivar read: reads the values of one endpoint, with those labels only that are its own.
    """

    read: Callable[[Observed], Iterable[Value]] = lambda _: ()

    def values(self, key: Key, observed: Observed) -> Iterator[Value]:
        """The values of one endpoint."""
        for labels, value in self.read(observed):
            yield (*key, *labels), value


def each(counts: Mapping[str, int | None]) -> Iterator[Value]:
    """A value for each word."""
    for word, count in counts.items():
        yield (str(word),), count
