"""The client side of TLS: the handshake, and what it has shown.

Rules: no application data is sent before the certificate is verified and its name matches, unless the user
asked for an insecure connection; failures are distinguished as far as TLS allows.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override

from suite.client.dial.alerts import ALERTS, CERTIFICATE_REQUIRED, HARMLESS
from suite.client.dial.certificates import (
    CertificateFacts,
    distrust,
    peer_certificate,
    sent_chain,
    trusted_chain,
    wrong_name,
)
from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.target import Target
from suite.client.dial.trust import TLSOptions, client_context
from suite.endpoints.tls import ContextFactory
from suite.engine.handshake import reason_of
from suite.engine.interfaces import INeedsNoLogContext, is_echo
from suite.engine.openssl import scratch_buffer
from suite.engine.stream import Stream
from suite.engine.tls import TLSServer, note_records
from suite.text import is_address

#: What OpenSSL calls a first answer that is not TLS; an echo of our first message is an "unexpected message".
NOT_TLS: Final = {
    "wrong version number",
    "packet length too long",
    "record layer failure",
    "unexpected message",
}


#: `reason_of` a system call that failed in OpenSSL, where pyOpenSSL does not pass on which error it was.
NO_REASON: Final = {"", "[]", "no reason given"}


@dataclass(frozen=True)
class TLSFacts:
    """The facts learned from a handshake.

    :ivar version: the TLS version: ``TLSv1.3``, for instance.
    :ivar cipher: OpenSSL's name of the cipher suite; None if the handshake ended before it was agreed.
    :ivar alpn: the negotiated protocol; None if there is none.
    :ivar chain: the certificates that the target has sent, its own first.
    :ivar trusted: the certificates from the target's own to the trusted root; empty if it is not trusted.
    :ivar resumed: whether the handshake resumed an earlier session.
    :ivar problem: why the certificate is not trusted, or not for the name; None if it is.
    """

    version: str
    cipher: str | None
    alpn: str | None
    chain: tuple[CertificateFacts, ...]
    trusted: tuple[CertificateFacts, ...]
    resumed: bool
    problem: TargetError | None

    @property
    def earliest(self) -> CertificateFacts | None:
        """The first to expire of those that trust rests on, or, without trust, of those sent."""
        return min(self.trusted or self.chain, key=lambda one: one.expires, default=None)


class HandshakeError(TargetError):
    """A handshake that failed after the target had sent certificates.

    :ivar tls: what it had shown by then.
    """

    def __init__(self, why: TargetError, tls: TLSFacts) -> None:
        super().__init__(why.word, why.detail, why.facts)
        self.tls = tls


@dataclass(frozen=True)
class Session:
    """A session that a later connection can resume.

    :ivar connection: the connection that the session comes from, kept alive here: when OpenSSL frees a
        connection that ended without ``close_notify``, it no longer resumes the session.
    """

    session: SSL.Session
    connection: SSL.Connection


class ClientTLS:
    """TLS towards one target.

    :ivar name: the name that the certificate must have.
    :ivar plain: the target without TLS, as a user would write it.
    :ivar insecure: whether to go on with a certificate that is not trusted, or not for the name.
    :raises CertificateError: a file cannot be used.
    """

    def __init__(self, target: Target, options: TLSOptions) -> None:
        self.name = (options.server_name or target.host).rstrip(".")
        self.plain = "tcp" + target.text[len("tls") :]
        self.shows_certificate = options.certificate is not None
        self.insecure = options.insecure
        context = client_context(target, options)
        context.set_info_callback(_note_alert)
        context.set_verify(SSL.VERIFY_PEER, _note_verification)
        # The attributes that `TLSServer` needs of its port.
        self.scratch = scratch_buffer()
        self.contextFactory = ContextFactory(context)

    def connection_closed(self) -> None:
        """One of our connections has ended."""

    @property
    def sni(self) -> bytes | None:
        """The name to request; None for an address, as RFC 6066, section 3, demands."""
        return None if is_address(self.name) else self.name.encode("idna")


def client_hello() -> bytes:
    """The first message of a TLS client, to see whether a target answers it."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


def was_reset(sock: socket.socket) -> bool:
    """Whether the other side has reset the connection; what came before that can still be read."""
    poll = select.poll()
    poll.register(sock, 0)  # errors are always reported
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _note_alert(connection: SSL.Connection, where: int, result: int) -> None:
    note_records(connection, where, result)
    if where == SSL.SSL_CB_READ_ALERT and result & 0xFF not in HARMLESS:
        transport = connection.get_app_data()
        if isinstance(transport, TLSClient):
            transport.alert = result & 0xFF


def _note_verification(
    connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int
) -> bool:
    """OpenSSL's verify callback: called for every certificate of a chain, but not on resumption."""
    transport = connection.get_app_data()
    if isinstance(transport, TLSClient):
        transport.certificate_seen = True
        if not ok and transport.distrust is None:
            transport.distrust = distrust(certificate, error, depth)
        return bool(ok) or transport.insecure
    return bool(ok)


class _HandshakeProtocol(Protocol):
    """The protocol of a connection during its handshake."""

    def __init__(self, ready: Deferred[TLSClient]) -> None:
        self.ready = ready

    @override
    def connectionLost(self, reason: Failure = Failure(main.CONNECTION_DONE)) -> None:  # noqa: B008  # Twisted's
        if not self.ready.called:
            self.ready.errback(reason)


