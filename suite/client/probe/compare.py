"""Finding where the returned bytes differ from the sent ones."""

from __future__ import annotations

from suite.client.dial.failures import TargetError


def first_difference(sent: bytes, returned: bytes) -> int:
    """The first offset at which they differ; *returned* must not be a prefix of *sent*."""
    low, high = 0, min(len(sent), len(returned))
    if sent[:high] == returned[:high]:
        return high
    while low < high:  # sent[:low] is the same, sent[: high + 1] is not
        middle = (low + high) // 2
        if sent[low : middle + 1] == returned[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


def mismatch(sent: bytes, returned: bytes, before: int = 0) -> TargetError:
    """The error for *returned*, which differs from *sent*.

    :param before: bytes of the payload that came back correctly before these.
    """
    at = first_difference(sent, returned)
    expected, found = sent[at : at + 1], returned[at : at + 1]
    what = f"expected {_shown_byte(expected)}, found {_shown_byte(found)}"
    return TargetError("mismatch", f"at offset {before + at}: {what}", {"offset": before + at})


def _shown_byte(byte: bytes) -> str:
    return f"0x{byte.hex()}" if byte else "the end"
