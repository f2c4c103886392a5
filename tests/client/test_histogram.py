"""The histogram counts as HdrHistogram does; checked against its Python implementation."""

from __future__ import annotations

import base64
import math
import random
import zlib
from contextlib import suppress

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from suite.client.histogram import HIGHEST, Histogram, bounds_of, bucket_of

MICROSECONDS = st.lists(st.integers(0, HIGHEST), min_size=1, max_size=200)
PERCENTS = (0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0)


def histogram_of(microseconds: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record(value * 1000 for value in microseconds)
    return histogram


def reference_of(microseconds: list[int]) -> HdrHistogram:
    reference = HdrHistogram(1, HIGHEST, 3)
    for value in microseconds:
        assert reference.record_value(value)
    return reference


@given(st.integers(0, HIGHEST))
def test_a_value_is_within_its_bucket_which_is_narrow(value: int) -> None:
    least, greatest = bounds_of(bucket_of(value))
    assert least <= value <= greatest
    assert greatest - least <= value / 1000


def test_buckets_follow_each_other_without_a_gap() -> None:
    end = -1
    for bucket in range(bucket_of(HIGHEST) + 1):
        least, greatest = bounds_of(bucket)
        assert least == end + 1
        end = greatest


@given(MICROSECONDS, st.floats(0.001, 100))
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(values: list[int], percent: float) -> None:
    found = histogram_of(values).percentile(percent)
    exact = sorted(values)[max(1, math.ceil(math.nextafter(percent, 0) * len(values) / 100)) - 1]
    assert exact <= found <= exact * 1.001


def test_percentiles_of_a_known_distribution() -> None:
    """900 messages of 1 ms, 99 of 200 ms, one of 5 s."""
    histogram = histogram_of([1000] * 900 + [200_000] * 99 + [5_000_000])
    found = dict(zip(PERCENTS, histogram.percentiles(PERCENTS), strict=True))
    assert found[0.0] == found[50.0] == found[90.0] == 1000
    assert found[99.0] == found[99.9] == pytest.approx(200_000, rel=0.001)
    assert found[100.0] == pytest.approx(5_000_000, rel=0.001)
    assert histogram.mean == pytest.approx((900 * 1000 + 99 * 200_000 + 5_000_000) / 1000, rel=0.001)
    assert histogram.least == 1000


def test_nothing_has_percentiles_of_nothing() -> None:
    empty = Histogram()
    assert empty.percentiles(PERCENTS) == [0] * len(PERCENTS)
    assert (empty.least, empty.greatest, empty.mean, empty.deviation, empty.total) == (0, 0, 0, 0, 0)
    assert Histogram.decode(empty.encode()) == empty


def test_nanoseconds_are_rounded_and_what_takes_longer_than_an_hour_took_an_hour() -> None:
    histogram = Histogram()
    histogram.record([499, 500, 1499, 1500, HIGHEST * 5000, -3])
    assert [(low, count) for low, _, count in histogram.rows()][:3] == [(0, 2), (1, 2), (2, 1)]
    assert histogram.greatest == pytest.approx(HIGHEST, rel=0.001)
    assert histogram.total == 6


@given(MICROSECONDS)
def test_the_reference_reads_what_we_write(values: list[int]) -> None:
    ours = histogram_of(values)
    read = HdrHistogram.decode(ours.encode())
    assert list(read.counts) == list(reference_of(values).counts)
    for percent in (50.0, 99.0, 100.0):
        # It rounds where we round up: a difference of half a message.
        assert read.get_value_at_percentile(percent) <= ours.percentile(percent)
    assert read.get_value_at_percentile(100.0) == ours.percentile(100.0) == ours.greatest


@given(MICROSECONDS)
def test_we_read_what_the_reference_writes(values: list[int]) -> None:
    assert Histogram.decode(reference_of(values).encode().decode()) == histogram_of(values)


def test_large_counts_survive() -> None:
    histogram = histogram_of([5])
    for _ in range(34):
        histogram = Histogram.decode(histogram.encode())
        histogram.record([5000] * 2)
        histogram._counts[5] *= 2
    assert Histogram.decode(histogram.encode()) == histogram
    assert HdrHistogram.decode(histogram.encode()).get_count_at_value(5) == histogram._counts[5]


def test_our_mean_and_deviation_are_those_of_the_reference() -> None:
    values = [int(random.Random(7).lognormvariate(6, 1)) for _ in range(2000)]
    ours, reference = histogram_of(values), reference_of(values)
    assert ours.mean == pytest.approx(reference.get_mean_value(), rel=0.001)
    assert ours.deviation == pytest.approx(reference.get_stddev(), rel=0.001)


@given(
    st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()))
)
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HdrHistogram"):
        Histogram.decode(text)


@given(MICROSECONDS, st.data())
def test_a_damaged_histogram_is_refused_or_is_another(values: list[int], data: st.DataObject) -> None:
    """Decoding any bytes ends soon, with a histogram or a ValueError."""
    raw = bytearray(base64.b64decode(histogram_of(values).encode()))
    payload = bytearray(zlib.decompress(raw[8:]))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    packed = zlib.compress(payload)
    text = base64.b64encode(raw[:4] + len(packed).to_bytes(4, "big") + packed).decode()
    with suppress(ValueError):
        assert Histogram.decode(text).total >= 0


def test_a_bomb_is_not_unpacked() -> None:
    raw = base64.b64decode(histogram_of([1]).encode())
    packed = zlib.compress(zlib.decompress(raw[8:]) + b"\0" * 2**26)
    text = base64.b64encode(raw[:4] + len(packed).to_bytes(4, "big") + packed).decode()
    with pytest.raises(ValueError, match="truncated"):
        Histogram.decode(text)
