"""``probe``: its findings, and every failure word, each provoked by a real fault."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.cli import main
from suite.client.dial.alerts import ALERTS
from suite.client.dial.failures import WORDS, TargetError, from_errno
from suite.client.dial.target import parse_target
from suite.client.dial.trust import TLSOptions, roots
from suite.client.probe.compare import first_difference, mismatch
from suite.client.probe.stats import ProbeStats, Times, percentile
from suite.commands.options import duration, size
from suite.errors import UsageError
from tests.client.probe.probing import LONGER, ONCE, SHORT, failure_of, probe, probe_one
from tests.foreign import (
    Authority,
    datagrams,
    echo,
    free_port,
    nginx,
    program,
    receive,
    reset,
    serving,
    silent,
)
from tests.helpers import ROOT
from tests.running import (
    FOUR_TRANSPORTS,
    ONE_LINE,
    PATIENCE,
    RunningSuite,
    check_stderr,
    client_program,
    run_suite,
    running,
    started,
)

MUTUAL = """
[endpoints.mutual]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "certs/ca.pem", minimum = "1.3", alpn = ["h2", "http/1.1"] }
[endpoints.old]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { maximum = "1.2" }
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS + MUTUAL) as suite:
        yield suite


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def target_of(suite: RunningSuite, endpoint: str, host: str | None = None) -> str:
    address = suite.addresses[endpoint]
    if isinstance(address, str):
        return f"unix:{address}"
    transport = {"mutual": "tls", "old": "tls"}.get(endpoint, endpoint)
    return f"{transport}:{host or address[0]}:{address[1]}"


# Healthy targets.


@pytest.mark.parametrize("endpoint", ["tcp", "unix", "tls", "old", "udp"])
def test_all_is_well(suite: RunningSuite, endpoint: str) -> None:
    report = probe_one(suite.directory, target_of(suite, endpoint), "--count", "6", "--size", "1,64,20000")
    assert report["ok"]
    assert report["target"] == target_of(suite, endpoint)
    assert (report["sent"], report["received"], report["loss"]) == (6, 6, 0)
    assert (report["late"], report["duplicates"], report["failures"]) == (0, 0, [])
    times = report["rtt_ms"]
    assert 0 < times["min"] <= times["median"] <= times["p99"] <= times["max"]
    stream = endpoint != "udp"
    assert report["half_close"] == ("honoured" if stream else None)
    assert (report["connect_ms"] is not None) == stream
    if endpoint == "unix":
        assert report["address"].endswith("echo.sock")
    else:
        assert report["address"] == ":".join(map(str, suite.addresses[endpoint]))


