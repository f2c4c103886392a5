"""Answers, from a suite in a process of its own, to clients that share no code with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.running import PATIENCE, RunningSuite, read_to_end, running_on, wait_until

if sys.platform != "linux":
    pytest.skip("what is told is Linux's", allow_module_level=True)

TLS = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"

CONFIG = f"""
[endpoints]
tcp = {{ listen = "tcp:0", answer = "report" }}
tcp6 = {{ listen = "tcp6:0", answer = "report" }}
both = {{ listen = "tcp6:0:interface=", answer = "report" }}
tls = {{ listen = "{TLS}", answer = "report" }}
unix = {{ listen = "unix:report.sock", answer = "report" }}
proxied = {{ listen = "haproxy:tcp:0", answer = "report" }}
proxied-tls = {{ listen = "haproxy:{TLS}", answer = "report" }}
late = {{ listen = "tcp:0", answer = "report", faults = [{{ latency = "10ms" }}] }}
udp = {{ listen = "udp:0:interface=0.0.0.0", answer = "report" }}
udp6 = {{ listen = "udp6:0", answer = "report" }}
udp-late = {{ listen = "udp:0", answer = "report", faults = [{{ delay = "10ms" }}] }}
udp-short = {{ listen = "udp:0", answer = "report", limits = {{ full_reports = [] }} }}
udp-daytime = {{ listen = "udp:0", answer = "daytime" }}
udp-time = {{ listen = "udp:0", answer = "time" }}
udp-chargen = {{ listen = "udp:0", answer = "chargen" }}
udp-discard = {{ listen = "udp:0", answer = "discard" }}
discard = {{ listen = "tcp:0", answer = "discard" }}
chargen = {{ listen = "tcp:0", answer = "chargen", limits = {{ bytes = "1MiB" }} }}
chargen-tls = {{ listen = "{TLS}", answer = "chargen", limits = {{ bytes = "1MiB" }} }}
endless = {{ listen = "tcp:0", answer = "chargen" }}
daytime = {{ listen = "tcp:0", answer = "daytime" }}
time = {{ listen = "tcp:0", answer = "time" }}
qotd = {{ listen = "tcp:0", answer = "qotd" }}
"""

#: One version of Twisted's own reactors stands for all of them.
REACTORS = ("echo-engine", "select")


@pytest.fixture(scope="module", params=REACTORS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POD_NAME", "echo-1")
        patch.setenv("NODE_NAME", "node-1")
        with running_on(request.param, tmp_path_factory.mktemp("suite"), CONFIG) as running:
            yield running


def whole(suite: RunningSuite, endpoint: str, sent: bytes = b"") -> bytes:
    """All that *endpoint* answers until its end."""
    with suite.connect(endpoint) as sock:
        if sent:
            sock.sendall(sent)
        return read_to_end(sock.recv)


def over_tls(suite: RunningSuite, endpoint: str, header: bytes = b"") -> bytes:
    with suite.connect(endpoint) as sock:
        sock.sendall(header)
        with suite.client_context().wrap_socket(sock, server_hostname="localhost") as client:
            return read_to_end(client.recv)


def report(data: bytes) -> dict[str, Any]:
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    found: dict[str, Any] = json.loads(data)
    assert found["version"] == 1
    assert found["host"]["name"] == socket.gethostname()
    return found


def test_a_report_over_tcp(suite: RunningSuite) -> None:
    with suite.connect("tcp") as sock:
        found = report(read_to_end(sock.recv))
        assert found["peer"] == {"host": "127.0.0.1", "port": sock.getsockname()[1]}
        assert found["local"] == {"host": "127.0.0.1", "port": sock.getpeername()[1]}
        # The client's kernel may have another opinion of what it may send, but not of what was agreed.
        assert ("timestamps" in found["tcp"]["options"]) is bool(sock.getsockopt(6, 11, 104)[5] & 1)
    assert (found["endpoint"], found["transport"]) == ("tcp", "TCP")
    assert found["tcp"]["mss"] > 0
    assert 0 < found["tcp"]["rtt"] < PATIENCE
    assert found["host"] == {"name": socket.gethostname(), "pod": "echo-1", "node": "node-1"}
    assert not {"tls", "proxy", "process", "faults"} & found.keys()


@pytest.mark.parametrize("endpoint", ["tcp", "tcp6", "both"])
def test_the_fields_of_the_ip_header(suite: RunningSuite, endpoint: str) -> None:
    """As the client has set them for its packets, over IPv4, IPv6, and IPv4 on a socket for both."""
    port = suite.addresses[endpoint][1]
    v6 = endpoint == "tcp6"
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET) as sock:
        sock.settimeout(PATIENCE)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xB8)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 42)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 42)
        sock.connect(("::1" if v6 else "127.0.0.1", port))
        found = report(read_to_end(sock.recv))
    assert found["ip"] == {"tos": 0xB8, "dscp": 46, "ecn": "Not-ECT", "ttl": 42}


@pytest.mark.parametrize("endpoint", ["udp", "udp6"])
def test_a_report_over_udp(suite: RunningSuite, endpoint: str) -> None:
    with suite.connect(endpoint) as sock:
        if endpoint == "udp":
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x03)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 42)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x03)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 42)
        sock.send(b"?")
        found = report(sock.recv(65_535))
        assert found["peer"]["port"] == sock.getsockname()[1]
        assert found["local"] == dict(zip(("host", "port"), sock.getpeername(), strict=False))
    assert (found["transport"], found["received"]) == ("UDP", 1)
    assert found["ip"] == {"tos": 3, "dscp": 0, "ecn": "CE", "ttl": 42}


def test_a_report_over_udp_that_comes_late(suite: RunningSuite) -> None:
    with suite.connect("udp-late") as sock:
        sock.send(b"?")
        assert report(sock.recv(65_535))["endpoint"] == "udp-late"


def test_a_report_is_no_longer_than_the_datagram(suite: RunningSuite) -> None:
    """Parts are left out, and named; where there is no room for any, there is no answer."""
    with suite.connect("udp-short") as sock:
        sock.send(bytes(10))
        sock.send(bytes(150))
        first = sock.recv(65_535)
        sock.send(bytes(1400))
        second = sock.recv(65_535)
    assert len(first) <= 150
    found = json.loads(first)
    assert found["endpoint"] == "udp-short"
    assert found["left_out"][-1] == "host"
    assert "left_out" not in report(second)


def test_a_report_over_a_unix_socket(suite: RunningSuite) -> None:
    found = report(whole(suite, "unix"))
    assert found["process"] == {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "command": Path("/proc/self/comm").read_text().rstrip("\n"),
    }
    assert found["transport"] == "UNIX"
    assert found["local"] == {"path": suite.addresses["unix"]}
    assert "tcp" not in found


def test_a_report_over_tls(suite: RunningSuite) -> None:
    found = report(over_tls(suite, "tls"))
    assert found["transport"] == "TLS"
    assert found["tls"]["sni"] == "localhost"
    assert found["tls"]["client_hello"]["readable"]
    assert found["tcp"]["mss"] > 0
    assert found["ip"]["ttl"] > 0


def test_a_report_behind_a_proxy(suite: RunningSuite) -> None:
    line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 1000, 443)
    block = addresses + b"\x02\0\x0bexample.org"
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(block)) + block
    plain = report(whole(suite, "proxied", line))
    shaken = report(over_tls(suite, "proxied-tls", header))
    for found in (plain, shaken):
        assert found["peer"] == {"host": "192.0.2.1", "port": 1000}
        assert found["local"] == {"host": "192.0.2.2", "port": 443}
        assert found["proxy"]["peer"]["host"] == "127.0.0.1"
    assert plain["proxy"]["version"] == 1
    assert shaken["proxy"]["tlvs"][0]["text"] == "example.org"
    assert shaken["tls"]["sni"] == "localhost"


def test_a_report_under_faults(suite: RunningSuite) -> None:
    assert "latency" in report(whole(suite, "late"))["faults"]


def test_a_client_that_speaks_first(suite: RunningSuite) -> None:
    """What it sends is no reason for a reset, which could cost it the report."""
    for _ in range(20):
        assert report(whole(suite, "tcp", b"GET / HTTP/1.0\r\n\r\n" * 100))["endpoint"] == "tcp"


def test_discard(suite: RunningSuite) -> None:
    with suite.connect("discard") as sock, suite.connect("udp-discard") as datagrams:
        datagrams.send(b"x" * 100)
        sock.sendall(bytes(2**20))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        datagrams.setblocking(False)
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)


def test_chargen(suite: RunningSuite) -> None:
    lines = whole(suite, "chargen")
    assert len(lines) == 2**20
    assert lines == over_tls(suite, "chargen-tls")
    full = lines.split(b"\r\n")[:-1]
    assert {len(line) for line in full} == {72}
    assert all(after[:-1] == before[1:] for before, after in pairwise(full))
    with suite.connect("udp-chargen") as sock:
        for size in (0, 1, 512, 1000):
            sock.send(bytes(size))
            assert len(sock.recv(65_535)) == min(size, 512)


def test_chargen_to_a_client_that_does_not_read(suite: RunningSuite) -> None:
    """It costs the suite no memory to speak of, and disturbs nobody."""
    before = suite.memory()
    socks = [suite.connect("endless") for _ in range(20)]
    for sock in socks:
        assert sock.recv(1) == b" "
    for _ in range(20):
        assert len(whole(suite, "time")) == 4
    assert suite.memory() - before < 20 * 2**20
    for sock in socks:
        sock.close()


def test_the_time(suite: RunningSuite) -> None:
    before = int(time.time())
    with suite.connect("udp-time") as sock:
        sock.send(b"")  # shorter than the answer
        sock.send(bytes(4))
        answers = [whole(suite, "time"), sock.recv(100)]
    for answer in answers:
        seconds = int.from_bytes(answer, "big") - 2_208_988_800
        assert len(answer) == 4
        assert before <= seconds <= time.time()


def test_the_day_and_the_quote(suite: RunningSuite) -> None:
    with suite.connect("udp-daytime") as sock:
        sock.send(bytes(100))
        for said in (whole(suite, "daytime"), sock.recv(100)):
            assert said.endswith(b"-UTC\r\n")
            assert str(time.gmtime().tm_year).encode() in said
    assert whole(suite, "qotd").endswith(b"\r\n")


def test_what_is_announced(suite: RunningSuite) -> None:
    assert any(line.startswith("tcp ") and line.endswith("(answer: report)") for line in suite.lines)


RELOADED = """
[endpoints]
tcp = {{ listen = "tcp:0"{answer} }}
tls = {{ listen = "{TLS}"{answer} }}
udp = {{ listen = "udp:0"{answer} }}
"""


def test_a_reload_changes_the_answer_and_nothing_else(tmp_path: Path) -> None:
    def config(answer: str) -> str:
        return RELOADED.format(answer=f', answer = "{answer}"' if answer else "", TLS=TLS)

    def change(suite: RunningSuite, answer: str) -> None:
        known = len(suite.errors)
        (tmp_path / "config.toml").write_text(config(answer))
        suite.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any("reloaded: " in line for line in suite.errors[known:]), "a reload")

    with running_on("echo-engine", tmp_path, config("")) as suite, ExitStack() as stack:
        datagrams, sock = (stack.enter_context(suite.connect(name)) for name in ("udp", "tcp"))
        wrapped = suite.client_context().wrap_socket(suite.connect("tls"), server_hostname="localhost")
        shaken = stack.enter_context(wrapped)
        sock.sendall(b"1")
        shaken.sendall(b"1")
        assert (sock.recv(1), shaken.recv(1)) == (b"1", b"1")
        for answer in ("report", "time", "report"):
            change(suite, answer)
            for opened in (sock, shaken):
                opened.sendall(b"still an echo")
                assert opened.recv(100) == b"still an echo"
            datagrams.send(bytes(1400))
            answers = [whole(suite, "tcp"), over_tls(suite, "tls"), datagrams.recv(65_535)]
            if answer == "report":
                assert [report(each)["transport"] for each in answers] == ["TCP", "TLS", "UDP"]
                assert json.loads(answers[1])["tls"]["client_hello"] is not None
            else:
                assert [len(each) for each in answers] == [4, 4, 4]
        change(suite, "")
        datagrams.send(b"echo")
        assert datagrams.recv(100) == b"echo"
        with suite.connect("tcp") as new:
            new.sendall(b"2")
            assert new.recv(1) == b"2"
