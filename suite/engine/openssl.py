"""pyOpenSSL's connection without the detours of its busiest calls, and a setting that it has no call for.

Rules: `Connection` is an `OpenSSL.SSL.Connection` in all respects; a call that succeeds, as nearly all
do, costs no memory but its result and asks OpenSSL for no error. This is the one place that uses names
private to pyOpenSSL (`_ssl`, `_context`, `_info_callback`, `_reverse_mapping`, `_raise_ssl_error`,
`OpenSSL._util`); tests/engine/test_stream.py fails loudly when they go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from typing_extensions import override

#: The most that one record carries (RFC 8446, section 5.1). Reading less would leave the rest inside
#: OpenSSL, where the reactor cannot see it.
MAX_PLAINTEXT: Final = 2**14

_buffer: Any = ffi.buffer
_from_buffer: Any = ffi.from_buffer
# As names of this module, not looked up in the library for every message.
_SSL_read: Any = lib.SSL_read
_SSL_write: Any = lib.SSL_write


class Connection(SSL.Connection):
    """A TLS connection straight on a socket.

    :param scratch: where records are put before they become bytes, from `scratch_buffer`; any number
        of connections may share it.
    """

    def __init__(self, context: SSL.Context, socket: Any, scratch: Any) -> None:
        super().__init__(context, socket)
        self._scratch = scratch

    @override
    def recv(self, bufsiz: int = MAX_PLAINTEXT, flags: int | None = None) -> bytes:
        """At the most one record's bytes; the parameters are there for the class's sake."""
        count = _SSL_read(self._ssl, self._scratch, MAX_PLAINTEXT)
        if count <= 0:
            self._raise_ssl_error(self._ssl, count)
        data: bytes = _buffer(self._scratch, count)[:]
        return data

    @override
    def send(self, buf: Any, flags: int = 0) -> int:
        """Send one record's bytes at the most; return how many."""
        count: int = _SSL_write(self._ssl, buf if type(buf) is bytes else _from_buffer(buf), len(buf))
        if count <= 0:
            self._raise_ssl_error(self._ssl, count)
        return count

    def records(self) -> Records:
        """Its records, more directly."""
        return Records(self, self._ssl, self._scratch)

    def share_info_callback(self, callback: Callable[[SSL.Connection, int, int], None]) -> None:
        """Have *callback*, which many connections may share, called from now on; a context's comes first."""
        if self._context._info_callback is None:  # noqa: SLF001
            lib.SSL_set_info_callback(self._ssl, _info_callback(callback))


class Records:
    """The records of one connection, for the call that is made for each of them.

    `SSL.Connection` has a ``__getattr__``, which makes CPython take the long way to whatever else it has.
    """

    __slots__ = ("_connection", "_scratch", "_ssl", "unsent")

    def __init__(self, connection: Connection, ssl: Any, scratch: Any) -> None:
        self._connection = connection
        self._ssl = ssl
        self._scratch = scratch
        self.unsent = b""

    def echo(self) -> int:
        """Receive one record's bytes and send them back from where they lie.

        :returns: how many were received; those of them that could not be sent are `unsent`: the peer does not
            take them now, or the connection is broken, which the next call will tell.
        :raises SSL.Error: as `Connection.recv` does; nothing was received.
        """
        ssl, scratch = self._ssl, self._scratch
        received: int = _SSL_read(ssl, scratch, MAX_PLAINTEXT)
        if received <= 0:
            self._fail(received)
        sent = _SSL_write(ssl, scratch, received)
        if sent == received:
            return received
        if sent <= 0:
            with suppress(SSL.Error):
                self._fail(sent)  # empties OpenSSL's queue of errors
        self.unsent = _buffer(scratch, received)[max(sent, 0) :]
        return received

    def _fail(self, result: int) -> None:
        self._connection._raise_ssl_error(self._ssl, result)  # noqa: SLF001


@cache  # kept for ever, as OpenSSL may call it for as long as it has any connection
def _info_callback(callback: Callable[[SSL.Connection, int, int], None]) -> Any:
    """What OpenSSL calls; pyOpenSSL would make another one for each connection."""

    def on_info(ssl: Any, where: int, result: int) -> None:
        callback(SSL.Connection._reverse_mapping[ssl], where, result)  # noqa: SLF001

    return ffi.callback("void (*)(const SSL *, int, int)", on_info)


def scratch_buffer() -> Any:
    """Room for one record."""
    return ffi.new("char[]", MAX_PLAINTEXT)


def set_groups(context: SSL.Context, names: bytes) -> None:
    """Choose the groups for key exchange, the favourite first, separated by colons, by OpenSSL's names.

    :raises SSL.Error: this OpenSSL does not know one of them; the context is as it was.
    """
    # Of the same list in older OpenSSLs only curves were members; the call keeps their name.
    if lib.SSL_CTX_set1_curves_list(context._context, names) != 1:  # noqa: SLF001
        SSL._raise_current_error()  # noqa: SLF001
