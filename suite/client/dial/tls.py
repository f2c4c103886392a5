"""The client side of TLS: which roots to trust, which certificate to show, and what the handshake found.

Rules: no application data is sent before the certificate is verified and its name matches (RFC 9525, by
service-identity); failures are distinguished as far as TLS allows. The development CA is trusted for targets
on this machine only.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity.exceptions import CertificateError as NamelessError
from service_identity.exceptions import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override

from suite.client.dial.failures import TargetError, from_errno
from suite.client.dial.target import Target
from suite.endpoints.tls import ContextFactory, use_identity
from suite.engine.handshake import reason_of
from suite.engine.interfaces import INeedsNoLogContext, is_echo
from suite.engine.openssl import scratch_buffer
from suite.engine.stream import Stream
from suite.engine.tls import CLOSE_NOTIFY, TLSServer, note_records
from suite.errors import CertificateError, UsageError
from suite.identities import load_certificates, load_identity
from suite.text import shown

#: Alerts by number (RFC 8446, appendix B.2, and RFC 5246 for those of TLS 1.2).
ALERTS: Final = {
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

#: Alerts that do not report an error.
HARMLESS: Final = {CLOSE_NOTIFY, 90, 100}

CERTIFICATE_REQUIRED: Final = 116

#: What OpenSSL calls a first answer that is not TLS; an echo of our first message is an "unexpected message".
NOT_TLS: Final = {
    "wrong version number",
    "packet length too long",
    "record layer failure",
    "unexpected message",
}

#: OpenSSL's verify errors (openssl-verification-options(1), x509_vfy.h) that we explain.
NOT_YET_VALID: Final = 9
HAS_EXPIRED: Final = 10
UNTRUSTED: Final = {
    18: "it is self-signed",
    19: "its chain ends in a root that is not trusted",
    20: "its issuer is not known",
    21: "its issuer is not known, and the server sent no chain",
    23: "it is revoked",
    24: "its issuer is not a CA",
    26: "it is not a server certificate",
}


@dataclass(frozen=True)
class TLSOptions:
    """A user's TLS options.

    :ivar ca: a PEM file with roots to trust in addition to the system's.
    :ivar certificate: a PEM file with our certificate; *key* holds its private key.
    :ivar server_name: the name to request and to expect, if it is not the target's host.
    :ivar alpn: the protocols to offer, in order of preference.
    :ivar directories: where to look for a development CA, ``certs/ca.pem``, for targets on this machine.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TLSFacts:
    """The facts learned from a handshake.

    :ivar version: the TLS version: ``TLSv1.3``, for instance.
    :ivar cipher: OpenSSL's name of the cipher suite.
    :ivar alpn: the negotiated protocol; None if there is none.
    :ivar names: the certificate's DNS names and addresses.
    :ivar expires: when the certificate expires.
    :ivar resumed: whether the handshake resumed an earlier session.
    """

    version: str
    cipher: str
    alpn: str | None
    names: tuple[str, ...]
    expires: datetime
    resumed: bool

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires."""
        return (self.expires - datetime.now(UTC)).days


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
    :raises CertificateError: a file cannot be used.
    :raises UsageError: the options contradict each other.
    """

    def __init__(self, target: Target, options: TLSOptions) -> None:
        self.name = (options.server_name or target.host).rstrip(".")
        self.plain = "tcp" + target.text[len("tls") :]
        self.shows_certificate = options.certificate is not None
        # The attributes that `TLSServer` needs of its port.
        self.scratch = scratch_buffer()
        self.contextFactory = ContextFactory(_client_context(target, options))

    def connection_closed(self) -> None:
        """One of our connections has ended."""

    @property
    def sni(self) -> bytes | None:
        """The name to request; None for an address, as RFC 6066, section 3, demands."""
        return None if is_address(self.name) else self.name.encode("idna")

    def wrong_name(self, connection: SSL.Connection) -> TargetError | None:
        """The error if the certificate is for another name; None if the name matches."""
        try:
            (verify_ip_address if is_address(self.name) else verify_hostname)(connection, self.name)
        except (VerificationError, NamelessError, ValueError):
            found = names_of(peer_certificate(connection))
            detail = f"expected {self.name}; found {', '.join(found) or 'no names at all'}"
            return TargetError("cert-name", detail, {"expected": self.name, "found": list(found)})
        return None


def is_address(host: str) -> bool:
    """Whether *host* is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def client_hello() -> bytes:
    """The first message of a TLS client, to see whether a target answers it."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


