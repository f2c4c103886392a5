"""What a report says about TLS, in memory: with OpenSSL's client, and with bytes of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from suite import certs
from suite.answers.tls_report import MOST, hello_report, tls_report
from suite.client_hello import EARLY_DATA, read_client_hello
from suite.config.faults import Fault, Kind
from suite.config.tls import TLS
from suite.endpoints.tls import ContextFactory
from suite.engine.hello import MOST_READS, HelloTLS, ReceivedHello
from suite.engine.tls import TLSServer
from suite.faults.tls import FaultyHelloTLS, FaultyTLS
from tests.engine.test_stream import context_of
from tests.faults import rfc8448
from tests.faults.tls_wire import VERSIONS, Faulty, Wire
from tests.hellos import RECORDED
from tests.test_client_hello import cut, hello_with

MakeWire = Callable[..., Wire]

both = pytest.mark.parametrize("transport", [HelloTLS, FaultyHelloTLS])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs")
    certs.mint(made)
    return made


@pytest.fixture(scope="module")
def context(directory: Path) -> SSL.Context:
    return context_of(directory, TLS(alpn=("h2",), client_ca=directory / "ca.pem", client_auth="optional"))


@pytest.fixture
def wire(context: SSL.Context) -> Iterator[MakeWire]:
    made = []

    def make(*faults: Fault, **options: Any) -> Wire:
        made.append(Wire(options.pop("context", context), Faulty(*faults), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def client_of(version: str = "1.3", **options: Any) -> SSL.Context:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_min_proto_version(VERSIONS[version])
    client.set_max_proto_version(VERSIONS[version])
    if alpn := options.get("alpn"):
        client.set_alpn_protos(alpn)
    if directory := options.get("certificate"):
        client.use_certificate_file(str(directory / "client.pem"))
        client.use_privatekey_file(str(directory / "client.key"))
    return client


def reported(wire: Wire) -> dict[str, Any]:
    """The report on *wire*, once it has shaken hands, as JSON brings it to a client."""
    wire.run()
    assert wire.shaken
    report: dict[str, Any] = json.loads(json.dumps(tls_report(wire.transport)))
    return report


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_a_report(wire: MakeWire, transport: type[TLSServer], version: str) -> None:
    made = wire(transport=transport, client=client_of(version, alpn=[b"h2", b"http/1.1"]))
    report = reported(made)
    assert report["version"] == f"TLSv{version}"
    assert report["suite"] == made.tls.get_cipher_name()
    assert report["sni"] == "localhost"
    assert report["alpn"] == "h2"
    assert (report["resumed"], report["early_data_offered"]) == (False, False)
    assert report["client_certificate"] is None
    hello = report["client_hello"]
    assert hello["readable"]
    assert (hello["sni"], hello["alpn"]) == ("localhost", ["h2", "http/1.1"])
    assert f"TLS {version}" in [each.get("name") for each in hello["versions"]]
    assert hello["records"] == [hello["length"]]
    assert hello["reads"] == [hello["length"] + 5]
    assert (hello["read_count"], hello["segments"], hello["retried"]) == (1, None, False)
    assert hello["ja4"].startswith(f"t{version.replace('.', '')}d")
    assert "left_out" not in hello


@both
def test_the_group(wire: MakeWire, transport: type[TLSServer]) -> None:
    made = wire(transport=transport)
    report = reported(made)
    try:
        assert report["group"] == made.tls.get_group_name()
    except NotImplementedError:  # an OpenSSL that does not tell
        assert report["group"] is None


@both
def test_a_client_that_says_little(wire: MakeWire, transport: type[TLSServer]) -> None:
    report = reported(wire(transport=transport, name=None, client=client_of("1.2")))
    assert (report["sni"], report["alpn"]) == (None, None)
    assert (report["client_hello"]["sni"], report["client_hello"]["alpn"]) == (None, [])


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_a_certificate(
    wire: MakeWire, directory: Path, transport: type[TLSServer], version: str
) -> None:
    report = reported(wire(transport=transport, client=client_of(version, certificate=directory)))
    shown = report["client_certificate"]
    assert shown["verified"] is True
    assert shown["error"] is None
    assert "OU=client" in shown["subject"]
    assert shown["issuer"]
    assert len(shown["sha256"]) == 64
    assert all(name.partition(":")[0] in ("DNS", "IP", "email", "URI") for name in shown["names"])


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_is_not_verified(
    wire: MakeWire, directory: Path, tmp_path: Path, transport: type[TLSServer], version: str
) -> None:
    """Also in a session that resumes, where the certificate is not shown again."""
    certs.mint(tmp_path)
    tls = TLS(client_ca=directory / "ca.pem", client_auth="unverified")
    server, client = context_of(directory, tls), client_of(version, certificate=tmp_path)
    first = wire(transport=transport, context=server, client=client)
    shown = reported(first)["client_certificate"]
    assert shown["verified"] is False
    assert "unable to" in shown["error"]
    first.talk(b"x")
    again = reported(
        wire(transport=transport, context=server, client=client, session=first.tls.get_session())
    )
    assert again["resumed"] is True
    assert again["client_certificate"] == shown


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_is_verified_where_it_need_not(
    wire: MakeWire, directory: Path, version: str
) -> None:
    tls = TLS(client_ca=directory / "ca.pem", client_auth="unverified")
    client = client_of(version, certificate=directory)
    shown = reported(wire(transport=HelloTLS, context=context_of(directory, tls), client=client))
    assert shown["client_certificate"]["verified"] is True
    without = reported(
        wire(transport=HelloTLS, context=context_of(directory, tls), client=client_of(version))
    )
    assert without["client_certificate"] is None


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_resumes(wire: MakeWire, transport: type[TLSServer], version: str) -> None:
    client = client_of(version)
    first = wire(transport=transport, client=client)
    assert reported(first)["resumed"] is False
    first.talk(b"x")
    session = first.tls.get_session()
    second = reported(wire(transport=transport, client=client, session=session))
    assert second["resumed"] is True
    extensions = [each.get("name") for each in second["client_hello"]["extensions"]]
    assert ("pre_shared_key" if version == "1.3" else "session_ticket") in extensions


@both
def test_a_hello_that_comes_in_pieces(wire: MakeWire, transport: type[TLSServer]) -> None:
    """In reads that do not end where the record does."""
    made = wire(transport=transport)
    with suppress(SSL.WantReadError):
        made.tls.do_handshake()
    hello = made.tls.bio_read(65536)
    size = len(hello) - 5
    for piece in (hello[:3], hello[3:100], hello[100:]):
        made.peer.send(piece)
        made.act("doRead")
    report = reported(made)["client_hello"]
    assert report["reads"] == [3, 97, len(hello) - 100]
    assert report["records"] == [size]


@both
def test_a_hello_in_many_records(wire: MakeWire, transport: type[TLSServer]) -> None:
    made = wire(transport=transport, name=None)
    hello = cut(rfc8448.CLIENT_HELLO_RECORD, 1, 7)
    for byte in hello:
        made.peer.send(bytes((byte,)))
        made.act("doRead")
    received = made.transport.received_hello
    assert received is not None
    assert received.hello == read_client_hello(hello)
    assert received.read_count == len(hello) > MOST_READS
    assert received.reads == (1,) * MOST_READS


@both
def test_a_hello_that_the_server_asks_for_again(wire: MakeWire, transport: type[TLSServer]) -> None:
    """A client that sends a key for a group that we do not have; its first ClientHello is reported."""
    made = wire(transport=transport, name=None)
    versions, algorithms = (43, b"\x02\x03\x04"), (13, b"\x00\x04\x04\x03\x08\x04")
    others = ((10, b"\x00\x04\x00\x1e\x00\x1d"), versions, algorithms)  # X448, X25519
    no_key, key = b"\x00\x00", b"\x00\x24\x00\x1d\x00\x20" + b"\x09" * 32
    first = hello_with(*others, (51, no_key), suite=0x1301)
    second = hello_with(*others, (51, key), suite=0x1301)
    made.peer.send(first)
    made.act("doRead")
    received = made.transport.received_hello
    assert received is not None
    assert received.retried is False
    made.peer.send(b"\x14\x03\x03\x00\x01\x01" + second)
    made.act("doRead")
    received = made.transport.received_hello
    assert received is not None
    assert received.retried is True
    assert received.hello == read_client_hello(first)


def test_early_data_is_offered() -> None:
    read = read_client_hello(hello_with((EARLY_DATA, b"")))
    assert read is not None
    assert read.offers_early_data
    read = read_client_hello(hello_with())
    assert read is not None
    assert not read.offers_early_data


@pytest.mark.parametrize("transport", [TLSServer, FaultyTLS])
def test_who_does_not_ask_keeps_nothing(wire: MakeWire, transport: type[TLSServer]) -> None:
    report = reported(wire(transport=transport))
    assert report["client_hello"] is None
    assert report["early_data_offered"] is None
    assert report["sni"] == "localhost"


@pytest.mark.parametrize(
    "fault", [Fault(Kind.FRAGMENT, 7), Fault(Kind.END, "rst"), Fault(Kind.KEY_UPDATE, 3)]
)
def test_faults_and_reports_on_one_endpoint(wire: MakeWire, fault: Fault) -> None:
    report = reported(wire(fault, transport=FaultyHelloTLS))
    assert report["client_hello"]["sni"] == "localhost"


@both
@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", rfc8448.SERVER_HELLO_RECORD])
def test_what_is_no_hello(wire: MakeWire, transport: type[TLSServer], data: bytes) -> None:
    made = wire(transport=transport)
    made.peer.send(data)
    made.act("doRead")
    assert made.transport.received_hello is None
    assert not made.transport.connected


def test_plain_connections_have_no_report() -> None:
    assert tls_report(StringTransport()) == {}


def test_a_report_stays_small() -> None:
    """However long the lists of a ClientHello are; what is left out is counted."""
    many = 15_000
    read = read_client_hello(hello_with((10, (2 * many).to_bytes(2, "big") + b"\x00\x1d" * many)))
    assert read is not None
    report = hello_report(ReceivedHello(read, (5,), 1, None, retried=False))
    assert len(report["groups"]) == MOST  # type: ignore[arg-type]  # a list
    assert report["left_out"] == {"groups": many - MOST}
    assert report["ja3"] is None
    assert len(str(report["ja3_hash"])) == 32
    assert len(json.dumps(report)) < 32_768


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.client)
def test_the_report_on_recorded_clients(recorded: Any) -> None:
    """In JSON, with GREASE marked, and with a name for nearly all that is offered."""
    read = read_client_hello(recorded.records)
    assert read is not None
    report = json.loads(json.dumps(hello_report(ReceivedHello(read, (1,), 1, 1, retried=False))))
    assert report["ja4"] == recorded.ja4
    assert [report["ja3"]] == recorded.tshark["ja3"]
    for key in ("suites", "extensions", "groups", "versions", "key_shares", "signature_algorithms"):
        assert report[key]
        for each in report[key]:
            assert (
                each.get("name") or each.get("grease") or each["id"] == "0xca34"
            )  # Chromium's trust anchors
    assert [int(each["id"], 0) for each in report["suites"]] == recorded.tshark["suites"]
    assert [each["length"] for each in report["extensions"]] == recorded.tshark["extension_lengths"]
    greased = [each["id"] for each in report["suites"] if each.get("grease")]
    assert bool(greased) is (recorded.client == "chromium")


def test_the_name_of_a_real_client(wire: MakeWire) -> None:
    """The name as OpenSSL understands it, and as the client wrote it."""
    report = reported(wire(transport=HelloTLS, name=b"LocalHost"))
    assert report["client_hello"]["sni"] == "localhost"
    assert report["sni"] == "LocalHost"


# Twisted's own TLS, as on reactors of other kinds.


class TwistedTLS:
    """A protocol over Twisted's own TLS, and an OpenSSL client, in memory."""

    def __init__(self, context: SSL.Context, *, keeps_hello: bool) -> None:
        factory = ContextFactory(context)
        factory.keeps_hello = keeps_hello
        self.protocol = Protocol()
        wrapped = Factory.forProtocol(lambda: self.protocol)
        self.tls = TLSMemoryBIOFactory(factory, False, wrapped).buildProtocol(None)
        self.transport = StringTransport()
        self.tls.makeConnection(self.transport)
        self.client = SSL.Connection(client_of(), None)
        self.client.set_tlsext_host_name(b"localhost")
        self.client.set_connect_state()

    def shake_hands(self, piece: int) -> dict[str, Any]:
        """Shake hands in pieces of this size, and return the report."""
        done = False
        while not done:
            with suppress(SSL.WantReadError):
                self.client.do_handshake()
                done = True
            with suppress(SSL.WantReadError):
                while data := self.client.bio_read(piece):
                    self.tls.dataReceived(data)
            self.client.bio_write(self.transport.value())
            self.transport.clear()
        report: dict[str, Any] = json.loads(json.dumps(tls_report(self.protocol.transport)))
        return report


