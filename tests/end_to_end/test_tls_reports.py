"""What is reported of real clients, on both kinds of reactors, with faults, and behind PROXY headers."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.client.probe.probing import PATIENT
from tests.hellos import RECORDED
from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    client_program,
    optional_program,
    read_to_end,
    run_suite,
    running,
)
from tests.tshark import Reading, read_by_tshark

CONFIG = """
[endpoints.tls]
answer = "report"
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { alpn = ["http/1.1"], client_ca = "certs/ca.pem", client_auth = "optional" }

[endpoints.faulty]
answer = "report"
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
faults = [{ fragment = "50B" }, { latency = "1ms" }, { end = "fin" }]

[endpoints.proxied]
answer = "report"
listen = "haproxy:ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
"""

everywhere = pytest.mark.parametrize("suite", ["echo-engine", "select"], indirect=True)
each = pytest.mark.parametrize("endpoint", ["tls", "faulty"])


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("suite")
    with running(directory, CONFIG, "--reactor", request.param) as suite:
        yield suite


def report_to(client: TLSClient) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(read_to_end(client.recv))["tls"]
    client.sock.close()
    return report


@everywhere
@each
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_the_standard_librarys_client(suite: RunningSuite, endpoint: str, version: str) -> None:
    context = suite.client_context(ssl.TLSVersion[version.replace(".", "_")])
    context.set_alpn_protocols(["http/1.1"])
    client = TLSClient(suite.connect(endpoint), context)
    cipher = client.tls.cipher()
    report = report_to(client)
    assert (report["version"], report["sni"]) == (version, "localhost")
    assert cipher is not None
    assert report["suite"] == cipher[0]
    assert report["alpn"] == ("http/1.1" if endpoint == "tls" else None)
    hello = report["client_hello"]
    assert (hello["sni"], hello["alpn"]) == ("localhost", ["http/1.1"])
    assert sum(hello["records"]) == hello["length"]
    assert sum(hello["reads"]) == hello["length"] + 5 * len(hello["records"])
    if sys.platform == "linux":
        assert hello["segments"] >= 1


@everywhere
@each
def test_a_client_certificate(suite: RunningSuite, endpoint: str) -> None:
    context = suite.client_context()
    certs = suite.directory / "certs"
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    shown = report_to(TLSClient(suite.connect(endpoint), context))["client_certificate"]
    if endpoint == "tls":
        assert "OU=client" in shown["subject"]
        assert (shown["verified"], shown["error"]) == (True, None)
    else:
        assert shown is None  # it does not ask for one


@everywhere
@each
def test_a_hello_in_two_segments(suite: RunningSuite, endpoint: str) -> None:
    """Which the kernel may have put together before they are read."""
    client, encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = suite.client_context().wrap_bio(client, encrypted, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = encrypted.read()
    with suite.connect(endpoint) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(hello[:100])
        sock.sendall(hello[100:])
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.write(sock.recv(65536))
        sock.sendall(encrypted.read())
        data = b""
        with suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError, ssl.SSLError):
            while True:
                try:
                    part = tls.read(65536)
                    data += part
                    if not part:
                        break
                except ssl.SSLWantReadError:
                    if received := sock.recv(65536):
                        client.write(received)
                    else:
                        client.write_eof()
    report = json.loads(data)["tls"]["client_hello"]
    assert report["reads"] in ([len(hello)], [100, len(hello) - 100])
    if sys.platform == "linux":
        assert report["segments"] >= 2  # more, if one has been sent again


@everywhere
def test_behind_a_proxy_header(suite: RunningSuite) -> None:
    sock = suite.connect("proxied")
    sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
    hello = report_to(TLSClient(sock, suite.client_context()))["client_hello"]
    assert hello["sni"] == "localhost"
    assert hello["segments"] is None
    assert sum(hello["reads"]) == hello["length"] + 5


# Real clients, and tshark's reading of what they have sent.


class Relay:
    """Passes one connection on, and keeps what the client has sent.

    :ivar sent: the bytes.
    """

    def __init__(self, address: Any) -> None:
        self.sent = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self._address = address
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def _serve(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:  # no client has come, because it is not installed
            return
        with client, socket.create_connection(self._address, PATIENCE) as server:
            back = threading.Thread(target=self._pass, args=(server, client))
            back.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    self.sent += data
                    server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join(PATIENCE)

    @staticmethod
    def _pass(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # which ends an `accept`
        self._thread.join(PATIENCE)
        self._listening.close()


@contextmanager
def relay(address: Any) -> Iterator[Relay]:
    made = Relay(address)
    try:
        yield made
    finally:
        made.close()


def openssl(port: int, ca: Path) -> list[str]:
    return [
        client_program("openssl"),
        "s_client",
        "-quiet",
        "-connect",
        f"localhost:{port}",
        "-CAfile",
        str(ca),
    ]


def gnutls(port: int, ca: Path) -> list[str]:
    return [
        client_program("gnutls-cli"),
        "--logfile=/dev/null",
        f"--x509cafile={ca}",
        "-p",
        str(port),
        "localhost",
    ]


def curl(port: int, ca: Path) -> list[str]:
    return [client_program("curl"), "-s", "--http0.9", "--cacert", str(ca), f"https://localhost:{port}/"]


def node(port: int, ca: Path) -> list[str]:
    script = (
        f"const s = require('tls').connect({{port: {port}, host: 'localhost', servername: 'localhost',"
        f" ca: require('fs').readFileSync('{ca}')}}); s.pipe(process.stdout)"
    )
    return [optional_program("node"), "-e", script]


@pytest.mark.parametrize("suite", ["echo-engine"], indirect=True)
@pytest.mark.parametrize(
    ("endpoint", "command"),
    [("tls", openssl), ("tls", gnutls), ("tls", curl), ("tls", node), ("faulty", openssl)],
)
def test_the_report_is_what_tshark_reads(
    suite: RunningSuite, tmp_path: Path, endpoint: str, command: Callable[[int, Path], list[str]]
) -> None:
    with relay(suite.addresses[endpoint]) as passed:
        run = subprocess.run(
            command(passed.port, suite.directory / "certs/ca.pem"),
            input=b"",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    begin, end = run.stdout.index(b"{"), run.stdout.rindex(b"}") + 1
    report = json.loads(run.stdout[begin:end])["tls"]["client_hello"]
    (reading,) = read_by_tshark(tmp_path, [passed.sent])
    assert from_report(report) == {key: reading[key] for key in from_report(report)}


@everywhere
@each
def test_probe_shows_it(suite: RunningSuite, endpoint: str) -> None:
    host, port = suite.addresses[endpoint]
    target = f"tls:{host}:{port}"
    result = run_suite(suite.directory, "probe", "--report", *PATIENT, target)
    assert result.returncode == 0
    first, *lines = result.stdout.splitlines()
    assert first == f"report of {target}"
    assert f"  endpoint    {endpoint}" in lines
    assert any(re.fullmatch(r" +ja4 +t13i[0-9]{4}00_[0-9a-f]{12}_[0-9a-f]{12}", line) for line in lines)


LOAD_BALANCER = """
defaults
    mode tcp
    timeout connect 60s
    timeout client 60s
    timeout server 60s

