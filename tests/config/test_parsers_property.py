"""Whatever bytes arrive for TLS, for a PROXY header or in a configuration, they are read or they are refused.

Nothing else may happen: no other exception, no harm to anybody else, nothing left behind.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from suite.config import file as config
from suite.config.file import Config
from suite.endpoints import parser
from suite.endpoints.proxy_protocol import LONGEST, SIGNATURE, ProxyHeader
from suite.errors import ConfigError, MistakesError
from tests.config.test_file import SHIPPED, uncommented
from tests.endpoints.test_proxy_protocol import BAD, GOOD
from tests.running import FOUR_TRANSPORTS, RunningSuite, TLSClient, read_to_end, running, wait_until

LARGE = 2**14

#: Values that have meaning somewhere: lengths, versions, types.
TELLING = [0, 1, 2, 3, 0x14, 0x15, 0x16, 0x17, 0x18, 0x20, 0x21, 0x7F, 0x80, 0xFE, 0xFF]


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """*valid*, changed here and there: bytes replaced, removed, repeated, added, the end cut off."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(0, 16))
        how = draw(st.sampled_from(["replace", "telling", "remove", "repeat", "add", "cut"]))
        if how == "replace":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "telling":
            data[at : at + 1] = bytes([draw(st.sampled_from(TELLING))])
        elif how == "remove":
            del data[at : at + length]
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        elif how == "add":
            data[at:at] = draw(st.binary(max_size=64))
        else:
            del data[at:]
    return bytes(data)


# PROXY headers.

HEADERS = [content for content, _, _ in GOOD.values()] + list(BAD.values())

proxy_bytes = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
    st.sampled_from(HEADERS).flatmap(mutated),
    st.tuples(st.sampled_from(HEADERS), st.binary(max_size=300)).map(b"".join),
)


def fed(pieces: list[bytes]) -> tuple[object, ...]:
    """What a `ProxyHeader` makes of *pieces*: whom it names and how much it took; or that it refused them."""
    header, taken = ProxyHeader(), 0
    for piece in pieces:
        try:
            count = header.feed(piece)
        except ValueError:
            return ("refused",)
        assert 0 <= count <= len(piece)
        assert len(header._seen) <= LONGEST
        taken += count
        if header.complete:
            return (taken, header.source, header.destination)
        assert count == len(piece), "what is left over belongs to nobody"
        assert header.source is None
    return ("incomplete",)


@settings(max_examples=300)
@given(data=st.data(), content=proxy_bytes)
def test_a_proxy_header_means_the_same_however_it_is_cut_up(data: DataObject, content: bytes) -> None:
    places = st.lists(st.integers(0, len(content)), max_size=20).map(sorted)
    cuts = [0, *data.draw(places), len(content)]
    pieces = [content[start:end] for start, end in pairwise(cuts)]
    whole = fed([content])
    assert fed(pieces) == whole
    assert fed([content[at : at + 1] for at in range(len(content))]) == whole


# Configurations.

WORDS = re.findall(
    r"\S+",
    r"""tcp ssl haproxy unix systemd fd udp6 tls interface port mode privateKey certs/server.key endpoints
    listen minimum 1.3 0 : = \ \: ::1 [ ] { } " ' # é""",
)
WORDS += ["\n", "\0", "\x1b", "\u2028", "9" * 30]

described = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=12).map("".join)


