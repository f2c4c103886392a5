"""Bytes as hexadecimal digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from suite.errors import UsageError

#: Bytes per line of a dump, as in hexdump(1).
DUMP_WIDTH: Final = 16


def from_hex(text: str) -> bytes:
    """The bytes of *text*: two hexadecimal digits each, with or without spaces between them.

    :raises UsageError: *text* is not hexadecimal.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{text.strip()!r} is not hexadecimal; expected digits, such as 68 6f") from None


def hex_lines(data: bytes, offset: int) -> Iterator[str]:
    """*data* as ``hexdump -C`` shows it: offset, digits, text.

    :param offset: the offset of the first byte.
    """
    for start in range(0, len(data), DUMP_WIDTH):
        row = data[start : start + DUMP_WIDTH]
        digits = f"{row[:8].hex(' ')}  {row[8:].hex(' ')}"
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{offset + start:08x}  {digits:<48}  |{text}|"


class Dump:
    """Formats the bytes of a stream as a dump, piece by piece."""

    def __init__(self) -> None:
        self._offset = 0

    def __call__(self, data: bytes) -> bytes:
        """The lines for *data*."""
        lines = [line + "\n" for line in hex_lines(data, self._offset)]
        self._offset += len(data)
        return "".join(lines).encode()
