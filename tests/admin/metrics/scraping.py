"""A scrape, read by Prometheus's own Python parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.admin.asking_http import ask
from tests.running import RunningSuite, wait_until


class Scrape:
    """The samples of one scrape.

    :ivar samples: the value of each, by its name and its labels.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = [*text_string_to_metric_families(text)]
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families:
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def _found(self, name: str, labels: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        for (found, pairs), value in self.samples.items():
            if found in (name, f"echo_suite_{name}") and labels.items() <= dict(pairs).items():
                yield dict(pairs), value

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one sample with this name and these labels, at least; None if there is none."""
        values = [value for _, value in self._found(name, labels)]
        assert len(values) <= 1
        return values[0] if values else None

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The values that are not 0, by *label*."""
        return {found[label]: value for found, value in self._found(name, labels) if value}


def scrape(suite: RunningSuite, **headers: str) -> Scrape:
    """What *suite* says at its first admin address."""
    answer = ask(suite.admin[0], "/metrics", headers=headers)
    assert answer.status == 200, answer.text
    return Scrape(answer.text)


def wait_for(suite: RunningSuite, expected: float, name: str, **labels: str) -> Scrape:
    """The first scrape in which this sample has the *expected* value."""
    seen: list[Any] = []

    def is_there() -> bool:
        seen[:] = [scrape(suite)]
        return bool(seen[0].value(name, **labels) == expected)

    wait_until(is_there, f"{name} {labels} was {expected}")
    found: Scrape = seen[0]
    return found