@pytest.mark.parametrize(("endpoint", "version"), [("tls", "TLSv1.3"), ("old", "TLSv1.2")])
def test_what_a_handshake_shows(suite: RunningSuite, endpoint: str, version: str) -> None:
    """The suite's own CA is found automatically, beside the configuration."""
    report = probe_one(suite.directory, target_of(suite, endpoint, "localhost"), *ONCE)["tls"]
    assert report["version"] == version
    assert report["cipher"] in ("TLS_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384")
    assert report["names"] == ["localhost", "127.0.0.1", "::1"]
    with (
        suite.connect(endpoint) as raw,
        suite.client_context().wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        certificate: Any = sock.getpeercert()
    expires = datetime.strptime(certificate["notAfter"], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    assert datetime.fromisoformat(report["expires"]) == expires
    assert report["days_left"] == (expires - datetime.now(UTC)).days
    assert report["alpn"] is None
    assert report["resumed"] is True
    assert report["close_notify"] is True


def test_mutual_tls_and_alpn(suite: RunningSuite) -> None:
    report = probe_one(
        suite.directory,
        target_of(suite, "mutual"),
        *("--cert", "certs/client.pem", "--key", "certs/client.key", "--alpn", "http/1.1,h2"),
    )
    assert report["ok"]
    assert report["tls"]["alpn"] == "h2"


def test_the_development_ca_is_trusted_on_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.pem").touch()
    options = TLSOptions(directories=(tmp_path,))
    assert list(roots(parse_target("tls:localhost:1"), options)) == [tmp_path / "certs" / "ca.pem"]
    assert list(roots(parse_target("tls:[::1]:1"), options)) == [tmp_path / "certs" / "ca.pem"]
    assert list(roots(parse_target("tls:example.org:1"), options)) == []
    assert list(roots(parse_target("tls:192.0.2.1:1"), options)) == []


def test_the_development_ca_is_found_beside_the_configuration(suite: RunningSuite, tmp_path: Path) -> None:
    target = target_of(suite, "tls")
    config = suite.directory / "config.toml"
    assert probe_one(tmp_path, target, *ONCE, "--config", str(config))["ok"]
    assert failure_of(tmp_path, target)["word"] == "cert-untrusted"
    assert probe_one(tmp_path, target, *ONCE, "--ca", str(suite.directory / "certs/ca.pem"))["ok"]


def test_without_targets_it_probes_the_configuration(suite: RunningSuite, tmp_path: Path) -> None:
    port = suite.addresses["tcp"][1]
    (tmp_path / "config.toml").write_text(
        f'[endpoints]\ntcp = "tcp:{port}"\nudp = "udp:{suite.addresses["udp"][1]}"\nfree = "tcp:0"\n'
    )
    result = run_suite(tmp_path, "probe", *ONCE, says=ONE_LINE)
    assert result.returncode == 0
    assert result.stderr == (
        "skipped: endpoints.free: port 0 is a different port each time; name the current one in a TARGET\n"
    )
    assert f"--- tcp:127.0.0.1:{port}\n1 sent, 1 back, 0 % lost\n" in result.stdout


def test_several_targets_are_probed_one_after_another(suite: RunningSuite) -> None:
    code, reports = probe(suite.directory, target_of(suite, "tcp"), "unix:nowhere", target_of(suite, "udp"))
    assert code == 1
    assert [report["ok"] for report in reports] == [True, False, True]


def test_options_may_stand_between_targets(suite: RunningSuite) -> None:
    tcp, udp = target_of(suite, "tcp"), target_of(suite, "udp")
    result = run_suite(suite.directory, "probe", tcp, "--count", "1", udp, "--json", tcp)
    assert [report["target"] for report in json.loads(result.stdout)["targets"]] == [tcp, udp, tcp]


def test_what_people_see(suite: RunningSuite) -> None:
    result = run_suite(suite.directory, "probe", target_of(suite, "tls"), "--count", "2", "--interval", "0")
    assert result.returncode == 0
    patterns = [
        rf"probe {target_of(suite, 'tls')}",
        r"connected to 127\.0\.0\.1:\d+ in [\d.]+ ms; TLSv1\.3 in [\d.]+ ms",
        r"64 bytes back: seq=1 time=[\d.]+ ms",
        r"64 bytes back: seq=2 time=[\d.]+ ms",
        rf"--- {target_of(suite, 'tls')}",
        r"2 sent, 2 back, 0 % lost",
        r"RTT min/median/p99/max = [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms",
        r"half-close honoured: all bytes came back, then the target closed",
        r"TLSv1\.3, TLS_AES_256_GCM_SHA384, ALPN none, resumption yes",
        r"certificate for localhost, 127\.0\.0\.1, ::1; \d+ days left \(until \d{4}-\d\d-\d\d\)",
        r"issued by OU=development CA,O=echo suite; certificates sent: 1",
    ]
    lines = result.stdout.splitlines()
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_large_payloads_come_back_whole(suite: RunningSuite) -> None:
    for endpoint in ("tcp", "tls", "unix"):
        assert probe_one(suite.directory, target_of(suite, endpoint), *ONCE, "--size", "5MiB")["ok"]


def test_every_size_of_datagram(suite: RunningSuite) -> None:
    sizes = "0,1,15,16,17,8192,65507"
    report = probe_one(suite.directory, target_of(suite, "udp"), "--count", "14", "--size", sizes)
    assert report["ok"]
    assert report["duplicates"] == 0


def test_every_address_of_a_name_is_tried(suite: RunningSuite) -> None:
    """Most systems resolve ``localhost`` to ::1 too, and try it first."""
    for endpoint in ("tcp", "udp"):
        report = probe_one(suite.directory, target_of(suite, endpoint, "localhost"), *ONCE)
        assert report["address"] == ":".join(map(str, suite.addresses[endpoint]))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_address_where_nobody_listens_is_passed_over(suite: RunningSuite, transport: str) -> None:
    """The test's own resolver gives the name two addresses."""
    port = suite.addresses[transport][1]
    script = f"""
import socket, sys
from suite.cli import main
from tests.helpers import ROOT
own = socket.getaddrinfo
def resolve(host, *rest):
    if host != "two.example":
        return own(host, *rest)
    if rest[-1] & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "not a number")
    return own("127.0.0.1", 1, *rest[1:]) + own("127.0.0.1", {port}, *rest[1:])
socket.getaddrinfo = resolve
sys.exit(main(["probe", "--json", "--count", "2", "{transport}:two.example:9"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=suite.directory,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    check_stderr(result.stderr)
    (report,) = json.loads(result.stdout)["targets"]
    assert report["ok"]
    assert (report["received"], report["address"]) == (2, f"127.0.0.1:{port}")


def test_ipv6(tmp_path: Path) -> None:
    config = '[endpoints]\ntcp = "tcp6:0"\nudp = "udp6:0"'
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    with running(tmp_path, config) as suite:
        for endpoint in ("tcp", "udp"):
            port = suite.addresses[endpoint][1]
            report = probe_one(tmp_path, f"{endpoint}:[::1]:{port}", *ONCE, "-6")
            assert report["ok"]
            assert report["address"] == f"[::1]:{port}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_probe_tells_what_it_has_seen(suite: RunningSuite, number: int) -> None:
    arguments = ("probe", target_of(suite, "tcp"), "--count", "0", "--interval", "10ms")
    with started(suite.directory, *arguments, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "seq=3 " in line:
                break
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    # One may be under way, which is said between the two lines.
    found = re.search(
        r"^(\d+) sent, (\d+) back, 0 % lost\n(one more was sent, .*\n)?RTT ", rest, re.MULTILINE
    )
    assert found is not None
    assert int(found[1]) == int(found[2]) >= 3


def test_a_probe_interrupted_before_anything_came_back_has_failed(tmp_path: Path) -> None:
    with (
        serving(silent) as port,
        started(tmp_path, "probe", f"tcp:127.0.0.1:{port}", "--timeout", "1m", text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if "connected to" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "0 sent, 0 back" in rest


# Failures, one for each word.


def test_dns(tmp_path: Path) -> None:
    """Whether the resolver reports that a name does not exist, or does not answer."""
    failure = failure_of(tmp_path, "tcp:nowhere.invalid:1", "--timeout", "3s")
    assert failure["word"] == "dns"
    assert failure["detail"].startswith("nowhere.invalid: ")


@pytest.mark.parametrize("target", ["tcp:127.0.0.1:1", "udp:127.0.0.1:1"])
def test_an_address_of_the_other_family_is_none(tmp_path: Path, target: str) -> None:
    failure = failure_of(tmp_path, target, "-6")
    assert failure["word"] == "dns"
    assert failure["detail"].endswith("; IPv6 is asked for by -6 or --source")


def test_no_host_name_is_an_address(tmp_path: Path) -> None:
    assert failure_of(tmp_path, f"tcp:{'x' * 64}.invalid:1")["word"] == "dns"


def test_refused(tmp_path: Path) -> None:
    with socket.socket() as bound, socket.socket(socket.AF_UNIX) as unbound:
        bound.bind(("127.0.0.1", 0))  # but does not listen
        unbound.bind(str(tmp_path / "refusing"))
        port = bound.getsockname()[1]
        assert failure_of(tmp_path, f"tcp:127.0.0.1:{port}")["word"] == "refused"
        assert failure_of(tmp_path, f"tls:127.0.0.1:{port}")["word"] == "refused"
        assert failure_of(tmp_path, "unix:refusing")["word"] == "refused"


def test_a_refused_name_lists_its_addresses(tmp_path: Path) -> None:
    found = {address[0] for *_, address in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    failure = failure_of(tmp_path, "tcp:localhost:1")
    assert failure["word"] == "refused"
    if len(found) > 1:
        assert all(address in failure["detail"] for address in found)


def test_refused_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.connect(("127.0.0.1", 9))  # so it ignores datagrams from others
        report = probe_one(tmp_path, f"udp:127.0.0.1:{port}", "--count", "2")
    assert [failure["word"] for failure in report["failures"]] == ["refused", "refused"]


def test_unreachable(tmp_path: Path) -> None:
    """TCP to a broadcast address: Linux reports no route (tcp_v4_connect)."""
    assert failure_of(tmp_path, "tcp:255.255.255.255:9")["word"] == "unreachable"


@pytest.mark.parametrize(
    "route", ["", "ip route add unreachable 192.0.2.0/24"], ids=["no route", "a dead end"]
)
def test_unreachable_network(tmp_path: Path, route: str) -> None:
    for name in ("unshare", "ip"):
        client_program(name)
    allowed = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("no network namespaces of one's own here")
    script = f'ip link set lo up; {route or ":"}; exec "$@"'
    command = ["unshare", "-rn", "sh", "-e", "-c", script, "-", sys.executable, "-m", "suite", "probe"]
    for transport in ("tcp", "udp"):
        result = subprocess.run(
            [*command, "--json", *ONCE, f"{transport}:192.0.2.1:9"],
            cwd=tmp_path,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        check_stderr(result.stderr)
        assert result.returncode == 1
        (report,) = json.loads(result.stdout)["targets"]
        assert [failure["word"] for failure in report["failures"]] == ["unreachable"]


def test_no_connection_in_time(tmp_path: Path) -> None:
    """When the accept queue is full, Linux drops SYNs, like a black hole."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            sock = opened.enter_context(socket.socket())
            sock.settimeout(0.5)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.fail("its queue is never full")
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{listener.getsockname()[1]}", *SHORT)
    assert failure["word"] == "timeout"
    assert failure["detail"].startswith("no connection within 0.3")


def test_no_connection_in_time_over_unix(tmp_path: Path) -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        full = False
        while not full:
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            full = sock.connect_ex(str(tmp_path / "full")) == errno.EAGAIN
        failure = failure_of(tmp_path, "unix:full", *SHORT)
    assert (failure["word"], failure["detail"]) == ("timeout", "no connection within 0.3 s")


def test_no_echo_in_time(tmp_path: Path) -> None:
    """A listener that never accepts: the kernel completes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{listener.getsockname()[1]}", *SHORT)
    assert failure["word"] == "timeout"
    assert failure["detail"] == "0 of 64 bytes came back within 0.3 s"


def test_not_all_of_the_echo_in_time(tmp_path: Path) -> None:
    def half(sock: socket.socket) -> None:
        sock.sendall(receive(sock, 64)[:32])
        silent(sock)

    with serving(half) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}", *LONGER)
    assert (failure["word"], failure["detail"]) == ("timeout", "32 of 64 bytes came back within 2 s")


def test_no_handshake_in_time(tmp_path: Path) -> None:
    with serving(silent) as port:
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}", *SHORT)
    assert (failure["word"], failure["detail"]) == ("timeout", "no handshake within 0.3 s")


def test_reset(tmp_path: Path) -> None:
    with serving(reset) as port:
        assert failure_of(tmp_path, f"tcp:127.0.0.1:{port}")["word"] == "reset"
        assert failure_of(tmp_path, f"tls:127.0.0.1:{port}")["word"] == "reset"


def test_reset_after_the_handshake(tmp_path: Path, authority: Authority) -> None:
    def cut(sock: socket.socket) -> None:
        receive(sock, 64)
        reset(sock)

    with serving(cut, authority.context("localhost")) as port:
        target = f"tls:localhost:{port}"
        assert (
            failure_of(tmp_path, target, "-4", "--ca", str(authority.file), "--size", "65")["word"] == "reset"
        )


def test_closed(tmp_path: Path) -> None:
    with serving(lambda sock: sock.sendall(receive(sock, 64)[:10])) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}")
    assert (failure["word"], failure["detail"]) == ("closed", "end of stream after 10 of 64 bytes")


def test_closed_during_the_handshake(tmp_path: Path) -> None:
    with serving(lambda sock: sock.recv(65536)) as port:
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}")
    assert (failure["word"], failure["detail"]) == (
        "closed",
        "the other side closed the connection during the handshake",
    )


def flipping(offset: int, size: int) -> Any:
    """A server that flips one bit of its echo."""

    def flip(sock: socket.socket) -> None:
        data = bytearray(receive(sock, size))
        data[offset] ^= 1
        sock.sendall(data)
        silent(sock)

    return flip


@pytest.mark.parametrize("offset", [0, 1000, 99_999])
def test_mismatch(tmp_path: Path, offset: int) -> None:
    with serving(flipping(offset, 100_000)) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}", "--size", "100000")
    assert (failure["word"], failure["offset"]) == ("mismatch", offset)
    expected, found = re.findall("0x(..)", failure["detail"])
    assert int(expected, 16) ^ int(found, 16) == 1


def test_mismatch_over_tls(tmp_path: Path, authority: Authority) -> None:
    with serving(flipping(20_000, 50_000), authority.context("127.0.0.1")) as port:
        ca = ("--ca", str(authority.file))
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}", "--size", "50000", *ca)
    assert (failure["word"], failure["offset"]) == ("mismatch", 20_000)


def test_more_than_was_sent_is_a_mismatch(tmp_path: Path) -> None:
    with serving(lambda sock: sock.sendall(receive(sock, 64) + b"more")) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}")
    assert (failure["word"], failure["offset"]) == ("mismatch", 64)


def test_what_comes_unasked_is_a_mismatch(tmp_path: Path) -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"220 mail.example.org ESMTP\r\n")
        silent(sock)

    with serving(greet) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}")
    assert failure["word"] == "mismatch"


@pytest.mark.parametrize("offset", [0, 12, 40])
def test_mismatch_of_a_datagram(tmp_path: Path, offset: int) -> None:
    def flip(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        changed = bytearray(data)
        changed[offset] ^= 128
        sock.sendto(changed, sender)

    with datagrams(flip) as port:
        failure = failure_of(tmp_path, f"udp:127.0.0.1:{port}")
    assert (failure["word"], failure["offset"]) == ("mismatch", offset)


def test_a_datagram_cut_short_is_a_mismatch(tmp_path: Path) -> None:
    with datagrams(lambda sock, data, sender: sock.sendto(data[:30], sender)) as port:
        failure = failure_of(tmp_path, f"udp:127.0.0.1:{port}")
    assert (failure["word"], failure["offset"]) == ("mismatch", 30)


def test_lost(tmp_path: Path) -> None:
    with datagrams(lambda *_: None) as port:
        failure = failure_of(tmp_path, f"udp:127.0.0.1:{port}", *SHORT)
    assert (failure["word"], failure["detail"]) == ("lost", "nothing came back within 0.3 s")


def test_late_and_repeated_datagrams_are_told_apart(tmp_path: Path) -> None:
    """The first datagram comes back after the second has arrived, and the second comes back twice."""
    kept: list[bytes] = []

    def answer(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        kept.append(data)
        answers = {1: [], 2: [0, 1], 3: [1, 2]}[len(kept)]
        for index in answers:
            sock.sendto(kept[index], sender)

    with datagrams(answer) as port:
        report = probe_one(tmp_path, f"udp:127.0.0.1:{port}", "--count", "3", *LONGER)
    assert (report["sent"], report["received"], report["late"], report["duplicates"]) == (3, 2, 1, 1)
    assert [(failure["sequence"], failure["word"]) for failure in report["failures"]] == [(1, "lost")]


def test_denied(tmp_path: Path) -> None:
    """A broadcast needs SO_BROADCAST, which is not set; loopback's needs no other interface."""
    assert failure_of(tmp_path, "udp:127.255.255.255:9")["word"] == "denied"


def test_missing(tmp_path: Path) -> None:
    assert failure_of(tmp_path, "unix:nowhere/echo.sock")["word"] == "missing"


def test_whatever_else_the_system_says(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "datagrams"))
        failure = failure_of(tmp_path, "unix:datagrams")
    assert (failure["word"], failure["detail"]) == ("system", os.strerror(errno.EPROTOTYPE))


def test_too_long() -> None:
    """Only a path that cannot fragment reports it; loopback carries every size that UDP allows."""
    assert from_errno(errno.EMSGSIZE).word == "too-long"


# The same for TLS.


@pytest.mark.parametrize("options", [(), ("--handshake",)], ids=["payload", "handshake"])
def test_alert_to_who_has_no_certificate(suite: RunningSuite, options: tuple[str, ...]) -> None:
    """In TLS 1.3 it comes when the handshake is over for us.

    Where the server then resets the connection, sending may fail before the alert is read: that is ``reset``.
    """
    failure = failure_of(suite.directory, target_of(suite, "mutual"), *options)
    assert (failure["word"], failure["alert"]) == ("tls-alert", "certificate_required")
    assert "--cert and --key" in failure["detail"]


def test_an_alert_that_a_reset_follows(tmp_path: Path, authority: Authority) -> None:
    """OpenSSL leaves the rest of our handshake unread; writing before reading would lose its alert."""
    context = authority.context("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    with serving(echo, context) as port:
        target = f"tls:127.0.0.1:{port}"
        report = probe_one(tmp_path, target, "--count", "5", "--interval", "0", "--ca", str(authority.file))
    assert report["failed"] == {"tls-alert": 5}


def test_alert_to_who_speaks_no_common_protocol(suite: RunningSuite) -> None:
    failure = failure_of(suite.directory, target_of(suite, "mutual"), "--alpn", "smtp")
    assert (failure["word"], failure["alert"]) == ("tls-alert", "no_application_protocol")


def test_alert_to_who_has_a_certificate_of_nobody_known(suite: RunningSuite, tmp_path: Path) -> None:
    assert run_suite(tmp_path, "certs", "other").returncode == 0
    other = ("--cert", str(tmp_path / "other/client.pem"), "--key", str(tmp_path / "other/client.key"))
    failure = failure_of(suite.directory, target_of(suite, "mutual"), *other)
    assert (failure["word"], failure["alert"]) == ("tls-alert", "unknown_ca")


def test_alert_to_who_speaks_no_common_version(tmp_path: Path) -> None:
    def old(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(bytes([21, 3, 1, 0, 2, 2, 70]))

    with serving(old) as port:
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}")
    assert (failure["word"], failure["detail"]) == ("tls-alert", "protocol_version (70)")


def test_no_tls(suite: RunningSuite) -> None:
    plain = target_of(suite, "tcp")
    failure = failure_of(suite.directory, plain.replace("tcp:", "tls:"))
    assert failure["word"] == "tls-error"
    assert failure["detail"].endswith(f"; the target does not seem to speak TLS; try {plain}")


def test_no_tls_but_words(tmp_path: Path) -> None:
    """A server that greets, or complains, in plain text."""

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"220 mail.example.org ESMTP ready\r\n")
        sock.recv(65536)

    with serving(greet) as port:
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}")
    assert (failure["word"], failure["detail"]) == (
        "tls-error",
        f"wrong version number; the target does not seem to speak TLS; try tcp:127.0.0.1:{port}",
    )


