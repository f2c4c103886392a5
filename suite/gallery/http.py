"""As much of HTTP/1.1 (RFC 9112) as the gallery's pages need: one request a connection, and its response.

Rules: a request is never longer than `LONGEST_HEAD`, and its body, if it has one, is not read.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Final, NamedTuple

#: The most that a request may have before its empty line, in bytes (nginx's large_client_header_buffers).
LONGEST_HEAD: Final = 32_768


class Document(NamedTuple):
    """Something to be read.

    :ivar kind: its media type.
    :ivar content: its bytes.
    """

    kind: str
    content: bytes


def is_whole(head: bytes) -> bool:
    """Whether *head*, the beginning of a request, has its empty line."""
    return b"\n\r\n" in head or b"\n\n" in head


def response(
    status: str,
    document: Document = Document("text/plain", b""),  # noqa: B008  # a constant
    *,
    headers: tuple[str, ...] = (),
    body: bool = True,
) -> bytes:
    """A response, after which the connection ends.

    :param body: whether *document* itself follows: not in answer to HEAD.
    """
    lines = [
        f"HTTP/1.1 {status}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {document.kind}",
        f"Content-Length: {len(document.content)}",
        "Cache-Control: no-store",
        "Connection: close",
        *headers,
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    return head + document.content if body else head
