"""gallery.json, as it is read: what is right in it, and one line for what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.client.score.manifest import ManifestError, parse_manifest, read_manifest
from suite.errors import UsageError
from suite.gallery.specimens import Must
from tests.client.score.galleries import manifest, specimen

GOOD = manifest(specimen("good", 4500), specimen("expired", 4501, "refuse", errors={"go": "x509: expired"}))


def parsed(found: Any) -> Any:
    return parse_manifest("gallery.json", json.dumps(found).encode())


def test_all_of_it_is_read() -> None:
    found = parsed(GOOD | {"something": "newer"})
    assert [exhibit.name for exhibit in found.exhibits] == ["good", "expired"]
    assert found.exhibits[1].must is Must.REFUSE
    assert found.exhibits[1].errors == {"go": "x509: expired"}
    assert found.good.port == 4500
    assert found.left_out == {"rc5": "nobody speaks it"}


@pytest.mark.parametrize(
    ("host", "target"), [("127.0.0.1", "localhost"), ("::1", "localhost"), ("192.0.2.1", "192.0.2.1")]
)
def test_the_certificates_name_localhost(host: str, target: str) -> None:
    assert parsed(GOOD | {"host": host}).target == target


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([], "this is not a gallery.json: version None; expected 1"),
        (GOOD | {"version": 2}, "this is not a gallery.json: version 2; expected 1"),
        (GOOD | {"ca": "no PEM"}, "ca: 'no PEM' is not a certificate, PEM"),
        (GOOD | {"host": 1}, "host: 1 is not a text"),
        (GOOD | {"specimens": {}}, "specimens: {} is not a list of tables"),
        (GOOD | {"specimens": [specimen("a/b", 1)]}, "specimens[0].name: 'a/b' is not a DNS label"),
        (GOOD | {"specimens": [specimen("a", 0)]}, "specimens[0].port: 0 is not 1 to 65535"),
        (GOOD | {"specimens": [specimen("a", True)]}, "specimens[0].port: True is not 1 to 65535"),
        (
            GOOD | {"specimens": [specimen("a", 1, "maybe")]},
            "specimens[0].must: 'maybe' is not accept, refuse or either",
        ),
        (
            GOOD | {"specimens": [specimen("a", 1, errors={"go": 1})]},
            "specimens[0].errors: {'go': 1} is not a text for each stack",
        ),
        (GOOD | {"specimens": [specimen("a", 1)] * 2}, "specimens: two of them have the same name"),
    ],
)
def test_what_is_wrong_is_named(wrong: Any, says: str) -> None:
    with pytest.raises(ManifestError) as raised:
        parsed(wrong)
    assert str(raised.value) == f"gallery.json: {says}"


@given(st.binary())
def test_no_bytes_are_more_than_wrong(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest("gallery.json", data)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (
            "missing.json",
            "--gallery missing.json: No such file or directory; expected gallery.json or the URL",
        ),
        (
            "https://localhost",
            "--gallery 'https://localhost' is no URL of a gallery; expected http://HOST:PORT",
        ),
        ("http://localhost:x", "is no URL of a gallery"),
        ("ftp://localhost", "is no URL of a gallery"),
    ],
)
def test_places_that_can_be_none(
    place: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        read_manifest(place)
    assert says in str(raised.value)
