"""pyOpenSSL's connection with less overhead in its most frequent calls, and a setting that it does not offer.

Rules: `Connection` is an `OpenSSL.SSL.Connection` in all respects; a call that succeeds, as nearly all do,
allocates only its result and does not query OpenSSL for errors. This is the only module that uses names
private to pyOpenSSL (`_ssl`, `_socket`, `_into_ssl`, `_from_ssl`, `_context`, `_pkey`, `_x509`,
`_info_callback`, `_reverse_mapping`, `_raise_ssl_error`, `OpenSSL._util`); tests/engine/test_stream.py fails
if one of them disappears.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, Final

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib
from typing_extensions import override

from suite.engine.handshake_records import record_length

#: Maximum number of bytes in a record (RFC 8446, section 5.1). Reading fewer would leave the rest inside
#: OpenSSL, where the reactor cannot see them.
MAX_PLAINTEXT: Final = 2**14

_buffer: Any = ffi.buffer
_from_buffer: Any = ffi.from_buffer
# Names of this module, to avoid a look-up in the library for every message.
_SSL_read: Any = lib.SSL_read
_SSL_write: Any = lib.SSL_write


class Connection(SSL.Connection):
    """A TLS connection, in memory (`bio_write`, `output`) until it is attached to a socket.

    :param scratch: a buffer from `scratch_buffer` for decrypted records; connections may share it.
    """

    def __init__(self, context: SSL.Context, scratch: Any) -> None:
        super().__init__(context, None)
        self._scratch = scratch

    def output(self) -> bytes:
        """Take what has been written in memory; unlike `bio_read`, nothing is no error."""
        chunks = []
        while (count := lib.BIO_read(self._from_ssl, self._scratch, MAX_PLAINTEXT)) > 0:
            chunks.append(_buffer(self._scratch, count)[:])
        return b"".join(chunks)

    def peek_input(self) -> bytes:
        """What has been given to OpenSSL by `bio_write`, and not been read by it yet."""
        start = ffi.new("char **")
        size = lib.BIO_get_mem_data(self._into_ssl, start)
        data: bytes = _buffer(start[0], size)[:]
        return data

    def attach(self, sock: Any) -> None:
        """Read from *sock* and write to it from now on; whatever is still in memory is lost."""
        lib.SSL_set_fd(self._ssl, sock.fileno())  # frees the memory
        self._socket = sock
        self._into_ssl = self._from_ssl = None

    @override
    def recv(self, bufsiz: int = MAX_PLAINTEXT, flags: int | None = None) -> bytes:
        """Receive one record's bytes at the most; the parameters are ignored."""
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
        """Faster access to the records of this connection."""
        return Records(self, self._ssl, self._scratch)

    @override
    def do_handshake(self) -> None:
        """Go on with the handshake; if the peer's certificate is refused, the error says why.

        :raises SSL.Error: as in `SSL.Connection.do_handshake`.
        """
        try:
            super().do_handshake()
        except SSL.Error as error:
            refused = self.verify_error() if type(error) is SSL.Error else ""
            if not refused:
                raise
            *before, (library, function, reason) = error.args[0]
            if reason != "certificate verify failed":  # it was let pass (`ask_for_any_certificate`)
                raise
            raise SSL.Error([*before, (library, function, f"{reason}: {refused}")]) from error

    def verify_error(self) -> str:
        """Why the peer's certificate was refused, in OpenSSL's words; empty if it was not."""
        return verify_error(self)

    def share_info_callback(self, callback: Callable[[SSL.Connection, int, int], None]) -> None:
        """Install *callback*, which connections may share, unless the context has a callback of its own."""
        if self._context._info_callback is None:  # noqa: SLF001
            lib.SSL_set_info_callback(self._ssl, _info_callback(callback))


