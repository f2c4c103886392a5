"""A client of the admin interface that shares no code with it: the standard library's."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from tests.running import PATIENCE


@dataclass(frozen=True)
class Answer:
    """A response.

    :ivar headers: by name, in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection(http.client.HTTPConnection):
    """A connection to the admin interface at *address*: ``(host, port)``, or the path of a socket."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        super().__init__("localhost" if isinstance(address, str) else address[0], timeout=PATIENCE)
        self._address = address

    @override
    def connect(self) -> None:
        if isinstance(self._address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(self._address)
        else:
            self.sock = socket.create_connection(self._address, PATIENCE)


def ask(
    address: tuple[str, int] | str,
    path: str,
    method: str = "GET",
    *,
    body: object = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """The response to one request.

    :param body: sent as JSON, if it is given; bytes as they are.
    """
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = Connection(address)
    try:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()
