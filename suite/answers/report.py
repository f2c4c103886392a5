"""What a peer has sent, as one JSON object and a newline.

Rules: what is not known is None (``null``), and never guessed; a member that cannot apply is not there. A
stream gets its report once it is established, and then the end. Over UDP a report is never longer than the
datagram that asks for it, except to the networks of `Limits.full_reports`: parts are left out, and named.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final, cast

from twisted.internet.interfaces import IAddress
from typing_extensions import override

from suite.answers import ip_report
from suite.answers.answer import Answer, DatagramAnswer, StreamAnswer
from suite.answers.host_report import host_report
from suite.answers.process_report import process_report
from suite.answers.proxy_report import proxy_report
from suite.answers.tls_report import tls_report
from suite.config.limits import address_of, within

#: The version of what a report looks like; a member that is added does not change it.
VERSION: Final = 1

Part = dict[str, object]


def encoded(report: Part) -> bytes:
    """*report* as it is sent."""
    return json.dumps(report, separators=(",", ":")).encode("ascii") + b"\n"


def shown_address(address: IAddress | None) -> Part | None:
    """An address as JSON has it: ``host`` and ``port``, or the ``path`` of a UNIX socket."""
    if address is None:
        return None
    host = getattr(address, "host", None)
    if host is not None:
        return {"host": host, "port": cast(Any, address).port}
    name = getattr(address, "name", None)
    if name is None:
        return {"path": None}
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return {"path": "@" + text[1:] if text.startswith("\0") else text}


class Report(StreamAnswer):
    """Sends the report of its connection, and ends."""

    wants_client_hello = True

    @override
    def begin(self) -> None:
        self.finish(encoded(self.report()))

    def report(self) -> Part:
        """The whole report."""
        transport = cast(Any, self.transport)
        preamble = getattr(transport, "preamble", None)
        sock = getattr(transport, "socket", None)  # of Twisted's own TLS, too
        family = getattr(sock, "family", None)
        tls = tls_report(transport)
        local = preamble.destination if preamble is not None else None
        report: Part = {
            "version": VERSION,
            "endpoint": self.guard.name,
            "connection": self.number,
            "transport": _transport(family, tls),
            "peer": shown_address(transport.getPeer()),
            "local": shown_address(local or transport.getHost()),
        }
        if preamble is not None:
            report["proxy"] = {**_ends(sock), **proxy_report(preamble.raw)}
        if tls:
            report["tls"] = tls
        if family in (socket.AF_INET, socket.AF_INET6):
            report["tcp"] = ip_report.tcp_report(sock)
            report["ip"] = ip_report.stream_fields(sock)
        elif family is not None:
            report["process"] = process_report(sock)
        if self.faults:
            report["faults"] = self.faults
        report["host"] = host_report()
        return report


def _transport(family: object, tls: Part) -> str:
    if tls:
        return "TLS"
    return "UNIX" if family == getattr(socket, "AF_UNIX", None) else "TCP"


def _ends(sock: Any) -> Part:
    """The two ends of the connection from the proxy, whatever its header says."""
    try:
        names = [sock.getpeername(), sock.getsockname()]
    except (OSError, AttributeError):  # it is gone, or is no socket
        return {}
    return {
        key: {"host": name[0], "port": name[1]} if isinstance(name, tuple) else {"path": _path(name)}
        for key, name in zip(("peer", "local"), names, strict=True)
    }


def _path(name: str | bytes) -> str | None:
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return ("@" + text[1:] if text.startswith("\0") else text) or None


class ReportDatagrams(DatagramAnswer):
    """Answers each datagram with a report about it, as much as the datagram has room for."""

    _asked: Any = None  # the socket that tells more about what it receives

    @override
    def startProtocol(self) -> None:
        self._asked = getattr(self.transport, "socket", None)
        if self._asked is not None:
            ip_report.ask_for_fields(self._asked, wanted=True)

    @override
    def stopProtocol(self) -> None:
        if self._asked is not None:  # another answer has no use, and no room, for that
            ip_report.ask_for_fields(self._asked, wanted=False)
            self._asked = None

    @override
    def may_be_longer(self, addr: tuple[str, int]) -> bool:
        return within(address_of(addr[0]), self.policy.limits.full_reports)

    @override
    def answer(self, datagram: bytes, addr: tuple[str, int]) -> bytes:
        report = self.report(datagram, addr)
        return encoded(report) if self.may_be_longer(addr) else fitting(report, len(datagram))

    def report(self, datagram: bytes, addr: tuple[str, int]) -> Part:
        """The whole report, the most important first."""
        transport = cast(Any, self.transport)
        control = getattr(transport, "control", ())
        host = transport.getHost()
        return {
            "version": VERSION,
            "endpoint": self.policy.name,
            "transport": "UDP",
            "peer": {"host": addr[0], "port": addr[1]},
            "local": {"host": ip_report.sent_to(control) or host.host, "port": host.port},
            "received": len(datagram),
            "ip": ip_report.fields(control),
            "host": host_report(),
        }


def fitting(report: Part, size: int) -> bytes:
    """As many members of *report* as *size* bytes have room for, from the first one on; one at the least.

    The names of the others are in ``left_out``.
    """
    found = encoded(report)
    names = [*report]
    for count in range(len(names) - 1, 0, -1):
        if len(found) <= size:
            break
        found = encoded({name: report[name] for name in names[:count]} | {"left_out": names[count:]})
    return found


ANSWER = Answer("report", "what the peer has sent, as JSON, and the end", Report, ReportDatagrams)