def test_tls_where_plain_bytes_were_sent(suite: RunningSuite) -> None:
    encrypted = target_of(suite, "tls")
    failure = failure_of(suite.directory, encrypted.replace("tls:", "tcp:"))
    assert failure["word"] in ("closed", "reset", "mismatch")  # its alert may come before its end
    assert failure["detail"].endswith(f"; the target seems to speak TLS; try {encrypted}")


def test_a_tls_alert_where_plain_bytes_were_sent(tmp_path: Path) -> None:
    """Go's servers answer like this."""

    def alert(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(bytes([21, 3, 1, 0, 2, 2, 70]))

    with serving(alert) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}")
    assert failure["word"] == "mismatch"
    assert failure["offset"] == 0
    assert failure["detail"].endswith(f"; the target seems to speak TLS; try tls:127.0.0.1:{port}")


def test_no_tls_where_a_connection_is_only_closed(tmp_path: Path) -> None:
    with serving(lambda sock: sock.recv(65536)) as port:
        failure = failure_of(tmp_path, f"tcp:127.0.0.1:{port}")
    assert failure["word"] == "closed"
    assert "TLS" not in failure["detail"]


def test_certificates_that_are_not_valid(tmp_path: Path, authority: Authority) -> None:
    ca = ("--ca", str(authority.file))
    with serving(echo, authority.context("127.0.0.1", days=(-30, -2))) as port:
        failure = failure_of(tmp_path, f"tls:127.0.0.1:{port}", *ca)
    assert failure["word"] == "cert-expired"
    assert failure["detail"].endswith("2 days ago")
    with serving(echo, authority.context("127.0.0.1", days=(2, 30))) as port:
        assert failure_of(tmp_path, f"tls:127.0.0.1:{port}", *ca)["word"] == "cert-not-yet-valid"
        shown = run_suite(tmp_path, "probe", f"tls:127.0.0.1:{port}", *ONCE, *ca).stdout
        assert re.search(r"^certificate for 127\.0\.0\.1; not valid before \S+ \(until \S+\)$", shown, re.M)
    with serving(echo, authority.context("127.0.0.1")) as port:
        assert failure_of(tmp_path, f"tls:127.0.0.1:{port}")["word"] == "cert-untrusted"
        report = probe_one(tmp_path, f"tls:127.0.0.1:{port}", *ONCE, *ca)
    assert report["ok"]
    assert report["tls"]["days_left"] == 29


