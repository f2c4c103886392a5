"""From an identity and TLS settings to the OpenSSL context of an endpoint.

Rules: Mozilla's "intermediate" profile (wiki.mozilla.org/Security/Server_Side_TLS, version 5.7):
TLS 1.2 and 1.3, forward-secret AEAD suites over its three curves only, in the client's order of preference;
no renegotiation, no compression; sessions resume by ticket; idle connections free their buffers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.x509 import Certificate
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from suite.config.tls import TLS, TLS_VERSIONS
from suite.engine.handshake import Preamble, reason_of
from suite.engine.hello import HelloConnection
from suite.engine.openssl import ask_for_any_certificate, set_groups, use_key
from suite.errors import CertificateError
from suite.files import read_file
from suite.identities import Files, Identity
from suite.text import shown

TLS13_SUITES: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
TLS12_SUITES: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
#: Offered only with `dhParameters`: without parameters these suites cannot be negotiated.
DHE_SUITES: Final = b":DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"

#: The profile's three curves, and a post-quantum hybrid to put before them where OpenSSL has it (3.5): the
#: profile does not mention it yet, but browsers and OpenSSL's own default prefer it.
GROUPS: Final = b"X25519:P-256:P-384"
HYBRID: Final = b"X25519MLKEM768:"

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

#: openssl/ssl.h; pyOpenSSL has no name for it. Send the configured chain only: otherwise OpenSSL would build
#: one at each handshake from the certificates that verify clients.
MODE_NO_AUTO_CHAIN: Final = 0x8


class NoApplicationProtocolError(Exception):
    """The client offers ALPN protocols, but no configured one (RFC 7301, section 3.2: a fatal alert)."""


@implementer(IOpenSSLContextFactory, IOpenSSLServerConnectionCreator)
class ContextFactory:
    """Gives every connection of an endpoint the same context.

    :ivar context: the context of new connections; it may be replaced at any time.
    :ivar keeps_hello: whether new connections of Twisted's own TLS keep what the client offers; those of the
        engine are of a class that does.
    :ivar preamble: makes the reader of the bytes before a handshake; None if there are no such bytes.
    """

    def __init__(self, context: SSL.Context, preamble: Callable[[], Preamble] | None = None) -> None:
        self.context = context
        self.preamble = preamble
        self.keeps_hello = False

    def getContext(self) -> SSL.Context:
        """The context for a new connection."""
        return self.context

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """`IOpenSSLServerConnectionCreator.serverConnectionForTLS`: a new connection of Twisted's own TLS."""
        return HelloConnection(self.context) if self.keeps_hello else SSL.Connection(self.context, None)


