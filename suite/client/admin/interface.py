"""Asking the admin interface of a running suite, with the standard library alone.

Rules: a request has a time, an answer a size; whatever is wrong is said in one line, by the suite where it
has answered (RFC 9457), otherwise here; what is no document of the interface is taken for no answer.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import override

from suite.client.admin.address import Address, Place, read_client_token
from suite.client.admin.unreachable import UnreachableError, why_not
from suite.errors import EXIT_FAILURE, EXIT_USAGE, SuiteError, UsageError
from suite.text import one_line

#: Seconds that the suite may take to answer: a reload of thousands of endpoints takes some.
PATIENCE: Final = 30.0

#: Bytes of an answer: more than any suite has to say.
LONGEST_ANSWER: Final = 64 * 2**20

#: Statuses that another attempt may not have: too many requests, or a state that passes.
_MAY_PASS: Final = frozenset({408, 409, 429})

_STRANGER: Final = "it does not answer as an admin interface does; expected that of a running suite"

_CUT_OFF: Final = "the connection was closed without an answer; perhaps the suite has ended, or is too busy"


class RefusedError(SuiteError):
    """A request that the suite has refused.

    :ivar status: the status of its answer.
    :ivar detail: why, in one line.
    :ivar errors: further lines about it: of a reload, what is wrong with the configuration.
    """

    def __init__(self, status: int, detail: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(status, detail, errors)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.exit_code = EXIT_FAILURE if status >= 500 or status in _MAY_PASS else EXIT_USAGE

    def __str__(self) -> str:
        return "\n".join(one_line(line) for line in (self.detail, *self.errors))


@dataclass(frozen=True)
class Reply:
    """What the suite has answered, whatever its status.

    :ivar kind: its media type, without parameters.
    """

    status: int
    kind: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, with what is not UTF-8 escaped."""
        return self.body.decode(errors="backslashreplace")


def endpoint_path(name: str) -> str:
    """The path of the endpoint *name*.

    :raises UsageError: there is no such endpoint in any suite.
    """
    if not name or "/" in name:
        raise UsageError(f"{name!r} is not an endpoint; expected the name of one")
    return f"/api/v1/endpoints/{quote(name)}"


class _Connection(http.client.HTTPConnection):
    """A connection to *address*."""

    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__(address.host, address.port or None, timeout=timeout)
        self._path = address.path

    @override
    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class Interface:
    """The admin interface at a *place*; a context manager that closes the connection to it.

    :param token_file: the file with the token; default: that of the place.
    :param timeout: seconds that a request may take at each step: connecting, being sent, being answered.
    """

    def __init__(self, place: Place, token_file: Path | None = None, timeout: float = PATIENCE) -> None:
        self._addresses = [*place.addresses]
        self._token = read_client_token(token_file) if token_file is not None else None
        self._configured = place.token_file if token_file is None else None
        self._timeout = timeout
        self._connection: _Connection | None = None

    def __enter__(self) -> Interface:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> Address:
        """Where it is asked."""
        return self._addresses[0]

    def close(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """The JSON document that the suite answers with.

        :param body: what is sent as JSON; None: nothing.
        :raises UnreachableError: the suite cannot be asked, or what answers is something else.
        :raises RefusedError: it has refused.
        :raises UsageError: the configured token cannot be used.
        """
        reply = self.reply(path, method, body)
        if reply.status in (401, 403) and self._token is None and self._configured is not None:
            self._token = read_client_token(self._configured)
            reply = self.reply(path, method, body)
        return self.read(reply)

    def read(self, reply: Reply) -> Any:
        """The JSON document in *reply*.

        :raises UnreachableError: there is none, so that what answers is something else.
        :raises RefusedError: it says that the suite has refused.
        """
        document = self._document(reply)
        if reply.status >= 400:
            self._refuse(reply.status, document)
        return document

    def _document(self, reply: Reply) -> Any:
        if reply.kind in ("application/json", "application/problem+json"):
            try:
                return json.loads(reply.body)
            except (ValueError, RecursionError):
                pass
        raise UnreachableError(str(self.address), _STRANGER)

    def _refuse(self, status: int, document: Any) -> None:
        detail = document.get("detail") if isinstance(document, dict) else None
        if not isinstance(detail, str) or not detail:
            raise UnreachableError(str(self.address), _STRANGER)
        errors = document.get("errors")
        lines = [line for line in errors if isinstance(line, str)] if isinstance(errors, list) else []
        raise RefusedError(status, detail, tuple(lines))

    def reply(self, path: str, method: str = "GET", body: object = None) -> Reply:
        """What the suite answers, whatever that is.

        :raises UnreachableError: it cannot be asked, or does not speak HTTP.
        """
        headers = {"Accept": "application/json, text/plain"}
        if self._token is not None and not self.address.path:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self._connected()
        try:
            connection.request(method, path, data, headers)
            with connection.getresponse() as response:
                content = response.read(LONGEST_ANSWER)
                if response.length:  # with a limit, `read` does not say so
                    raise http.client.IncompleteRead(content, response.length)
        except TimeoutError:
            self.close()
            raise UnreachableError(str(self.address), f"no answer within {self._timeout:g} s") from None
        except (OSError, http.client.IncompleteRead):  # among them http.client.RemoteDisconnected
            self.close()
            raise UnreachableError(str(self.address), _CUT_OFF) from None
        except (http.client.HTTPException, ValueError):
            self.close()
            raise UnreachableError(str(self.address), _STRANGER) from None
        kind = response.headers.get_content_type()
        return Reply(response.status, kind, content)

    def _connected(self) -> _Connection:
        """A connection to the first address that takes one, which comes first from then on.

        :raises UnreachableError: none does; says why of the one that was to be preferred.
        """
        if self._connection is not None:
            return self._connection
        first: UnreachableError | None = None
        for address in [*self._addresses]:
            connection = _Connection(address, self._timeout)
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:
                first = first or UnreachableError(str(address), self._why_not(address, error))
            else:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                self._connection = connection
                return connection
        if first is None:
            raise UsageError("there is no admin interface to ask")
        raise first

    def _why_not(self, address: Address, error: OSError | UnicodeError) -> str:
        if isinstance(error, UnicodeError):  # of IDNA
            return "is not the name of a host"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        if address.path:
            return why_not(address.path, "admin interface", error)
        if isinstance(error, ConnectionRefusedError):
            return (
                "no suite is listening there; expected one that has been started, or reloaded, with this"
                " admin interface in its configuration"
            )
        return f"cannot connect: {error.strerror or error}"
