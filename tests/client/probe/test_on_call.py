"""``probe`` for people on call: certificates that fail, endless runs, deadlines, proxies in front."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from tests.client.probe.probing import ONCE, SHORT, failure_of, probe, probe_one
from tests.foreign import Authority, echo, free_port, nginx, program, serving, silent
from tests.running import PATIENCE, RunningSuite, run_suite, running, started

CONFIG = """
[endpoints]
tcp = "tcp:0"
udp = "udp:0"
balanced = "haproxy:tcp:0"
balancedtls = "haproxy:ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
balancedunix = "haproxy:unix:run/balanced.sock"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), CONFIG) as suite:
        yield suite


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def port_of(suite: RunningSuite, endpoint: str) -> int:
    return int(suite.addresses[endpoint][1])


# Certificates.


def test_a_certificate_that_is_not_trusted_is_shown(tmp_path: Path, authority: Authority) -> None:
    """Although the handshake has failed, its facts are there, and the address and the time to connect."""
    with serving(echo, authority.context("www.example.org")) as port:
        report = probe_one(tmp_path, f"tls:127.0.0.1:{port}", *ONCE)
    (failure,) = report["failures"]
    assert (failure["word"], failure["address"]) == ("cert-untrusted", f"127.0.0.1:{port}")
    assert failure["connect_ms"] == report["connect_ms"] > 0
    tls = report["tls"]
    assert (tls["trusted"], tls["problem"]) == (False, "cert-untrusted")
    assert (tls["handshake_ms"], tls["names"]) == (None, ["www.example.org"])
    assert [one["names"] for one in tls["chain"]] == [["www.example.org"]]
    assert "OU=Testing CA" in tls["issuer"]


def test_insecure_looks_without_trusting(tmp_path: Path, authority: Authority) -> None:
    with serving(echo, authority.context("www.example.org", days=(-30, -2))) as port:
        insecure = ("--insecure", "--min-days", "14")
        result = run_suite(
            tmp_path, "probe", "--json", *ONCE, f"tls:127.0.0.1:{port}", *insecure, says=r"--insecure: .*\n"
        )
    (report,) = json.loads(result.stdout)["targets"]
    assert (report["received"], result.returncode) == (1, 1)
    assert (report["tls"]["trusted"], report["tls"]["problem"]) == (False, "cert-untrusted")
    assert report["tls"]["handshake_ms"] > 0
    (failure,) = report["failures"]
    assert (failure["word"], failure["sequence"], failure["days_left"]) == ("cert-expires", None, -3)


def test_a_certificate_that_expires_soon(tmp_path: Path, authority: Authority) -> None:
    options = ("--ca", str(authority.file), *ONCE, "--handshake", "--min-days")
    with serving(silent, authority.context("127.0.0.1", days=(-1, 10))) as port:
        assert probe_one(tmp_path, f"tls:127.0.0.1:{port}", *options, "9")["ok"]
        report = probe_one(tmp_path, f"tls:127.0.0.1:{port}", *options, "10")
    assert [failure["word"] for failure in report["failures"]] == ["cert-expires"]
    assert report["received"] == 1


# Runs without an end of their own.


def test_an_endless_probe_prints_json_lines(suite: RunningSuite) -> None:
    target = f"tcp:127.0.0.1:{port_of(suite, 'tcp')}"
    arguments = ("probe", target, "--json", "--count", "0", "--interval", "10ms")
    with started(suite.directory, *arguments, text=True) as process:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert [(line["sequence"], line["target"]) for line in first] == [(n, target) for n in (1, 2, 3)]
    *_, last = map(json.loads, rest.splitlines())
    assert (process.returncode, last["ok"], last["interrupted"]) == (0, True, True)
    assert last["targets"][0]["sent"] >= 3


def test_a_deadline_ends_an_endless_probe(suite: RunningSuite) -> None:
    target = f"tcp:127.0.0.1:{port_of(suite, 'tcp')}"
    options = ("--json", "--count", "0", "--interval", "10ms", "--deadline", "500ms")
    result = run_suite(suite.directory, "probe", target, *options)
    *lines, last = map(json.loads, result.stdout.splitlines())
    assert (result.returncode, last["ok"], last["interrupted"]) == (0, True, False)
    assert len(lines) == last["targets"][0]["received"] > 0


def test_a_deadline_that_cuts_a_probe_short_is_a_failure(tmp_path: Path) -> None:
    """Targets that were not reached are told, too."""
    with serving(silent) as port:
        target = f"tcp:127.0.0.1:{port}"
        code, reports = probe(tmp_path, target, target, "--deadline", "300ms")
    assert code == 1
    for report in reports:
        (failure,) = report["failures"]
        assert (failure["word"], failure["sequence"]) == ("timeout", None)
        assert failure["detail"] == "0 of 5 payloads were probed before the deadline of 0.3 s"
    assert [report["unanswered_ms"] is not None for report in reports] == [True, False]


# Ways to the target.


def test_our_own_endpoints_behind_a_proxy(suite: RunningSuite) -> None:
    """Both versions, over TCP, TLS and UNIX; without the header there is no echo."""
    targets = [
        f"tcp:127.0.0.1:{port_of(suite, 'balanced')}",
        f"tls:127.0.0.1:{port_of(suite, 'balancedtls')}",
        f"unix:{suite.addresses['balancedunix']}",
    ]
    for version in ("v1", "v2"):
        code, reports = probe(suite.directory, *targets, *ONCE, "--proxy-protocol", version)
        assert code == 0
        assert [report["half_close"] for report in reports] == ["honoured"] * 3
    assert failure_of(suite.directory, targets[0])["word"] in ("reset", "closed")


