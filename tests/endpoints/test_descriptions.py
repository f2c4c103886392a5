"""`suite.endpoints`: parsing descriptions, and opening their ports."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import string
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse, quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.internet.testing import RaisingMemoryReactor
from zope.interface import implementer
from zope.interface.verify import verifyObject

from suite import certs
from suite.answers.table import ANSWERS
from suite.config.file import Config, Endpoint
from suite.config.limits import Limits
from suite.config.tls import TLS
from suite.echo import EchoDatagram, EchoFactory
from suite.endpoints import descriptions as endpoints
from suite.endpoints import members, parser
from suite.endpoints.descriptions import Description
from suite.endpoints.listener import Listener
from suite.endpoints.proxy_protocol import ProxyFactory
from suite.endpoints.tls import ContextFactory
from suite.errors import ConfigError, ListenError
from suite.guard.datagrams import DatagramPolicy
from suite.identities import Identity, load_certificates
from suite.system import NOBODY, Members
from suite.text import host_and_port
from tests.helpers import SuiteReactor, config_of, described, load_context, now

HERE = Path("/srv/echo")

#: Characters of TOML strings, except NUL, which paths cannot contain.
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with minted certificates in its ``certs``."""
    directory = tmp_path_factory.mktemp("endpoints")
    certs.mint(directory / "certs")
    return directory


def open_(reactor: Any, description: Description, config: Config | None = None) -> tuple[Listener, Any]:
    """Open *description* on *reactor*: the `Listener`, and the port."""
    context = None if config is None else load_context(config, description)
    udp = description.transport == "UDP"
    listener = Listener(reactor, description, context, None if udp else EchoFactory())
    return listener, now(listener.listen(EchoDatagram(DatagramPolicy()) if udp else None))


def failure(reactor: Any, description: Description) -> ListenError:
    """The error of opening *description* on *reactor*."""
    with pytest.raises(ListenError) as caught:
        open_(reactor, description)
    assert caught.value.endpoint == "e0"
    assert caught.value.address == description.address
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


# Twisted's private tokenizer, checked against its documentation.


@pytest.mark.parametrize(
    ("text", "positional", "named"),
    [
        ("tcp:1234", ["tcp", "1234"], {}),
        ("tcp:1234:interface=::1", ["tcp", "1234", "", "1"], {"interface": ""}),
        ("tcp6:1234:interface=\\:\\:1", ["tcp6", "1234"], {"interface": "::1"}),
        ("a:b:d=1:c", ["a", "b", "c"], {"d": "1"}),
        ("a\\=b:c\\\\d", ["a=b", "c\\d"], {}),
        ("a:b=c=d", ["a"], {"b": "c=d"}),
        ("", [""], {}),
        ("a::", ["a", "", ""], {}),
        ("\\a", ["a"], {}),
    ],
)
def test_the_tokenizer_knows_colons_equals_signs_and_backslashes(
    text: str, positional: list[str], named: dict[str, str]
) -> None:
    assert _parse(text) == (positional, named)


def test_the_tokenizer_fails_on_a_trailing_backslash_in_the_way_that_is_expected() -> None:
    with pytest.raises((RuntimeError, StopIteration)):
        _parse("tcp:1234\\")


@given(st.text("ab01:=/ é").filter(bool))
def test_a_text_without_escapes_is_split_as_the_tokenizer_does(text: str) -> None:
    try:
        expected = _parse(text)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            parser._split(text)
    else:
        assert parser._split(text) == expected


@given(st.lists(values.filter(lambda value: "=" not in value), max_size=5))
def test_quoted_positional_arguments_survive(arguments: list[str]) -> None:
    text = ":".join(["x", *map(quoteStringArgument, arguments)])
    assert _parse(text) == (["x", *arguments], {})


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), values, max_size=5))
def test_quoted_named_arguments_survive(arguments: dict[str, str]) -> None:
    text = ":".join(["x", *(f"{name}={quoteStringArgument(value)}" for name, value in arguments.items())])
    assert _parse(text) == (["x"], arguments)


