"""Go's verifier agrees with the table, too; compiling it takes seconds."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from suite.gallery.mint import Authority, mint
from suite.gallery.specimens import SPECIMENS, Must
from tests.gallery.verifiers import run

#: Go does not look at what is wrong with these, or not in Debian 12's version.
OVERLOOKED = {"bad-key-usage", "rsa-512", "rsa-1024", "revoked", "must-staple", "stale-staple"}


@pytest.mark.stress
@pytest.mark.skipif(shutil.which("go") is None, reason="needs go (golang)")
def test_go_does_what_the_table_says() -> None:
    now = datetime.now(UTC)
    authority = Authority(now)
    made = [s for s in SPECIMENS if s.behaviour is None or s.certificate != "good"]
    chains = {s.name: mint(s.certificate, authority, ["localhost"], now).chain for s in made}
    question = {
        "ca": authority.pem.decode(),
        "host": "localhost",
        "chains": {name: [base64.b64encode(der).decode() for der in chain] for name, chain in chains.items()},
    }
    code, output = run("go", "run", str(Path(__file__).with_name("verify.go")), stdin=json.dumps(question))
    assert code == 0, output
    objections: dict[str, str] = json.loads(output)
    assert {s.name: objections[s.name] for s in made if s.must is Must.ACCEPT if objections[s.name]} == {}
    refused = {name for name, text in objections.items() if text}
    assert {s.name for s in made if s.must is Must.REFUSE} - refused <= OVERLOOKED
