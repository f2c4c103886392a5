"""The lines that a running suite prints on standard output; printing them never blocks nor raises."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from suite import text
from suite.config.fault_text import shown as shown_fault
from suite.config.file import DEFAULT_ANSWER
from suite.endpoints import descriptions as endpoints
from suite.endpoints.descriptions import Description
from suite.output import LineWriter, reopened
from suite.text import host_and_port, one_line

log = Logger()

#: The command whose output the suggested client sends.
HELLO: Final = "echo 'hola mundo...'"


class Announcer:
    """Prints lines on standard output, which may be closed, full, or not read: a server serves all the same.

    The log has a warning when lines begin to be lost; standard output itself has their number when it can be
    written to again, or the log at the end.
    """

    def __init__(self) -> None:
        self._writer: LineWriter | None = None
        if sys.stdout is not None:  # None after `>&-`, where nothing is expected
            self._writer = LineWriter(reopened(sys.stdout.fileno()), sys.stdout.encoding)

    def __call__(self, line: str) -> None:
        """Print *line* if that is possible now."""
        if self._writer is None:
            return
        lost = self._writer.lost
        if not self._writer.write(one_line(line)) and not lost:
            log.warn("standard output cannot be written: {why}; lines are dropped", why=self._writer.why)

    def close(self) -> None:
        """Tell how many lines are missing at the end, if any are."""
        if self._writer is not None and self._writer.lost:
            log.warn("standard output: lines dropped: {lost:,}", lost=self._writer.lost)


def bound_address(description: Description, port: IListeningPort) -> str:
    """The address that *port* is bound to."""
    host, named = port.getHost(), description.arguments.get("address")
    if isinstance(host, (IPv4Address, IPv6Address)):
        return host_and_port(host.host, host.port)
    if isinstance(host, UNIXAddress) and host.name:
        path = os.fsdecode(host.name)
        return description.address if path == named else endpoints.shown_socket(path)
    return description.address


def listening_line(description: Description, address: str) -> str:
    """One endpoint for people: name, transport and address, and what it answers if that is no echo."""
    behind = " (behind a PROXY header)" if description.proxied else ""
    name = description.endpoint.answer
    answer = "" if name == DEFAULT_ANSWER else f" (answer: {name})"
    return f"{description.endpoint.name:<12} {description.transport:<5} {address}{behind}{answer}"


def admin_line(address: str) -> str:
    """One socket of the admin interface for people."""
    return f"{'admin':<12} {'HTTP':<5} {address}"


def faults_lines(description: Description) -> list[str]:
    """How one endpoint misbehaves on purpose, for people: a line, or none if it does not."""
    faults = description.endpoint.faults
    indent = " " * 12
    if faults.requested:
        allowed = ", ".join(sorted(faults.allowed)) if faults.allowed else "any"
        connections = "sources" if description.transport == "UDP" else "connections"
        return [
            f"{indent} faults: as clients request ({allowed}; {faults.most:,} {connections} at a time),"
            f" seed {faults.seed}"
        ]
    if faults.replayed is not None:
        what = f"{len(faults.replayed.connections):,} connections"
        if description.transport == "UDP":
            what = "datagrams" if faults.replayed.datagrams else "no datagrams"
        return [f"{indent} faults: as recorded of {what}"]
    if not faults.entries:
        return []
    return [f"{indent} faults: {'; '.join(map(shown_fault, faults.entries))}; seed {faults.seed}"]


def minted_line(written: Iterable[Path]) -> str:
    """The line that names the development certificates that were made."""
    return "made development certificates: " + " ".join(text.shown(path) for path in written)


def ready_line(ports: Sequence[tuple[Description, IListeningPort]], ca: Path | None = None) -> str:
    """The line that says that everything is open, with a client command to try.

    :param ca: where the CA of the gallery has been written; None: there is none, or it has not.
    """
    for transport in ("TCP", "UNIX", "TLS", "UDP"):
        for description, port in ports:
            ordinary = not description.proxied and not description.endpoint.gallery
            if description.transport == transport and ordinary:
                return f"ready; try: {try_command(description, port)}"
    return _gallery_ready_line(ports, ca)


def _gallery_ready_line(ports: Sequence[tuple[Description, IListeningPort]], ca: Path | None) -> str:
    """The line where there is nothing but a gallery, or nothing that could be tried."""
    found = {description.endpoint.gallery: cast(Any, port.getHost()) for description, port in ports}
    specimen = found.get("expired")
    if specimen is not None and ca is not None:
        return f"ready; try: curl --cacert {shlex.quote(text.shown(ca))} https://localhost:{specimen.port}/"
    index = found.get("index")
    if index is None:
        return "ready"
    host = endpoints.EVERY_HOST.get(index.host, index.host)
    return f"ready; try: curl http://{host_and_port(host, index.port)}/gallery.json"


def try_command(description: Description, port: IListeningPort) -> str:
    """A command line that reaches *port*: of a client that is installed here, or else of ``connect``."""
    host = port.getHost()
    if not _is_installed(_client(description, host)):
        return _connect_command(description, host)
    if isinstance(host, UNIXAddress):
        address = bound_address(description, port)
        if address.startswith("@"):
            return f"{HELLO} | socat - ABSTRACT-CONNECT:{shlex.quote(address[1:])}"
        return f"{HELLO} | nc -NU {shlex.quote(address)}"
    inet = cast(IPv4Address | IPv6Address, host)
    reachable = endpoints.EVERY_HOST.get(inet.host, inet.host)
    if description.transport == "TLS":
        ca = _ca_beside(description)
        trust = f" -CAfile {shlex.quote(text.shown(ca))}" if os.path.exists(ca) else ""
        target = host_and_port(reachable, inet.port)
        # s_client leaves at the end of its input, with no eye for what is still on its way.
        if description.endpoint.tls.client_ca is not None:
            client = ca.with_name("client.pem"), ca.with_name("client.key")
            trust += f" -cert {shlex.quote(text.shown(client[0]))} -key {shlex.quote(text.shown(client[1]))}"
        return f"({HELLO}; sleep 1) | openssl s_client -quiet -no_ign_eof -connect {target}{trust}"
    return f"{HELLO} | nc {'-u -W 1' if description.transport == 'UDP' else '-N'} {reachable} {inet.port}"


def _socket_name(host: UNIXAddress) -> str:
    return endpoints.shown_socket(os.fsdecode(host.name or b""))


def _client(description: Description, host: object) -> str:
    """The program that `try_command` prefers."""
    if isinstance(host, UNIXAddress):
        return "socat" if _socket_name(host).startswith("@") else "nc"
    return "openssl" if description.transport == "TLS" else "nc"


def _is_installed(program: str) -> bool:
    return shutil.which(program) is not None


def _ca_beside(description: Description) -> Path:
    """Where the CA of a TLS endpoint is, if it is one that `certs` has made.

    Whether it is there is a question for `os.path.exists`: by now, this process may not be allowed to look.
    """
    certificate = description.arguments.get("certKey") or description.arguments["directory"]
    return Path(certificate).with_name("ca.pem")


def _connect_command(description: Description, host: object) -> str:
    """The suite's own client, started as the suite itself was."""
    options = ""
    if isinstance(host, UNIXAddress):
        target = f"unix:{quoteStringArgument(_socket_name(host))}"
    else:
        inet = cast(IPv4Address | IPv6Address, host)
        reachable = endpoints.EVERY_HOST.get(inet.host, inet.host)
        kind = description.transport.lower()
        target = f"{kind}:{host_and_port(reachable, inet.port)}"
        if kind == "tls":
            ca = _ca_beside(description)
            if os.path.exists(ca):
                options += f" --ca {shlex.quote(text.shown(ca))}"
            if description.endpoint.tls.client_ca is not None:
                client = ca.with_name("client.pem"), ca.with_name("client.key")
                options += f" --cert {shlex.quote(text.shown(client[0]))}"
                options += f" --key {shlex.quote(text.shown(client[1]))}"
    return f"{HELLO} | {suite_command()} connect {shlex.quote(target)}{options}"


def suite_command() -> str:
    """How the suite is started here: ``echo-suite``, or ``python -m suite`` with the right interpreter."""
    if Path(sys.argv[0]).name == "echo-suite":
        return shlex.quote(sys.argv[0] if os.sep in sys.argv[0] else "echo-suite")
    interpreter = sys.orig_argv[0] if sys.argv[0].endswith("__main__.py") else sys.executable
    return f"{shlex.quote(interpreter)} -m suite"
