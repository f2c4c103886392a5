"""The gallery in memory: what is minted, renewed and left out, and what the index says."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport

from suite.config.file import Config
from suite.config.gallery import GalleryTable
from suite.config.limits import Limits
from suite.gallery import collection, legacy
from suite.gallery.behaviours import BEHAVIOURS, Behaviour
from suite.gallery.collection import Gallery
from suite.gallery.contexts import UnspeakableError, exhibit_context, try_out
from suite.gallery.exhibit import Exhibit
from suite.gallery.http import LONGEST_HEAD
from suite.gallery.index import IndexPage, respond
from suite.gallery.mint import Unmintable, mint
from suite.gallery.places import with_gallery
from suite.gallery.specimens import SPECIMENS
from suite.guard.streams import Guard
from suite.server.reload import GALLERY_INTERVAL, Reloader

NOW = datetime(2030, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


def configured(**table: Any) -> Config:
    return Config(Path("config.toml"), (), gallery=GalleryTable(**table))


class Calendar:
    """What time it is."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def leaf(gallery: Gallery, name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(gallery.exhibits[name].minted.chain[0])


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return Gallery(configured(only=("good", "expired")), now=Calendar())


def test_every_behaviour_is_a_specimens() -> None:
    named = {specimen.behaviour for specimen in SPECIMENS} - {None}
    assert named == set(BEHAVIOURS)


def test_nobody_else_may_replace_the_ca_where_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "ca.pem"
    before = os.umask(0)
    try:
        gallery = Gallery(configured(only=("good",), ca=path))
        gallery.write_authority()
    finally:
        os.umask(before)
    assert path.read_bytes() == gallery.authority.pem
    assert [stat.S_IMODE(made.stat().st_mode) for made in (path.parent.parent, path.parent)] == [0o755] * 2
    assert not stat.S_IMODE(path.stat().st_mode) & 0o022


def test_a_year_passes() -> None:
    """Each still has its one defect; the CA is the same; what never changes is not made again."""
    calendar = Calendar()
    only = ("good", "expired", "not-yet-valid", "stapled", "rsa-1024")
    first = Gallery(configured(only=only), now=calendar)
    assert first.due == []
    calendar.now += YEAR
    assert "good" in first.due
    assert "stapled" in first.due
    then = Gallery(configured(only=only), first)
    assert then.due == []
    assert then.authority is first.authority
    assert leaf(then, "good").not_valid_before_utc < calendar.now < leaf(then, "good").not_valid_after_utc
    assert leaf(then, "expired").not_valid_after_utc < calendar.now
    assert leaf(then, "not-yet-valid").not_valid_before_utc > calendar.now
    for name in set(only) - set(first.due):
        assert then.exhibits[name] is first.exhibits[name]


def test_a_new_ca_when_the_old_one_expires() -> None:
    calendar = Calendar()
    first = Gallery(configured(only=("good",)), now=calendar)
    calendar.now = first.authority.until
    assert first.due == ["good"]
    assert Gallery(configured(only=("good",)), first).authority is not first.authority


def test_other_names_are_in_other_certificates() -> None:
    first = Gallery(configured(only=("good",)), now=Calendar())
    then = Gallery(configured(only=("good",), domain="bad.test"), first)
    assert then.authority is first.authority
    names = leaf(then, "good").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "good.bad.test" in names.get_values_for_type(x509.DNSName)
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_what_cannot_be_done_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(context: Any) -> None:
        if context.specimen == "tls-v1-0":
            raise UnspeakableError("OpenSSL: no protocols available")

    def decline(certificate: str, *arguments: Any) -> Any:
        if certificate == "md5":
            raise Unmintable("no MD5 here")
        return original(certificate, *arguments)

    original = mint
    monkeypatch.setattr(collection, "try_out", refuse)
    monkeypatch.setattr(collection, "mint", decline)
    monkeypatch.setattr(legacy, "missing", lambda: legacy.MISSING)
    config = configured(only=("good", "tls-v1-0", "md5", "rc4"))
    gallery = Gallery(config, now=Calendar())
    assert [*gallery.exhibits] == ["good"]
    assert gallery.left_out == {
        "md5": "no MD5 here",
        "tls-v1-0": "OpenSSL: no protocols available",
        "rc4": legacy.MISSING,
    }
    assert gallery.lines()[0] == "gallery: 1 specimen, 3 left out"
    names = [endpoint.name for endpoint in with_gallery(config, gallery.left_out).endpoints]
    assert names == ["gallery-index", "gallery-sni", "gallery-good"]
    assert {each["name"] for each in gallery.manifest({})["left_out"]} == {"md5", "tls-v1-0", "rc4"}


def test_a_trial_finds_what_openssl_cannot_do(gallery: Gallery) -> None:
    """Suites that do not go with the key, or that there are not."""
    minted, pem = gallery.exhibits["good"].minted, gallery.authority.pem
    for suites in ("ECDHE-ECDSA-AES128-GCM-SHA256", "NO-SUCH-SUITE"):
        behaviour = Behaviour(SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION, suites)
        with pytest.raises(UnspeakableError, match="OpenSSL: "):
            try_out(exhibit_context("good", behaviour, minted, pem))


