"""What a request to the admin interface is to those who answer it, and what they answer with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from suite.admin.objects import NotAnObjectError, read_object
from suite.server.pauses import Turns

#: What every response has. Nothing of it may be kept, embedded in other pages, or taken for something else.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Response:
    """A whole response.

    :ivar kind: its media type.
    :ivar headers: beside those that every response has.
    """

    status: int = 200
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def phrase(self) -> str:
        """The reason phrase of the status."""
        return HTTPStatus(self.status).phrase

    def all_headers(self) -> Iterator[tuple[str, str]]:
        """All headers but the length."""
        if self.status != 204:
            yield "Content-Type", self.kind
        yield from (HEADERS | dict(self.headers)).items()


def as_json(value: object, status: int = 200) -> Response:
    """*value* as a JSON document."""
    return Response(status, json_bytes(value), "application/json")


async def as_json_in_turns(document: Mapping[str, object], turns: Turns) -> Response:
    """*document*, some of whose values are long, as a JSON document: the same text as that of `as_json`."""
    members = []
    for key, value in document.items():
        texts: list[str] = []
        if isinstance(value, dict):
            async for name, item in turns.between(value.items()):
                texts.append(f"{_dumps(name)}: {_dumps(item)}")
            text = f"{{{', '.join(texts)}}}"
        elif isinstance(value, list):
            texts.extend([_dumps(item) async for item in turns.between(value)])
            text = f"[{', '.join(texts)}]"
        else:
            text = _dumps(value)
        members.append(f"{_dumps(key)}: {text}")
    return Response(200, _encoded(f"{{{', '.join(members)}}}"), "application/json")


def json_bytes(value: object) -> bytes:
    """*value* as JSON on one line. Half a surrogate pair, which UTF-8 lacks, stays escaped."""
    return _encoded(_dumps(value))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace") + b"\n"


class Problem(Exception):  # noqa: N818  # what RFC 9457 calls it
    """A request that is not answered as asked; what is sent is a problem document (RFC 9457).

    :ivar status: the status of the response.
    :ivar detail: what is wrong, what was expected, and the way out, in one line.
    :ivar headers: beside those that every response has.
    :ivar more: further members of the document.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        """The response that says so."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Response(self.status, json_bytes(document), "application/problem+json", self.headers)


@dataclass(frozen=True)
class Call:
    """One request, as far as those who answer it are concerned.

    :ivar method: ``GET``, ``POST``, …
    :ivar path: the decoded path.
    :ivar parameters: what stands for each ``{name}`` in the route's path.
    :ivar query: the query, each name once.
    :ivar body: the body, as it came.
    :ivar accept: what the client accepts, as it says.
    :ivar may_change: whether the client may change anything: over the UNIX socket, or with the token.
    :ivar http: the request of twisted.web, for answers that are not sent at once.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    accept: str
    may_change: bool
    http: Any

    def json(self) -> dict[str, Any]:
        """The body, which is to be a JSON object; an empty one is an empty object.

        :raises Problem: it is none.
        """
        if not self.body:
            return {}
        try:
            return read_object(self.body, "an object")
        except NotAnObjectError as error:
            raise Problem(400, f"the body: {error}") from None
