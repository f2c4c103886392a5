"""The gallery as it is served: what each specimen does on the wire, seen by clients that share no code."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from suite.gallery.specimens import SPECIMENS
from tests.running import PATIENCE, RunningSuite, client_program, read_to_end, running, wait_until

CONFIG = """
[gallery]
ports = 0
ca = "run/ca.pem"
"""

#: Specimens that every build of OpenSSL refuses, whatever its security level; the others are seen otherwise.
REFUSED = (
    "expired",
    "not-yet-valid",
    "wrong-host",
    "no-san",
    "wildcard-too-deep",
    "ip-in-dns",
    "self-signed",
    "untrusted-root",
    "incomplete-chain",
    "expired-intermediate",
    "ca-false",
    "name-constraints",
    "path-length",
    "ca-key-usage",
    "wrong-usage",
    "unknown-critical-extension",
    "rc4",
    "null",
    "client-cert-missing",
)


class Visitor:
    """A client of a running gallery, which trusts its CA."""

    def __init__(self, suite: RunningSuite) -> None:
        self.suite = suite
        self.index = suite.addresses["gallery-index"]
        self.manifest: dict[str, Any] = json.loads(self.get("/gallery.json"))
        self.ports = {entry["name"]: entry["port"] for entry in self.manifest["specimens"]}

    def get(self, path: str) -> bytes:
        host, port = self.index
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=PATIENCE) as response:
            content: bytes = response.read()
        return content

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.manifest["ca"])
        context.set_alpn_protocols(["http/1.1"])
        return context

    def connect(
        self, port: int, name: str = "localhost", context: ssl.SSLContext | None = None
    ) -> ssl.SSLSocket:
        """A connection whose end without close_notify is an error."""
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        try:
            return (context or self.context()).wrap_socket(
                sock, server_hostname=name, suppress_ragged_eofs=False
            )
        except BaseException:
            sock.close()
            raise

    def echoes(self, port: int, name: str = "localhost") -> bool:
        """Whether bytes come back; raises what the client objects to."""
        with closing(self.connect(port, name)) as connection:
            connection.sendall(b"hello")
            return connection.recv(5) == b"hello"


def trusting() -> ssl.SSLContext:
    """A context that believes whatever it is shown, and knows old versions and weak suites."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return context


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    with running(tmp_path_factory.mktemp("gallery"), CONFIG) as suite:
        yield Visitor(suite)


def test_manifest_names_every_specimen(visitor: Visitor) -> None:
    served = [entry["name"] for entry in visitor.manifest["specimens"]]
    left_out = [entry["name"] for entry in visitor.manifest["left_out"]]
    assert sorted(served + left_out) == sorted(specimen.name for specimen in SPECIMENS)
    assert all(entry["reason"] for entry in visitor.manifest["left_out"])
    entry = next(each for each in visitor.manifest["specimens"] if each["name"] == "expired")
    assert entry["sni"] == "expired.localhost"
    assert entry["must"] == "refuse"
    assert entry["clause"] == "RFC 5280, section 4.1.2.5"
    assert entry["port"] == visitor.suite.addresses["gallery-expired"][1]
    assert visitor.manifest["sni_port"] == visitor.suite.addresses["gallery-sni"][1]
    assert visitor.manifest["version"] == 1


def test_index_is_for_people_and_has_the_ca(visitor: Visitor) -> None:
    page = visitor.get("/").decode()
    assert "not valid before next month" in page
    assert str(visitor.ports["expired"]) in page
    assert visitor.get("/ca.pem").decode() == visitor.manifest["ca"]
    assert (visitor.suite.directory / "run/ca.pem").read_text() == visitor.manifest["ca"]
    assert x509.load_der_x509_crl(visitor.get("/ca.crl")).is_signature_valid is not None
    with pytest.raises(urllib.error.HTTPError, match="404"):
        visitor.get("/etc/passwd")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(visitor: Visitor, name: str) -> None:
    for port, asked in (
        (visitor.ports[name], "localhost"),
        (visitor.manifest["sni_port"], f"{name}.localhost"),
    ):
        with pytest.raises(ssl.SSLError):
            visitor.echoes(port, asked)


