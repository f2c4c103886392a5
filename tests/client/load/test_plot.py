"""What a plot shows; warnings of matplotlib fail these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite.client.load import plot
from suite.client.load.options import Options
from suite.client.load.results import Result, nothing_sent
from suite.client.load.schedule import Rate
from tests.client.load.simulated import TARGET, SimulatedTarget, Simulation


def measured(latency: float, pace: Rate | None = None) -> Result:
    """The result of a short load."""
    target = SimulatedTarget()
    target.latency = latency
    simulation = Simulation(target, rate=pace, duration=1)
    simulation.run(3)
    return simulation.result


DEAD = nothing_sent(Options(TARGET), [])


def texts_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_percentiles_and_latency_and_rate_over_time() -> None:
    result = measured(0.002, Rate(100, 900))
    figure = plot.make_figure([("ramp", result)])
    percentiles, latency, rate = figure.axes
    (line,) = percentiles.get_lines()
    assert line.get_ydata()[-1] == result.latency.greatest
    p50, p99 = latency.get_lines()
    assert list(p50.get_ydata()) == [row.p50 for row in result.over_time if row.messages]
    assert max(p99.get_ydata()) <= result.latency.greatest
    (line,) = rate.get_lines()
    xs, ys = line.get_data()
    assert 0 < xs[0] < 0.1
    assert ys[-1] > 3 * ys[0]
    assert not any(texts_of(axes) for axes in figure.axes)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_legend_covers_no_curve(count: int) -> None:
    result = measured(0.002)
    names = [f"/a/rather/long/path/to/a/result/number-{number}.json" for number in range(count)]
    figure = plot.make_figure([(name, result) for name in names])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert [text.get_text() for text in legend.get_texts()] == names
    assert figure.bbox.x0 <= box.x0
    assert box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_result_without_data_is_named_as_one(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"dead.{ending}"
    plot.draw([("dead", DEAD)], file)
    assert file.stat().st_size > 1000
    figure = plot.make_figure([("dead", DEAD)])
    assert [texts_of(axes) for axes in figure.axes] == [["no data"]] * 3
    both = plot.make_figure([("_dead", DEAD), ("alive", measured(0.002))])
    assert not any(texts_of(axes) for axes in both.axes)
    (legend,) = both.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_dead (no data)", "alive"]


def test_a_target_that_stops_answering_has_a_gap() -> None:
    """Where nothing was answered there is no latency, and the rate is 0."""
    simulation = Simulation(SimulatedTarget(), rate=Rate(100, 100), duration=2, timeout=0.5)
    simulation.run(1)
    simulation.target.hangs = True
    simulation.run(5)
    figure = plot.make_figure([("x", simulation.result)])
    _, latency, rate = figure.axes
    (p50, _), (line,) = latency.get_lines(), rate.get_lines()
    assert str(p50.get_ydata()[-1]) == "nan"
    assert line.get_ydata()[-1] == 0