def check_options(options: TLSOptions) -> None:
    """Check *options*, as far as that does not depend on the target.

    :raises UsageError: an option is wrong.
    """
    if (options.certificate is None) != (options.key is None):
        raise UsageError("--cert and --key go together; expected both or neither")
    for protocol in options.alpn:
        if not protocol.isascii() or not 1 <= len(protocol) <= 255:
            raise UsageError(
                f"--alpn {protocol!r} is not a protocol name; expected 1 to 255 ASCII characters"
            )
    name = options.server_name
    if name is not None and not is_address(name):
        try:
            sendable = bool(name.rstrip(".").encode("idna"))
        except UnicodeError:
            sendable = False
        if not sendable:
            raise UsageError(
                f"--server-name {name!r} is not a host name; expected one such as www.example.org"
            )


def _client_context(target: Target, options: TLSOptions) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_info_callback(_note_alert)
    context.set_verify(SSL.VERIFY_PEER, _note_verification)
    context.set_default_verify_paths()
    for path in _roots(target, options):
        load_certificates(path)  # raises an error that describes the problem
        try:
            context.load_verify_locations(str(path))
        except SSL.Error as error:
            raise CertificateError(shown(path), f"refused by OpenSSL ({reason_of(error)})") from None
    if options.alpn:
        context.set_alpn_protos([name.encode() for name in options.alpn])
    if options.certificate is not None and options.key is not None:
        use_identity(context, load_identity(options.certificate, options.key))
    return context


def _roots(target: Target, options: TLSOptions) -> Iterable[Path]:
    if options.ca is not None:
        yield options.ca
    if target.loopback:
        for directory in dict.fromkeys(options.directories):
            if (directory / "certs" / "ca.pem").is_file():
                yield directory / "certs" / "ca.pem"


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
            transport.distrust = _distrust(certificate.to_cryptography(), error, depth)
    return bool(ok)


def _distrust(certificate: x509.Certificate, error: int, depth: int) -> TargetError:
    subject = certificate.subject.rfc4514_string() or "an unnamed subject"
    whose = f"{'the' if depth == 0 else 'a CA'} certificate of {subject}"
    if error == HAS_EXPIRED:
        expired = certificate.not_valid_after_utc
        days = (datetime.now(UTC) - expired).days
        return TargetError(
            "cert-expired",
            f"{whose} expired on {expired:%Y-%m-%d %H:%M} UTC, {days} day{'' if days == 1 else 's'} ago",
        )
    if error == NOT_YET_VALID:
        begins = certificate.not_valid_before_utc
        return TargetError("cert-not-yet-valid", f"{whose} is valid from {begins:%Y-%m-%d %H:%M} UTC on")
    why = UNTRUSTED.get(error, "OpenSSL rejects it")
    return TargetError("cert-untrusted", f"{whose}: {why} (OpenSSL's verify error {error}); --ca adds a root")


def peer_certificate(connection: SSL.Connection) -> x509.Certificate | None:
    """The certificate of the other side, if it sent one."""
    certificate = connection.get_peer_certificate()
    return None if certificate is None else certificate.to_cryptography()


def names_of(certificate: x509.Certificate | None) -> tuple[str, ...]:
    """The DNS names and addresses in *certificate*."""
    if certificate is None:
        return ()
    with suppress(x509.ExtensionNotFound, ValueError):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
        return (*names.get_values_for_type(x509.DNSName), *addresses)
    return ()


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
        self._misnamed = self._tls.wrong_name(self._connection)
        if self._misnamed is not None:
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
    def connectionLost(self, reason: Failure) -> None:
        if reason.check(ConnectionLost, SSL.Error):
            reason = Failure(self._why())
        super().connectionLost(reason)

    def _why(self) -> TargetError:
        """Why the connection was lost."""
        if self._misnamed is not None:
            return self._misnamed
        if self.distrust is not None:
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

    def facts(self) -> TLSFacts:
        """The facts learned from the handshake."""
        connection = self._connection
        certificate = peer_certificate(connection)
        return TLSFacts(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            alpn=(connection.get_alpn_proto_negotiated() or b"").decode("ascii", "backslashreplace") or None,
            names=names_of(certificate),
            expires=certificate.not_valid_after_utc if certificate is not None else datetime.now(UTC),
            resumed=not self.certificate_seen,
        )

    def session(self) -> Session | None:
        """The session that a later connection can resume; with TLS 1.3, only after a ticket has arrived."""
        session = self._connection.get_session()
        return None if session is None else Session(session, self._connection)