def test_certificate_of_somebody_else(tmp_path: Path, authority: Authority) -> None:
    ca = ("--ca", str(authority.file))
    asked: list[str | None] = []
    context = authority.context("*.example.org", "192.0.2.7")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    with serving(echo, context) as port:
        failure = failure_of(tmp_path, f"tls:localhost:{port}", "-4", *ca)
        assert failure["word"] == "cert-name"
        assert (failure["expected"], failure["found"]) == ("localhost", ["*.example.org", "192.0.2.7"])
        assert failure_of(tmp_path, f"tls:127.0.0.1:{port}", *ca)["expected"] == "127.0.0.1"
        named = ("--server-name", "www.example.org")
        assert probe_one(tmp_path, f"tls:127.0.0.1:{port}", *ONCE, *ca, *named)["ok"]
        named = ("--server-name", "192.0.2.7")
        assert probe_one(tmp_path, f"tls:127.0.0.1:{port}", *ONCE, *ca, *named)["ok"]
    # A successful probe makes a second handshake, for resumption.
    assert asked == ["localhost", None, "www.example.org", "www.example.org", None, None]


def test_nothing_is_sent_to_who_is_not_trusted(tmp_path: Path, authority: Authority) -> None:
    received: list[bytes] = []
    with serving(lambda sock: received.append(receive(sock, 64)), authority.context("example.org")) as port:
        failure_of(tmp_path, f"tls:127.0.0.1:{port}", "--ca", str(authority.file))
    assert b"".join(received) == b""