@given(values.filter(bool))
def test_quoted_paths_reach_the_description_and_go_on_from_it(name: str) -> None:
    """Twisted reads our text as the same path, whatever characters the path contains."""
    description = described(HERE, f"ssl:0:privateKey={quoteStringArgument('/keys/k' + name)}")
    path = os.path.normpath("/keys/k" + name)
    assert description.arguments["privateKey"] == description.arguments["certKey"] == path
    positional, named = _parse(description.text)
    assert positional == ["ssl"]
    assert named == description.arguments


# Parameters.


@pytest.mark.parametrize(
    ("positional", "named"),
    [
        ("tcp:1234:0.0.0.0:5", "tcp:port=1234:backlog=5:interface=0.0.0.0"),
        ("tcp6:1234:5:\\:\\:", "tcp6:interface=\\:\\::port=1234:backlog=5"),
        ("udp:1234:0.0.0.0", "udp:interface=0.0.0.0:port=1234"),
        ("udp6:1234:\\:\\:", "udp6:interface=\\:\\::port=1234"),
        ("unix:a.sock:600:5:0", "unix:lockfile=0:backlog=5:mode=600:address=a.sock"),
        (
            "ssl:1:k:c:TLS_METHOD:0.0.0.0:5:x:d",
            "ssl:dhParameters=d:extraCertChain=x:backlog=5:interface=0.0.0.0"
            ":sslmethod=TLS_METHOD:certKey=c:privateKey=k:port=1",
        ),
        ("systemd:INET:3", "systemd:index=3:domain=INET"),
        ("fd:3", "fd:fileno=3"),
    ],
)
def test_positional_and_named_arguments_say_the_same(positional: str, named: str) -> None:
    assert described(HERE, positional).arguments == described(HERE, named).arguments


@pytest.mark.parametrize(
    ("listen", "arguments"),
    [
        ("tcp:1234", {"port": "1234", "interface": "127.0.0.1", "backlog": "4096"}),
        ("tcp6:1234", {"port": "1234", "interface": "::1", "backlog": "4096"}),
        ("udp:1234", {"port": "1234", "interface": "127.0.0.1"}),
        ("udp6:1234", {"port": "1234", "interface": "::1"}),
        (
            "unix:a.sock",
            {"address": "/srv/echo/a.sock", "mode": "660", "backlog": "4096", "lockfile": "1"},
        ),
        (
            "ssl:1",
            {
                "port": "1",
                "interface": "127.0.0.1",
                "backlog": "4096",
                "privateKey": "/srv/echo/server.pem",
                "certKey": "/srv/echo/server.pem",
            },
        ),
        ("systemd:INET:name=echo", {"domain": "INET", "name": "echo"}),
        ("fd:3", {"fileno": "3"}),
    ],
)
def test_what_is_left_out_has_a_default(listen: str, arguments: dict[str, str]) -> None:
    assert described(HERE, listen).arguments == arguments


def test_the_certificate_is_looked_for_with_the_key_when_it_is_not_named() -> None:
    arguments = described(HERE, "ssl:1:privateKey=both.pem").arguments
    assert arguments["certKey"] == arguments["privateKey"] == "/srv/echo/both.pem"


def test_paths_are_relative_to_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = described(
        HERE, "ssl:1:privateKey=a/../k:certKey=./c:extraCertChain=../x:dhParameters=/etc/d"
    ).arguments
    assert arguments["privateKey"] == "/srv/echo/k"
    assert arguments["certKey"] == "/srv/echo/c"
    assert arguments["extraCertChain"] == "/srv/x"
    assert arguments["dhParameters"] == "/etc/d"
    assert described(HERE, "unix:run/e.sock").arguments["address"] == "/srv/echo/run/e.sock"