class MemoryConnection(Connection):
    """A TLS connection that can stay in memory, and tell its secrets.

    :ivar in_memory: whether it stays in memory when it is attached to a socket: it reads one record at a time
        from there, as OpenSSL would, but what it writes is for `output`, and for somebody else to send.
    :ivar on_secret: is called with each line for a key log while the handshake lasts, besides what the
        context calls; None: nobody.
    """

    in_memory = False
    on_secret: Callable[[bytes], None] | None = None
    _begun = b""  # the beginning of a record
    _contexts: tuple[tuple[SSL.Context, Any], ...] = ()  # whose key log is borrowed, and its own callback

    @override
    def attach(self, sock: Any) -> None:
        if self.in_memory:
            self._socket = sock
        else:
            super().attach(sock)

    @override
    def recv(self, bufsiz: int = MAX_PLAINTEXT, flags: int | None = None) -> bytes:
        if not self.in_memory:
            return super().recv()
        while True:
            try:
                return super().recv()
            except SSL.WantReadError:
                self._feed()

    def _feed(self) -> None:
        """Give OpenSSL the next record, or the end of input.

        :raises SSL.WantReadError: there is no whole record yet.
        :raises SSL.SysCallError: the connection is broken.
        """
        while missing := record_length(self._begun) - len(self._begun):
            try:
                data = self._socket.recv(missing)  # type: ignore[union-attr]  # attached
            except BlockingIOError:
                raise SSL.WantReadError from None
            except OSError as error:
                raise SSL.SysCallError(error.errno, os.strerror(error.errno or 0)) from None
            if not data:
                lib.BIO_set_mem_eof_return(self._into_ssl, 0)
                break
            self._begun += data
        record, self._begun = self._begun, b""
        if record:
            self.bio_write(record)

    @override
    def do_handshake(self) -> None:
        """Go on with the handshake, with the key logs of its contexts borrowed.

        OpenSSL has one callback for all connections of a context; the others must not notice.

        :raises SSL.Error: as in `SSL.Connection.do_handshake`.
        """
        if self.on_secret is None:
            super().do_handshake()
            return
        self._borrow(self._context)
        try:
            super().do_handshake()
        finally:
            for context, own in self._contexts:
                lib.SSL_CTX_set_keylog_callback(context._context, own)  # noqa: SLF001
            self._contexts = ()

    @override
    def set_context(self, context: SSL.Context) -> None:
        super().set_context(context)  # as SNI wants it, in the middle of a handshake
        if self._contexts:
            self._borrow(context)

    def _borrow(self, context: SSL.Context) -> None:
        if all(context is not borrowed for borrowed, _ in self._contexts):
            own = lib.SSL_CTX_get_keylog_callback(context._context)  # noqa: SLF001
            self._contexts += ((context, own),)
            lib.SSL_CTX_set_keylog_callback(context._context, _on_secret)  # noqa: SLF001

    def note_secret(self, ssl: Any, line: Any) -> None:
        """A line for the key log of the present context, as C knows it."""
        if self.on_secret is not None:
            self.on_secret(ffi.string(line))
        for context, own in self._contexts:
            if context is self._context and own != ffi.NULL:
                own(ssl, line)


@ffi.callback("void (*)(const SSL *, const char *)")  # type: ignore[untyped-decorator]  # cffi's
def _on_secret(ssl: Any, line: Any) -> None:
    connection: Any = SSL.Connection._reverse_mapping[ssl]  # noqa: SLF001
    connection.note_secret(ssl, line)


