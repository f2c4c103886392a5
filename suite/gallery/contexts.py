"""From what has been minted for a specimen to the OpenSSL context that presents it.

Rules: nothing that OpenSSL would object to for the client's sake is objected to here (security level 0);
sessions never resume, because a resumed one shows no certificate; whether this build of OpenSSL can speak a
specimen is tried, in memory, before anybody connects.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final

from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL, crypto

from suite.endpoints.tls import MODE_NO_AUTO_CHAIN
from suite.engine.handshake import reason_of
from suite.engine.openssl import MAX_PLAINTEXT, use_chain, use_key
from suite.gallery.behaviours import Behaviour
from suite.gallery.mint import Minted

#: OpenSSL must not judge what a client is to judge (SSL_CTX_set_security_level(3)).
_LEVEL: Final = ":@SECLEVEL=0"

#: What the client of a trial speaks: everything that this OpenSSL has.
_EVERYTHING: Final = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"

#: ALPN protocols that the client of a trial offers.
_OFFERED: Final = b"http/1.1"


class UnspeakableError(Exception):
    """What a specimen needs, this build of OpenSSL cannot do; the argument says why."""


class ExhibitContext(SSL.Context):
    """The context of one specimen.

    :ivar specimen: its name.
    :ivar behaviour: how its server conducts itself.
    :ivar minted: its certificates and key.
    """

    def __init__(self, specimen: str, behaviour: Behaviour, minted: Minted) -> None:
        super().__init__(SSL.TLS_SERVER_METHOD)
        self.specimen = specimen
        self.behaviour = behaviour
        self.minted = minted

    def find(self, name: str | None) -> ExhibitContext | None:  # noqa: ARG002  # a port of its own
        """The specimen for a client that asks for *name* (SNI): this one."""
        return self


class DirectoryContext(SSL.Context):
    """The context of the port where the name that a client asks for chooses the specimen.

    It is never used for a handshake.

    :param exhibits: the specimens by name.
    :param domain: the name that stands for ``good``, as no name does.
    """

    def __init__(self, exhibits: dict[str, ExhibitContext], domain: str) -> None:
        super().__init__(SSL.TLS_SERVER_METHOD)
        self.exhibits = exhibits
        self.domain = domain

    def find(self, name: str | None) -> ExhibitContext | None:
        """The specimen for a client that asks for *name* (SNI); None: there is none."""
        label = "good" if name in (None, self.domain) else str(name).partition(".")[0]
        return self.exhibits.get(label)


def exhibit_context(specimen: str, behaviour: Behaviour, minted: Minted, authority: bytes) -> ExhibitContext:
    """The context that presents a specimen.

    :param authority: the CA in PEM, which clients are told to have certificates from.
    :raises UnspeakableError: OpenSSL refuses a certificate, the key, a version or a suite.
    """
    context = ExhibitContext(specimen, behaviour, minted)
    if behaviour.legacy is not None:
        return context
    try:
        _prepare(context, authority)
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        raise UnspeakableError(f"OpenSSL: {reason_of(error)}") from None
    return context


def _prepare(context: ExhibitContext, authority: bytes) -> None:
    behaviour, minted = context.behaviour, context.minted
    # Before the certificate, which would be refused otherwise.
    context.set_cipher_list((behaviour.suites + _LEVEL).encode())
    context.set_min_proto_version(behaviour.minimum or SSL.TLS1_2_VERSION)
    context.set_max_proto_version(behaviour.maximum)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    if not behaviour.renegotiates:
        context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | MODE_NO_AUTO_CHAIN)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(hashlib.sha256(context.specimen.encode()).digest())
    use_chain(context, minted.chain)
    use_key(context, crypto.load_privatekey(crypto.FILETYPE_PEM, minted.key))
    if minted.ocsp is not None:
        staple = minted.ocsp
        context.set_ocsp_server_callback(lambda _connection, _data: staple)
    if behaviour.protocol is not None:
        protocol = behaviour.protocol
        context.set_alpn_select_callback(lambda _connection, _offered: protocol)
    if behaviour.clients:
        required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if behaviour.clients == "required" else 0
        # Any certificate will do: whether there is one is what the specimen is about.
        context.set_verify(SSL.VERIFY_PEER | required, lambda *_arguments: True)
        context.add_client_ca(load_pem_x509_certificate(authority))


def try_out(context: ExhibitContext) -> None:
    """Present *context* to a client in memory that knows everything and believes everybody.

    :raises UnspeakableError: the server cannot present its certificate.
    """
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_cipher_list(_EVERYTHING)
    client.set_min_proto_version(context.behaviour.minimum)
    client.set_max_proto_version(context.behaviour.maximum)
    client.set_alpn_protos([_OFFERED])
    ends = SSL.Connection(client, None), SSL.Connection(context, None)
    ends[0].set_connect_state()
    ends[1].set_accept_state()
    enough, sent = sum(map(len, context.minted.chain)), 0
    moved = True
    while moved and sent < enough:
        moved = False
        for end, other in (ends, ends[::-1]):
            error: SSL.Error | None = None
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as found:
                error = found
            with suppress(SSL.WantReadError):
                while data := end.bio_read(MAX_PLAINTEXT):
                    sent += len(data) if end is ends[1] else 0
                    other.bio_write(data)
                    moved = True
            # What the client objects to once the certificate is on its way is the client's affair.
            if error is not None and sent < enough:
                raise UnspeakableError(f"OpenSSL: {reason_of(error)}")
    if sent < enough:
        raise UnspeakableError("OpenSSL: the handshake does not get to the certificate")