def test_a_relative_configuration_file_makes_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert described(Path(), "ssl:1:k").arguments["privateKey"] == str(tmp_path / "k")


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_unix_path_may_have_as_many_bytes_as_the_system_takes(
    letter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # from where the path is no shorter
    longest = endpoints.MAX_UNIX_PATH - len("/srv/echo/")
    fits = letter * (longest // len(letter.encode()))
    assert described(HERE, f"unix:{fits}").arguments["address"] == f"/srv/echo/{fits}"
    with pytest.raises(ConfigError, match="too long for a UNIX socket"):
        described(HERE, f"unix:{fits}{letter}x")


def test_a_unix_path_that_is_too_long_only_from_the_root_is_taken_from_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 110)
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert described(deep, "unix:run/e.sock").arguments["address"] == "run/e.sock"
    assert described(deep, f"unix:{tmp_path}/e.sock").arguments["address"] == f"{tmp_path}/e.sock"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the path of a directory may be too long")
def test_the_longest_unix_path_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked with the kernel, by binding a socket."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(OSError, match="too long"):
            sock.bind("x" * (endpoints.MAX_UNIX_PATH + 1))
        sock.bind("x" * endpoints.MAX_UNIX_PATH)
    assert os.listdir() == ["x" * endpoints.MAX_UNIX_PATH]


def test_a_unix_path_that_just_fits_stays_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "x")
    monkeypatch.setattr("suite.endpoints.parser.MAX_UNIX_PATH", len(path))
    assert described(tmp_path, "unix:x").arguments["address"] == path
    monkeypatch.setattr("suite.endpoints.parser.MAX_UNIX_PATH", len(path) - 1)
    assert described(tmp_path, "unix:x").arguments["address"] == "x"


def test_an_abstract_unix_socket_is_no_path() -> None:
    description = described(HERE, "unix:\0echo")
    assert description.arguments["address"] == "\0echo"
    assert description.address == "@echo"


def test_only_tls_goes_with_a_tls_table_of_its_own() -> None:
    def parse(listen: str) -> Description:
        endpoint = Endpoint("own", listen, TLS(minimum="1.3"), own_tls=frozenset({"minimum"}))
        (description,) = parser.parse(Config(HERE / "config.toml", (endpoint,)))
        return description

    assert parse("ssl:1").endpoint.tls.minimum == "1.3"
    for listen in ("tcp:1", "udp:1", "unix:a", "haproxy:tcp:1", "fd:3"):
        with pytest.raises(ConfigError, match=r"endpoints\.own\.tls: does not go with "):
            parse(listen)


def test_haproxy_before_a_description_is_noted_and_taken_off() -> None:
    plain, proxied = described(HERE, "tcp:1234"), described(HERE, "haproxy:tcp:1234")
    assert not plain.proxied
    assert proxied.proxied
    assert proxied.kind == "tcp"
    assert proxied.text == plain.text


# Properties of a description.


@pytest.mark.parametrize(
    ("listen", "transport", "address"),
    [
        ("tcp:1234", "TCP", "127.0.0.1:1234"),
        ("tcp:01234:interface=0.0.0.0", "TCP", "0.0.0.0:1234"),
        ("tcp:1234:interface=", "TCP", "0.0.0.0:1234"),
        ("tcp6:1234", "TCP", "[::1]:1234"),
        ("ssl:4433:interface=localhost", "TLS", "127.0.0.1:4433"),
        ("udp:1234", "UDP", "127.0.0.1:1234"),
        ("udp6:1234:interface=\\:\\:", "UDP", "[::]:1234"),
        ("unix:/run/e.sock", "UNIX", "/run/e.sock"),
        ("haproxy:unix:/run/e.sock", "UNIX", "/run/e.sock"),
        ("systemd:INET:name=a", "TCP", "systemd:domain=INET:name=a"),
        ("systemd:INET6:0", "TCP", "systemd:domain=INET6:index=0"),
        ("systemd:UNIX:0", "UNIX", "systemd:domain=UNIX:index=0"),
        ("fd:3", "fd", "fd:fileno=3"),
    ],
)
def test_transport_and_address(listen: str, transport: str, address: str) -> None:
    description = described(HERE, listen)
    assert (description.transport, description.address) == (transport, address)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7"), ("", "*:7"), ("localhost", "localhost:7")],
)
def test_host_and_port(host: str, shown: str) -> None:
    assert host_and_port(host, 7) == shown


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("tcp:1234", ("tcp4", "127.0.0.1", "1234")),
        ("tcp:01234", ("tcp4", "127.0.0.1", "1234")),
        ("ssl:1234", ("tcp4", "127.0.0.1", "1234")),
        ("tcp6:1234", ("tcp6", "::1", "1234")),
        ("udp:1234", ("udp4", "127.0.0.1", "1234")),
        ("udp6:1234:interface=\\:\\:", ("udp6", "::", "1234")),
        ("unix:/run/x/../e.sock", ("unix", "/run/e.sock", "")),
        ("tcp:0", None),
        ("udp:00", None),
        ("systemd:INET:0", ("descriptor", "3", "")),
        ("systemd:INET:name=web", ("name", "web", "")),
        ("fd:3", ("descriptor", "3", "")),
    ],
)
def test_the_address_that_a_description_binds(listen: str, address: tuple[str, str, str] | None) -> None:
    assert described(HERE, listen).bound_address == address