@pytest.mark.parametrize("piece", [1, 100, 65536])
def test_a_report_on_twisteds_own_tls(context: SSL.Context, piece: int) -> None:
    report = TwistedTLS(context, keeps_hello=True).shake_hands(piece)
    assert report["version"] == "TLSv1.3"
    hello = report["client_hello"]
    assert hello["readable"]
    assert hello["sni"] == report["sni"] == "localhost"
    assert hello["read_count"] == -(-(hello["length"] + 5) // piece)
    assert sum(hello["reads"]) == min(hello["length"] + 5, MOST_READS * piece)
    assert (hello["segments"], hello["retried"]) == (None, None)


def test_twisteds_own_tls_as_it_is(context: SSL.Context) -> None:
    plain = TwistedTLS(context, keeps_hello=False)
    assert type(plain.protocol.transport.getHandle()) is SSL.Connection  # type: ignore[union-attr]
    assert plain.shake_hands(65536)["client_hello"] is None


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.0\r\n\r\n", rfc8448.SERVER_HELLO_RECORD, b"\x16\x03\x01\xff\xff"]
)
def test_no_hello_on_twisteds_own_tls(context: SSL.Context, data: bytes) -> None:
    made = TwistedTLS(context, keeps_hello=True)
    made.tls.dataReceived(data)
    assert tls_report(made.protocol.transport)["client_hello"] is None
    made.tls.connectionLost(Failure(main.CONNECTION_DONE))
