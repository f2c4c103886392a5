"""docs/admin.md: the limits of the interface are those of the code, and its example is one."""

from __future__ import annotations

import re
from pathlib import Path

from suite.admin.api.asked import FEW, MOST
from suite.admin.api.watching import MOST_STREAMS
from suite.admin.budget import BURST, SHARE
from suite.admin.events import KEPT
from suite.admin.http import IDLE_TIME, LONGEST_BODY, MOST_CONNECTIONS, MOST_PER_PEER, REQUEST_TIME, Channel
from suite.client.status.overview import SOON, VERY_SOON
from suite.commands.status import DEFAULT_INTERVAL
from suite.commands.status import MOST_CONNECTIONS as MOST_SHOWN
from tests.docs.test_docs import rows
from tests.helpers import ROOT
from tests.running import run_suite

PAGE = (ROOT / "docs/admin.md").read_text()


def test_the_page_has_every_limit() -> None:
    said = dict(rows(PAGE, "limit"))
    assert said["connections"].startswith(f"{MOST_CONNECTIONS} at a time, {MOST_PER_PEER} of them from one")
    assert said["a request"] == (
        f"{REQUEST_TIME:g} s from its first byte to its last; {Channel.maxHeaders} headers;"
        f" a body of {LONGEST_BODY // 1024} KiB"
    )
    assert said["between two requests"] == f"{IDLE_TIME:g} s"
    assert said["its share of the reactor's time"].startswith(
        f"{SHARE:.0%}, and a quarter".replace("%", " %")
    )
    assert BURST == 0.25
    assert said["streams of events"].startswith(f"{MOST_STREAMS} at a time; ")
    assert said["a page of a list"] == f"{FEW} entries, {MOST:,} at the most"


def test_what_the_page_says_of_status_is_so() -> None:
    assert f"the suite remembers its last {KEPT:,} events" in PAGE
    assert f"below {SOON} days they are yellow, below {VERY_SOON} red" in PAGE
    assert f"one endpoint, and its first {MOST_SHOWN} connections" in PAGE
    assert f"the same every {DEFAULT_INTERVAL.replace('s', ' s')}, in place" in PAGE


def test_the_example_is_one(tmp_path: Path) -> None:
    """What `check` says of it is what the page shows of its start."""
    (configuration,) = re.findall(r"```toml\n(# config\.toml\n.*?)```", PAGE, re.DOTALL)
    (tmp_path / "config.toml").write_text(configuration)
    lines = run_suite(tmp_path, "check").stdout.splitlines()
    shown = [line for line in lines if re.match(r"\w+ +(HTTP|TCP|UDP|TLS) ", line)]
    assert len(shown) == 6
    assert "\n".join(f"    {line}" for line in shown) in PAGE