def test_the_second_endpoint_on_an_address_is_the_one_at_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        parser.parse(config_of(HERE, "udp:1234", "tcp:1234", "unix:a", "ssl:1234"))
    assert caught.value.key == "endpoints.e3.listen"
    assert "127.0.0.1:1234 is taken by endpoints.e1" in caught.value.problem


def test_descriptions_keep_the_order_of_the_endpoints() -> None:
    described = parser.parse(config_of(HERE, "udp:1", "tcp:1", "unix:a"))
    assert [description.kind for description in described] == ["udp", "tcp", "unix"]


def test_credentials_are_the_files_that_tls_needs() -> None:
    config = config_of(
        HERE,
        "ssl:1:privateKey=k:certKey=c:extraCertChain=x:dhParameters=d",
        "tcp:1234",
        tls=TLS(client_ca=HERE / "ca", chain=HERE / "chain"),
    )
    secure, plain = parser.parse(config)
    assert secure.credentials == tuple(str(HERE / name) for name in ("k", "c", "x", "d", "ca", "chain"))
    assert plain.credentials == ()


# Opening, on a reactor that only records calls.


@pytest.mark.parametrize(
    ("listen", "call"),
    [
        ("tcp:1234", (1234, 4096, "127.0.0.1")),
        ("tcp:1234:backlog=5:interface=", (1234, 5, "0.0.0.0")),
        ("tcp:0:interface=0.0.0.0", (0, 4096, "0.0.0.0")),
        ("tcp6:1234", (1234, 4096, "::1")),
        ("tcp6:1234:5:\\:\\:", (1234, 5, "::")),
    ],
)
def test_tcp_is_opened_with_listentcp(listen: str, call: tuple[int, int, str]) -> None:
    reactor = SuiteReactor()
    listener, port = open_(reactor, described(HERE, listen))
    ((number, factory, backlog, interface),) = reactor.tcpServers
    assert (number, backlog, interface) == call
    assert factory is listener.factory
    assert isinstance(factory, EchoFactory)
    assert reactor.open == [port]


@pytest.mark.parametrize(
    ("listen", "call"),
    [
        ("unix:/run/e.sock", ("/run/e.sock", 4096, 0o660, True)),
        ("unix:e.sock:mode=0600:backlog=5:lockfile=0", ("/srv/echo/e.sock", 5, 0o600, False)),
        ("unix:address=a\\:b=c\\\\d", ("/srv/echo/a:b=c\\d", 4096, 0o660, True)),
        ("unix:\0echo", ("\0echo", 4096, 0o660, True)),
    ],
)
def test_unix_is_opened_with_listenunix(listen: str, call: tuple[str, int, int, bool]) -> None:
    reactor = SuiteReactor()
    listener, _ = open_(reactor, described(HERE, listen))
    ((address, factory, backlog, mode, locked),) = reactor.unixServers
    assert (address, backlog, mode, locked) == call
    assert factory is listener.factory


@pytest.mark.parametrize(
    ("listen", "call"),
    [
        ("udp:1234", (1234, "127.0.0.1")),
        ("udp:01234:0.0.0.0", (1234, "0.0.0.0")),
        ("udp6:1234", (1234, "::1")),
    ],
)
def test_udp_is_opened_with_listenudp(listen: str, call: tuple[int, str]) -> None:
    reactor = SuiteReactor()
    _, port = open_(reactor, described(HERE, listen))
    ((number, protocol, interface),) = reactor.udpServers
    assert (number, interface) == call
    assert isinstance(protocol, EchoDatagram)
    assert reactor.open == [port]


