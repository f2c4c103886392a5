"""What a user trusts and shows over TLS: roots, the client's certificate, and the protocols to offer.

Rules: the development CA is trusted for targets on this machine only; mistakes are found before anything is
sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from OpenSSL import SSL

from suite.client.dial.target import Target
from suite.endpoints.tls import use_identity
from suite.engine.handshake import reason_of
from suite.errors import CertificateError, UsageError
from suite.identities import load_certificates, load_identity
from suite.text import is_address, shown


@dataclass(frozen=True)
class TLSOptions:
    """A user's TLS options.

    :ivar ca: a PEM file with roots to trust in addition to the system's.
    :ivar certificate: a PEM file with our certificate; *key* holds its private key.
    :ivar server_name: the name to request and to expect, if it is not the target's host.
    :ivar alpn: the protocols to offer, in order of preference.
    :ivar directories: where to look for a development CA, ``certs/ca.pem``, for targets on this machine.
    :ivar insecure: go on with a target whose certificate is not trusted or has another name.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()
    insecure: bool = False


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


def client_context(target: Target, options: TLSOptions) -> SSL.Context:
    """The OpenSSL context of connections to *target*; its callbacks are for the caller to set.

    :raises CertificateError: a file cannot be used.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_default_verify_paths()
    for path in roots(target, options):
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


def roots(target: Target, options: TLSOptions) -> Iterable[Path]:
    """The files with roots to trust for *target*, besides the system's."""
    if options.ca is not None:
        yield options.ca
    if target.loopback:
        for directory in dict.fromkeys(options.directories):
            if (directory / "certs" / "ca.pem").is_file():
                yield directory / "certs" / "ca.pem"
