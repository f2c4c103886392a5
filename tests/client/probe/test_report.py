"""What a probe remembers, and how it is written down."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from suite.client.dial.addresses import Address
from suite.client.dial.certificates import CertificateFacts
from suite.client.dial.dialer import DialedSocket
from suite.client.dial.failures import Fact, TargetError
from suite.client.dial.target import parse_target
from suite.client.dial.tls import TLSFacts
from suite.client.probe.output import JSONOutput, TextOutput
from suite.client.probe.prometheus import METRICS, check_file, exposition, write_file
from suite.client.probe.report import MAX_KEPT, Report
from suite.client.probe.settings import Settings
from suite.client.probe.stats import MAX_EXACT, ProbeStats, Times
from suite.client.probe.streams import StreamProber
from suite.errors import UsageError
from tests.running import optional_program

NOW = datetime.now(UTC).replace(microsecond=0)


def certificate(subject: str, days: int) -> CertificateFacts:
    return CertificateFacts(
        subject=subject,
        issuer="CN=issuer",
        names=("localhost",),
        valid_from=NOW - timedelta(days=1),
        expires=NOW + timedelta(days=days, hours=1),
        serial="1f",
        fingerprint="ab" * 32,
    )


def tls(*, trusted: bool = True) -> TLSFacts:
    leaf, between, unused = certificate("CN=leaf", 90), certificate("CN=CA", 30), certificate("CN=old", -5)
    return TLSFacts(
        version="TLSv1.3",
        cipher="TLS_AES_256_GCM_SHA384",
        alpn=None,
        chain=(leaf, between, unused),
        trusted=(leaf, between) if trusted else (),
        resumed=False,
        problem=None if trusted else TargetError("cert-untrusted", "its issuer is not known"),
    )


def report(target: str = "tls:localhost:4433") -> Report:
    return Report(parse_target(target))


def test_many_times_are_summarized_in_bounded_memory() -> None:
    """Two million probes: exact extremes, median and percentile to three digits."""
    stats, chance = ProbeStats(), random.Random(7)
    times = [chance.uniform(0.001, 1) for _ in range(MAX_EXACT + 10_000)]
    for seconds in times:
        stats.record(seconds)
    assert not stats._exact
    assert len(stats._histogram._counts) < 10_000
    exact, found = Times.of(times), stats.summary()
    assert found is not None
    assert (found.minimum, found.maximum) == (exact.minimum, exact.maximum)
    assert found.median == pytest.approx(exact.median, rel=0.001)
    assert found.p99 == pytest.approx(exact.p99, rel=0.001)
    assert stats.total == pytest.approx(sum(times))


def test_times_are_exact_up_to_a_limit() -> None:
    stats = ProbeStats()
    for number in range(MAX_EXACT):
        stats.record(number / 7)
    assert stats.summary() == Times.of([number / 7 for number in range(MAX_EXACT)])


def test_failures_are_counted_in_bounded_memory() -> None:
    found = report()
    for number in range(10 * MAX_KEPT):
        found.fail(number, TargetError("refused" if number % 2 else "timeout", "x"))
    assert len(found.failures) == MAX_KEPT
    assert found.failed == {"refused": 5 * MAX_KEPT, "timeout": 5 * MAX_KEPT}
    assert "failures: timeout 500, refused 500" in found.lines()
    assert found.as_json()["failed"] == {"timeout": 500, "refused": 500}


def test_what_was_not_measured_is_absent() -> None:
    found = report()
    document = found.as_json()
    assert [document[key] for key in ("loss", "connect_ms", "rtt_ms", "unanswered_ms", "tls")] == [None] * 5
    assert "0 sent, 0 back, – % lost" in found.lines()  # noqa: RUF001  # for "absent"
    assert exposition([found]).count("\nprobe_") == 4  # success, duration, sent and received


def test_the_first_certificate_of_the_chain_to_expire_is_told() -> None:
    """An expired one that trust does not need is of no consequence, but it is shown."""
    found = report()
    found.tls, found.handshake = tls(), 0.001
    document = found.as_json()["tls"]
    assert (document["days_left"], document["earliest"]["days_left"]) == (90, 30)
    assert document["earliest"]["subject"] == "CN=CA"
    assert [one["days_left"] for one in document["chain"]] == [90, 30, -5]
    assert any(line.startswith("the CA certificate of CN=CA expires earlier: 30 d") for line in found.lines())
    assert (document["trusted"], document["problem"]) == (True, None)


def test_without_trust_all_that_was_sent_counts() -> None:
    found = report()
    found.tls, found.handshake = tls(trusted=False), 0.001
    document = found.as_json()["tls"]
    assert document["earliest"]["subject"] == "CN=old"
    assert (document["trusted"], document["problem"]) == (False, "cert-untrusted")
    assert "NOT TRUSTED (--insecure): cert-untrusted: its issuer is not known" in found.lines()


def filled() -> Report:
    found = report("tls:bücher.example:4433")
    found.stats.sent = 3
    found.stats.record(0.25)
    found.fail(2, TargetError("reset", "x"))
    found.address, found.lookup, found.connect, found.seconds = "[::1]:4433", 0.001, 0.002, 1.5
    found.tls, found.handshake = tls(), 0.003
    return found


def test_metrics() -> None:
    """The names that blackbox_exporter has mean what they mean there."""
    samples = dict(
        line.rsplit(" ", 1) for line in exposition([filled()]).splitlines() if not line.startswith("#")
    )
    target = '{target="tls:bücher.example:4433"}'
    assert samples[f"probe_success{target}"] == "0"
    assert samples[f"probe_duration_seconds{target}"] == "1.5"
    assert samples[f"probe_ip_protocol{target}"] == "6"
    assert samples['probe_failures{target="tls:bücher.example:4433",word="reset"}'] == "1"
    expiries = [
        float(samples[name + target])
        for name in ("probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_expiry_timestamp_seconds")
    ]
    assert expiries == [certificate("", days).expires.timestamp() for days in (-5, 30)]
    assert {name.partition("{")[0] for name in samples} == set(METRICS)


def test_labels_are_escaped() -> None:
    found = report()
    found.tls = TLSFacts("", None, None, (certificate('CN="a\\b"\nx', 1),), (), False, None)
    assert r'subject="CN=\"a\\b\"\nx"' in exposition([found])


def test_promtool_has_no_complaint() -> None:
    result = subprocess.run(
        [optional_program("promtool"), "check", "metrics"],
        input=exposition([filled(), report("udp:localhost:7")]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "probe.prom"
    file.write_text("old")
    with file.open() as old:
        write_file([filled()], file)
        assert old.read() == "old"
    assert file.read_text() == exposition([filled()])
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_found_before(tmp_path: Path) -> None:
    (tmp_path / "directory.prom").mkdir()
    for name in ("directory.prom", "nowhere/probe.prom"):
        with pytest.raises(UsageError, match=r"--prometheus .* cannot be written; expected a file in a"):
            check_file(tmp_path / name, [])


def test_a_file_that_would_not_be_collected_is_found_before(tmp_path: Path) -> None:
    """The collector reads names with .prom only, and refuses a file with a sample that is there twice."""
    target = parse_target("tcp:localhost:1")
    check_file(tmp_path / "a.prom", [target])
    with pytest.raises(UsageError, match=r"is not read by the collector; expected a name with \.prom"):
        check_file(tmp_path / "a.txt", [target])
    with pytest.raises(UsageError, match="expected tcp:localhost:1 once"):
        check_file(tmp_path / "a.prom", [target, target])


def test_json_lines() -> None:
    lines: list[str] = []
    output, found = JSONOutput(lines.append, each=True), report()
    output.say("not for programs")
    output.back(found, 1, "64 bytes back", 0.25)
    output.failed(found, found.fail(2, TargetError("mismatch", "x", {"offset": 3})))
    output.ended([found], ok=False, interrupted=True)
    first, second, last = map(json.loads, lines)
    assert (first["target"], first["sequence"], first["rtt_ms"]) == ("tls:localhost:4433", 1, 250)
    assert (second["sequence"], second["word"], second["offset"]) == (2, "mismatch", 3)
    assert all(datetime.fromisoformat(line["time"]).tzinfo == UTC for line in (first, second))
    assert (last["ok"], last["interrupted"], len(last["targets"])) == (False, True, 1)


def test_a_failed_handshake_tells_where_and_how_fast() -> None:
    lines: list[str] = []
    facts: dict[str, Fact] = {"address": "127.0.0.1:4433", "connect_ms": 0.25}
    failed = report().fail(1, TargetError("reset", "the other side reset the connection", facts))
    TextOutput(lines.append).failed(report(), failed)
    assert lines == [
        "seq=1: reset: the other side reset the connection (127.0.0.1:4433, connected in 0.250 ms)"
    ]


def test_a_target_that_moves_is_told() -> None:
    """After a failover its name leads to another address; the first connection's time stays."""

    class Moving:
        """A dialer whose target is at another address each time, but the last."""

        def __init__(self) -> None:
            self.last = [1, 2, 2]

        async def connect(self) -> DialedSocket:
            address = Address(socket.AF_INET, (f"192.0.2.{self.last.pop(0)}", 7))
            return DialedSocket(cast(Any, None), address, float(len(self.last)))

        async def adopt(self, _dialed: DialedSocket, _protocol: object) -> object:
            return object()

    lines: list[str] = []
    found = report("tcp:moving.example:7")
    prober = StreamProber(None, cast(Any, Moving()), Settings(), found, TextOutput(lines.append))
    for _ in range(3):
        connected = Deferred.fromCoroutine(prober._connect())
        assert connected.called
    assert [line.partition(" in")[0] for line in lines] == [
        "connected to 192.0.2.1:7",
        "connected to 192.0.2.2:7",
    ]
    assert (found.address, found.connect) == ("192.0.2.2:7", 2.0)


def test_a_failure_keeps_no_error_alive() -> None:
    """An error's traceback holds frames and all that is in them."""
    found, error = report(), TargetError("refused", "x")
    before = sys.getrefcount(error)
    found.fail(1, error)
    assert sys.getrefcount(error) == before