def test_tls_is_opened_with_listenssl_and_our_own_context(minted: Path) -> None:
    config = config_of(
        minted,
        "ssl:4433:privateKey=certs/server.key:certKey=certs/server.pem:backlog=5:interface=0.0.0.0",
    )
    (description,) = parser.parse(config)
    reactor = SuiteReactor()
    listener, port = open_(reactor, description, config)
    ((number, factory, contexts, backlog, interface),) = reactor.sslServers
    assert (number, backlog, interface) == (4433, 5, "0.0.0.0")
    assert factory is listener.factory
    assert isinstance(contexts, ContextFactory)
    assert contexts is listener.context_factory
    assert not reactor.tcpServers
    assert reactor.open == [port]


def test_only_tls_has_a_context(minted: Path) -> None:
    config = config_of(minted, "tcp:1", "unix:a", "udp:1", "ssl:2:certs/server.key:certs/server.pem")
    contexts = [load_context(config, description) for description in parser.parse(config)]
    assert [context is None for context in contexts] == [True, True, True, False]


def test_a_proxied_endpoint_takes_a_header_from_every_connection() -> None:
    reactor = SuiteReactor()
    open_(reactor, described(HERE, "haproxy:tcp:1234"))
    ((_, factory, _, _),) = reactor.tcpServers
    assert isinstance(factory, ProxyFactory)
    assert isinstance(factory.wrappedFactory, EchoFactory)


@pytest.mark.parametrize("listen", ["tcp:1234:backlog=7", "tcp6:1234", "unix:a\\:b.sock:mode=600:lockfile=0"])
def test_twisted_reads_our_text_as_we_do(listen: str) -> None:
    """Twisted's own parser, given `Description.text`, makes the call that `Listener` makes."""
    ours, theirs = SuiteReactor(), SuiteReactor()
    description = described(HERE, listen)
    listener, _ = open_(ours, description)
    serverFromString(theirs, description.text).listen(listener.factory)
    assert ours.tcpServers == theirs.tcpServers
    assert ours.unixServers == theirs.unixServers
    assert len(ours.open) == len(theirs.open) == 1


# Plugins.


@implementer(IStreamServerEndpointStringParser)
class Plugin:
    """A plugin for ``plug:`` that records its arguments."""

    prefix = "plug"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.given: list[tuple[Any, tuple[object, ...], dict[str, object]]] = []

    def parseStreamServer(self, reactor: Any, *args: object, **kwargs: object) -> IStreamServerEndpoint:
        self.given.append((reactor, args, kwargs))
        if self.error is not None:
            raise self.error
        endpoint: IStreamServerEndpoint = serverFromString(reactor, "tcp:1")
        return endpoint


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """An installed plugin."""
    plugin = Plugin()
    for module in ("suite.endpoints.parser", "twisted.internet.endpoints"):
        monkeypatch.setattr(f"{module}.getPlugins", lambda _interface: [plugin])
    assert verifyObject(IStreamServerEndpointStringParser, plugin)
    return plugin


@pytest.mark.parametrize("proxied", [False, True])
def test_a_plugins_description_reaches_it_unchanged(plugin: Plugin, proxied: bool) -> None:
    text = "plug:a\\:b:c\\\\d:port=no number:x=y=z"
    description = described(HERE, f"haproxy:{text}" if proxied else text)
    assert description.proxied == proxied
    assert description.transport == "plug"
    assert description.address == description.text == text
    assert description.bound_address is None
    reactor = SuiteReactor()
    listener, port = open_(reactor, description)
    assert plugin.given == [(reactor, ("a:b", "c\\d"), {"port": "no number", "x": "y=z"})]
    assert reactor.open == [port]
    assert reactor.tcpServers[0][1] is listener.factory


def test_prefixes_are_matched_as_twisted_does_in_capitals_or_not(plugin: Plugin) -> None:
    open_(SuiteReactor(), described(HERE, "PLUG:x"))
    assert [args for _, args, _ in plugin.given] == [("x",)]