def test_a_session_that_cannot_be_resumed_is_no_failure(tmp_path: Path, authority: Authority) -> None:
    context = authority.context("127.0.0.1")
    context.num_tickets = 0
    with serving(echo, context) as port:
        report = probe_one(tmp_path, f"tls:127.0.0.1:{port}", *ONCE, "--ca", str(authority.file))
    assert report["ok"]
    assert report["tls"]["resumed"] is False


# Half-closes.


def test_who_ends_with_bytes_still_owed_is_found_out(tmp_path: Path) -> None:
    """A server that echoes the first payload, then closes without echoing the rest."""

    def hasty(sock: socket.socket) -> None:
        sock.sendall(receive(sock, 64))
        receive(sock, 1000)  # the second payload and our half-close

    with serving(hasty) as port:
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE)
    assert (report["ok"], report["half_close"]) == (True, "cut")


def test_who_ends_by_himself_is_found_out(tmp_path: Path) -> None:
    """The target may close before or after our last payload."""
    with serving(lambda sock: sock.sendall(receive(sock, 64))) as port:
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE)
        again = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", "--count", "2", "--interval", "100ms")
    assert (report["ok"], report["half_close"]) == (True, "cut")
    assert [(failure["sequence"], failure["word"]) for failure in again["failures"]] == [(2, "closed")]


