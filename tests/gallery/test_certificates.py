"""Each certificate is accepted or refused as its specimen says, by verifiers that share no code; at any time.

And for no other reason: with that one reason out of the way, a verifier accepts it.
"""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from suite.gallery.mint import Authority, Minted, mint
from suite.gallery.specimens import SPECIMENS, Must, Specimen
from tests.foreign import serving
from tests.gallery.verifiers import VERIFIERS, Case, openssl, python, run, write

NOW = datetime.now(UTC)

#: Those whose certificates are what they are about.
CERTIFICATES = [s for s in SPECIMENS if s.behaviour is None or s.certificate != "good"]

#: What is wrong with these is not in the chain alone; there are tests of their own for them below.
STATUS = {"revoked", "must-staple", "stale-staple"}

REFUSED = [s for s in CERTIFICATES if s.must is Must.REFUSE]

YEAR = timedelta(days=365)

needs_openssl = pytest.mark.skipif("openssl" not in VERIFIERS, reason="needs openssl")
needs_gnutls = pytest.mark.skipif("gnutls" not in VERIFIERS, reason="needs certtool (gnutls-bin)")


@cache
def authority(now: datetime) -> Authority:
    return Authority(now)


@cache
def minted(name: str, now: datetime) -> Minted:
    return mint(name, authority(now), ["localhost", f"{name}.localhost", "127.0.0.1", "::1"], now)


def case(name: str, directory: Path, now: datetime = NOW) -> Case:
    return Case(minted(name, now), authority(now).pem, directory, now=now)


