"""What a specimen answers: an echo, and a page for a client that asks for one as browsers do.

Rules: a connection that begins with ``GET`` or ``HEAD`` and a space is HTTP, and gets one page; on any other,
every byte comes back, from the first one on.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

from typing_extensions import override
from zope.interface import implementer

from suite.echo import Echo, EchoFactory, MeasuredEcho
from suite.engine.interfaces import INeedsNoLogContext
from suite.gallery.http import LONGEST_HEAD, Document, is_whole, response
from suite.gallery.specimens import BY_NAME
from suite.reasons import Reason

#: What a request begins with (RFC 9110, section 9.3).
METHODS: Final = (b"GET ", b"HEAD ")


@implementer(INeedsNoLogContext)
class Exhibit(Echo):
    """One connection to a specimen."""

    _plain = False  # it is an echo
    _head = b""  # the beginning of what may be a request

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._plain:
            super().dataReceived(data)
            return
        if self.reason is not None:  # it has got its page
            self.received += len(data)
            self.beyond -= len(data)
            return
        self._head += data
        head = self._head
        if not any(head.startswith(method[: len(head)]) for method in METHODS):
            self._plain, self._head = True, b""
            super().dataReceived(head)
            return
        if is_whole(head):
            self.received += len(head)
            self._head = b""
            self._answer_request(head)
        elif len(head) > LONGEST_HEAD:
            self._plain, self._head = True, b""
            super().dataReceived(head)

    @override
    def readConnectionLost(self) -> None:
        if self._head:  # no request after all
            head, self._plain, self._head = self._head, True, b""
            super().dataReceived(head)
        super().readConnectionLost()

    def _answer_request(self, head: bytes) -> None:
        exhibit: Any = getattr(self.transport, "exhibit", None)
        page = page_of(exhibit.specimen if exhibit is not None else "")
        document = Document("text/html; charset=utf-8", page)
        answer = response("200 OK", document, body=not head.startswith(b"HEAD"))
        self.beyond += len(answer) - len(head)
        self.transport.write(answer)  # type: ignore[union-attr]  # connected, or no request
        self.end(Reason.ANSWERED)


class MeasuredExhibit(MeasuredEcho, Exhibit):
    """The same, under the limit `bytes`."""


class ExhibitFactory(EchoFactory):
    """One `Exhibit` for every connection."""

    protocol = Exhibit
    measured = MeasuredExhibit


def page_of(name: str) -> bytes:
    """The page of the specimen *name*: whoever reads it has accepted that."""
    specimen = BY_NAME[name]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(name)}</title>"
        f"<h1>{escape(name)}</h1><p>{escape(specimen.defect)}</p>"
        f"<p>This client has accepted it. A correct client must: <strong>{specimen.must}</strong>"
        f" ({escape(specimen.clause)}).</p></html>\n"
    ).encode()
