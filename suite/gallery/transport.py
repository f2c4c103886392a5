"""The TLS transport of the gallery's ports: it presents the specimen that a client asks for.

Rules: the ClientHello decides, before OpenSSL has seen it; limits, faults and the end of a connection are
those of every TLS transport (`suite.faults.tls`), to which a specimen's own conduct is added as faults.
"""

from __future__ import annotations

from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.logger import Logger
from typing_extensions import override

from suite.client_hello import find_client_hello, parse_client_hello
from suite.config.faults import Fault, Kind
from suite.engine.openssl import MAX_PLAINTEXT, MemoryConnection
from suite.faults.decide import Decision
from suite.faults.tls import FaultyTLS
from suite.gallery.contexts import ExhibitContext
from suite.gallery.legacy import LegacyConnection
from suite.guard.streams import Guarded
from suite.reasons import Reason

log = Logger()

#: What a client gets that asks for a specimen that there is not (RFC 6066, section 3).
UNRECOGNIZED: Final = Fault(Kind.ALERT, "unrecognized_name")


class _AsWritten:
    """Stands for a `suite.faults.records.Rewriter` where records are sent as they have been written."""

    size = MAX_PLAINTEXT
    version13 = False

    @staticmethod
    def rewrite(data: bytes) -> bytes:
        return data


class GalleryTLS(FaultyTLS):
    """The server side of one connection to the gallery.

    :ivar exhibit: what is presented; None until the ClientHello has been read, and if there is none.
    """

    keeps_hello = True
    exhibit: ExhibitContext | None = None
    _cuts_hello = True  # the records of the handshake alone are cut, if any are

    @override
    def _see_hello(self) -> None:
        data = self._connection.peek_input()
        name = _name_in(data)
        exhibit = cast(Any, self.server).contextFactory.getContext().find(name)
        if exhibit is None:
            self._refuse(str(name))
            return
        self.exhibit = exhibit
        self._use(exhibit, data)
        super()._see_hello()

    def _use(self, exhibit: ExhibitContext, data: bytes) -> None:
        """Go on with the right connection for *exhibit*, which has read nothing yet either."""
        legacy = exhibit.behaviour.legacy
        if legacy is not None:
            self._connection = cast(Any, LegacyConnection(legacy, exhibit.minted))
        elif self._connection.get_context() is not exhibit:
            self._connection = MemoryConnection(exhibit, self.server.scratch)
            self._connection.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
            self._connection.set_accept_state()
            self._connection.set_app_data(self)
        else:
            return
        self._records = self._connection.records()
        self._connection.bio_write(data)

    def _refuse(self, name: str) -> None:
        """Tell the client that there is no specimen called *name*."""
        answering = self._answering
        if isinstance(answering, Guarded):
            answering.reason = answering.reason or Reason.TLS
            answering.detail = answering.detail or f"no specimen is called {name.partition('.')[0]!r}"
        self._spoil(UNRECOGNIZED, 0)

    @override
    def _begin(self, decision: Decision) -> None:
        exhibit = self.exhibit
        assert exhibit is not None  # noqa: S101  # otherwise it has been refused
        behaviour = exhibit.behaviour
        wanted = [*decision.faults, *behaviour.faults]
        faults = wanted if behaviour.rewritable else [each for each in wanted if not _rewrites(each)]
        for fault in wanted:
            if fault not in faults:
                self._tell_unfit(fault, exhibit)
        super()._begin(Decision(tuple(faults), decision.seed))
        self._cuts_hello = not any(each.kind is Kind.FRAGMENT for each in decision.faults)
        if behaviour.legacy is not None:
            self._rewriter = cast(Any, _AsWritten)
            self.echoes = False

    def _tell_unfit(self, fault: Fault, exhibit: ExhibitContext) -> None:
        answering = self._answering
        guard = getattr(answering, "guard", None)
        log.info(
            "faults: {kind} does not strike: the records of {specimen} cannot be written again",
            kind=fault.kind.value,
            specimen=exhibit.specimen,
            endpoint=getattr(guard, "name", None),
            connection=getattr(answering, "number", None),
            peer=getattr(answering, "peer", None),
        )

    @override
    def handshake_finished(self) -> None:
        super().handshake_finished()
        if self._rewriter is not None and self._cuts_hello:
            self._rewriter.size = MAX_PLAINTEXT
        if self.exhibit is not None and self.exhibit.behaviour.renegotiates:
            self._connection.renegotiate()
            self._connection.do_handshake()  # writes the HelloRequest (RFC 5246, section 7.4.1.1)

    @override
    def doRead(self) -> Any:
        why = super().doRead()
        connection: Any = self.__dict__.get("_connection")
        if isinstance(connection, LegacyConnection):
            self.close_notify_received = connection.close_notify_received
        return why


def _rewrites(fault: Fault) -> bool:
    """Whether *fault* needs records to be written again."""
    return fault.kind in (Kind.FRAGMENT, Kind.KEY_UPDATE) or (
        fault.kind is Kind.END and fault.value == "alert"
    )


def _name_in(data: bytes) -> str | None:
    """The name that the ClientHello in *data* asks for; None if it asks for none, or cannot be read."""
    try:
        message = find_client_hello(data)
        return parse_client_hello(message).name if message is not None else None
    except ValueError:
        return None
