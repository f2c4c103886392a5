"""What the client reads in a target's certificates, and which names it takes them for."""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import FILETYPE_PEM, load_certificate

from suite.client.dial.certificates import (
    CertificateFacts,
    _readable,
    distrust,
    names_of,
    wrong_name,
)
from tests.running import client_program

AUTHORITY = trustme.CA()

#: OpenSSL's verify error for a wrong name (x509_vfy.h).
HOSTNAME_MISMATCH = 62


def issue(*names: str, common_name: str = "target") -> tuple[x509.Certificate, bytes]:
    """A certificate for *names*, whatever they are, and its key as PEM."""
    issuer = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    signer = load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if names:
        entries = [
            x509.IPAddress(ip_address(name.removeprefix("IP:")))
            if name.startswith("IP:")
            else x509.DNSName(name)
            for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate, pem


def openssl_accepts(directory: Path, name: str) -> bool:
    """Whether ``openssl x509 -checkhost`` takes the certificate for *name*."""
    result = subprocess.run(
        [client_program("openssl"), "x509", "-in", "leaf.pem", "-noout", "-checkhost", name],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,  # OpenSSL 3.5 exits with 1 if it does not match, earlier ones with 0
    )
    verdict = re.search(r"does (NOT )?match", result.stdout, re.IGNORECASE)
    assert verdict is not None, result
    return verdict[1] is None


def gnutls_accepts(directory: Path, name: str) -> bool:
    """Whether ``certtool --verify`` takes the certificate for *name*."""
    command = [
        client_program("certtool"),
        "--verify",
        "--load-ca-certificate",
        "ca.pem",
        "--infile",
        "leaf.pem",
    ]
    result = subprocess.run(
        [*command, "--verify-hostname", name], cwd=directory, capture_output=True, check=False
    )
    return result.returncode == 0


def python_accepts(directory: Path, name: str) -> bool:
    """Whether the ssl module takes the certificate for *name*, in a handshake in memory."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "leaf.pem", directory / "leaf.key")
    client_context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                if error.verify_code != HOSTNAME_MISMATCH:
                    raise
                return False
    return True


@pytest.mark.parametrize(
    ("names", "wanted", "accepted"),
    [
        (["localhost", "*.localhost"], "localhost", True),
        (["*.localhost", "localhost"], "localhost", True),
        (["*", "www.example.org"], "www.example.org", True),
        (["api.*.example.org", "www.example.org"], "www.example.org", True),
        (["*.*.example.org", "www.example.org"], "www.example.org", True),
        (["192.0.2.7", "www.example.org"], "www.example.org", True),
        (["WWW.Example.ORG"], "www.example.org", True),
        (["*.example.org"], "www.example.org", True),
        (["*.example.org"], "a.www.example.org", False),
        (["*.example.org"], "example.org", False),
        (["api.*.example.org"], "api.eu.example.org", False),
        (["*"], "www.example.org", False),
        (["www.example.org", "*"], "mail.example.org", False),
    ],
)
def test_names_match_as_elsewhere(tmp_path: Path, names: list[str], wanted: str, *, accepted: bool) -> None:
    """A pattern that cannot be used does not spoil the others: as in OpenSSL, GnuTLS and Python."""
    certificate, key = issue(*names)
    (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.key").write_bytes(key)
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert (wrong_name(certificate, wanted) is None) is accepted
    for others in (openssl_accepts, gnutls_accepts, python_accepts):
        assert others(tmp_path, wanted) is accepted, others


@pytest.mark.parametrize(
    ("names", "wanted", "accepted"),
    [
        (["IP:127.0.0.1", "*"], "127.0.0.1", True),
        (["IP:::1", "*.localhost"], "0:0::1", True),
        (["127.0.0.1", "*"], "127.0.0.1", False),  # RFC 9525: an address is no DNS name
        (["xn--bcher-kva.example", "*"], "bücher.example", True),
        ([], "target", False),  # RFC 9525: the common name does not count
        (["*.example.org"], "", False),
    ],
)
def test_addresses_and_odd_names(names: list[str], wanted: str, *, accepted: bool) -> None:
    assert (wrong_name(issue(*names)[0], wanted) is None) is accepted


def test_a_wrong_name_lists_all_names() -> None:
    """Also those that can match nothing: a person has to see them."""
    error = wrong_name(issue("*", "www.example.org", "IP:192.0.2.7")[0], "localhost")
    assert error is not None
    assert error.word == "cert-name"
    assert error.facts == {"expected": "localhost", "found": ["*", "www.example.org", "192.0.2.7"]}
    nameless = wrong_name(None, "localhost")
    assert nameless is not None
    assert (
        nameless.detail
        == "expected localhost; found no names at all (a common name does not count, RFC 9525)"
    )


def test_an_odd_certificate_is_refused_in_words(tmp_path: Path) -> None:
    """A negative serial number makes libraries warn; that is the target's fault, and nothing to show."""
    command = [client_program("openssl"), "req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=odd"]
    command += ["-newkey", "rsa:2048"]
    subprocess.run(
        [*command, "-set_serial", "-5", "-keyout", tmp_path / "key", "-out", tmp_path / "pem"],
        capture_output=True,
        check=True,
    )
    odd = load_certificate(FILETYPE_PEM, (tmp_path / "pem").read_bytes())
    for number, why in ((18, "it is self-signed; --ca adds a root"), (66, "its key is too weak")):
        error = distrust(odd, number, 0)
        assert error.word == "cert-untrusted"
        assert error.detail == f"the certificate of CN=odd: {why} (OpenSSL's verify error {number})"
    (readable,) = _readable([odd])
    facts = CertificateFacts.of(readable)
    assert (facts.subject, facts.serial) == ("CN=odd", "-5")


def test_the_facts_of_a_certificate() -> None:
    certificate, _ = issue("www.example.org", "IP:::1", common_name="a target")
    facts = CertificateFacts.of(certificate)
    assert facts.subject == "CN=a target"
    assert facts.issuer == certificate.issuer.rfc4514_string()
    assert facts.names == names_of(certificate) == ("www.example.org", "::1")
    assert facts.days_left == 29
    found = facts.as_json()
    assert datetime.fromisoformat(found["expires"]) == certificate.not_valid_after_utc
    assert datetime.fromisoformat(found["valid_from"]) == certificate.not_valid_before_utc
    assert int(found["serial"], 16) == certificate.serial_number
    assert bytes.fromhex(found["sha256"]) == certificate.fingerprint(hashes.SHA256())
