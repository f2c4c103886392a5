"""`suite.endpoints.tls`: our contexts, joined in memory to the standard library's client.

Our side is pyOpenSSL on its own OpenSSL, theirs is Python's `ssl` on the system's: two libraries. Only
curves are chosen with pyOpenSSL, since some Pythons cannot choose all of them.
"""

from __future__ import annotations

import base64
import math
import re
import ssl
import subprocess
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL

from suite import certs
from suite.config.tls import TLS
from suite.endpoints.tls import (
    ContextFactory,
    NoApplicationProtocolError,
    prove,
    server_context,
    use_identity,
)
from suite.engine.openssl import Connection, scratch_buffer, set_groups
from suite.engine.tls import TLSServer, note_records
from suite.errors import CertificateError
from suite.identities import Identity, load_certificates, load_identity
from tests.running import client_program

V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

#: Suites that TLS 1.2 clients may choose from (OpenSSL's names), each with the server's kind of key.
MODERN = [
    ("EC", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("EC", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("EC", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("RSA", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("RSA", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("RSA", "ECDHE-RSA-CHACHA20-POLY1305"),
]

#: No forward secrecy, or no AEAD, or neither.
LEGACY = [
    ("EC", "ECDHE-ECDSA-AES128-SHA256"),
    ("EC", "ECDHE-ECDSA-AES256-SHA"),
    ("RSA", "ECDHE-RSA-AES256-SHA384"),
    ("RSA", "ECDHE-RSA-AES128-SHA"),
    ("RSA", "AES128-GCM-SHA256"),
    ("RSA", "AES256-SHA256"),
    ("RSA", "AES128-SHA"),
    ("RSA", "DHE-RSA-AES128-SHA256"),
]

#: With `dhParameters` only.
FINITE_FIELD = [
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-CHACHA20-POLY1305",
]

MODERN_1_3 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


class Pair:
    """A server and a client, joined by memory.

    :ivar server_error: what ended the server's side, if anything has.
    :ivar client_error: the same for the client's.
    """

    def __init__(
        self,
        context: SSL.Context,
        client: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        *,
        name: str | None = "localhost",
    ) -> None:
        self.server = Connection(context, scratch_buffer())
        self.server.set_accept_state()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=session)
        self.server_error: Exception | None = None
        self.client_error: ssl.SSLError | None = None
        server_done = client_done = False
        while not (server_done and client_done):
            if self.client_error is None:
                try:
                    self.client.do_handshake()
                    client_done = True
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    self.client_error = error
            moved = self._to_server()
            if self.server_error is None:
                try:
                    self.server.do_handshake()
                    server_done = True
                except SSL.WantReadError:
                    pass
                except Exception as error:  # noqa: BLE001  # a callback's, perhaps
                    self.server_error = error
            if not self._to_client() and not moved:
                break  # one of them has given up

    def _to_server(self) -> int:
        data = self._outgoing.read()
        return self.server.bio_write(data) if data else 0

    def _to_client(self) -> int:
        moved = 0
        while True:
            try:
                moved += self._incoming.write(self.server.bio_read(2**16))
            except SSL.WantReadError:
                return moved

    def echo(self, data: bytes) -> bytes:
        """What the client gets back for *data*, which on the way has been read and written by the server."""
        self.client.write(data)
        self._to_server()
        self.server.send(self.server.recv(2**14))
        self._to_client()
        return self.client.read(2**14)

    def client_says_goodbye(self) -> None:
        """The client sends its close_notify, which the server reads."""
        with pytest.raises(ssl.SSLWantReadError):
            self.client.unwrap()
        self._to_server()
        with pytest.raises(SSL.ZeroReturnError):
            self.server.recv(1)

    def alert(self) -> str:
        """The alert that the client reads, in OpenSSL's words."""
        if self.client_error is not None:
            return str(self.client_error)
        with pytest.raises(ssl.SSLError) as caught:
            self.client.read(1)
        return str(caught.value)


class Names:
    """Certificates of one CA, and clients who trust it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        certs.mint(directory)
        self.ca = trustme.CA()
        self.by_kind = {"EC": load_identity(directory / "server.pem", directory / "server.key")}
        self.by_kind["RSA"] = self.issue("rsa", self.ca, key_type=trustme.KeyType.RSA)

    def issue(self, name: str, ca: trustme.CA, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> Identity:
        """A server's identity, signed by *ca*, its chain behind it."""
        issued = ca.issue_cert("localhost", key_type=key_type)
        pem, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        pem.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(issued.private_key_pem.bytes())
        return load_identity(pem, key)

    def client(
        self,
        *,
        versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (V1_2, V1_3),
        ciphers: str = "ALL:@SECLEVEL=0",
        alpn: Sequence[str] = (),
        identity: str | None = None,
    ) -> ssl.SSLContext:
        """A client that checks our certificate, and is willing to speak much more than we are."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        self.ca.configure_trust(context)
        context.set_ciphers(ciphers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of versions below 1.2
            context.minimum_version, context.maximum_version = versions
        if alpn:
            context.set_alpn_protocols(alpn)
        if identity is not None:
            context.load_cert_chain(self.directory / f"{identity}.pem", self.directory / f"{identity}.key")
        return context

    def server(self, tls: TLS = TLS(), kind: str = "EC", dh: Path | None = None) -> SSL.Context:  # noqa: B008
        return server_context(self.by_kind[kind], tls, session_id="tls", dh_parameters=dh)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    return Names(tmp_path_factory.mktemp("tls"))


def accepted(pair: Pair) -> Pair:
    """*pair*, which has shaken hands and can talk."""
    assert pair.server_error is None
    assert pair.client_error is None
    assert pair.echo(b"hola mundo") == b"hola mundo"
    return pair


def refused(pair: Pair, because: str) -> str:
    """The alert that the client reads; the server's own error matches *because*."""
    assert pair.server_error is not None, "the server has no objection"
    assert re.search(because, repr(pair.server_error))
    return pair.alert()


# Versions.


@pytest.mark.parametrize(("version", "name"), [(V1_2, "TLSv1.2"), (V1_3, "TLSv1.3")])
def test_tls_1_2_and_1_3_are_spoken(names: Names, version: ssl.TLSVersion, name: str) -> None:
    pair = accepted(Pair(names.server(), names.client(versions=(version, version))))
    assert pair.client.version() == name


def test_the_newest_version_is_chosen(names: Names) -> None:
    assert accepted(Pair(names.server(), names.client())).client.version() == "TLSv1.3"


def test_tls_1_1_is_refused(names: Names) -> None:
    alert = refused(Pair(names.server(), names.client(versions=(V1_1, V1_1))), "unsupported protocol")
    assert "alert protocol version" in alert


def test_a_minimum_is_obeyed(names: Names) -> None:
    context = names.server(TLS(minimum="1.3"))
    refused(Pair(context, names.client(versions=(V1_2, V1_2))), "unsupported protocol")
    assert accepted(Pair(context, names.client())).client.version() == "TLSv1.3"


def test_a_maximum_is_obeyed(names: Names) -> None:
    context = names.server(TLS(maximum="1.2"))
    refused(Pair(context, names.client(versions=(V1_3, V1_3))), "unsupported protocol")
    assert accepted(Pair(context, names.client())).client.version() == "TLSv1.2"


# Suites.


@pytest.mark.parametrize(("kind", "suite"), MODERN)
def test_forward_secret_aead_suites_are_on_offer(names: Names, kind: str, suite: str) -> None:
    client = names.client(versions=(V1_2, V1_2), ciphers=suite)
    cipher = accepted(Pair(names.server(kind=kind), client)).client.cipher()
    assert cipher is not None
    assert cipher[0] == suite


@pytest.mark.parametrize(("kind", "suite"), [*LEGACY, *(("RSA", suite) for suite in FINITE_FIELD)])
def test_no_other_suites_are(names: Names, kind: str, suite: str) -> None:
    client = names.client(versions=(V1_2, V1_2), ciphers=f"{suite}:@SECLEVEL=0")
    assert suite in {cipher["name"] for cipher in client.get_ciphers()}, "the client has not asked for it"
    alert = refused(Pair(names.server(kind=kind), client), "no shared cipher")
    assert "alert handshake failure" in alert


def test_tls_1_3_has_its_three_common_suites(names: Names) -> None:
    pair = accepted(Pair(names.server(), names.client(versions=(V1_3, V1_3))))
    offered = pair.server.get_cipher_list()
    assert [suite for suite in offered if suite.startswith("TLS_")] == MODERN_1_3
    cipher = pair.client.cipher()
    assert cipher is not None
    assert cipher[0] in MODERN_1_3


def test_nothing_is_offered_that_cannot_be_kept(names: Names) -> None:
    """DHE without parameters, that is."""
    offered = SSL.Connection(names.server(kind="RSA"), None).get_cipher_list()
    assert not [suite for suite in offered if suite.startswith("DHE-")]


@pytest.mark.parametrize("favourite", ["CHACHA20-POLY1305", "AES256-GCM-SHA384", "AES128-GCM-SHA256"])
def test_the_clients_preference_decides(names: Names, favourite: str) -> None:
    """It knows whether its processor has AES; for us all of them are good."""
    suites = [f"ECDHE-ECDSA-{favourite}", *(suite for kind, suite in MODERN if kind == "EC")]
    client = names.client(versions=(V1_2, V1_2), ciphers=":".join(suites))
    cipher = accepted(Pair(names.server(), client)).client.cipher()
    assert cipher is not None
    assert cipher[0] == suites[0]


def agreed_group(server: SSL.Context, version: int, curve: str) -> str | None:
    """What the *server* agrees on with a client of that *curve* alone.

    pyOpenSSL's client, since not every Python's `ssl.SSLContext.set_ecdh_curve` knows X25519.

    :raises SSL.Error: one of them has refused.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    set_groups(context, curve.encode())
    ends = client, host = SSL.Connection(context), SSL.Connection(server)
    client.set_connect_state()
    host.set_accept_state()
    for _ in range(4):  # flights
        for end, other in (ends, ends[::-1]):
            with suppress(SSL.WantReadError):
                end.do_handshake()
            with suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(2**16))
    assert client.get_finished() == host.get_peer_finished() is not None
    return client.get_group_name()


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize(
    ("curve", "name"), [("X25519", "x25519"), ("prime256v1", "secp256r1"), ("secp384r1", "secp384r1")]
)
def test_the_curves_of_the_profile_are_on_offer(names: Names, version: int, curve: str, name: str) -> None:
    assert agreed_group(names.server(kind="RSA"), version, curve) == name


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("curve", ["X448", "secp521r1"])
def test_no_other_curves_are(names: Names, version: int, curve: str) -> None:
    with pytest.raises(SSL.Error, match=r"no shared cipher|no suitable key share"):
        agreed_group(names.server(kind="RSA"), version, curve)


@pytest.mark.parametrize("unknown", [b"X25519:quux", b"quux"])
def test_a_group_that_openssl_does_not_know_is_refused(unknown: bytes) -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    with pytest.raises(SSL.Error):
        set_groups(context, unknown)
    set_groups(context, b"X25519")  # and no error is left in OpenSSL's queue for somebody else to find


def test_an_openssl_without_the_hybrid_group_has_the_curves(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.endpoints.tls.HYBRID", b"quux:")
    accepted(Pair(names.server(), names.client()))


def ffdhe2048() -> bytes:
    """The finite-field group of RFC 7919, appendix A.1, as a PEM file has it."""
    digits = 2000
    e = sum((1 << digits) // math.factorial(k) for k in range(300))
    p = 2**2048 - 2**1984 + ((e >> (digits - 1918)) + 560316) * 2**64 - 1
    # DER: a sequence of two integers, p and the generator, 2.
    der = bytes.fromhex("308201080282010100") + p.to_bytes(256, "big") + bytes.fromhex("020102")
    return b"-----BEGIN DH PARAMETERS-----\n%s-----END DH PARAMETERS-----\n" % base64.encodebytes(der)


@pytest.mark.parametrize("suite", FINITE_FIELD)
def test_dh_parameters_add_the_finite_field_suites(names: Names, tmp_path: Path, suite: str) -> None:
    (tmp_path / "dh.pem").write_bytes(ffdhe2048())
    client = names.client(versions=(V1_2, V1_2), ciphers=suite)
    cipher = accepted(Pair(names.server(kind="RSA", dh=tmp_path / "dh.pem"), client)).client.cipher()
    assert cipher is not None
    assert cipher[0] == suite


def test_dh_parameters_take_nothing_away_and_add_nothing_old(names: Names, tmp_path: Path) -> None:
    (tmp_path / "dh.pem").write_bytes(ffdhe2048())
    context = names.server(kind="RSA", dh=tmp_path / "dh.pem")
    accepted(Pair(context, names.client()))
    old = names.client(versions=(V1_2, V1_2), ciphers="DHE-RSA-AES128-SHA256:@SECLEVEL=0")
    refused(Pair(context, old), "no shared cipher")


@pytest.mark.parametrize("content", [None, b"", b"junk\n"])
def test_a_file_without_dh_parameters_is_named(names: Names, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "dh.pem").write_bytes(content)
    with pytest.raises(CertificateError, match=r"dh\.pem: .*expected a PEM file"):
        names.server(dh=tmp_path / "dh.pem")


# What else is negotiated.


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [
        (("echo", "http/1.1"), ("http/1.1", "echo"), "echo"),
        (("echo", "http/1.1"), ("h2", "http/1.1"), "http/1.1"),
        (("echo",), ("echo",), "echo"),
        (("echo",), (), None),
        ((), ("h2",), None),
        ((), (), None),
    ],
)
def test_alpn_chooses_our_favourite(
    names: Names, version: ssl.TLSVersion, ours: tuple[str, ...], theirs: tuple[str, ...], chosen: str | None
) -> None:
    """A client that does not ask gets in without."""
    client = names.client(alpn=theirs, versions=(version, version))
    pair = accepted(Pair(names.server(TLS(alpn=ours)), client))
    assert pair.client.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_client_that_asks_for_protocols_that_are_not_ours_is_told_so(
    names: Names, version: ssl.TLSVersion
) -> None:
    """RFC 7301, section 3.2: a fatal no_application_protocol alert."""
    client = names.client(alpn=["h2", "http/1.1"], versions=(version, version))
    pair = Pair(names.server(TLS(alpn=("echo",))), client)
    assert isinstance(pair.server_error, NoApplicationProtocolError)
    assert "h2" in str(pair.server_error)
    assert "alert no application protocol" in pair.alert()


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_nothing_is_compressed(names: Names, version: ssl.TLSVersion) -> None:
    pair = accepted(Pair(names.server(), names.client(versions=(version, version))))
    assert pair.client.compression() is None


def test_compression_and_renegotiation_are_switched_off_and_buffers_given_back(names: Names) -> None:
    context = names.server()
    options = context.set_options(0)
    assert options & SSL.OP_NO_COMPRESSION
    assert options & SSL.OP_NO_RENEGOTIATION
    assert context.set_mode(0) & SSL.MODE_RELEASE_BUFFERS


@pytest.mark.parametrize("transport", [TLSServer.__new__(TLSServer), None])
def test_the_engine_is_told_of_close_notify(names: Names, transport: TLSServer | None) -> None:
    """So that it can tell one from a bare FIN; a connection that is not the engine's comes to no harm."""
    pair = accepted(Pair(names.server(), names.client()))
    pair.server.set_app_data(transport)
    pair.server.share_info_callback(note_records)
    assert not getattr(transport, "close_notify_received", False)
    pair.client_says_goodbye()
    assert transport is None or transport.close_notify_received


def test_a_context_that_wants_to_be_told_itself_is(names: Names) -> None:
    told = []
    context = names.server()
    context.set_info_callback(lambda *_: told.append("its own"))
    pair = accepted(Pair(context, names.client()))
    pair.server.share_info_callback(lambda *_: told.append("ours"))
    told.clear()
    pair.client_says_goodbye()
    assert {*told} == {"its own"}


# Clients' certificates.


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_without_a_client_ca_no_certificate_is_asked_for(names: Names, version: ssl.TLSVersion) -> None:
    client = names.client(identity="client", versions=(version, version))
    pair = accepted(Pair(names.server(), client))
    assert pair.server.get_peer_certificate() is None


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_with_a_client_ca_a_client_without_a_certificate_is_refused(
    names: Names, version: ssl.TLSVersion
) -> None:
    context = names.server(TLS(client_ca=names.directory / "ca.pem"))
    alert = refused(Pair(context, names.client(versions=(version, version))), "did not return a certificate")
    assert re.search("alert (certificate required|handshake failure)", alert)


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_with_a_client_ca_a_client_of_its_is_admitted(names: Names, version: ssl.TLSVersion) -> None:
    context = names.server(TLS(client_ca=names.directory / "ca.pem"))
    pair = accepted(Pair(context, names.client(identity="client", versions=(version, version))))
    shown = pair.server.get_peer_certificate(as_cryptography=True)
    assert [shown] == load_certificates(names.directory / "client.pem")


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_with_a_client_ca_a_client_of_another_is_refused(names: Names, version: ssl.TLSVersion) -> None:
    names.issue("stranger", trustme.CA())
    context = names.server(TLS(client_ca=names.directory / "ca.pem"))
    client = names.client(identity="stranger", versions=(version, version))
    assert "alert unknown ca" in refused(Pair(context, client), "certificate verify failed")


def test_every_ca_in_the_file_is_trusted_and_named_to_clients(names: Names, tmp_path: Path) -> None:
    names.issue("friend", names.ca)
    both = tmp_path / "both.pem"
    both.write_bytes((names.directory / "ca.pem").read_bytes() + names.ca.cert_pem.bytes())
    context = names.server(TLS(client_ca=both))
    for identity in ("client", "friend"):
        pair = accepted(Pair(context, names.client(identity=identity)))
        named = [name.CN or name.OU for name in pair.server.get_client_ca_list()]
        assert len(named) == 2


@pytest.mark.parametrize("content", [None, b"junk\n"])
def test_a_client_ca_that_cannot_be_used_is_named(
    names: Names, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        names.server(TLS(client_ca=tmp_path / "ca.pem"))


def test_a_client_ca_that_only_openssl_refuses_is_named(names: Names, tmp_path: Path) -> None:
    """Beside a good certificate it has a broken revocation list."""
    crl = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    (tmp_path / "ca.pem").write_bytes((names.directory / "ca.pem").read_bytes() + crl)
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        names.server(TLS(client_ca=tmp_path / "ca.pem"))


# The server's own certificate, and its chain.


def test_a_client_that_trusts_the_root_verifies_us_through_the_chain(names: Names) -> None:
    identity = names.issue("between", names.ca.create_child_ca())
    assert len(identity.chain) == 1
    accepted(Pair(server_context(identity, TLS(), session_id="tls"), names.client()))


def test_without_the_chain_it_does_not(names: Names) -> None:
    identity = names.issue("between", names.ca.create_child_ca())
    bare = Identity(identity.key, identity.certificate, (), Path())
    between = names.directory / "between-ca.pem"
    between.write_bytes(identity.chain[0].public_bytes(Encoding.PEM))
    # Whom clients are verified with is another matter.
    for tls in (TLS(), TLS(client_ca=between)):
        pair = Pair(server_context(bare, tls, session_id="tls"), names.client())
        assert isinstance(pair.client_error, ssl.SSLCertVerificationError)


def test_a_key_that_is_not_the_certificates_is_refused(names: Names) -> None:
    """Should `load_identity` ever not have looked."""
    one, other = names.by_kind["EC"], names.issue("other", names.ca)
    with pytest.raises(CertificateError, match="refused by OpenSSL"):
        server_context(Identity(other.key, one.certificate, (), Path()), TLS(), session_id="tls")


def test_every_connection_of_a_factory_has_the_same_context(names: Names) -> None:
    """Sessions resume within one context only."""
    context = names.server()
    factory = ContextFactory(context)
    assert factory.getContext() is factory.getContext() is context


# Sessions.


def plain(_names: Names) -> TLS:
    return TLS()


def mutual(names: Names) -> TLS:
    return TLS(client_ca=names.directory / "ca.pem")


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("settings", [plain, mutual])
def test_sessions_resume(names: Names, settings: Callable[[Names], TLS], version: ssl.TLSVersion) -> None:
    context = names.server(settings(names))
    client = names.client(identity="client", versions=(version, version))
    first = accepted(Pair(context, client))
    assert not first.client.session_reused
    session = first.client.session
    assert session is not None
    assert session.has_ticket
    again = accepted(Pair(context, client, session))
    assert again.client.session_reused


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_of_another_endpoint_does_not_resume(names: Names, version: ssl.TLSVersion) -> None:
    """Else a client could show its certificate where it is trusted, and be admitted where it is not."""
    client = names.client(versions=(version, version))
    session = accepted(Pair(names.server(), client)).client.session
    assert session is not None
    strict = names.server(TLS(client_ca=names.directory / "ca.pem"))
    refused(Pair(strict, client, session), "did not return a certificate")


# Keys of every kind.


def self_signed(directory: Path, name: str, *openssl: str) -> Path:
    """A key and its certificate, made by the ``openssl`` program, in one file."""
    path = directory / f"{name}.pem"
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    made = subprocess.run(
        [
            *(client_program("openssl"), "req", "-x509", "-newkey", *openssl, "-nodes", "-days", "30"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    path.touch(0o600)
    path.write_bytes(key.read_bytes() + certificate.read_bytes())
    return path


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize(
    "kind",
    [
        ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("rsa:2048",),
        ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
        ("ed25519",),
        ("ed448",),
    ],
    ids=lambda kind: " ".join(kind[:1] + kind[2:]),
)
def test_every_kind_of_key_signs(tmp_path: Path, version: ssl.TLSVersion, kind: tuple[str, ...]) -> None:
    """RSA-PSS (RFC 4055) among them, which pyOpenSSL takes for RSA if it gets the chance."""
    path = self_signed(tmp_path, "one", *kind)
    client = ssl.create_default_context(cafile=str(path))
    client.minimum_version = client.maximum_version = version
    context = server_context(load_identity(path, path), TLS(), session_id="tls")
    prove(server_context(load_identity(path, path), TLS(), session_id="tls"), TLS(), path)
    accepted(Pair(context, client))


@pytest.mark.parametrize("curve", ["secp256k1", "brainpoolP256r1"])
def test_a_curve_that_tls_does_not_use_is_refused(tmp_path: Path, curve: str) -> None:
    path = self_signed(tmp_path, "one", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}")
    with pytest.raises(
        CertificateError,
        match=rf"one\.pem: is a key on the curve {curve}, which TLS does not use;"
        " expected P-256, P-384, P-521, RSA or an Edwards curve$",
    ):
        load_identity(path, path)


def test_a_key_that_cannot_make_a_handshake_is_named_with_the_reason(names: Names) -> None:
    """Its suites need another kind of key."""
    context = names.server(TLS(maximum="1.2"), kind="EC")
    broken = SSL.Context(SSL.TLS_SERVER_METHOD)
    broken.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
    use_identity(broken, names.by_kind["EC"])
    path = names.by_kind["EC"].path
    with pytest.raises(CertificateError, match=r"cannot make a TLS 1\.2 handshake \(no shared cipher\); ex"):
        prove(broken, TLS(maximum="1.2"), path)
    with pytest.raises(CertificateError, match=r'TLS 1\.2 handshake .*; expected tls\.minimum to be "1\.3"'):
        prove(broken, TLS(), path)
    prove(context, TLS(maximum="1.2"), path)


def test_a_damaged_key_is_found(tmp_path: Path) -> None:
    """It belongs to its certificate (the modulus does), but what it signs is wrong."""
    path = self_signed(tmp_path, "one", "rsa:2048")
    key = load_pem_private_key((tmp_path / "one.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        numbers.p,
        numbers.q,
        numbers.d ^ 4,
        numbers.dmp1 ^ 4,
        numbers.dmq1 ^ 4,
        numbers.iqmp,
        numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    (tmp_path / "one.key").write_bytes(wrong.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    identity = load_identity(path.with_suffix(".crt"), tmp_path / "one.key")
    with pytest.raises(CertificateError, match=r"one\.crt: cannot make a TLS 1\.2 or TLS 1\.3 handshake"):
        prove(server_context(identity, TLS(), session_id="tls"), TLS(), identity.path)


# Who is trusted, and what is asked.


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_an_intermediate_alone_is_trusted_for_what_it_has_signed(
    names: Names, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """And for nothing else: what the root or another intermediate has signed is refused."""
    between = names.ca.create_child_ca()
    names.issue("of-between", between)
    names.issue("of-root", names.ca)
    names.issue("of-other", names.ca.create_child_ca())
    (tmp_path / "between.pem").write_bytes(between.cert_pem.bytes())
    tls = TLS(client_ca=tmp_path / "between.pem")
    accepted(Pair(names.server(tls), names.client(identity="of-between", versions=(version, version))))
    for identity in ("of-root", "of-other"):
        client = names.client(identity=identity, versions=(version, version))
        refused(
            Pair(names.server(tls), client),
            "certificate verify failed: (unable to get local issuer|self-signed certificate in) certificate",
        )


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_optional_asks_and_does_not_insist(names: Names, version: ssl.TLSVersion) -> None:
    names.issue("stranger", trustme.CA())
    tls = TLS(client_ca=names.directory / "ca.pem", client_auth="optional")
    versions = (version, version)
    without = accepted(Pair(names.server(tls), names.client(versions=versions)))
    assert without.server.get_peer_certificate() is None
    known = accepted(Pair(names.server(tls), names.client(identity="client", versions=versions)))
    assert known.server.get_peer_certificate() is not None
    stranger = names.client(identity="stranger", versions=versions)
    refused(Pair(names.server(tls), stranger), "certificate verify failed: unable to get local issuer")


def test_a_revocation_list_that_nobody_would_look_into_is_refused(names: Names, tmp_path: Path) -> None:
    issuer = load_pem_private_key((names.directory / "ca.key").read_bytes(), None)
    assert isinstance(issuer, ec.EllipticCurvePrivateKey)
    (ca,) = load_certificates(names.directory / "ca.pem")
    now = datetime.now(UTC)
    crl = x509.CertificateRevocationListBuilder(ca.subject, now, now + timedelta(1)).sign(
        issuer, hashes.SHA256()
    )
    (tmp_path / "ca.pem").write_bytes(
        (names.directory / "ca.pem").read_bytes() + crl.public_bytes(Encoding.PEM)
    )
    with pytest.raises(CertificateError, match="has a revocation list, which is not checked; expected certi"):
        names.server(TLS(client_ca=tmp_path / "ca.pem"))
