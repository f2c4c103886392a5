"""Plots: the percentile curves, and rate and latency over time.

Rules: matplotlib is needed only for a plot, and its absence is reported before anything is measured; text in
an SVG stays text; the legend stands beside the curves, never on them; a result without data is named as one.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from suite.client.histogram import Histogram
from suite.client.load.results import Result
from suite.client.load.units import shown_time
from suite.errors import SuiteError, UsageError
from suite.text import one_line, shown

KINDS: Final = (".svg", ".png")

#: Labels on the percentile axis: each step to the right leaves a tenth of the messages.
TICKS: Final = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)


#: Inches for a line of the legend, which stands above the axes.
LEGEND_LINE: Final = 0.22


class PlotError(SuiteError):
    """A plot that could not be written; the only argument names the file and the reason."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def check(file: Path) -> None:
    """Check that a plot can be written to *file*.

    :raises UsageError: its name has no known ending, its directory does not exist, or matplotlib is missing.
    """
    if file.suffix.lower() not in KINDS:
        raise UsageError(f"--plot {shown(file)}: expected a name ending in {' or '.join(KINDS)}")
    if not file.parent.is_dir():
        raise UsageError(f"--plot {shown(file)}: no such directory: {shown(file.parent)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"--plot {shown(file)}: needs matplotlib: pip install 'echo-suite[plot]'")


def curve(histogram: Histogram) -> tuple[list[float], list[float]]:
    """The percentile curve as *x* and *y* values, *y* in µs.

    It has a step for each bucket, at *x* = 1 / (1 - the share of messages below the bucket), up to the last
    message.
    """
    xs, ys = [1.0], [float(histogram.least)]
    seen = 0
    for _, value, count in histogram.rows():
        xs.append(histogram.total / (histogram.total - seen))
        ys.append(float(value))
        seen += count
    xs.append(float(max(histogram.total, 1)))
    ys.append(float(histogram.greatest))
    return xs, ys


def draw(results: Sequence[tuple[str, Result]], file: Path) -> None:
    """Draw the named *results* in one plot and write it to *file*.

    :raises PlotError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415  # takes half a second, and may not be installed

    with mpl.rc_context({"svg.fonttype": "none"}):
        figure = make_figure(results)
        try:
            figure.savefig(file)
        except OSError as error:
            raise PlotError(f"--plot {shown(file)}: {error.strerror or error}") from None


def make_figure(results: Sequence[tuple[str, Result]]) -> Any:
    """The plot, a `matplotlib.figure.Figure` with three axes: percentiles, latency and rate over time."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure: Any = Figure(figsize=(9, 10 + LEGEND_LINE * len(results)), layout="constrained")
    percentiles, latency, rate = figure.subplots(3, height_ratios=(5, 3, 2))
    _draw_percentiles(percentiles, results)
    _draw_latency(latency, results)
    _draw_rate(rate, results)
    figure.legend(handles=percentiles.get_lines(), loc="outside upper left")
    return figure


def _draw_percentiles(axes: Any, results: Sequence[tuple[str, Result]]) -> None:
    last = 10.0
    for number, (name, result) in enumerate(results):
        xs, ys = curve(result.latency) if result.latency.total else ([], [])
        label = name if xs else f"{name} (no data)"
        # Labels that begin with an underscore are left out of legends.
        label = f" {label}" if label.startswith("_") else label
        axes.plot(xs, ys, drawstyle="steps-post", color=f"C{number}", label=label)
        last = max([last, *xs[-1:]])
    axes.set_xscale("log")
    axes.set_xlim(1, last * 1.05)
    places = [10.0 ** (n if n else 0) for n in range(len(TICKS)) if 10.0**n <= last * 1.05]
    axes.set_xticks(places, [f"{TICKS[round(math.log10(place))]:g} %" for place in places])
    axes.minorticks_off()
    axes.set_xlabel("percentile")
    _finish_latency(axes, any(result.latency.total for _, result in results))


def _draw_latency(axes: Any, results: Sequence[tuple[str, Result]]) -> None:
    for number, (_, result) in enumerate(results):
        rows = result.over_time
        for style, values in (("-", [row.p50 for row in rows]), ("--", [row.p99 for row in rows])):
            ys = [math.nan if value is None else value for value in values]
            axes.plot(
                [row.start + row.seconds / 2 for row in rows], ys, style, color=f"C{number}", marker="."
            )
    axes.set_xlabel("seconds (line: 50 %, dashes: 99 %)")
    _finish_latency(axes, any(row.messages for _, result in results for row in result.over_time))


def _finish_latency(axes: Any, measured: bool) -> None:
    """A logarithmic axis for latency; "no data" where nothing was *measured*, which has no logarithm."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    axes.set_ylabel("latency")
    axes.grid(visible=True, alpha=0.3)
    if not measured:
        _say_no_data(axes)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: shown_time(value))


def _draw_rate(axes: Any, results: Sequence[tuple[str, Result]]) -> None:
    for number, (_, result) in enumerate(results):
        # After the end of sending, the rate is not the target's.
        rows = [row for row in result.over_time if row.start + 0.001 < (result.seconds or 0)]
        xs = [row.start + row.seconds / 2 for row in rows]
        axes.plot(xs, [row.messages / row.seconds for row in rows], color=f"C{number}", marker=".")
    axes.set_xlabel("seconds")
    axes.set_ylabel("messages/s")
    axes.grid(visible=True, alpha=0.3)
    if any(result.over_time for _, result in results):
        axes.set_ylim(bottom=0)
    else:
        _say_no_data(axes)


def _say_no_data(axes: Any) -> None:
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center")
    axes.set_yticks([])
