"""JA3 and JA4, as they are published, and as others compute them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client_hello import ClientHello, Extension, read_client_hello
from suite.fingerprints import ja3, ja3_hash, ja4
from tests.config.test_parsers_property import mutated
from tests.hellos import RECORDED, RecordedHello

recorded = pytest.mark.parametrize("hello", RECORDED, ids=lambda hello: hello.client)


def numbers(text: str, base: int) -> tuple[int, ...]:
    return tuple(int(each, base) for each in text.replace(",", "-").split("-")) if text else ()


def from_ja3(text: str) -> ClientHello:
    version, suites, extensions, groups, formats = (numbers(field, 10) for field in text.split(","))
    return ClientHello(
        legacy_version=version[0],
        versions=version,
        suites=suites,
        extensions=tuple(Extension(kind, 0) for kind in extensions),
        groups=groups,
        point_formats=formats,
    )


# The two examples of https://github.com/salesforce/ja3.
@pytest.mark.parametrize(
    ("text", "hashed"),
    [
        (
            "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0",
            "ada70206e40642a3e4461f35503241d5",
        ),
        ("769,4-5-10-9-100-98-3-6-19-18-99,,,", "de350869b8c85de67a350c8d186f11e6"),
    ],
)
def test_published_ja3(text: str, hashed: str) -> None:
    hello = from_ja3(text)
    assert (ja3(hello), ja3_hash(hello)) == (text, hashed)


# The example of ``technical_details/JA4.md``, in the client's order.
SUITES = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
EXTENSIONS = "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"
SIGNATURES = "0403,0804,0401,0503,0805,0501,0806,0601"


def of_chrome(
    *,
    protocols: tuple[bytes, ...] = (b"h2", b"http/1.1"),
    versions: str = "0304,0303",
    suites: str = SUITES,
    extensions: str = EXTENSIONS,
    signatures: str = SIGNATURES,
) -> ClientHello:
    return ClientHello(
        protocols=protocols,
        versions=numbers(versions, 16),
        legacy_version=0x0303,
        suites=numbers(suites, 16),
        extensions=tuple(Extension(kind, 0) for kind in numbers(extensions, 16)),
        signatures=numbers(signatures, 16),
    )


def test_published_ja4() -> None:
    assert ja4(of_chrome()) == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert ja4(of_chrome(signatures="")).endswith("_6d807ffa2a79")


def test_ja4_ignores_grease_everywhere() -> None:
    greased = of_chrome(
        versions="3a3a,0304,0303",
        suites=f"0a0a,{SUITES}",
        extensions=f"4a4a,{EXTENSIONS},fafa",
        signatures=f"1a1a,{SIGNATURES}",
    )
    assert ja4(greased) == ja4(of_chrome())


@pytest.mark.parametrize(
    ("hello", "begins"),
    [
        (ClientHello(), "t00i000000_000000000000_000000000000"),
        (of_chrome(suites=""), "t13d0016h2_000000000000_"),
        (of_chrome(extensions="0000,0010"), "t13d1502h2_8daaf6152771_000000000000"),
        (of_chrome(suites="-".join(["1301"] * 100)), "t13d9916h2_"),
        (of_chrome(versions="0302"), "t11"),
        (of_chrome(versions="0301"), "t10"),
        (of_chrome(versions="0300"), "ts3"),
        (of_chrome(versions="7f1c"), "t00"),
    ],
)
def test_ja4_where_something_is_missing(hello: ClientHello, begins: str) -> None:
    assert ja4(hello).startswith(begins)


@pytest.mark.parametrize(
    ("protocol", "shown"),
    [
        (b"", "00"),
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b"\x20", "20"),
        (b"\xab\xcd", "ad"),
        (b"\x20\x61", "21"),
        (b"\x30\xab", "3b"),
        (b"\x61\x20", "60"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ],
)
def test_the_protocol_in_ja4(protocol: bytes, shown: str) -> None:
    assert ja4(of_chrome(protocols=(protocol, b"x"))).startswith(f"t13d1516{shown}_")


@recorded
def test_recorded_clients(hello: RecordedHello) -> None:
    """JA3 is tshark's; JA4 is that of its inventors' own program."""
    read = read_client_hello(hello.records)
    assert read is not None
    assert [ja3(read)] == hello.tshark["ja3"]
    assert [ja3_hash(read)] == hello.tshark["ja3_hash"]
    assert ja4(read) == hello.ja4


def test_a_browser_has_the_suites_that_are_published_for_it() -> None:
    (browser,) = (hello for hello in RECORDED if hello.client == "chromium")
    read = read_client_hello(browser.records)
    assert read is not None
    assert ja4(read).split("_")[1] == "8daaf6152771"


@given(st.sampled_from(RECORDED).flatmap(lambda hello: mutated(hello.records)))
def test_whatever_is_read_has_fingerprints(data: bytes) -> None:
    read = read_client_hello(data)
    if read is not None:
        assert ja3_hash(read) == hashlib.md5(ja3(read).encode(), usedforsecurity=False).hexdigest()
        assert [len(part) for part in ja4(read).split("_")] == [10, 12, 12]
