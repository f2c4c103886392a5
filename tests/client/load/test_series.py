"""Figures over time, and the log that HdrHistogram's own reader reads."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from suite.client.histogram import HIGHEST, Histogram
from suite.client.load.schedule import NANO, Rate
from suite.client.load.series import HistogramLog, Intervals
from suite.errors import UsageError
from tests.client.load.simulated import SimulatedTarget, Simulation


def test_an_interval_is_as_long_as_it_was() -> None:
    """Looked at late, the next one ends where it would have: at a whole multiple."""
    ended: list[tuple[float, float, int]] = []
    intervals = Intervals(0, 1, lambda start, seconds, latency: ended.append((start, seconds, latency.total)))
    for now in (0.5, 0.98, 1.01, 1.5, 3.7, 4.0, 4.2):
        intervals.current.record([1000])
        intervals.look(int(now * NANO))
    intervals.look(int(4.2 * NANO), last=True)
    intervals.look(int(4.2 * NANO), last=True)
    assert ended == [(0.0, 1.01, 3), (1.01, 2.69, 2), (3.7, 0.3, 1), (4.0, pytest.approx(0.2), 1)]


def test_a_log_is_read_by_others_and_adds_up(tmp_path: Path) -> None:
    file = tmp_path / "load.hlog"
    log = HistogramLog(file)
    target = SimulatedTarget()
    simulation = Simulation(target, log, rate=Rate(200, 200), duration=5, warmup=1.0)
    simulation.run(3)
    target.latency = 0.04
    simulation.run(10)
    log.close()
    result = simulation.result
    assert log.problem is None
    whole = HdrHistogram(1, HIGHEST, 3)
    reader = HistogramLogReader(str(file), whole)
    seconds = []
    while (found := reader.get_next_interval_histogram()) is not None:
        seconds.append((found.get_start_time_stamp(), found.get_end_time_stamp(), found.get_total_count()))
        whole.add(found)
    reader.close()
    assert len(seconds) in (5, 6)
    assert all(end - start == pytest.approx(1000, abs=60) for start, end, _ in seconds[:5])
    assert [count for _, _, count in seconds[:5]] == [pytest.approx(200, abs=15)] * 5
    assert whole.get_total_count() == result.messages == 1000
    for percent in (50, 90, 99, 100):
        assert whole.get_value_at_percentile(percent) == result.latency.percentile(percent)
    text = file.read_text()
    assert text.splitlines()[1] == "#[Histogram log format version 1.3]"
    started = float(text.split("#[StartTime: ")[1].split()[0])
    assert result.started is not None
    assert started == pytest.approx(datetime.fromisoformat(result.started).timestamp(), abs=0.002)


def test_a_log_on_a_full_disk_stops_nothing_and_is_reported(tmp_path: Path) -> None:
    log = HistogramLog(tmp_path / "x.hlog")
    log._output.close()
    log._output = open("/dev/full", "w")  # noqa: SIM115  # a file that exists and cannot be written
    log.begin(0)
    log.add(0, 1, Histogram())
    log.close()
    assert str(log.problem).endswith("x.hlog: No space left on device")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere/x.hlog", "nowhere/x.hlog: No such file or directory"),
        (".", "not a regular file; expected the name of one, or a new one"),
    ],
)
def test_a_log_that_cannot_be_opened(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        HistogramLog(tmp_path / name)
    assert str(caught.value).startswith("--hlog ")
    assert str(caught.value).endswith(says)
