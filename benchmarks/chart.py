"""A chart of a race: what a message costs each server, transport by transport.

``python -m benchmarks.chart RACE.json CHART.svg`` draws again what ``race --json`` has written. The
background is transparent and every colour has contrast on white and on black: a README has either.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot  # after the backend is chosen

from benchmarks.measure import KINDS
from benchmarks.table import cell

#: The workloads that are shown, with their captions.
PANELS: Final = {
    "tcp": "TCP, 1 KiB",
    "unix": "UNIX, 1 KiB",
    "udp": "UDP, 64 B",
    "tls": "TLS 1.3, 1 KiB",
}

INK: Final = "#7d8590"
OURS: Final = "#2f81f7"
THEIRS: Final = "#8b949e"

STYLE: Final = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.bottom": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "race",  # the same race gives the same file
    "text.color": INK,
    "xtick.bottom": False,
    "xtick.labelbottom": False,
    "ytick.color": INK,
    "ytick.left": False,
}


def draw(runs: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], file: Path) -> None:
    """Draw the ``runs`` of a race into *file*, the cheapest server on top of each panel."""
    shown = [name for name in PANELS if runs.get(name)]
    if not shown:
        print(f"no chart: none of {', '.join(PANELS)} was measured", file=sys.stderr)
        return
    with mpl.rc_context(STYLE):
        rows = (len(shown) + 1) // 2
        figure, grid = pyplot.subplots(rows, 2, figsize=(9, 0.6 + 2.3 * rows), squeeze=False)
        for axes, name in zip(grid.flat, shown, strict=False):
            costs = {server: median(run["cpu"] for run in each) for server, each in runs[name].items()}
            ranking = sorted(costs, key=costs.__getitem__, reverse=True)
            bars = axes.barh(
                [KINDS[server].title for server in ranking],
                [costs[server] for server in ranking],
                color=[OURS if server == "suite" else THEIRS for server in ranking],
                height=0.7,
            )
            axes.bar_label(bars, [cell(costs[server], 0) for server in ranking], padding=3, color=INK)
            axes.margins(x=0.15)
            axes.set_title(PANELS[name], loc="left", fontweight="bold", color=INK)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        figure.suptitle("Server CPU time per echoed message, in µs (shorter is better)", fontsize=11)
        figure.tight_layout()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 2:
        print("usage: python -m benchmarks.chart RACE.json CHART.svg", file=sys.stderr)
        return 2
    draw(json.loads(Path(arguments[0]).read_text())["runs"], Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