def test_who_does_not_end_is_found_out(tmp_path: Path) -> None:
    def open_ended(sock: socket.socket) -> None:
        echo(sock)
        ended.wait(PATIENCE)

    ended = threading.Event()
    with serving(open_ended) as port:
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE, *LONGER)
        ended.set()
    assert (report["ok"], report["half_close"]) == (True, "open")


def test_a_last_payload_that_comes_back_changed_is_a_failure(tmp_path: Path) -> None:
    def late_liar(sock: socket.socket) -> None:
        sock.sendall(receive(sock, 64))
        sock.sendall(bytes(byte ^ 1 for byte in receive(sock, 64)))

    with serving(late_liar) as port:
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", *ONCE)
    (failure,) = report["failures"]
    assert (failure["word"], failure["offset"], failure["sequence"]) == ("mismatch", 0, None)
    assert failure["detail"].startswith("in the last payload, at offset 0: ")
    assert report["half_close"] is None  # the target may well have honoured it


def test_the_next_probe_begins_anew(tmp_path: Path) -> None:
    """A server that serves only every other connection."""
    served: list[bool] = []

    def moody(sock: socket.socket) -> None:
        served.append(len(served) % 2 == 1)
        (echo if served[-1] else reset)(sock)

    with serving(moody) as port:
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", "--count", "3")
    assert [(failure["sequence"], failure["word"]) for failure in report["failures"]] == [(1, "reset")]
    assert (report["sent"], report["received"]) == (3, 2)