class Records:
    """The records of one connection, for the one call that is made for each record.

    `SSL.Connection` has a ``__getattr__``, which makes CPython slower at finding all its other attributes.

    :ivar unsent: the bytes of the last `echo` that could not be sent.
    """

    __slots__ = ("_connection", "_scratch", "_ssl", "unsent")

    def __init__(self, connection: Connection, ssl: Any, scratch: Any) -> None:
        self._connection = connection
        self._ssl = ssl
        self._scratch = scratch
        self.unsent = b""

    def echo(self) -> int:
        """Receive one record's bytes and send them back from the same buffer.

        :returns: the number of bytes received. Those that could not be sent are in `unsent`: either the peer
            is not reading, or the connection is broken, which the next call will report.
        :raises SSL.Error: as in `Connection.recv`; nothing was received.
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


@cache  # never freed: OpenSSL may call it as long as any connection exists
def _info_callback(callback: Callable[[SSL.Connection, int, int], None]) -> Any:
    """The C callback for *callback*, made once; pyOpenSSL would make one for each connection."""

    def on_info(ssl: Any, where: int, result: int) -> None:
        callback(SSL.Connection._reverse_mapping[ssl], where, result)  # noqa: SLF001

    return ffi.callback("void (*)(const SSL *, int, int)", on_info)


def verify_error(connection: SSL.Connection) -> str:
    """Why the peer's certificate was not accepted, in OpenSSL's words; empty: it was, or there is none."""
    code: int = lib.SSL_get_verify_result(connection._ssl)  # noqa: SLF001
    if code == 0:  # X509_V_OK
        return ""
    words: bytes = ffi.string(lib.X509_verify_cert_error_string(code))
    return words.decode("ascii", "replace")


def ask_for_any_certificate(context: SSL.Context) -> None:
    """Ask peers for a certificate, and go on whether or not it can be verified; `verify_error` says why not.

    pyOpenSSL's own callback would have OpenSSL forget that, also in the session, which may be resumed.
    """
    lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER, _go_on)  # noqa: SLF001


@ffi.callback("int (*)(int, X509_STORE_CTX *)")  # type: ignore[untyped-decorator]  # cffi's
def _go_on(_ok: int, _store: Any) -> int:
    return 1


def has_resumed(connection: SSL.Connection) -> bool:
    """Whether *connection* has resumed an earlier session."""
    return bool(lib.SSL_session_reused(connection._ssl))  # noqa: SLF001


def scratch_buffer() -> Any:
    """A buffer for one record."""
    return ffi.new("char[]", MAX_PLAINTEXT)


def use_key(context: SSL.Context, key: crypto.PKey) -> None:
    """Make *context* use *key* as it is.

    `SSL.Context.use_privatekey` wants an object of `cryptography`, which takes an RSA-PSS key for an RSA key:
    it could not sign.

    :raises SSL.Error: OpenSSL does not accept it.
    """
    if lib.SSL_CTX_use_PrivateKey(context._context, key._pkey) != 1:  # noqa: SLF001
        SSL._raise_current_error()  # noqa: SLF001


def use_chain(context: SSL.Context, chain: Iterable[bytes]) -> None:
    """Make *context* present the certificates of *chain*, exactly as they are.

    `SSL.Context.use_certificate` wants an object of `cryptography`, which refuses some that OpenSSL accepts.

    :param chain: certificates in DER, the server's own first.
    :raises SSL.Error: OpenSSL does not accept it.
    :raises crypto.Error: OpenSSL cannot read one of them.
    """
    own, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in chain)
    if lib.SSL_CTX_use_certificate(context._context, own._x509) != 1:  # noqa: SLF001
        SSL._raise_current_error()  # noqa: SLF001
    for other in others:
        copy = lib.X509_dup(other._x509)  # noqa: SLF001
        if lib.SSL_CTX_add_extra_chain_cert(context._context, copy) != 1:  # noqa: SLF001
            lib.X509_free(copy)
            SSL._raise_current_error()  # noqa: SLF001


def set_groups(context: SSL.Context, names: bytes) -> None:
    """Set the groups for key exchange.

    :param names: OpenSSL's names for the groups, separated by colons, in order of preference.
    :raises SSL.Error: this OpenSSL does not know one of them; the context is unchanged.
    """
    # In older versions of OpenSSL all groups were curves, and the function is still named after them.
    if lib.SSL_CTX_set1_curves_list(context._context, names) != 1:  # noqa: SLF001
        SSL._raise_current_error()  # noqa: SLF001
