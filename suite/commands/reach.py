"""The options of the clients: how to reach a target."""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from suite.client.dial.dialer import ConnectOptions
from suite.client.dial.proxy_header import VERSIONS
from suite.client.dial.sockets import open_socket
from suite.client.dial.starttls import PROTOCOLS
from suite.client.dial.target import Target
from suite.client.dial.trust import TLSOptions, check_options
from suite.commands.console import warn
from suite.commands.options import duration, file_path
from suite.errors import UsageError
from suite.text import suggest

TARGET_HELP: Final = "tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH"


def add_reach(parser: argparse.ArgumentParser) -> None:
    """The options that say how to reach a target."""
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    parser.add_argument(
        "--timeout", metavar="TIME", default="5s", help="time limit for each step; default: 5s"
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        type=file_path,
        help="trust these roots as well (for targets on this machine, certs/ca.pem is found by itself)",
    )
    parser.add_argument("--cert", metavar="FILE", type=file_path, help="present this client certificate")
    parser.add_argument("--key", metavar="FILE", type=file_path, help="its private key")
    parser.add_argument(
        "--server-name", metavar="NAME", help="ask for this name, and expect it in the certificate"
    )
    parser.add_argument("--alpn", metavar="NAMES", help="offer these protocols, such as h2,http/1.1")
    parser.add_argument(
        "--insecure", action="store_true", help="go on if the certificate is not trusted or has another name"
    )
    parser.add_argument("--source", metavar="ADDRESS", help="connect from this address of this machine")
    parser.add_argument(
        "--proxy-protocol",
        metavar="VERSION",
        help="v1 or v2: send a PROXY header first, as a proxy in front of the target would",
    )


def add_starttls(parser: argparse.ArgumentParser) -> None:
    """The option of the clients that can talk to servers other than echo servers."""
    parser.add_argument(
        "--starttls", metavar="NAME", help=f"ask for TLS in this protocol first: {', '.join(PROTOCOLS)}"
    )


def parse_reach(options: argparse.Namespace) -> ConnectOptions:
    """What the options of `add_reach` mean.

    :raises UsageError: one of them has a value that cannot be used.
    """
    directories: list[Path] = []
    with suppress(FileNotFoundError):  # the working directory has been deleted
        directories = [options.config.absolute().parent, Path.cwd()]
    tls = TLSOptions(
        ca=options.ca,
        certificate=options.cert,
        key=options.key,
        server_name=options.server_name,
        alpn=tuple(options.alpn.split(",")) if options.alpn else (),
        directories=tuple(directories),
        insecure=options.insecure,
    )
    check_options(tls)
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    if options.source is not None:
        family = _source_family(options.source, family)
    version = options.proxy_protocol
    if version is not None and version not in VERSIONS:
        raise UsageError(f"--proxy-protocol {version!r} is not a version; expected v1 or v2")
    starttls = getattr(options, "starttls", None)
    if starttls is not None and starttls not in PROTOCOLS:
        raise UsageError(f"--starttls {starttls!r} is not a protocol{suggest(starttls, PROTOCOLS)}")
    return ConnectOptions(
        family=family,
        timeout=duration("--timeout", options.timeout),
        tls=tls,
        source=options.source,
        proxy_protocol=version,
        starttls=starttls,
    )


def _source_family(source: str, wanted: socket.AddressFamily) -> socket.AddressFamily:
    """The family of our own address *source*.

    :raises UsageError: it is no address of this machine, or not of the *wanted* family.
    """
    try:
        family = socket.AF_INET6 if ip_address(source).version == 6 else socket.AF_INET
    except ValueError:
        raise UsageError(f"--source {source!r} is not an IP address; expected one of this machine") from None
    if wanted not in (socket.AF_UNSPEC, family):
        raise UsageError(f"--source {source} is of the other family; expected one that -4 or -6 allows")
    try:
        open_socket(family, socket.SOCK_STREAM, source).close()
    except OSError as error:
        raise UsageError(
            f"--source {source}: {error.strerror}; expected an address of this machine (ip address)"
        ) from None
    return family


def check_reach(reach: ConnectOptions, *targets: Target) -> None:
    """Check that *reach* suits *targets*; what is about TLS, that one of them has it.

    :raises UsageError: it does not.
    """
    for target in targets:
        _check_target(reach, target)
    option = _about_tls(reach)
    if option is not None and all(target.transport != "tls" for target in targets):
        first = targets[0]
        _, _, rest = first.text.partition(":")
        meant = f"did you mean tls:{rest}?" if first.transport == "tcp" else "expected tls:HOST:PORT"
        raise UsageError(f"{option} is about TLS, and {first.text} has none; {meant}")
    if reach.tls.insecure:
        warn("--insecure: certificates are not trusted, but looked at; names may be anything")


def _about_tls(reach: ConnectOptions) -> str | None:
    """The first option that makes a difference to TLS targets only; ``--ca`` may always be there."""
    options = {
        "--cert": reach.tls.certificate,
        "--server-name": reach.tls.server_name,
        "--alpn": reach.tls.alpn,
        "--insecure": reach.tls.insecure,
    }
    return next((option for option, value in options.items() if value), None)


def _check_target(reach: ConnectOptions, target: Target) -> None:
    if target.transport == "udp" and reach.proxy_protocol is not None:
        raise UsageError(f"--proxy-protocol goes in front of a stream; expected no {target.text} with it")
    if target.transport != "tls" and reach.starttls is not None:
        _, _, rest = target.text.partition(":")
        meant = f"did you mean tls:{rest}?" if target.transport == "tcp" else "expected tls:HOST:PORT"
        raise UsageError(f"--starttls {reach.starttls} ends in TLS, and {target.text} has none; {meant}")