class FakeSuite:
    """A suite with nothing but a gallery."""

    running = True

    def __init__(self, gallery: Gallery | None) -> None:
        self.reactor = MemoryReactorClock()
        self.plan: Any = type("Plan", (), {"gallery": gallery})()

    def stamps(self) -> dict[str, Any]:
        return {}


def test_renewal_is_looked_after() -> None:
    """As soon as a specimen is due, and not before; without a gallery, nobody looks."""
    calendar = Calendar()
    suite: Any = FakeSuite(Gallery(configured(only=("good",)), now=calendar))
    reloader: Any = Reloader(suite, None)  # type: ignore[arg-type]
    renewed: list[str] = []

    async def renew(done: str) -> bool:
        renewed.append(done)
        calendar.now = NOW
        return True

    reloader._renew = renew
    reloader._watch_gallery()
    suite.reactor.advance(GALLERY_INTERVAL)
    assert renewed == []
    calendar.now += YEAR
    suite.reactor.advance(GALLERY_INTERVAL)
    assert renewed == ["gallery: 1 specimens have been minted again"]
    suite.reactor.advance(GALLERY_INTERVAL)
    assert len(renewed) == 1
    none: Any = FakeSuite(None)
    Reloader(none, None)._watch_gallery()  # type: ignore[arg-type]
    assert none.reactor.getDelayedCalls() == []


# What is answered.


PORTS = {"index": 4498, "sni": 4499, "good": 4500, "expired": 4506}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET /?a HTTP/1.0\n\n", "200 OK"),
        (b"GET http://localhost:4498/ca.pem HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET /../ca.pem HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\n\n", "400 Bad Request"),
    ],
)
def test_requests(gallery: Gallery, head: bytes, status: str) -> None:
    assert respond(head, gallery, PORTS).startswith(f"HTTP/1.1 {status}\r\n".encode())


@given(st.binary(max_size=200))
def test_no_request_is_an_error(gallery: Gallery, head: bytes) -> None:
    assert respond(head, gallery, PORTS).startswith(b"HTTP/1.1 ")


def test_head_has_no_body(gallery: Gallery) -> None:
    full, head = (respond(method + b" / HTTP/1.1\r\n\r\n", gallery, PORTS) for method in (b"GET", b"HEAD"))
    assert full.partition(b"\r\n\r\n")[0] == head.partition(b"\r\n\r\n")[0]
    assert head.endswith(b"\r\n\r\n")


def test_only_open_ports_are_in_the_manifest(gallery: Gallery) -> None:
    text = respond(b"GET /gallery.json HTTP/1.1\r\n\r\n", gallery, {"sni": 1, "good": 2})
    manifest = json.loads(text.partition(b"\r\n\r\n")[2])
    assert [each["name"] for each in manifest["specimens"]] == ["good"]
    assert manifest["sni_port"] == 1


def connected(protocol: Any) -> StringTransport:
    transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
    protocol.makeConnection(transport)
    return transport


def test_a_request_has_an_end(gallery: Gallery) -> None:
    page = IndexPage(lambda: (gallery, PORTS), Guard(Clock(), "gallery-index", Limits()))
    transport = connected(page)
    page.dataReceived(b"GET / HTTP/1.1\r\nx: " + bytes(LONGEST_HEAD))
    assert transport.value().startswith(b"HTTP/1.1 431 ")
    assert transport.disconnecting


class Presented(StringTransport):
    """A connection to a specimen."""

    exhibit: Any = None


@pytest.mark.parametrize(
    "pieces",
    [
        [b"hello"],
        [b"GE", b"Tting nowhere"],
        [b"G"],
        [b"HEA", b"P"],
        [bytes([byte]) for byte in range(256)],
        [b"GET " + bytes(LONGEST_HEAD), b"more"],
    ],
)
def test_what_is_no_request_comes_back(pieces: list[bytes]) -> None:
    protocol: Any = Exhibit(Guard(Clock(), "gallery-good", Limits()))
    transport = connected(protocol)
    for piece in pieces:
        protocol.dataReceived(piece)
    protocol.readConnectionLost()
    assert transport.value() == b"".join(pieces)
    assert protocol.received == len(b"".join(pieces))


def test_a_request_gets_a_page(gallery: Gallery) -> None:
    protocol: Any = Exhibit(Guard(Clock(), "gallery-expired", Limits()))
    transport = Presented(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
    transport.exhibit = gallery.exhibits["expired"]
    protocol.makeConnection(transport)
    for byte in b"GET / HTTP/1.1\r\n\r\n":
        protocol.dataReceived(bytes([byte]))
    assert b"<h1>expired</h1>" in transport.value()
    assert transport.disconnecting
    protocol.dataReceived(b"late")
    assert transport.value().count(b"HTTP/1.1") == 1
