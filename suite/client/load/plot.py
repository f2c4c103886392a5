"""Plots of percentile curves.

Rules: matplotlib is needed only for a plot, and its absence is reported before anything is measured; text in
an SVG stays text.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from suite.client.load.histogram import Histogram
from suite.client.load.units import shown_time
from suite.errors import SuiteError, UsageError
from suite.text import one_line, shown

KINDS: Final = (".svg", ".png")

#: Labels on the percentile axis: each step to the right leaves a tenth of the messages.
TICKS: Final = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)


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


def draw(curves: Sequence[tuple[str, Histogram]], file: Path) -> None:
    """Draw the named *curves* in one plot and write it to *file*.

    :raises PlotError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415  # takes half a second, and may not be installed
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    with mpl.rc_context({"svg.fonttype": "none"}):
        figure: Any = Figure(figsize=(9, 5), layout="constrained")
        axes: Any = figure.subplots()
        last = 10.0
        for name, histogram in curves:
            xs, ys = curve(histogram)
            axes.step(xs, ys, where="post", label=name)
            last = max(last, xs[-1])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1, last * 1.05)
        places = [10.0 ** (n if n else 0) for n in range(len(TICKS)) if 10.0**n <= last * 1.05]
        axes.set_xticks(places, [f"{TICKS[round(math.log10(place))]:g} %" for place in places])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: shown_time(value))
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper left")
        try:
            figure.savefig(file)
        except OSError as error:
            raise PlotError(f"--plot {shown(file)}: {error.strerror or error}") from None
