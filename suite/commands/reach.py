"""The options of the clients: how to reach a target."""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from suite.client.dial.dialer import ConnectOptions
from suite.client.dial.tls import TLSOptions, check_options
from suite.commands.options import duration

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
        type=Path,
        help="trust these roots as well (for targets on this machine, certs/ca.pem is found by itself)",
    )
    parser.add_argument("--cert", metavar="FILE", type=Path, help="present this client certificate")
    parser.add_argument("--key", metavar="FILE", type=Path, help="its private key")
    parser.add_argument(
        "--server-name", metavar="NAME", help="ask for this name, and expect it in the certificate"
    )
    parser.add_argument("--alpn", metavar="NAMES", help="offer these protocols, such as h2,http/1.1")


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
    )
    check_options(tls)
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    return ConnectOptions(family, duration("--timeout", options.timeout), tls)
