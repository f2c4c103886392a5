"""Metrics over OTLP, to a stand-in for a collector, which reads them with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from suite.admin.lag import BUCKETS
from suite.admin.metrics.families import FAMILIES
from suite.config.file import read
from suite.errors import ConfigError, Mistakes
from tests.admin.asking_http import ask
from tests.running import RunningSuite, run_suite, running, wait_until

CONFIG = """
[admin]
listen = "unix:admin.sock"
otlp = "http://127.0.0.1:{port}"
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
"""


class Collector(ThreadingHTTPServer):
    """Takes metrics, as a collector does.

    :ivar requests: what it has got.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Receiver)
        self.requests: list[Any] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def metrics(self) -> dict[str, Any]:
        """The metrics of the last request, by name."""
        [resource] = self.requests[-1].resource_metrics
        [scope] = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportMetricsServiceRequest()
        request.ParseFromString(body)
        found = self.path == "/v1/metrics" and self.headers["Content-Type"] == "application/x-protobuf"
        answer = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        if found:
            self.server.requests.append(request)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.stop()


def attributes(point: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in point.attributes}


def test_a_collector_gets_what_a_scrape_says(tmp_path: Path, collector: Collector) -> None:
    config = CONFIG.format(port=collector.server_port)
    with running(tmp_path, config) as suite:
        wait_until(lambda: bool(collector.requests), "metrics were sent")
        metrics = collector.metrics()
        names = {family.name.removesuffix("_total") for family in FAMILIES}
        assert metrics.keys() <= names
        # What has no values yet is not sent.
        assert {"echo_suite_build_info", "echo_suite_reloads", "echo_suite_connections_accepted"} <= set(
            metrics
        )

        accepted = metrics["echo_suite_connections_accepted"].sum
        assert accepted.is_monotonic
        assert accepted.aggregation_temporality == 2  # cumulative
        assert [(attributes(point), point.as_double) for point in accepted.data_points] == [
            ({"endpoint": "tcp", "transport": "TCP"}, 0)
        ]
        [lag] = metrics["echo_suite_reactor_lag_seconds"].histogram.data_points
        assert [*lag.explicit_bounds] == [*BUCKETS]
        assert len(lag.bucket_counts) == len(BUCKETS) + 1
        assert sum(lag.bucket_counts) == lag.count
        assert not lag.HasField("min")
        [draining] = metrics["echo_suite_draining"].gauge.data_points
        assert draining.as_double == 0
        assert draining.start_time_unix_nano < draining.time_unix_nano
        assert metrics["process_resident_memory_bytes"].unit == "By"
        [resource] = collector.requests[-1].resource_metrics
        named = attributes(resource.resource)
        assert named["service.name"] == "echo-suite"
        assert suite.complaints() == []


def change(suite: RunningSuite, otlp: str) -> None:
    """Have *suite* read a configuration with this line."""
    (suite.directory / "config.toml").write_text(
        f'[admin]\nlisten = "unix:admin.sock"\n{otlp}\n[endpoints]\ntcp = "tcp:0"\n'
    )
    answer = ask(suite.admin[0], "/api/v1/reload", "POST")
    assert answer.status == 200, answer.text


def test_a_reload_changes_the_collector(tmp_path: Path, collector: Collector) -> None:
    """One that does not take metrics is told of once, in a line; another gets all that has been counted."""
    nowhere = (
        f"{collector.server_port}/nowhere"  # refused at once; one that is not there is tried for a while
    )
    with running(tmp_path, CONFIG.format(port=nowhere), asked_for=["metrics cannot be sent"]) as suite:
        with suite.connect("tcp") as sock:
            sock.sendall(b"abc")
            assert sock.recv(3) == b"abc"
        wait_until(lambda: any("metrics cannot be sent" in line for line in suite.errors), "it was told of")
        told = f"metrics cannot be sent to http://127.0.0.1:{nowhere};"
        assert sum(told in line for line in suite.errors) == 1
        change(suite, f'otlp = "http://127.0.0.1:{collector.server_port}"')
        wait_until(lambda: bool(collector.requests), "metrics were sent")
        [point] = collector.metrics()["echo_suite_connections_accepted"].sum.data_points
        assert point.as_double == 1
        change(suite, "")
        assert ask(suite.admin[0], "/healthz").status == 200


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("4318", "4318 is an integer; expected the URL of an OpenTelemetry collector"),
        ('"127.0.0.1:4318"', "'127.0.0.1:4318' is not a URL of a collector; expected the URL"),
        ('"grpc://localhost:4317"', "'grpc://localhost:4317' is not a URL of a collector"),
        ('"http://"', "'http://' is not a URL of a collector"),
        ('"http://localhost:99999"', "'http://localhost:99999' is not a URL of a collector"),
        ('"http://localhost/?a=b"', "'http://localhost/?a=b' is not a URL of a collector"),
        (
            '"http://me:secret@localhost/"',
            "there is a user name or a password in the URL; expected one without",
        ),
        ('"http://@localhost/"', "there is a user name or a password in the URL"),
    ],
)
def test_what_is_no_collector(tmp_path: Path, value: str, problem: str) -> None:
    (tmp_path / "config.toml").write_text(
        f'[admin]\nlisten = "tcp:0"\notlp = {value}\n[endpoints]\ntcp = "tcp:0"\n'
    )
    ended = run_suite(tmp_path, "check", "--config", "config.toml", says=r"[^\n]+\n")
    assert ended.returncode == 2
    assert ended.stderr.startswith("config.toml: admin.otlp: ")
    assert problem in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("opentelemetry.sdk.metrics.export", "OpenTelemetry is not installed; expected echo-suite[otel]"),
        ("google.protobuf", "OpenTelemetry cannot be imported: import of google.protobuf halted; "),
    ],
)
def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, problem: str
) -> None:
    """What cannot be imported is named, unless nothing is there at all."""
    for name in [name for name in sys.modules if name.startswith(("opentelemetry.", "google."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # cannot be imported
    (tmp_path / "config.toml").write_text(CONFIG.format(port=4318))
    mistakes = Mistakes()
    read(tmp_path / "config.toml", mistakes)
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        mistakes.raise_any()
    assert caught.value.key == "admin.otlp"


LOADS = """
import sys
from suite.admin.metrics import otlp
otlp.load("http://127.0.0.1:1")
loaded = set(sys.modules)
otlp.TIMEOUT = 0.2
exporter = otlp.Exporter(SimpleNamespace(suite=SimpleNamespace(reactor=None)), "http://127.0.0.1:1")
family = otlp.Family("echo_suite_ready", "gauge", "Whether it is ready.")
assert exporter._export([otlp._metric(family, [otlp.NumberDataPoint({}, 1, 2, 3)])]) is False
print(*sorted(set(sys.modules) - loaded))
"""


def test_nothing_is_imported_later(tmp_path: Path) -> None:
    """Whom the suite becomes may not be able to read what the library would import."""
    command = [sys.executable, "-c", "from types import SimpleNamespace" + LOADS]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("\n", "", 0)
