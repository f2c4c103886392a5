"""The findings in Prometheus' text format, for the textfile collector of node_exporter.

Rules: names and meanings are those of blackbox_exporter where it has the same; what was not measured has no
sample; the file is replaced in one step, so that no half of it is ever collected.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from suite.client.dial.target import Target
from suite.client.probe.report import Report
from suite.errors import SuiteError, UsageError
from suite.files import write_whole
from suite.text import shown

#: Every metric and its meaning. All are gauges, as each run begins anew.
METRICS: Final = {
    "probe_success": "Whether a payload came back, and nothing failed",
    "probe_duration_seconds": "How long the probes of the target took",
    "probe_failures": "Failures, by the words that docs/probe.md explains",
    "probe_payloads_sent": "Payloads sent",
    "probe_payloads_received": "Payloads that came back complete and in time",
    "probe_rtt_seconds": "Round-trip time of the payloads",
    "probe_dns_lookup_time_seconds": "How long resolving the name took",
    "probe_connect_time_seconds": "How long the first connection took",
    "probe_tls_handshake_time_seconds": "How long the first TLS handshake took",
    "probe_ip_protocol": "Version of IP that was used, 4 or 6",
    "probe_ssl_earliest_cert_expiry": "When the first certificate sent expires, in Unix time",
    "probe_ssl_last_chain_expiry_timestamp_seconds": "When the first of the trusted chain expires",
    "probe_ssl_last_chain_info": "The certificate of the target",
    "probe_tls_version_info": "The TLS version",
    "probe_tls_cipher_info": "The TLS cipher suite",
}

#: What does not belong into a label unescaped (prometheus.io/docs/instrumenting/exposition_formats).
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[str, Mapping[str, str], float | None]


def check_file(file: Path, targets: Sequence[Target]) -> None:
    """Check that the collector will read *file*, and that it can be written.

    :raises UsageError: the collector will not, or it cannot; or a target is there twice, for which the
        collector would refuse the whole file.
    """
    if file.suffix != ".prom":
        raise UsageError(
            f"--prometheus {shown(file)} is not read by the collector; expected a name with .prom"
        )
    for text, count in Counter(target.text for target in targets).items():
        if count > 1:
            raise UsageError(f"--prometheus tells targets apart by their text; expected {text} once")
    directory = file.absolute().parent
    if file.is_dir() or not directory.is_dir() or not os.access(directory, os.W_OK):
        raise UsageError(
            f"--prometheus {shown(file)} cannot be written; expected a file in a writable directory"
        )


def write_file(reports: Sequence[Report], file: Path) -> None:
    """Write the metrics of *reports* to *file*, readable for everyone.

    :raises SuiteError: the file cannot be written.
    """
    try:
        # The collector runs as another user, and reads files whose names end with .prom only.
        write_whole(file, exposition(reports).encode())
    except OSError as error:
        raise SuiteError(f"--prometheus {shown(file)}: {error.strerror}") from None


def exposition(reports: Sequence[Report]) -> str:
    """The metrics of *reports* in the text format."""
    samples: dict[str, list[str]] = {name: [] for name in METRICS}
    for report in reports:
        for name, labels, value in _samples(report):
            if value is not None:
                pairs = {"target": report.target.text, **labels}.items()
                text = ",".join(f'{key}="{label.translate(_ESCAPES)}"' for key, label in pairs)
                samples[name].append(f"{name}{{{text}}} {value:.15g}\n")
    return "".join(
        f"# HELP {name} {METRICS[name]}\n# TYPE {name} gauge\n{''.join(lines)}"
        for name, lines in samples.items()
        if lines
    )


def _samples(report: Report) -> Iterable[Sample]:
    stats, times, tls = report.stats, report.stats.summary(), report.tls
    yield "probe_success", {}, float(report.ok)
    yield "probe_duration_seconds", {}, report.seconds
    for word, count in sorted(report.failed.items()):
        yield "probe_failures", {"word": word}, float(count)
    yield "probe_payloads_sent", {}, float(stats.sent)
    yield "probe_payloads_received", {}, float(stats.received)
    if times is not None:
        yield "probe_rtt_seconds", {"value": "min"}, times.minimum
        yield "probe_rtt_seconds", {"value": "median"}, times.median
        yield "probe_rtt_seconds", {"value": "p99"}, times.p99
        yield "probe_rtt_seconds", {"value": "max"}, times.maximum
    yield "probe_dns_lookup_time_seconds", {}, report.lookup
    yield "probe_connect_time_seconds", {}, report.connect
    yield "probe_tls_handshake_time_seconds", {}, report.handshake
    if report.address is not None and report.target.transport != "unix":
        yield "probe_ip_protocol", {}, 6.0 if report.address.startswith("[") else 4.0
    if tls is None:
        return
    for name, chain in (
        ("probe_ssl_earliest_cert_expiry", tls.chain),
        ("probe_ssl_last_chain_expiry_timestamp_seconds", tls.trusted),
    ):
        yield name, {}, min((one.expires.timestamp() for one in chain), default=None)
    for leaf in tls.chain[:1]:
        facts = {
            "fingerprint_sha256": leaf.fingerprint,
            "subject": leaf.subject,
            "issuer": leaf.issuer,
            "subjectalternative": ",".join(leaf.names),
            "serialnumber": leaf.serial,
        }
        yield "probe_ssl_last_chain_info", facts, 1.0
    if report.handshake is not None:
        yield "probe_tls_version_info", {"version": tls.version.replace("TLSv", "TLS ")}, 1.0
        yield "probe_tls_cipher_info", {"cipher": tls.cipher or ""}, 1.0