frontend front
    bind fd@{fileno} ssl crt {directory}/both.pem
    default_backend back

backend back
    server one 127.0.0.1:{port} ssl verify none sni str(backend.example) alpn http/1.1
"""


@pytest.mark.parametrize("suite", ["echo-engine"], indirect=True)
def test_what_a_load_balancer_sends(suite: RunningSuite, tmp_path: Path) -> None:
    """The client's TLS ends at HAProxy, which has another connection to the endpoint, with its own TLS."""
    certs = suite.directory / "certs"
    both = (certs / "server.pem").read_text() + (certs / "server.key").read_text()
    (tmp_path / "both.pem").write_text(both)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # where a client may wait for HAProxy
        port, fileno = suite.addresses["tls"][1], listening.fileno()
        config = tmp_path / "haproxy.cfg"
        config.write_text(LOAD_BALANCER.format(fileno=fileno, directory=tmp_path, port=port))
        command = [client_program("haproxy"), "-db", "-f", str(config)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, pass_fds=[fileno], stdout=pipe, stderr=subprocess.STDOUT) as haproxy:
            try:
                target = f"tls:127.0.0.1:{listening.getsockname()[1]}"
                result = run_suite(suite.directory, "probe", "--report", "--json", *PATIENT, target)
            finally:
                haproxy.kill()
    (found,) = json.loads(result.stdout)["targets"]
    tls = found["report"]["tls"]
    assert (tls["sni"], tls["alpn"]) == ("backend.example", "http/1.1")
    assert tls["client_hello"]["sni"] == "backend.example"


def test_the_clients_that_are_recorded_are_more() -> None:
    assert {"openssl", "gnutls", "curl", "node"} < {recorded.client for recorded in RECORDED}


def from_report(report: dict[str, Any]) -> Reading:
    """What tshark has fields for, as it has them."""

    def numbers(key: str) -> list[int]:
        return [int(entry["id"], 0) for entry in report[key]]

    found: Reading = {
        "length": [report["length"] - 4],
        "version": [int(report["legacy_version"]["id"], 0)],
        "suites": numbers("suites"),
        "extensions": numbers("extensions"),
        "extension_lengths": [entry["length"] for entry in report["extensions"]],
        "name": [report["sni"]] if report["sni"] else [],
        "alpn": report["alpn"],
        "versions": numbers("versions"),
        "groups": numbers("groups"),
        "key_share_groups": numbers("key_shares"),
        "key_share_lengths": [entry["length"] for entry in report["key_shares"]],
        "signatures": numbers("signature_algorithms") + numbers("signature_algorithms_cert"),
        "ja3": [report["ja3"]],
        "ja3_hash": [report["ja3_hash"]],
    }
    return {key: value for key, value in found.items() if value}