ACCEPTED = [each.name for each in SPECIMENS if each.must == "accept"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(visitor: Visitor, name: str) -> None:
    assert visitor.echoes(visitor.ports[name])
    assert visitor.echoes(visitor.manifest["sni_port"], f"{name}.localhost")


@pytest.mark.parametrize("name", [specimen.name for specimen in SPECIMENS if specimen.behaviour is None])
def test_same_certificate_by_name_as_on_its_port(visitor: Visitor, name: str) -> None:
    """The first label counts, in any domain."""
    if name not in visitor.ports or name in ("ml-dsa", "10000-sans"):
        pytest.skip("not for every build of OpenSSL")
    shown = []
    for port, asked in (
        (visitor.ports[name], "localhost"),
        (visitor.manifest["sni_port"], f"{name}.example.org"),
    ):
        with closing(visitor.connect(port, asked, trusting())) as connection:
            shown.append(connection.getpeercert(binary_form=True))
    named = name in ("cn-only", "nul-in-name", "partial-wildcard", "wildcard-too-deep")
    assert (shown[0] == shown[1]) is not named


def test_no_name_is_good_and_an_unknown_one_an_alert(visitor: Visitor) -> None:
    assert visitor.echoes(visitor.manifest["sni_port"], "127.0.0.1")  # no SNI
    assert visitor.echoes(visitor.manifest["sni_port"], "localhost")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        visitor.echoes(visitor.manifest["sni_port"], "expird.localhost")


@pytest.mark.parametrize(
    ("name", "version"), [("tls-v1-2", "TLSv1.2"), ("tls-v1-3", "TLSv1.3"), ("cbc", "TLSv1.2")]
)
def test_versions(visitor: Visitor, name: str, version: str) -> None:
    with closing(visitor.connect(visitor.ports[name], "localhost")) as connection:
        assert connection.version() == version


def test_old_versions_are_refused_by_number(visitor: Visitor) -> None:
    """What they speak, a client can tell even if it does not speak it."""
    for name, version in (("tls-v1-0", b"\x03\x01"), ("tls-v1-1", b"\x03\x02")):
        if name not in visitor.ports:
            continue
        context = trusting()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        with socket.create_connection(("127.0.0.1", visitor.ports[name]), PATIENCE) as sock:
            sock.sendall(outgoing.read())
            answer = sock.recv(65536)
        assert answer[9:11] == version or answer[:1] == b"\x15"  # or it offers none of these at all


def test_static_rsa_has_no_key_exchange(visitor: Visitor) -> None:
    with closing(visitor.connect(visitor.ports["static-rsa"], context=trusting())) as connection:
        cipher = connection.cipher()
    assert cipher is not None
    assert cipher[0].startswith("AES")


def tlslite_client(port: int, name: str = "localhost", **settings: Any) -> Any:
    """A handshake by tlslite-ng, which knows suites that OpenSSL does not."""
    tlslite = pytest.importorskip("tlslite.api")
    wanted = tlslite.HandshakeSettings()
    wanted.maxVersion, wanted.minKeySize = (3, 3), 512
    for key, value in settings.items():
        setattr(wanted, key, value)
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection = tlslite.TLSConnection(sock)
    try:
        connection.handshakeClientCert(settings=wanted, serverName=name)
    except BaseException:
        sock.close()
        raise
    return connection


@pytest.mark.parametrize(("name", "cipher"), [("rc4", "rc4"), ("3des", "3des"), ("null", None)])
def test_suites_that_are_no_longer_spoken(visitor: Visitor, name: str, cipher: str | None) -> None:
    for port, asked in (
        (visitor.ports[name], "localhost"),
        (visitor.manifest["sni_port"], f"{name}.localhost"),
    ):
        connection = tlslite_client(
            port, asked, cipherNames=["rc4", "3des", "null"], macNames=["sha", "sha256"]
        )
        data = bytes(range(256)) * (80 if name == "rc4" else 2)  # several records; this client is slow
        connection.write(data)
        assert bytes(connection.read(max=len(data), min=len(data))) == data
        assert connection.getCipherName() == cipher
        connection.close()


def test_small_group(visitor: Visitor) -> None:
    connection = tlslite_client(visitor.ports["dh-small"])
    assert connection.dhGroupSize == 1024
    connection.write(b"hello")
    assert bytes(connection.read(max=5, min=5)) == b"hello"
    connection.close()


def test_downgrade_sentinel(visitor: Visitor) -> None:
    """A client that could have spoken TLS 1.3 finds the mark; one that could not is served."""
    errors = pytest.importorskip("tlslite.errors")
    with pytest.raises(errors.TLSLocalAlert, match="downgrade protection"):
        tlslite_client(visitor.ports["downgrade-sentinel"], maxVersion=(3, 4))
    tlslite_client(visitor.ports["downgrade-sentinel"]).close()
    with pytest.raises(ssl.SSLError):
        visitor.echoes(visitor.ports["downgrade-sentinel"])


def test_no_close_notify(visitor: Visitor) -> None:
    context = visitor.context()
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    for name, ends_well in (("good", True), ("no-close-notify", False)):
        with closing(visitor.connect(visitor.ports[name], context=context)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            page = b""
            with nullcontext() if ends_well else pytest.raises(ssl.SSLError):
                page = read_to_end(connection.recv)
            assert (name.encode() in page) is ends_well


def test_client_is_asked_for_a_certificate(visitor: Visitor) -> None:
    """It may do without one at ``client-cert``; any is good enough at ``client-cert-missing``."""
    connection = tlslite_client(visitor.ports["client-cert"], maxVersion=(3, 3))
    connection.close()
    openssl = client_program("openssl")
    for name in ("client-cert", "client-cert-missing"):
        found = s_client(openssl, visitor.ports[name], "-tls1_2")
        assert "Client Certificate Types" in found or "client certificate CA names" in found


def s_client(openssl: str, port: int, *options: str, send: str = "") -> str:
    done = subprocess.run(
        [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", *options],
        input=send,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "status"),
    [("stapled", "good"), ("revoked", "revoked"), ("stale-staple", "good"), ("must-staple", None)],
)
def test_staples(visitor: Visitor, name: str, status: str | None) -> None:
    found = s_client(client_program("openssl"), visitor.ports[name], "-status")
    if status is None:
        assert "no response sent" in found
    else:
        assert f"Cert Status: {status}" in found


def test_renegotiates(visitor: Visitor) -> None:
    # It would end before the request has come, unless it waits for the end of an answer.
    request = "GET / HTTP/1.0\r\n\r\n"
    openssl = client_program("openssl")
    found = s_client(openssl, visitor.ports["renegotiates"], "-state", "-ign_eof", send=request)
    assert "read hello request" in found.lower()


def test_alpn_mismatch(visitor: Visitor) -> None:
    """The ServerHello selects what no client offers; TLS 1.2 shows it in the clear."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = visitor.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", visitor.ports["alpn-mismatch"]), PATIENCE) as sock:
        sock.sendall(outgoing.read())
        assert b"echo-suite/unoffered" in sock.recv(65536)


def test_split_hello(visitor: Visitor) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = visitor.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", visitor.ports["split-hello"]), PATIENCE) as sock:
        sock.sendall(outgoing.read())
        answer = sock.recv(18, socket.MSG_WAITALL)
    assert [answer[at : at + 5] for at in (0, 6, 12)] == [b"\x16\x03\x03\0\1"] * 3


def test_hang_in_handshake(visitor: Visitor) -> None:
    """Nothing comes, and nothing ends, for as long as a client waits."""
    sock = socket.create_connection(("127.0.0.1", visitor.ports["hang-in-handshake"]), PATIENCE)
    with sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            visitor.context().wrap_socket(sock, server_hostname="localhost")


def test_big_chain_is_longer_than_a_record(visitor: Visitor) -> None:
    openssl = client_program("openssl")
    found = s_client(openssl, visitor.ports["big-chain"], "-showcerts")
    assert len(found) > 2**14


def test_a_page_for_browsers(visitor: Visitor, tmp_path: Path) -> None:
    """Real curl gets a page that it can be judged by, and refuses what it should."""
    curl = client_program("curl")
    (tmp_path / "ca.pem").write_text(visitor.manifest["ca"])

    def fetch(name: str) -> subprocess.CompletedProcess[str]:
        command = [
            curl,
            "-sS",
            "--cacert",
            str(tmp_path / "ca.pem"),
            f"https://localhost:{visitor.ports[name]}/",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert "<h1>good</h1>" in fetch("good").stdout
    assert fetch("expired").returncode == 60


def test_reload_keeps_the_ca_and_connections(tmp_path: Path) -> None:
    config = CONFIG + 'only = ["good", "expired"]\n'
    with running(tmp_path, config, asked_for=['"reason": "connections"']) as suite:
        visitor = Visitor(suite)
        assert [*visitor.ports] == ["good", "expired"]
        with closing(visitor.connect(visitor.ports["good"])) as connection:
            (tmp_path / "config.toml").write_text(config + "[gallery.limits]\nconnections = 1\n")
            suite.process.send_signal(signal.SIGHUP)
            wait_until(lambda: any("reloaded" in line for line in suite.errors), "it reloads")
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            assert Visitor(suite).manifest == visitor.manifest
            with pytest.raises((ssl.SSLError, OSError)):  # the one that is allowed is there
                visitor.echoes(visitor.ports["good"])


def test_faults_and_answers_are_those_of_every_endpoint(tmp_path: Path) -> None:
    """Those that need records to be written again do not strike where that is impossible."""
    config = CONFIG + (
        'only = ["good", "cbc", "3des"]\nanswer = "discard"\n'
        'faults = [{ end = "fin" }, { fragment = "64B" }]\n'
    )
    with running(tmp_path, config) as suite:
        visitor = Visitor(suite)
        context = visitor.context()
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        for name in ("good", "cbc"):
            with closing(visitor.connect(visitor.ports[name], context=context)) as connection:
                connection.sendall(b"hello")
                sock = connection.detach()
                socket.socket(fileno=sock).close()
        messages = [event["message"] for event in suite.events]
        wait_until(
            lambda: any("fragment does not strike" in event["message"] for event in suite.events),
            "a fault that cannot strike is logged",
        )
        assert not any("Traceback" in message for message in messages)