class TLSClient(TLSServer):
    """The client side of one TLS connection.

    :ivar alert: the number of the alert with which the other side ended the connection, if it did.
    :ivar distrust: why the other side's certificate is not trusted; None: it is, or was not seen.
    :ivar certificate_seen: whether a certificate was verified; resuming a session involves none.
    """

    alert: int | None = None
    distrust: TargetError | None = None
    certificate_seen = False
    _unproven = True  # nothing has been written since the handshake
    _misnamed: TargetError | None = None
    _broken: Exception | None = None

    def __init__(self, sock: Any, peer: Any, tls: ClientTLS, reactor: Any, session: Session | None) -> None:
        self._tls = tls
        self.ready: Deferred[TLSClient] = Deferred(lambda _: self.abortConnection())
        server: Any = tls  # it has the attributes that are used of a port
        super().__init__(sock, _HandshakeProtocol(self.ready), peer, server, 0, reactor)
        self._connection.attach(sock)
        self._connection.set_connect_state()
        if tls.sni is not None:
            self._connection.set_tlsext_host_name(tls.sni)
        if session is not None:
            self._connection.set_session(session.session)

    def start(self) -> Deferred[TLSClient]:
        """Begin the handshake; fires when it has succeeded and the certificate's name matches.

        Fails with `TargetError`.
        """
        why = self._handshake()
        if why is not None:
            self.connectionLost(Failure(why))
        return self.ready

    def adopt(self, protocol: IProtocol) -> None:
        """Hand the connection over to *protocol*."""
        self.protocol = protocol
        self.echoes = is_echo(protocol)
        self.needs_log_context = not INeedsNoLogContext.providedBy(protocol)
        protocol.makeConnection(self)

    @override
    def _handshake(self) -> Exception | None:
        # OpenSSL reads and writes the socket from the beginning: a server's limits are not for a client.
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self.stopWriting()
            return None
        except SSL.WantWriteError:
            Stream.startWriting(self)
            return None
        except SSL.Error as error:
            return self._failed(error)
        self._finish_handshake()
        self._misnamed = wrong_name(peer_certificate(self._connection), self._tls.name)
        if self._misnamed is not None and not self._tls.insecure:
            return self._misnamed
        if not self.ready.called:
            self.ready.callback(self)
        return None

    @override
    def _send_flight(self) -> Exception | None:
        return self._handshake()

    @override
    def _failed(self, error: Exception) -> Exception:
        self._broken = error
        return super()._failed(error)

    @override
    def write(self, data: bytes) -> None:
        # In TLS 1.3, a server looks at our certificate when the handshake is over for us. If it refuses it,
        # and closes before it has read all of our handshake, its alert is followed by a reset. A write would
        # fail then, and after that OpenSSL does not read the alert any more.
        if self._unproven:
            self._unproven = False
            if self._can_send_now and was_reset(self.socket):
                self._keep(data)  # doRead comes first
                return
        super().write(data)

    @override
    def connectionLost(self, reason: Failure) -> None:
        if reason.check(ConnectionLost, SSL.Error, TargetError):
            reason = Failure(self._with_facts(self._why()))
        super().connectionLost(reason)

    def _why(self) -> TargetError:
        """Why the connection was lost."""
        if self._misnamed is not None and not self._tls.insecure:
            return self._misnamed
        if self.distrust is not None and not self._tls.insecure:
            return self.distrust
        if self.alert is not None:
            return self._alerted(self.alert)
        error = self._broken
        if isinstance(error, SSL.SysCallError) and error.args[0] > 0:
            return from_errno(error.args[0])
        if isinstance(error, (SSL.SysCallError, SSL.ZeroReturnError)):
            when = "after" if self._established else "during"
            return TargetError("closed", f"the other side closed the connection {when} the handshake")
        if error is not None:
            reason = reason_of(error)
            if reason in NO_REASON:
                return TargetError("reset", "the other side reset the connection")
            if not self._established and reason in NOT_TLS:
                reason += f"; the target does not seem to speak TLS; try {self._tls.plain}"
            return TargetError("tls-error", reason)
        return TargetError("reset", "the other side reset the connection")

    def _alerted(self, number: int) -> TargetError:
        name = ALERTS.get(number, "unknown")
        hint = ""
        if number == CERTIFICATE_REQUIRED and not self._tls.shows_certificate:
            hint = "; --cert and --key show a certificate"
        return TargetError("tls-alert", f"{name} ({number}){hint}", {"alert": name})

    def _with_facts(self, why: TargetError) -> TargetError:
        if self.ready.called or "_connection" not in self.__dict__:
            return why
        facts = self.facts()
        return HandshakeError(why, facts) if facts.chain else why

    @property
    def insecure(self) -> bool:
        """Whether to go on with a certificate that is not trusted."""
        return self._tls.insecure

    def facts(self) -> TLSFacts:
        """The facts learned from the handshake so far."""
        connection = self._connection
        return TLSFacts(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name(),
            alpn=(connection.get_alpn_proto_negotiated() or b"").decode("ascii", "backslashreplace") or None,
            chain=sent_chain(connection),
            trusted=trusted_chain(connection) if self._established and self.distrust is None else (),
            resumed=not self.certificate_seen,
            problem=self.distrust or self._misnamed,
        )

    def session(self) -> Session | None:
        """The session that a later connection can resume; with TLS 1.3, only after a ticket has arrived."""
        session = self._connection.get_session()
        return None if session is None else Session(session, self._connection)