def test_a_configuration_says_which_endpoints_expect_a_header(suite: RunningSuite, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'[endpoints]\nplain = "tcp:{port_of(suite, "tcp")}"\n'
        f'balanced = "haproxy:tcp:{port_of(suite, "balanced")}"\n'
    )
    code, reports = probe(tmp_path, *ONCE)
    assert (code, len(reports)) == (0, 2)


def test_load_and_connect_go_the_same_ways(suite: RunningSuite) -> None:
    target = f"tcp:127.0.0.1:{port_of(suite, 'balanced')}"
    ways = ("--proxy-protocol", "v2", "--source", "127.0.0.9")
    loaded = run_suite(suite.directory, "load", target, *ways, "--duration", "100ms", "--json")
    assert (loaded.returncode, json.loads(loaded.stdout)["errors"]) == (0, {})
    with started(suite.directory, "connect", target, *ways, text=True, stdin=subprocess.PIPE) as process:
        out, _ = process.communicate("hello", timeout=PATIENCE)
    assert (process.returncode, out) == (0, "hello")
    udp = f"udp:127.0.0.1:{port_of(suite, 'udp')}"
    loaded = run_suite(suite.directory, "load", udp, "--source", "127.0.0.9", "--duration", "100ms", "--json")
    assert loaded.returncode == 0


def test_haproxy_that_accepts_a_header(suite: RunningSuite, tmp_path: Path) -> None:
    """It forwards to our own endpoint, and adds a header of its own to ours."""
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen echo
    bind 127.0.0.1:{port} accept-proxy
    server suite 127.0.0.1:{port_of(suite, "balanced")} send-proxy-v2
""")
    with program("haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg"), port=port):
        for version in ("v1", "v2"):
            assert probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE, "--proxy-protocol", version)["ok"]
        assert not probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE, *SHORT)["ok"]


def test_nginx_that_accepts_a_header(suite: RunningSuite, tmp_path: Path) -> None:
    """With TLS after the header, as load balancers send it."""
    port, certs = free_port(), suite.directory / "certs"
    stream = f"""
    log_format peer '$proxy_protocol_addr $proxy_protocol_server_port';
    access_log {tmp_path}/access.log peer;
    server {{
        listen 127.0.0.1:{port} ssl proxy_protocol;
        ssl_certificate {certs}/server.pem;
        ssl_certificate_key {certs}/server.key;
        proxy_pass 127.0.0.1:{port_of(suite, "tcp")};
    }}"""
    with nginx(tmp_path, stream, port=port):
        for version in ("v1", "v2"):
            options = ("--proxy-protocol", version, "--source", "127.0.0.9")
            assert probe_one(suite.directory, f"tls:127.0.0.1:{port}", *ONCE, *options)["ok"]
    seen = set((tmp_path / "access.log").read_text().splitlines()) - {"- -"}
    assert seen == {f"127.0.0.9 {port}"}


def test_the_source_is_ours_to_choose(tmp_path: Path) -> None:
    seen: list[Any] = []

    def note(sock: socket.socket) -> None:
        seen.append(sock.getpeername()[0])
        echo(sock)

    with serving(note) as port:
        assert probe_one(tmp_path, f"tcp:localhost:{port}", *ONCE, "--source", "127.0.0.9")["ok"]
    assert seen == ["127.0.0.9"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tcp:a:1", "--source", "eth0"], "--source 'eth0' is not an IP address; expected one of this mac"),
        (["tcp:a:1", "--source", "192.0.2.1"], "--source 192.0.2.1: Cannot assign requested address; expec"),
        (["tcp:a:1", "--source", "127.0.0.1", "-6"], "--source 127.0.0.1 is of the other family; expected"),
        (["tcp:a:1", "--proxy-protocol", "2"], "--proxy-protocol '2' is not a version; expected v1 or v2"),
        (
            ["udp:a:1", "--proxy-protocol", "v1"],
            "--proxy-protocol goes in front of a stream; expected no",
        ),
        (["tls:a:1", "--starttls", "smpt"], "--starttls 'smpt' is not a protocol; did you mean smtp?"),
        (["tcp:a:25", "--starttls", "smtp"], "--starttls smtp ends in TLS, and tcp:a:25 has none; did you m"),
        (["unix:a", "--starttls", "ldap"], "--starttls ldap ends in TLS, and unix:a has none; expected tls:"),
        (["tcp:a:1", "--insecure"], "--insecure is about TLS, and tcp:a:1 has none; did you mean tls:a:1?"),
        (["unix:a", "--server-name", "b"], "--server-name is about TLS, and unix:a has none; expected tls:"),
        (["udp:a:1", "--handshake"], "--handshake: UDP has none; expected no udp:a:1 with it"),
        (["tcp:a:1", "--min-days", "9"], "--min-days needs a certificate; expected a tls: target, not tcp:"),
        (["tls:a:1", "--min-days", "soon"], "--min-days 'soon' is not a number; expected 0 to 36500"),
        (["tcp:a:1", "--deadline", "0"], "--deadline '0' is too short; expected one such as"),
        (["tcp:a:1", "--count", "0", "--prometheus", "a.prom"], "--prometheus writes its file at the end; e"),
        (["tcp:a:1", "--prometheus", "nowhere/a.prom"], "--prometheus nowhere/a.prom cannot be written; ex"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["probe", *arguments]) == 2
    output = capsys.readouterr()
    assert not output.out
    (line,) = output.err.splitlines()
    assert message in line
