"""A histogram of latencies, compatible with HdrHistogram (Gil Tene, hdrhistogram.org).

Rules: values are whole microseconds from 1 to an hour, kept to three significant digits, as in wrk2; empty
buckets cost no memory; `encode` writes HdrHistogram's V2 format, which its Java, C, Go, Rust and Python
implementations can read.

Buckets are one value wide up to 2,047; from there on, the width doubles whenever the value does. A bucket's
number is its index in the reference implementation's array of counts.
"""

from __future__ import annotations

import math
import struct
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

#: The largest value, in microseconds; larger values count as this one.
HIGHEST: Final = 3_600_000_000

_DIGITS: Final = 3
_HALF_BITS: Final = 10  # the reference has 2 ** 11 sub-buckets in a bucket: 3 digits need 2,000
_HALF: Final = 1 << _HALF_BITS

_COOKIE: Final = 0x1C849303 | 0x10
_COMPRESSED_COOKIE: Final = 0x1C849304 | 0x10
_OUTER: Final = struct.Struct(">II")  # cookie, length
#: cookie, length, normalizing offset, digits, lowest and highest value, conversion ratio
_INNER: Final = struct.Struct(">IIIIQQd")
_SETTINGS: Final = (0, _DIGITS, 1, HIGHEST, 1.0)


def bucket_of(value: int) -> int:
    """The number of the bucket for *value*."""
    shift = max(0, value.bit_length() - _HALF_BITS - 1)
    return (shift << _HALF_BITS) + (value >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The lowest and the highest value in *bucket*."""
    shift = max(0, (bucket >> _HALF_BITS) - 1)
    least = (bucket - (shift << _HALF_BITS)) << shift
    return least, least + (1 << shift) - 1


_LAST: Final = bucket_of(HIGHEST)

#: An upper bound for the payload of a full histogram: at most nine bytes for each count.
_MAX_PAYLOAD: Final = _INNER.size + 9 * (_LAST + 1)


class Histogram:
    """How often each latency was recorded.

    :ivar total: the number of values.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: Counter[int] = Counter()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]  # mutable

    def record(self, nanoseconds: Iterable[int]) -> None:
        """Count latencies given in nanoseconds.

        Call it with many at once: `Counter`, which is written in C, merges equal values first.
        """
        self.add(self.counts_of(nanoseconds))

    @staticmethod
    def counts_of(nanoseconds: Iterable[int]) -> Counter[int]:
        """How many of the latencies are in each bucket, for `add`."""
        counts: Counter[int] = Counter()
        for value, count in Counter([(ns + 500) // 1000 for ns in nanoseconds]).items():
            counts[bucket_of(min(max(value, 0), HIGHEST))] += count
        return counts

    def add(self, counts: Counter[int]) -> None:
        """Add what `counts_of` has counted."""
        self._counts.update(counts)
        self.total += counts.total()

    def merge(self, other: Histogram) -> None:
        """Add all values of *other*."""
        self.add(other._counts)

    def percentile(self, percent: float) -> int:
        """The smallest value in µs, rounded up to its bucket's end, that *percent* of values do not exceed.

        :param percent: 0 to 100. All percentiles of an empty histogram are 0.
        """
        (value,) = self.percentiles([percent])
        return value

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """Several percentiles at once; *percents* must be ascending."""
        found = []
        rows = self.rows()
        seen, value = 0, 0
        for percent in percents:
            # Slightly less, as in the reference: 99.9 % of 1,000 must be 999, not 999.0000000000001.
            wanted = max(1, math.ceil(math.nextafter(percent, 0) * self.total / 100))
            while seen < min(wanted, self.total):
                _, value, count = next(rows)
                seen += count
            found.append(value)
        return found

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """The non-empty buckets in ascending order: lowest value, highest value, count."""
        for bucket in sorted(self._counts):
            yield (*bounds_of(bucket), self._counts[bucket])

    @property
    def least(self) -> int:
        """The smallest value in µs, to three digits; 0 if there are no values."""
        return bounds_of(min(self._counts))[0] if self._counts else 0

    @property
    def greatest(self) -> int:
        """The largest value in µs, to three digits; 0 if there are no values."""
        return bounds_of(max(self._counts))[1] if self._counts else 0

    @property
    def mean(self) -> float:
        """The mean in µs; each value counts as the middle of its bucket."""
        if not self.total:
            return 0.0
        return sum((low + high) / 2 * count for low, high, count in self.rows()) / self.total

    @property
    def deviation(self) -> float:
        """The standard deviation in µs."""
        if not self.total:
            return 0.0
        mean = self.mean
        squares = sum(((low + high) / 2 - mean) ** 2 * count for low, high, count in self.rows())
        return math.sqrt(squares / self.total)

    def encode(self) -> str:
        """The histogram in HdrHistogram's V2 format: compressed, base64."""
        words = bytearray()
        next_bucket = 0
        for bucket in sorted(self._counts):
            if bucket > next_bucket:
                _put(words, next_bucket - bucket)  # a negative word is a run of empty buckets
            _put(words, self._counts[bucket])
            next_bucket = bucket + 1
        payload = zlib.compress(_INNER.pack(_COOKIE, len(words), *_SETTINGS) + words)
        return b64encode(_OUTER.pack(_COMPRESSED_COOKIE, len(payload)) + payload).decode()

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """The histogram that `encode` wrote as *text*.

        :raises ValueError: *text* is not a histogram, or one with other settings than ours.
        """
        try:
            outer = b64decode(text, validate=True)
            cookie, length = _OUTER.unpack_from(outer)
            unpacker = zlib.decompressobj()
            payload = unpacker.decompress(outer[_OUTER.size :], _MAX_PAYLOAD)
            inner_cookie, inner_length, *settings = _INNER.unpack_from(payload)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"not an HdrHistogram: {error}") from None
        words = payload[_INNER.size :]
        if (cookie, inner_cookie) != (_COMPRESSED_COOKIE, _COOKIE):
            raise ValueError("not an HdrHistogram in the V2 format")
        if length != len(outer) - _OUTER.size or inner_length != len(words) or not unpacker.eof:
            raise ValueError("a truncated HdrHistogram")
        if tuple(settings) != _SETTINGS:
            raise ValueError(f"an HdrHistogram with other settings; expected {_SETTINGS}")
        histogram = cls()
        bucket = 0
        for word in _taken(words):
            if word >= 0:
                if word:
                    histogram._counts[bucket] = word
                    histogram.total += word
                bucket += 1
            else:
                bucket -= word
            if bucket > _LAST + 1:
                raise ValueError("an HdrHistogram with more counts than it has buckets")
        return histogram


def _put(words: bytearray, word: int) -> None:
    """Append *word* in ZigZag LEB128: seven bits a byte, lowest bits first; the lowest bit is the sign."""
    rest = word << 1 if word >= 0 else (-word << 1) - 1
    while rest > 0x7F:
        words.append(rest & 0x7F | 0x80)
        rest >>= 7
    words.append(rest)


def _taken(words: bytes) -> Iterator[int]:
    """The numbers that `_put` wrote into *words*.

    :raises ValueError: the last number is incomplete, or a number is too long.
    """
    rest = shift = 0
    for byte in words:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift >= 63:
                raise ValueError("an HdrHistogram with a count of more than 63 bits")
            continue
        yield rest >> 1 if not rest & 1 else -(rest >> 1) - 1
        rest = shift = 0
    if shift:
        raise ValueError("an HdrHistogram that ends in the middle of a count")