@pytest.mark.parametrize("listen", ["TCP6:1234", "Tcp6:1234", "HAPROXY:tcp:1234", "HAproxy:tcp6:1234"])
def test_capitals_open_no_more_than_small_letters_do(listen: str) -> None:
    """Capitals may be an error or mean the same, but never Twisted's default, every address."""
    reactor = SuiteReactor()
    with contextlib.suppress(ConfigError):
        open_(reactor, described(HERE, listen))
    assert {interface for _, _, _, interface in reactor.tcpServers} <= {"127.0.0.1", "::1"}


def test_a_plugin_has_no_tls_context(plugin: Plugin) -> None:
    config = config_of(HERE, f"{plugin.prefix}:x")
    assert load_context(config, *parser.parse(config)) is None


def test_an_unknown_type_is_compared_with_the_plugins_too(plugin: Plugin) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {plugin.prefix}"):
        described(HERE, "plog:1")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("port 'x' is not a number"), "port 'x' is not a number"),
        (TypeError(), "TypeError"),
        (OSError(13, "Permission denied"), "Permission denied"),
        (OSError("something else"), "something else"),
        (CannotListenError("eth0", 1, OSError(98, "Address already in use")), "Address already in use"),
        (LookupError("nobody there"), "nobody there"),
        (RuntimeError("two\nlines"), "two\nlines"),
    ],
    ids=repr,
)
def test_what_a_plugin_complains_of_is_the_reason(plugin: Plugin, error: Exception, reason: str) -> None:
    plugin.error = error
    caught = failure(SuiteReactor(), described(HERE, "plug:x"))
    assert caught.reason == reason
    assert caught.__cause__ is error


def test_what_no_one_should_catch_is_not_caught(plugin: Plugin) -> None:
    plugin.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        open_(SuiteReactor(), described(HERE, "plug:x"))


# Failures.


IN_USE = OSError(98, "Address already in use")


def refusing(error: Exception) -> SuiteReactor:
    """A reactor on which opening fails with *error*."""
    reactor = SuiteReactor()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise error

    for name in ("listenTCP", "listenSSL", "listenUNIX", "listenUDP"):
        setattr(reactor, name, refuse)
    return reactor


@pytest.mark.parametrize(
    "listen", ["tcp:1234", "tcp6:1234", "haproxy:tcp:1234", "unix:/run/e.sock", "udp:1234", "udp6:1234"]
)
def test_the_refusal_of_the_system_is_the_reason(listen: str) -> None:
    reactor = refusing(CannotListenError("localhost", 1234, IN_USE))
    error = failure(reactor, described(HERE, listen))
    assert error.reason == "Address already in use"


def test_a_refusal_that_is_not_twisteds_is_a_reason_too() -> None:
    """Such as a name that cannot be resolved, or a family that this machine lacks."""
    error = failure(refusing(OSError(97, "Address family not supported")), described(HERE, "udp6:1234"))
    assert str(error) == "endpoints.e0: cannot listen on [::1]:1234: Address family not supported"


def test_the_refusal_of_the_system_is_the_reason_for_tls(minted: Path) -> None:
    config = config_of(minted, "ssl:443:certs/server.key:certs/server.pem")
    (description,) = parser.parse(config)
    refused = CannotListenError("127.0.0.1", 443, OSError(13, "Permission denied"))
    with pytest.raises(ListenError) as caught:
        open_(RaisingMemoryReactor(listenException=refused), description, config)
    assert str(caught.value).startswith(
        "endpoints.e0: cannot listen on 127.0.0.1:443: Permission denied; ports below 1024 are for root"
    )
    assert "net.ipv4.ip_unprivileged_port_start" in str(caught.value)


# Contexts.


def test_the_fault_of_a_certificate_is_the_endpoints(minted: Path) -> None:
    config = config_of(minted, "ssl:1:certs/absent.key:certs/server.pem")
    with pytest.raises(ConfigError) as caught:
        load_context(config, *parser.parse(config))
    assert caught.value.key == "endpoints.e0.listen"
    assert "absent.key: no such file" in caught.value.problem
    assert os.path.basename(caught.value.file) == "config.toml"