def named(specimens: list[Specimen]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("specimen", specimens, ids=[s.name for s in specimens])


#: What a verifier objects to in a specimen, at a time; see `VERIFIERS`.
Judge = Callable[[str, str, datetime], str]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Asks each verifier once."""
    directory = tmp_path_factory.mktemp("judged")

    @cache
    def judged(verifier: str, name: str, now: datetime) -> str:
        return VERIFIERS[verifier](case(name, directory, now))

    return judged


@named([s for s in CERTIFICATES if s.must is Must.ACCEPT])
def test_what_is_to_be_accepted_is_accepted_by_all(specimen: Specimen, judge: Judge) -> None:
    objections = {name: judge(name, specimen.name, NOW) for name in VERIFIERS}
    assert not any(objections.values()), objections


@named([s for s in REFUSED if s.name not in STATUS | {"bad-key-usage"}])
def test_what_is_to_be_refused_is_refused_by_two_at_least(specimen: Specimen, judge: Judge) -> None:
    """OpenSSL and Python, which has it inside, are one."""
    objections = {name: judge(name, specimen.name, NOW) for name in VERIFIERS}
    independent = {"openssl" if name == "python" else name for name, text in objections.items() if text}
    needed = 2 if len(VERIFIERS) == 4 else 1
    lenient = {"cn-only"}  # OpenSSL and GnuTLS take common names for host names, and so does Java
    assert len(independent) >= (1 if specimen.name in lenient else needed), objections


#: The verifiers that can be told what time it is.
TIMED = [name for name in ("openssl", "cryptography") if name in VERIFIERS]


@named([s for s in CERTIFICATES if s.name not in STATUS])
def test_another_year_changes_nothing(specimen: Specimen, judge: Judge) -> None:
    """A gallery may start a year earlier or later: the day does not matter."""
    for verifier in TIMED:
        objections = {judge(verifier, specimen.name, NOW + years * YEAR) for years in (-1, 0, 1)}
        assert len(objections) == 1


@named([s for s in CERTIFICATES if s.name not in STATUS])
def test_it_stays_as_it_is_until_it_is_due(specimen: Specimen, judge: Judge, tmp_path: Path) -> None:
    last = case(specimen.name, tmp_path)
    assert last.minted.until is not None
    assert last.minted.until > NOW + timedelta(days=5)
    for verifier in TIMED:
        objection = VERIFIERS[verifier](replace(last, now=last.minted.until))
        assert objection == judge(verifier, specimen.name, NOW)


@pytest.mark.parametrize("days", [60, 5 * 365])
def test_it_can_be_made_anew_below_the_same_root(days: int, judge: Judge, tmp_path: Path) -> None:
    """What clients have come to trust at the start goes on to be right."""
    root, now = authority(NOW), NOW + timedelta(days=days)
    for specimen in CERTIFICATES:
        if specimen.name not in STATUS:
            again = mint(specimen.certificate, root, ["localhost", f"{specimen.name}.localhost"], now)
            objection = VERIFIERS["cryptography"](Case(again, root.pem, tmp_path, now=now))
            assert without_names(objection) == without_names(judge("cryptography", specimen.name, NOW))


def without_names(objection: str) -> str:
    """An objection of cryptography's, without the keys and certificates that it quotes."""
    return re.sub(r"params: .*|\(encountered .*", "", objection)


# For no other reason.


@dataclass(frozen=True)
class Cure:
    """How a client accepts a specimen nonetheless.

    :ivar options: of `openssl verify`.
    :ivar host: for which host; None: any.
    :ivar trusted: which certificate of the chain it trusts; None: the gallery's root.
    :ivar after: how much later it is.
    """

    options: tuple[str, ...] = ()
    host: str | None = "localhost"
    trusted: int | None = None
    after: timedelta = timedelta()


YESTERDAY = Cure(after=timedelta(hours=-36))
ANY_STRENGTH = Cure(("-auth_level", "0"))
ANY_HOST = Cure(host=None)
#: The leaf itself is trusted, so that nothing above it counts.
ANY_ISSUER = Cure(("-partial_chain",), trusted=0)

CURES: Mapping[str, Cure] = {
    "expired": YESTERDAY,
    "not-yet-valid": Cure(after=timedelta(days=40)),
    "expired-intermediate": YESTERDAY,
    "wrong-host": Cure(host="wrong-host.example"),
    "no-san": ANY_HOST,
    "cn-only": ANY_HOST,
    "wildcard-too-deep": Cure(host="below.wildcard-too-deep.localhost"),
    "partial-wildcard": ANY_HOST,
    "nul-in-name": ANY_HOST,
    "ip-in-dns": ANY_HOST,
    "self-signed": Cure(trusted=0),
    "untrusted-root": Cure(trusted=-1),
    "incomplete-chain": ANY_ISSUER,
    "ca-false": ANY_ISSUER,
    "name-constraints": ANY_ISSUER,
    "ca-key-usage": ANY_ISSUER,
    "path-length": Cure(("-partial_chain",), trusted=1),
    "wrong-usage": Cure(("-purpose", "sslclient")),
    "bad-key-usage": Cure(("-purpose", "any")),
    "sha1": ANY_STRENGTH,
    "md5": ANY_STRENGTH,
    "rsa-512": ANY_STRENGTH,
    "rsa-1024": ANY_STRENGTH,
    "weak-curve": ANY_STRENGTH,
    "unknown-critical-extension": Cure(("-ignore_critical",)),
    # Nothing that looks at the chain alone objects to these.
    "revoked": Cure(),
    "must-staple": Cure(),
    "stale-staple": Cure(),
}

#: OpenSSL cannot be told to overlook these.
INCURABLE = {"duplicate-extension"}


def test_there_is_a_cure_for_each() -> None:
    assert {s.name for s in REFUSED} == set(CURES) | INCURABLE


@needs_openssl
@pytest.mark.parametrize("name", CURES)
def test_there_is_no_second_defect(name: str, tmp_path: Path) -> None:
    cure, ill = CURES[name], case(name, tmp_path)
    chain = ill.minted.chain
    well = replace(
        ill,
        host=cure.host,
        ca=ill.ca if cure.trusted is None else ill.pems[cure.trusted].encode(),
        # Of a leaf that is trusted, OpenSSL would still look at those above.
        minted=ill.minted._replace(chain=chain[:1] if cure.trusted == 0 else chain),
        now=ill.now + cure.after,
    )
    assert openssl(well, *cure.options) == ""


# What is in the certificates.


def leaf(name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(minted(name, NOW).chain[0])


@pytest.mark.parametrize("specimen", CERTIFICATES, ids=lambda specimen: specimen.name)
def test_the_key_is_the_certificates(specimen: Specimen, tmp_path: Path) -> None:
    """OpenSSL checks that, of any kind of key that it has."""
    if specimen.name in {"ml-dsa", "duplicate-extension"}:
        pytest.skip("not every OpenSSL loads it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    ill = case(specimen.name, tmp_path)
    chain = write(tmp_path / "chain.pem", "".join(ill.pems))
    context.load_cert_chain(chain, write(tmp_path / "key.pem", ill.minted.key))


def test_a_big_chain_is_larger_than_a_record() -> None:
    assert sum(map(len, minted("big-chain", NOW).chain)) > 2**14


@pytest.mark.parametrize("count", [1000, 10000])
def test_as_many_names_as_promised(count: int) -> None:
    san = leaf(f"{count}-sans").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert len(set(san.value)) == count


def test_everything_is_made_from_what_the_caller_names() -> None:
    names = ["gallery.example", "192.0.2.1"]
    made = mint("good", authority(NOW), names, NOW)
    san = x509.load_der_x509_certificate(made.chain[0]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(name.value) for name in san.value] == names


def test_a_must_staple_certificate_says_so() -> None:
    feature = leaf("must-staple").extensions.get_extension_for_class(x509.TLSFeature)
    assert [*feature.value] == [x509.TLSFeatureType.status_request]
    assert minted("must-staple", NOW).ocsp is None


# Revocation.

STAPLES = {
    "stapled": (ocsp.OCSPCertStatus.GOOD, True),
    "revoked": (ocsp.OCSPCertStatus.REVOKED, True),
    "stale-staple": (ocsp.OCSPCertStatus.GOOD, False),
}


@pytest.mark.parametrize("name", STAPLES)
def test_a_staple_says_what_it_should(name: str) -> None:
    status, fresh = STAPLES[name]
    made = minted(name, NOW)
    assert made.ocsp is not None
    response = ocsp.load_der_ocsp_response(made.ocsp)
    assert response.certificate_status is status
    assert response.serial_number == leaf(name).serial_number
    assert response.next_update_utc is not None
    assert response.this_update_utc < NOW
    assert (response.next_update_utc > NOW) is fresh
    if fresh:
        assert made.until is not None
        assert made.until < response.next_update_utc


@needs_openssl
@pytest.mark.parametrize("name", STAPLES)
def test_openssl_reads_a_staple_like_that(name: str, tmp_path: Path) -> None:
    status, fresh = STAPLES[name]
    ill = case(name, tmp_path)
    assert ill.minted.ocsp is not None
    code, output = run(
        *("openssl", "ocsp", "-respin", write(tmp_path / "staple", ill.minted.ocsp), "-no_nonce"),
        *("-issuer", write(tmp_path / "issuer.pem", ill.pems[1])),
        *("-cert", write(tmp_path / "leaf.pem", ill.pems[0])),
        *("-CAfile", write(tmp_path / "ca.pem", ill.ca), "-no-CApath"),
        *("-verify_other", str(tmp_path / "issuer.pem")),
    )
    assert code == 0, output
    assert "Response verify OK" in output
    assert re.search(rf"^(.*leaf\.pem: )?{status.name.lower()}$", output, re.MULTILINE)
    assert ("Status times invalid" not in output) is fresh


@needs_gnutls
@pytest.mark.skipif(shutil.which("ocsptool") is None, reason="needs ocsptool (gnutls-bin)")
@pytest.mark.parametrize("name", STAPLES)
def test_gnutls_reads_a_staple_like_that(name: str, tmp_path: Path) -> None:
    ill = case(name, tmp_path)
    assert ill.minted.ocsp is not None
    code, output = run(
        *("ocsptool", "--verify-response", "--load-response", write(tmp_path / "staple", ill.minted.ocsp)),
        *("--load-signer", write(tmp_path / "issuer.pem", ill.pems[1])),
    )
    assert code == 0, output
    assert "Verifying OCSP Response: Success" in output


@needs_openssl
@pytest.mark.parametrize(("name", "objection"), [("revoked", "certificate revoked"), ("good", "")])
def test_the_crl_names_the_revoked_one_to_openssl(name: str, objection: str, tmp_path: Path) -> None:
    ill = case(name, tmp_path)
    crl = x509.load_der_x509_crl(authority(NOW).crl)
    pem = write(
        tmp_path / "crl.pem", ssl.DER_cert_to_PEM_cert(authority(NOW).crl).replace("CERTIFICATE", "X509 CRL")
    )
    assert crl.get_revoked_certificate_by_serial_number(leaf("revoked").serial_number) is not None
    assert openssl(ill, "-crl_check", "-CRLfile", pem) == objection


# With a handshake: what certtool does not look at, gnutls-cli does.


@pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-cli (gnutls-bin)")
@pytest.mark.parametrize(
    ("name", "objection"),
    [
        ("good", None),
        ("bad-key-usage", "Key usage violation"),
        ("must-staple", "the OCSP status is missing"),
    ],
)
def test_gnutls_cli_looks_closer(name: str, objection: str | None, tmp_path: Path) -> None:
    ill = case(name, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = write(tmp_path / "chain.pem", "".join(ill.pems))
    context.load_cert_chain(chain, write(tmp_path / "key.pem", ill.minted.key))
    with serving(lambda sock: None, context) as port:
        code, output = run(
            *("gnutls-cli", "--x509cafile", write(tmp_path / "ca.pem", ill.ca), "--port", str(port)),
            *("--verify-hostname", "localhost", "--sni-hostname", "localhost", "127.0.0.1"),
        )
    if objection is None:
        assert "The certificate is trusted" in output
    else:
        assert objection in output
        assert code != 0


@needs_openssl
def test_openssl_objects_to_bad_key_usage(tmp_path: Path) -> None:
    """In a handshake, too."""
    ill = case("bad-key-usage", tmp_path)
    assert openssl(ill)
    assert python(ill) == openssl(ill)
