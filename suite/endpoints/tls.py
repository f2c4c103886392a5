"""From a configured identity and TLS settings to the OpenSSL context of an endpoint.

Rules: Mozilla's "intermediate" profile (wiki.mozilla.org/Security/Server_Side_TLS, version 5.7):
TLS 1.2 and 1.3, forward-secret AEAD suites over its three curves only, in the client's order of preference;
no renegotiation, no compression; sessions resume by ticket; idle connections free their buffers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

from suite.certs import Identity, load_certificates, load_identity, load_key
from suite.config.file import Config
from suite.config.tls import TLS
from suite.endpoints.descriptions import DEFAULT_KEY, PATHS, SSL_METHODS, Description
from suite.engine.handshake import Preamble, reason_of
from suite.engine.openssl import set_groups
from suite.errors import CertificateError, ConfigError, Mistakes
from suite.files import read_file
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


@implementer(IOpenSSLContextFactory)
class ContextFactory:
    """Gives every connection of an endpoint the same context.

    :ivar context: the context of new connections; it may be replaced at any time.
    :ivar preamble: makes the reader of the bytes before a handshake; None if there are no such bytes.
    """

    def __init__(self, context: SSL.Context, preamble: Callable[[], Preamble] | None = None) -> None:
        self.context = context
        self.preamble = preamble

    def getContext(self) -> SSL.Context:
        """The context for a new connection."""
        return self.context


def server_context(
    identity: Identity, tls: TLS, *, session_id: str, dh_parameters: Path | None = None
) -> SSL.Context:
    """The context of a TLS server.

    :param session_id: sessions resume only where this is the same.
    :param dh_parameters: a PEM file, which enables the DHE suites; None disables them.
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
        _require_client_certificate(context, tls.client_ca)
    if tls.alpn:
        _choose_protocol(context, [name.encode() for name in tls.alpn])
    return context


def use_identity(context: SSL.Context, identity: Identity) -> None:
    """Make *context* present the certificate, key and chain of *identity*.

    :raises CertificateError: OpenSSL does not accept them.
    """
    try:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    except SSL.Error as error:
        raise CertificateError(
            shown(identity.path), f"certificate refused by OpenSSL: {reason_of(error)}"
        ) from None


def _require_client_certificate(context: SSL.Context, client_ca: Path) -> None:
    authorities = load_certificates(client_ca)
    try:
        context.load_verify_locations(str(client_ca))
    except SSL.Error as error:
        raise CertificateError(
            shown(client_ca), f"refused by OpenSSL ({reason_of(error)}); expected PEM certificates"
        ) from None
    for authority in authorities:
        context.add_client_ca(authority)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)


def _choose_protocol(context: SSL.Context, ours: Sequence[bytes]) -> None:
    def choose(_connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        raise NoApplicationProtocolError(f"no common ALPN protocol; the client offers {theirs!r}")

    context.set_alpn_select_callback(choose)


def load_context(config: Config, description: Description) -> SSL.Context | None:
    """The OpenSSL context for an ``ssl:`` description; None for any other.

    :raises ConfigError: a file that it names cannot be used.
    """
    endpoint, tls = description.endpoint, description.endpoint.tls
    file = shown(config.file)
    listen_key = f"endpoints.{endpoint.name}.listen"
    if description.kind == "tls" and not Path(description.arguments["path"]).is_dir():
        directory = shown(description.arguments["path"])
        raise ConfigError(file, listen_key, f"{directory}: no such directory; expected one with PEM files")
    if description.kind != "ssl":
        return None
    paths = {name: Path(description.arguments[name]) for name in PATHS & description.arguments.keys()}
    version = SSL_METHODS[description.arguments.get("sslmethod", "TLS_METHOD")]
    if version is not None:
        if version < tls.minimum:
            raise ConfigError(
                file,
                listen_key,
                f"sslmethod allows TLS {version} only; expected at least {tls.minimum}, the minimum",
            )
        tls = replace(tls, minimum=version, maximum=version)
    chains = [path for path in (paths.get("extraCertChain"), tls.chain) if path is not None]
    keys = {shown(path): endpoint.tls_key(name) for name, path in tls.files().items()}
    mistakes = Mistakes()

    def note(error: CertificateError) -> None:
        mistakes.note(ConfigError(file, keys.get(error.path, listen_key), str(error)))

    default = paths["privateKey"] == config.directory / DEFAULT_KEY and DEFAULT_KEY not in endpoint.listen
    if default and not paths["privateKey"].exists():
        raise ConfigError(
            file,
            listen_key,
            f"{shown(paths['privateKey'])}: no such file, and no privateKey is given; expected"
            f" ssl:{description.arguments['port']}:privateKey=certs/server.key:certKey=certs/server.pem",
        )

    for path in (paths["certKey"], *chains, *([tls.client_ca] if tls.client_ca is not None else [])):
        try:
            load_certificates(path)
        except CertificateError as error:
            note(error)
    try:
        load_key(paths["privateKey"])
    except CertificateError as error:
        note(error)
    mistakes.raise_any()
    try:
        return server_context(
            load_identity(paths["certKey"], paths["privateKey"], chains),
            tls,
            session_id=endpoint.name,
            dh_parameters=paths.get("dhParameters"),
        )
    except CertificateError as error:
        raise ConfigError(file, keys.get(error.path, listen_key), str(error)) from error