@pytest.mark.parametrize(
    ("method", "tls", "expected"),
    [
        ("TLS_METHOD", TLS(), ("1.2", "1.3")),
        ("SSLv23_METHOD", TLS(minimum="1.3"), ("1.3", "1.3")),
        ("TLSv1_2_METHOD", TLS(), ("1.2", "1.2")),
    ],
)
def test_sslmethod_means_what_it_means_to_twisted(
    minted: Path, monkeypatch: pytest.MonkeyPatch, method: str, tls: TLS, expected: tuple[str, str]
) -> None:
    seen: list[TLS] = []
    monkeypatch.setattr(
        "suite.endpoints.credentials.server_context", lambda _identity, tls, **_: seen.append(tls)
    )
    monkeypatch.setattr("suite.endpoints.credentials.prove", lambda *_: None)
    config = config_of(minted, f"ssl:1:certs/server.key:certs/server.pem:{method}", tls=tls)
    load_context(config, *parser.parse(config))
    assert {(used.minimum, used.maximum) for used in seen} == {expected}


def test_every_chain_file_is_read_the_descriptions_first(
    minted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Identity] = []
    monkeypatch.setattr(
        "suite.endpoints.credentials.server_context", lambda identity, _tls, **_: seen.append(identity)
    )
    monkeypatch.setattr("suite.endpoints.credentials.prove", lambda *_: None)
    config = config_of(
        minted,
        "ssl:1:certs/server.key:certs/server.pem:extraCertChain=certs/ca.pem",
        tls=TLS(chain=minted / "certs" / "client.pem"),
    )
    load_context(config, *parser.parse(config))
    identity = seen[-1]
    assert list(identity.chain) == [
        *load_certificates(minted / "certs" / "ca.pem"),
        *load_certificates(minted / "certs" / "client.pem"),
    ]


def test_an_endpoint_keeps_its_name(minted: Path) -> None:
    config = Config(minted / "config.toml", (Endpoint("tls", "ssl:0", TLS()),))
    assert parser.parse(config)[0].endpoint.name == "tls"


# Users and groups.


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="needs SO_PEERCRED")
def test_users_and_groups_are_looked_up_once_when_the_descriptions_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory service may take its time, and accepting connections must not wait for it."""
    asked: list[str] = []

    def id_of(name: str) -> int:
        asked.append(name)
        return {"me": 1, "us": 2}[name]

    monkeypatch.setattr(members, "user_id", id_of)
    monkeypatch.setattr(members, "group_id", id_of)
    limits = Limits(users=("me",), groups=("us",))
    listens = ("unix:a", "haproxy:unix:b", "systemd:domain=UNIX:index=0", "fd:fileno=4", "tcp:0")
    endpoints = [Endpoint(f"e{number}", listen, TLS(), limits) for number, listen in enumerate(listens)]
    descriptions = parser.parse(Config(HERE / "config.toml", tuple(endpoints)))
    assert [description.members for description in descriptions] == [
        *[Members(frozenset({1}), frozenset({2}))] * 4,
        NOBODY,
    ]
    assert asked == ["me", "us"]


@pytest.mark.parametrize(
    ("listen", "only", "problem"),
    [
        ("udp:0", "stream", "'discard' is not for datagrams; expected listen to be a stream, such as tcp:"),
        ("fd:7", "stream", "'discard' is not for datagrams"),
        ("tcp:0", "datagrams", "'discard' is for datagrams only; expected listen to be a udp: description"),
        ("fd:7", "datagrams", "'discard' is for datagrams only"),
        ("udp:0", "datagrams", ""),
        ("unix:a", "stream", ""),
    ],
)
def test_answers_that_one_kind_has_not(
    listen: str, only: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may be for streams or for datagrams alone; what a descriptor is, nobody knows yet."""
    other = {"stream": "datagrams", "datagrams": "stream"}[only]
    answer = replace(ANSWERS["discard"], **{other: None})  # type: ignore[arg-type]  # one of the two
    monkeypatch.setattr("suite.endpoints.parser.ANSWERS", {"discard": answer})
    config = Config(tmp_path / "c.toml", (Endpoint("e0", listen, TLS(), answer="discard"),))
    if problem:
        with pytest.raises(ConfigError, match=f"endpoints.e0.answer: {re.escape(problem)}"):
            parser.parse(config)
    else:
        assert len(parser.parse(config)) == 1