def server_context(
    identity: Identity,
    tls: TLS,
    *,
    session_id: str,
    dh_parameters: Path | None = None,
    authorities: Sequence[Certificate] | None = None,
) -> SSL.Context:
    """The context of a TLS server.

    :param session_id: sessions resume only where this is the same.
    :param dh_parameters: a PEM file, which enables the DHE suites; None disables them.
    :param authorities: what is in `TLS.client_ca`, if it has been read already.
    :raises CertificateError: OpenSSL does not accept a certificate, key or parameter file.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[tls.minimum])
    context.set_max_proto_version(_VERSIONS[tls.maximum])
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | MODE_NO_AUTO_CHAIN)
    context.set_tls13_ciphersuites(TLS13_SUITES)
    try:
        set_groups(context, HYBRID + GROUPS)
    except SSL.Error:
        set_groups(context, GROUPS)
    context.set_cipher_list(TLS12_SUITES if dh_parameters is None else TLS12_SUITES + DHE_SUITES)
    # A resumed session skips client authentication, so it must not come from another endpoint.
    context.set_session_id(hashlib.sha256(session_id.encode()).digest())
    use_identity(context, identity)
    if dh_parameters is not None:
        try:
            read_file(dh_parameters)  # OpenSSL would wait for a pipe
            context.load_tmp_dh(str(dh_parameters))
        except (SSL.Error, OSError):
            raise CertificateError(
                shown(dh_parameters), "contains no Diffie-Hellman parameters; expected a PEM file"
            ) from None
    if tls.client_ca is not None:
        if authorities is None:
            authorities = Files().authorities(tls.client_ca)
        _verify_clients(context, authorities, tls)
    if tls.alpn:
        _choose_protocol(context, [name.encode() for name in tls.alpn])
    return context


def use_identity(context: SSL.Context, identity: Identity) -> None:
    """Make *context* present the certificate, key and chain of *identity*.

    :raises CertificateError: OpenSSL does not accept them.
    """
    try:
        context.use_certificate(identity.certificate)
        use_key(context, identity.openssl_key or PKey.from_cryptography_key(identity.key))
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    except SSL.Error as error:
        raise CertificateError(
            shown(identity.path), f"certificate refused by OpenSSL: {reason_of(error)}"
        ) from None


def _verify_clients(context: SSL.Context, authorities: Iterable[Certificate], tls: TLS) -> None:
    store = context.get_cert_store()
    if store is None:
        raise CertificateError(shown(str(tls.client_ca)), "cannot be used; OpenSSL has no place for it")
    # What the file names is trusted, be it a root or not: an intermediate CA is often all that an operator
    # has.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))
        context.add_client_ca(authority)
    if tls.client_auth == "unverified":
        ask_for_any_certificate(context)
        return
    required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if tls.client_auth == "required" else 0
    context.set_verify(SSL.VERIFY_PEER | required)


def choose_by_name(default: SSL.Context, by_name: Mapping[str, SSL.Context]) -> SSL.Context:
    """Make *default* switch to the context of the name that a client asks for (SNI, RFC 6066, section 3).

    A client that asks for no name, or for one that is not there, gets *default*, as in nginx. All contexts
    must have the same settings: OpenSSL keeps those of *default* for the connection, and takes only the
    identity and the CAs of clients from the other.

    :param by_name: the contexts by host name in lower case; ``*.example.org`` stands for any one label.
    """

    def choose(connection: SSL.Connection) -> None:
        asked = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
        chosen = by_name.get(asked) or by_name.get(f"*.{asked.partition('.')[2]}")
        if chosen is not None and chosen is not default:
            connection.set_context(chosen)

    default.set_tlsext_servername_callback(choose)
    return default


def prove(context: SSL.Context, tls: TLS, path: Path) -> None:
    """Make a handshake in memory in each version that *tls* offers, to see that the key can sign.

    :param context: a context that asks for no client certificate; it is used up.
    :param path: the file with the certificate, for the error.
    :raises CertificateError: a handshake fails.
    """
    offered = TLS_VERSIONS[TLS_VERSIONS.index(tls.minimum) : TLS_VERSIONS.index(tls.maximum) + 1]
    failed = {}
    for version in offered:
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)  # which believes whatever it is shown
        client.set_min_proto_version(_VERSIONS[version])
        client.set_max_proto_version(_VERSIONS[version])
        try:
            shake_hands(client, context)
        except SSL.Error as error:
            failed[version] = reason_of(error)
    if failed:
        versions = " or ".join(f"TLS {version}" for version in failed)
        others = [version for version in offered if version not in failed]
        way_out = (
            f'expected tls.{"minimum" if others[0] == "1.3" else "maximum"} to be "{others[0]}"'
            if others
            else "expected one with an RSA key, or on P-256, P-384 or an Edwards curve"
        )
        reason = next(iter(failed.values()))
        raise CertificateError(shown(path), f"cannot make a {versions} handshake ({reason}); {way_out}")


def shake_hands(client: SSL.Context, server: SSL.Context) -> tuple[SSL.Connection, SSL.Connection]:
    """The two ends of a connection in memory, once the handshake has completed.

    :raises SSL.Error: one of them refuses.
    """
    ends = SSL.Connection(client, None), SSL.Connection(server, None)
    ends[0].set_connect_state()
    ends[1].set_accept_state()
    done = [False, False]
    while not all(done):
        moved = False
        for number, (end, other) in enumerate((ends, ends[::-1])):
            if not done[number]:
                with suppress(SSL.WantReadError):
                    end.do_handshake()
                    done[number] = True
            with suppress(SSL.WantReadError):
                while data := end.bio_read(2**16):
                    other.bio_write(data)
                    moved = True
        if not moved and not all(done):
            raise SSL.Error([("", "", "the handshake does not complete")])
    return ends


def _choose_protocol(context: SSL.Context, ours: Sequence[bytes]) -> None:
    def choose(_connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        raise NoApplicationProtocolError(f"no common ALPN protocol; the client offers {theirs!r}")

    context.set_alpn_select_callback(choose)