# Servers by others.


def test_socat(tmp_path: Path) -> None:
    port = free_port()
    with program("socat", "-t", "30", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", "PIPE", port=port):
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", "--size", "64,64KiB")
    assert report["ok"]
    assert report["half_close"] == "honoured"


def test_ncat(tmp_path: Path) -> None:
    port = free_port()
    with program("ncat", "-lk", "127.0.0.1", str(port), "-e", "/bin/cat", port=port):
        report = probe_one(tmp_path, f"tcp:127.0.0.1:{port}", "--size", "64,64KiB")
    # On a half-close, it sometimes closes before cat has returned everything.
    assert report["ok"]
    assert report["half_close"] in ("honoured", "cut")


def test_nginx_in_front(suite: RunningSuite, tmp_path: Path) -> None:
    """The stream module of nginx terminates TLS and forwards TCP to the suite."""
    port = free_port()
    certs = suite.directory / "certs"
    stream = f"""
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certs}/server.pem;
        ssl_certificate_key {certs}/server.key;
        ssl_session_cache shared:probe:1m;
        proxy_pass 127.0.0.1:{suite.addresses["tcp"][1]};
    }}"""
    with nginx(tmp_path, stream, port=port):
        report = probe_one(suite.directory, f"tls:localhost:{port}", "-4", "--size", "64,64KiB")
    assert report["ok"]
    assert report["tls"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert report["tls"]["resumed"] is True


# The command line.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["localhost:1234"],
            "'localhost:1234': 'localhost' is not a kind of target; did you mean tcp:localhost:1",
        ),
        (["tcp:localhost:1", "--count=-1"], "--count '-1' is out of range; expected 0 to 1000000000"),
        (["tcp:localhost:1", "--count", "many"], "--count 'many' is not a number; expected 0 to 1000000000"),
        (
            ["tcp:localhost:1", "--interval", "soon"],
            "--interval 'soon' is not a duration; expected one such as",
        ),
        (["tcp:localhost:1", "--timeout", "0"], "--timeout '0' is too short; expected one such as"),
        (["tcp:localhost:1", "--timeout", "25h"], "--timeout '25h' is too long; expected 24h at the most"),
        (
            ["tcp:localhost:1", "--size", "1GiB"],
            "--size '1GiB' is out of range; expected at most 67108864",
        ),
        (["tcp:localhost:1", "--size", "65MiB"], "--size '65MiB' is out of range; expected at most 67108864"),
        (["tcp:localhost:1", "--size", "64,,1"], "--size '' is not a size; expected one such as"),
        (
            ["tcp:localhost:1", "--size", "0"],
            "--size 0 sends nothing on a stream, tcp:localhost:1; expected at",
        ),
        (["udp:localhost:1", "--size", "64KiB"], "--size 65536 does not fit into a datagram for udp:localho"),
        (
            ["tcp:localhost:1", "udp:localhost:2", "--count", "0"],
            "--count 0 would never get to 'udp:localhost:2",
        ),
        (["tls:localhost:1", "--cert", "x.pem"], "--cert and --key go together; expected both or neither"),
        (["tls:localhost:1", "--alpn", "h2,"], "--alpn '' is not a protocol name; expected 1 to 255 ASCII"),
        (["tls:localhost:1", "--server-name", "a..b"], "--server-name 'a..b' is not a host name; expected"),
        (["--config", "nowhere.toml"], "nowhere.toml: no such file; expected a configuration"),
        ([], "config.toml: none of its endpoints can be reached; expected at least one"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "config.toml").write_text('[endpoints]\ntcp = "tcp:0"')
    monkeypatch.chdir(tmp_path)
    assert main(["probe", *arguments]) == 2
    output = capsys.readouterr()
    assert not output.out
    skipped, line = ["", *output.err.splitlines()][-2:]
    assert message in line
    assert not skipped or skipped.startswith("skipped: endpoints.tcp: port 0 is a different port")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ca", "nowhere.pem"], "nowhere.pem: no such file"),
        (["--ca", "config.toml"], "config.toml: is not a certificate; expected PEM\n"),
        (["--cert", "x.pem", "--key", "x.key"], "x.pem: no such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "config.toml").touch()
    result = run_suite(tmp_path, "probe", "tls:localhost:1", *arguments, says=ONE_LINE)
    assert result.returncode == 2
    assert not result.stdout
    assert result.stderr.startswith(message)


def test_what_argparse_refuses_is_exit_2(tmp_path: Path) -> None:
    says = r".*not allowed with argument -4 \(usage: [^\n]*\)\n"
    result = run_suite(tmp_path, "probe", "tcp:localhost:1", "-4", "-6", says=says)
    assert result.returncode == 2


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_every_reactor_will_do(suite: RunningSuite, reactor: str) -> None:
    targets = [target_of(suite, endpoint) for endpoint in ("tcp", "udp", "tls", "unix")]
    result = run_suite(
        suite.directory,
        "--reactor",
        reactor,
        "probe",
        "--json",
        "--interval",
        "0",
        *targets,
        "udp:127.0.0.1:1",
    )
    *reports, refused = json.loads(result.stdout)["targets"]
    assert all(report["ok"] for report in reports)
    assert {failure["word"] for failure in refused["failures"]} == {"refused"}


# Pure parts.


def test_every_word_is_documented_with_its_meaning() -> None:
    page = (ROOT / "docs/probe.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert [(word, meaning) for word, meaning in rows if word in WORDS] == list(WORDS.items())


@given(st.integers(0, 200))
def test_every_error_of_the_system_has_a_word(number: int) -> None:
    assert from_errno(number).word in WORDS


def test_alerts_have_the_names_of_the_standard() -> None:
    """Python's own table lists those of the RFCs too."""
    for description in ssl.AlertDescription:
        number = int(description)
        if number not in (0, 114):  # close_notify; certificate_hash_value is of an unused extension
            ours = ALERTS[number].replace("canceled", "cancelled")
            theirs = description.name.removeprefix("ALERT_DESCRIPTION_").lower()
            assert ours == theirs


@given(st.binary(min_size=1, max_size=300), st.data())
def test_the_first_difference_is_found(sent: bytes, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(sent) - 1))
    returned = bytearray(sent)
    returned[offset] ^= data.draw(st.integers(1, 255))
    tail = data.draw(st.binary(max_size=10))
    assert first_difference(sent, bytes(returned[: offset + 1]) + tail) == offset
    assert first_difference(sent, sent + b"!") == len(sent)
    assert first_difference(sent, sent[:offset]) == offset


def test_a_mismatch_says_where_and_what() -> None:
    error = mismatch(b"abc", b"abX", before=100)
    assert (str(error), error.facts) == (
        "mismatch: at offset 102: expected 0x63, found 0x58",
        {"offset": 102},
    )
    assert str(mismatch(b"ab", b"abc")) == "mismatch: at offset 2: expected the end, found 0x63"
    assert str(mismatch(b"abc", b"ab")) == "mismatch: at offset 2: expected 0x63, found the end"


def test_a_failure_is_one_line() -> None:
    error = TargetError("dns", "a\nb\x1b[31m")
    error.target = "tcp:a\rb:1"
    assert str(error) == r"tcp:a\rb:1: dns: a\nb\x1b[31m"


def test_percentiles_of_a_known_distribution() -> None:
    uniform = [number / 1000 for number in range(1, 1001)]
    random.Random(7).shuffle(uniform)
    assert Times.of(uniform) == Times(0.001, 0.5005, 0.99, 1.0)
    assert Times.of([3.0]) == Times(3.0, 3.0, 3.0, 3.0)
    assert [percentile([1, 2, 3, 4], percent) for percent in (1, 25, 26, 50, 99, 100)] == [1, 1, 2, 2, 4, 4]


def test_percentiles_of_an_exponential_distribution() -> None:
    """With mean 1, the median is ln 2 and the 99th percentile ln 100; 100,000 values come close to both."""
    chance = random.Random(42)
    times = Times.of([chance.expovariate(1) for _ in range(100_000)])
    assert times.median == pytest.approx(0.6931, rel=0.02)
    assert times.p99 == pytest.approx(4.6052, rel=0.03)


def test_stats_of_nothing_are_no_loss() -> None:
    assert (ProbeStats().loss, ProbeStats().received, ProbeStats().summary()) == (None, 0, None)
    stats = ProbeStats()
    stats.sent = 4
    for seconds in (0.3, 0.1, 0.2):
        stats.record(seconds)
    assert (stats.received, stats.loss) == (3, 0.25)
    assert stats.summary() == Times(0.1, 0.2, 0.3, 0.3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("10s", 10),
        ("5m", 300),
        ("0.2", 0.2),
        (".5s", 0.5),
        ("2", 2),
        ("1h", 3600),
        ("1d", 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration("--timeout", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "1 s", "1e3", "nan", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="expected one such as"):
        duration("--timeout", text)


@pytest.mark.parametrize("text", ["1441m", "25h", "2d"])
def test_what_is_too_long(text: str) -> None:
    with pytest.raises(UsageError, match="is too long; expected 24h at the most"):
        duration("--timeout", text)


def test_sizes() -> None:
    assert [size("--size", text, 2**20) for text in ("0", "64", "64B", "64KiB", "1MiB")] == [
        0,
        64,
        64,
        65536,
        2**20,
    ]
    for text in ("", "-1", "1.5KiB", "1KB", "2MiB", "9" * 5000):
        with pytest.raises(UsageError, match="expected"):
            size("--size", text, 2**20)