def toml_string(text: str) -> str:
    """*text* as a basic string of TOML."""
    escaped = (c if c.isalnum() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


valid_string = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | described

toml_value = st.one_of(
    valid_string.map(toml_string),
    st.integers().map(str),
    st.floats().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.lists(valid_string.map(toml_string), max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    st.just("{}"),
    st.just("1979-05-27T07:32:00Z"),
)

toml_line = st.tuples(
    st.sampled_from(["tcp", "listen", "minimum", "maximum", "client_ca", "alpn", "chain", "tls", "endpoints"])
    | valid_string.map(toml_string),
    toml_value,
).map(" = ".join)

toml_head = st.sampled_from(
    ["[endpoints]", "[tls]", "[endpoints.a]", "[endpoints.a.tls]", "[[endpoints]]", ""]
)

config_bytes = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    described.map(str.encode),
    st.just(uncommented(SHIPPED.read_text("utf-8")).encode()).flatmap(mutated),
    st.lists(toml_head | toml_line, max_size=8).map("\n".join).map(str.encode),
    valid_string.map(lambda listen: f"[endpoints]\na = {toml_string(listen)}\n".encode()),
)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.toml"


@settings(max_examples=300)
@given(content=config_bytes)
def test_a_file_is_a_configuration_or_a_line_for_each_mistake(config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)
    try:
        loaded = config.load(config_file)
        assert isinstance(loaded, Config)
        assert loaded.endpoints
        parser.parse(loaded)
    except (ConfigError, MistakesError) as error:
        for said in str(error).split("\n"):
            assert said.isprintable(), "one line, and nothing that moves the cursor"
            assert "config.toml: " in said


# TLS.


def client_hello(version: ssl.TLSVersion) -> bytes:
    """What a client says first."""
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def record(kind: int, version: bytes, body: bytes) -> bytes:
    return bytes([kind]) + version + len(body).to_bytes(2, "big") + body


records = st.builds(
    record,
    st.sampled_from([0x14, 0x15, 0x16, 0x17, 0x18]) | st.integers(0, 255),
    st.sampled_from([b"\3\1", b"\3\3", b"\3\4", b"\2\0"]),
    st.binary(max_size=200),
)

HELLOS = [client_hello(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]

hello_bytes = st.one_of(
    st.binary(max_size=LARGE),
    st.lists(records, min_size=1, max_size=5).map(b"".join),
    st.sampled_from(HELLOS).flatmap(mutated),
    st.tuples(st.sampled_from(HELLOS), st.lists(records, max_size=5).map(b"".join)).map(b"".join),
)


class Others:
    """Somebody else on the same endpoint, who must never notice."""

    def __init__(self, suite: RunningSuite) -> None:
        self.suite = suite
        self.sock = suite.connect("tls")
        self.client = TLSClient(self.sock, suite.client_context())
        self.count = 0

    def still_echo(self) -> bool:
        self.count += 1
        said = b"number %d" % self.count
        self.client.sendall(said)
        received = b""
        while len(received) < len(said):
            some = self.client.recv(100)
            assert some, "the end, in the middle of things"
            received += some
        return received == said


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """It must end well, without a traceback: see `running`."""
    text = FOUR_TRANSPORTS + '\nproxied = "haproxy:tcp:0"\n'
    text += 'behind = "haproxy:ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"\n'
    with running(tmp_path_factory.mktemp("suite"), text) as suite:
        yield suite


@pytest.fixture(scope="module")
def others(suite: RunningSuite) -> Iterator[Others]:
    """At the end, of all connections only theirs is left."""
    others = Others(suite)
    before = suite.descriptors()
    with others.sock:
        yield others
        wait_until(lambda: suite.descriptors() <= before, "the bad connections were closed")


#: What sending says where the suite has closed already.
GONE = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)


def ended_by_the_suite(sock: socket.socket, content: bytes) -> bool:
    """Whether the suite closes the connection when *content* and an end have been sent."""
    try:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno not in GONE:
            raise
    with suppress(ConnectionResetError):
        read_to_end(sock.recv)
    return True


quickly = settings(max_examples=200, suppress_health_check=[HealthCheck.data_too_large])


@quickly
@given(content=hello_bytes)
def test_bytes_in_place_of_a_handshake(suite: RunningSuite, others: Others, content: bytes) -> None:
    with suite.connect("tls") as sock:
        assert ended_by_the_suite(sock, content)
    assert others.still_echo()


@quickly
@given(
    version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
    before=st.binary(max_size=20),
    content=st.binary(min_size=1, max_size=LARGE) | st.lists(records, min_size=1, max_size=5).map(b"".join),
)
def test_bytes_in_the_middle_of_a_connection(
    suite: RunningSuite, others: Others, version: ssl.TLSVersion, before: bytes, content: bytes
) -> None:
    with suite.connect("tls") as sock:
        client = TLSClient(sock, suite.client_context(version))
        client.sendall(before)
        assert ended_by_the_suite(sock, content)
    assert others.still_echo()


@quickly
@given(
    endpoint=st.sampled_from(["proxied", "behind"]),
    content=proxy_bytes,
    after=st.sampled_from([b"", *HELLOS]) | st.binary(max_size=100),
)
def test_bytes_in_place_of_a_proxy_header(
    suite: RunningSuite, others: Others, endpoint: str, content: bytes, after: bytes
) -> None:
    with suite.connect(endpoint) as sock:
        assert ended_by_the_suite(sock, content + after)
    assert others.still_echo()


def test_the_tools_of_these_tests_are_sharp(suite: RunningSuite) -> None:
    """A ClientHello that nobody has changed is answered; so is one behind a header."""
    for endpoint, header in (("tls", b""), ("behind", b"PROXY UNKNOWN\r\n")):
        for hello in HELLOS:
            with suite.connect(endpoint) as sock:
                sock.sendall(header + hello)
                assert sock.recv(3) == b"\x16\x03\x03", "a handshake record, the ServerHello"
