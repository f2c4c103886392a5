"""A real Prometheus scrapes the suite, and answers questions about it; promtool finds nothing to say."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from suite.admin.metrics.families import FAMILIES
from tests.admin.asking_http import ask
from tests.running import PATIENCE, RunningSuite, client_program, running, wait_until

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"
TEXT = "text/plain;version=0.0.4"

CONFIG = """
[admin]
listen = ["tcp:0", "unix:admin.sock"]
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
another = "tcp:0"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("prometheus"), CONFIG) as suite:
        with suite.connect("tcp") as sock:
            sock.sendall(b"hola mundo...")
            assert sock.recv(100) == b"hola mundo..."
        yield suite


class Prometheus:
    """A running Prometheus, which scrapes one suite twice a second.

    :ivar log: what it has logged.
    """

    def __init__(self, directory: Path, target: tuple[str, int]) -> None:
        host, port = target
        (directory / "prometheus.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            "scrape_configs:\n"
            "  - job_name: echo-suite\n"
            f"    static_configs: [{{targets: ['{host}:{port}']}}]\n"
        )
        self.log: list[str] = []
        self.address = ""
        self._listening = threading.Event()
        self.process = subprocess.Popen(
            [
                client_program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._listening.wait(PATIENCE) or not self.address:
            self.stop()
            pytest.fail("\n".join(self.log))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r'msg="Listening on" address=(\S+)', line):
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What *expression* is now: labels and values."""
        url = f"http://{self.address}/api/v1/query?query={quote(expression)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            document: Any = json.load(response)
        assert document["status"] == "success", document
        return [(each["metric"], float(each["value"][1])) for each in document["data"]["result"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it says of its targets."""
        with urllib.request.urlopen(f"http://{self.address}/api/v1/targets", timeout=PATIENCE) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["activeTargets"]
        return found

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def scraping(directory: Path, target: tuple[str, int]) -> Iterator[Prometheus]:
    """A `Prometheus` that has begun to listen."""
    prometheus = Prometheus(directory, target)
    try:
        yield prometheus
    finally:
        prometheus.stop()


def test_a_real_prometheus(suite: RunningSuite, tmp_path: Path) -> None:
    """It scrapes in the format that it likes best, and has the right values."""
    with scraping(tmp_path, suite.admin[0]) as prometheus:

        def sees(expression: str, value: float) -> None:
            wait_until(
                lambda: [found for _, found in prometheus.query(expression)] == [value],
                f"{expression} was {value}: {prometheus.targets()}",
            )

        sees('up{job="echo-suite"}', 1)
        sees('echo_suite_connections_accepted_total{endpoint="tcp",transport="TCP"}', 1)
        sees('echo_suite_stream_sent_bytes_total{endpoint="tcp"}', 13)
        sees("echo_suite_ready", 1)
        sees("count(echo_suite_endpoint_listening == 1)", 5)
        with suite.connect("tcp") as sock:
            sock.sendall(b"again")
            assert sock.recv(100) == b"again"
            sees('sum(echo_suite_connections_open{endpoint="tcp"})', 1)
            sees('increase(echo_suite_connections_accepted_total{endpoint="tcp"}[1h]) > bool 0', 1)
        assert [each["lastError"] for each in prometheus.targets()] == [""]
        [(labels, value)] = prometheus.query("echo_suite_build_info")
        assert value == 1
        assert {"version", "python", "twisted", "openssl", "reactor"} <= labels.keys()
        names = {found[0]["__name__"] for found in prometheus.query('{__name__=~"echo_suite_.+|process_.+"}')}
        kinds = {family.name for family in FAMILIES if family.kind != "histogram"}
        assert {name for name in names if not re.search("_(bucket|count|sum)$", name)} <= kinds


def test_promtool_finds_nothing_to_say(suite: RunningSuite) -> None:
    text = ask(suite.admin[0], "/metrics", headers={"Accept": TEXT}).body
    command = [client_program("promtool"), "check", "metrics"]
    ended = subprocess.run(command, check=False, input=text, capture_output=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_both_formats_say_the_same(suite: RunningSuite) -> None:
    text = ask(suite.admin[1], "/metrics", headers={"Accept": TEXT})
    openmetrics = ask(suite.admin[1], "/metrics", headers={"Accept": OPENMETRICS})
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    older = {sample[:2] for family in parse_text(text.text) for sample in _samples(family)}
    newer = {sample[:2] for family in parse_openmetrics(openmetrics.text) for sample in _samples(family)}
    assert older == newer


def _samples(family: Any) -> Iterator[tuple[str, frozenset[tuple[str, str]]]]:
    for sample in family.samples:
        yield sample.name, frozenset(sample.labels.items())


def test_names_and_types_are_those_of_the_table(suite: RunningSuite) -> None:
    text = ask(suite.admin[1], "/metrics").text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert types == {family.name: "gauge" if family.kind == "info" else family.kind for family in FAMILIES}


def test_another_site_does_not_read_it(suite: RunningSuite) -> None:
    """A browser that a name of another site has led here sends that name."""
    assert ask(suite.admin[0], "/metrics", headers={"Host": "rebound.example"}).status == 421
    assert ask(suite.admin[0], "/metrics", "POST").status == 405
    assert ask(suite.admin[0], "/metrics", "HEAD").body == b""
