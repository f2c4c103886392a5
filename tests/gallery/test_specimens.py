"""`suite.gallery.specimens`: the table is consistent, and everything in it can be made."""

from __future__ import annotations

import json
import re

import pytest

from suite.gallery.chains import MAKERS
from suite.gallery.errors import ERRORS
from suite.gallery.specimens import LEFT_OUT, SPECIMENS, Must, Specimen
from tests.helpers import ROOT

STACKS = {"openssl", "gnutls", "go", "python", "java", "chromium"}

NAMES = [specimen.name for specimen in SPECIMENS]


def test_names_are_unique_and_dns_labels() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in NAMES)


def test_nothing_is_both_listed_and_left_out() -> None:
    assert not set(NAMES) & set(LEFT_OUT)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=NAMES)
def test_every_specimen_is_described(specimen: Specimen) -> None:
    assert specimen.certificate in MAKERS
    assert re.fullmatch(r"[A-Z].*[^.]\.", specimen.defect), "one sentence"
    assert re.match(r"RFC \d+, section [\d.]+$|none: ", specimen.clause)
    assert set(specimen.errors) <= STACKS
    assert all(text.isprintable() for text in specimen.errors.values())
    assert json.dumps(dict(specimen.errors))


def test_nothing_that_is_to_be_accepted_has_errors() -> None:
    assert not [s.name for s in SPECIMENS if s.errors and s.must is Must.ACCEPT]


def test_errors_are_of_specimens() -> None:
    assert set(ERRORS) <= set(NAMES)


def test_every_maker_has_a_specimen() -> None:
    assert set(MAKERS) == {specimen.certificate for specimen in SPECIMENS}


def test_the_page_about_certificates_names_each() -> None:
    page = (ROOT / "docs/gallery-certificates.md").read_text()
    made = {s.name for s in SPECIMENS if s.behaviour is None or s.certificate != "good"}
    assert made <= set(re.findall(r"`([a-z0-9-]+)`", page))
    for name, must in re.findall(
        r"^\| `([a-z0-9-]+)` \| (\w+) \| \S*(?:accepts|refuses)", page, re.MULTILINE
    ):
        assert {s.name: s.must for s in SPECIMENS}[name] == must
