"""`suite.identities`: which certificates and keys are loaded, and which are refused."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from suite import identities
from suite.cli import main
from suite.errors import CertificateError
from suite.text import shown


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def refusal(path: Path, key: Path, *chains: Path, password_file: Path | None = None) -> CertificateError:
    """The error for a certificate and key."""
    with pytest.raises(CertificateError) as caught:
        identities.load_identity(path, key, chains, password_file)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


# Loading.


def test_an_identity_is_a_key_its_certificate_and_its_chain(minted: Path) -> None:
    identity = identities.load_identity(minted / "server.pem", minted / "server.key")
    assert identity.certificate == certificate(minted / "server.pem")
    assert identity.key.public_key() == identity.certificate.public_key()
    assert identity.chain == ()


def test_the_chain_may_stand_behind_the_certificate(pki: Path) -> None:
    combined = pki / "fullchain.pem"
    combined.write_bytes((pki / "server.pem").read_bytes() + (pki / "ca.pem").read_bytes())
    identity = identities.load_identity(combined, pki / "server.key")
    assert identity.certificate == certificate(pki / "server.pem")
    assert identity.chain == (certificate(pki / "ca.pem"),)


def test_further_chain_files_come_after_the_chain_in_the_same_file(pki: Path) -> None:
    combined, more = pki / "fullchain.pem", pki / "more.pem"
    combined.write_bytes((pki / "server.pem").read_bytes() + (pki / "ca.pem").read_bytes())
    more.write_bytes((pki / "client.pem").read_bytes() + (pki / "server.pem").read_bytes())
    identity = identities.load_identity(combined, pki / "server.key", [more, pki / "ca.pem"])
    assert identity.chain == tuple(certificate(pki / f"{n}.pem") for n in ("ca", "client", "server", "ca"))


@pytest.mark.parametrize("key_first", [True, False])
def test_key_and_certificate_may_share_a_file(pki: Path, key_first: bool) -> None:
    both = pki / "both.pem"
    parts = [(pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes()]
    both.write_bytes(b"\n".join(parts if key_first else parts[::-1]))
    both.chmod(0o600)
    identity = identities.load_identity(both, both)
    assert identity.certificate == certificate(pki / "server.pem")


def test_a_shared_file_is_as_private_as_its_key(pki: Path) -> None:
    both = pki / "both.pem"
    both.write_bytes((pki / "server.key").read_bytes() + (pki / "server.pem").read_bytes())
    both.chmod(0o644)
    assert "private key with mode 0644 can be read by everyone" in refusal(both, both).problem


def test_text_around_the_pem_blocks_is_ignored(pki: Path) -> None:
    """As `openssl x509 -text` writes the file."""
    verbose = pki / "verbose.pem"
    verbose.write_bytes(b"Certificate:\n    Data:\n" + (pki / "server.pem").read_bytes() + b"the end\n")
    assert identities.load_certificates(verbose) == [certificate(pki / "server.pem")]


KEYS: dict[str, Callable[[], identities.ServerKey]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_that_signs_is_loaded(tmp_path: Path, kind: str) -> None:
    key = KEYS[kind]()
    path = tmp_path / "a.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    assert identities.load_key(path).public_key() == key.public_key()


def test_openssls_traditional_format_is_loaded(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "a.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path.chmod(0o400)
    assert path.read_bytes().startswith(b"-----BEGIN EC PRIVATE KEY-----")
    assert identities.load_key(path).public_key() == key.public_key()


@pytest.mark.parametrize("allowed", [0o600, 0o400, 0o700, 0o611, 0o640, 0o440, 0o650])
def test_a_key_that_its_owner_and_group_alone_read_is_loaded(pki: Path, allowed: int) -> None:
    """As Kubernetes (``fsGroup``: root, 0440) and Debian (``ssl-cert``: root, 0640) have them."""
    (pki / "server.key").chmod(allowed)
    identities.load_key(pki / "server.key")


@pytest.mark.parametrize(
    ("wide", "can"),
    [
        (0o604, "read by everyone"),
        (0o644, "read by everyone"),
        (0o666, "read by everyone"),
        (0o620, "changed by others than its owner"),
        (0o602, "changed by others than its owner"),
        (0o660, "changed by others than its owner"),
    ],
)
def test_a_key_that_everyone_reads_or_others_change_is_refused(pki: Path, wide: int, can: str) -> None:
    (pki / "server.key").chmod(wide)
    error = refusal(pki / "server.pem", pki / "server.key")
    assert os.path.basename(error.path) == "server.key"
    assert error.problem == (
        f"private key with mode {wide:04o} can be {can}; expected 0600 or 0640;"
        f" run `chmod g-w,o-rwx {error.path}`"
    )


def test_the_hint_can_be_followed(pki: Path) -> None:
    (pki / "server.key").chmod(0o666)
    hint = refusal(pki / "server.pem", pki / "server.key").problem.partition("run `")[2].rstrip("`")
    subprocess.run(hint.split(), check=True)
    identities.load_key(pki / "server.key")


class _ReadOnly:
    f_flag = os.ST_RDONLY


@pytest.mark.parametrize("why", ["a read-only mount", "another owner"])
def test_no_hint_is_given_that_cannot_be_followed(
    pki: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    (pki / "server.key").chmod(0o644)
    if why == "a read-only mount":
        monkeypatch.setattr(os, "statvfs", lambda _path: _ReadOnly)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.stat(pki / "server.key").st_uid + 1)
    problem = refusal(pki / "server.pem", pki / "server.key").problem
    assert "chmod" not in problem
    assert problem.endswith(
        "expected 0600 or 0640, which whoever provides the file has to set (in Kubernetes: defaultMode: 0440)"
    )


def test_the_mode_of_the_file_counts_and_not_of_a_link_to_it(pki: Path) -> None:
    (pki / "link.key").symlink_to("server.key")
    identities.load_identity(pki / "server.pem", pki / "link.key")
    (pki / "server.key").chmod(0o644)
    assert "0644" in refusal(pki / "server.pem", pki / "link.key").problem


def test_a_missing_file_is_named_with_the_way_to_make_it(minted: Path) -> None:
    error = refusal(minted / "absent.pem", minted / "server.key")
    assert os.path.basename(error.path) == "absent.pem"
    command = f"python -m suite certs {shlex.quote(shown(minted))}"
    assert error.problem == f"no such file; `{command}` makes development certificates there"


def test_the_way_to_make_a_file_is_one_that_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command makes the file that was missed, whichever directory it was to be in."""
    monkeypatch.chdir(tmp_path)
    for directory in ("certs", "some where/else"):
        problem = refusal(Path(directory) / "server.pem", Path(directory) / "server.key").problem
        command = problem.split("`")[1]
        assert shlex.split(command)[:4] == ["python", "-m", "suite", "certs"]
        assert main(shlex.split(command)[3:]) == 0
        identities.load_identity(Path(directory) / "server.pem", Path(directory) / "server.key")
    capsys.readouterr()


def test_a_missing_key_and_a_missing_chain_are_named(minted: Path) -> None:
    assert os.path.basename(refusal(minted / "server.pem", minted / "no.key").path) == "no.key"
    error = refusal(minted / "server.pem", minted / "server.key", minted / "ca.pem", minted / "no.pem")
    assert os.path.basename(error.path) == "no.pem"


def test_a_directory_is_no_certificate(minted: Path) -> None:
    assert "cannot be read: Is a directory" in str(refusal(minted, minted / "server.key"))


def test_a_file_that_may_not_be_read_says_so(minted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can read every file, so the system's error is simulated."""

    def refuse(path: Path, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    error = refusal(minted / "server.pem", minted / "server.key")
    assert error.problem == "cannot be read: Permission denied"


@pytest.mark.parametrize(
    "junk",
    [b"", b"junk\n", b"\x30\x82\x01\x0a", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "DER", "empty PEM"],
)
def test_what_is_not_a_certificate_is_refused(minted: Path, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "junk.pem").write_bytes(junk)
    error = refusal(tmp_path / "junk.pem", minted / "server.key")
    assert error.problem == "is not a certificate; expected PEM"


def test_one_bad_certificate_spoils_the_chain(pki: Path) -> None:
    (pki / "chain.pem").write_bytes(
        (pki / "ca.pem").read_bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    error = refusal(pki / "server.pem", pki / "server.key", pki / "chain.pem")
    assert os.path.basename(error.path) == "chain.pem"


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_not_a_key_is_refused(minted: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "junk.key").write_bytes(content)
    (tmp_path / "junk.key").chmod(0o600)
    error = refusal(minted / "server.pem", tmp_path / "junk.key")
    assert error.problem == "is not a private key; expected PEM"


def test_an_encrypted_key_is_refused(minted: Path, tmp_path: Path) -> None:
    key = tmp_path / "encrypted.key"
    key.write_bytes(
        identities.load_key(minted / "server.key").private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    key.chmod(0o600)
    error = refusal(minted / "server.pem", key)
    assert error.problem == (
        "private key is encrypted; expected one without a password, or for an endpoint tls.password_file"
    )


def test_a_key_that_cannot_sign_is_refused(minted: Path, tmp_path: Path) -> None:
    key = tmp_path / "x448.key"
    key.write_bytes(
        x448.X448PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    key.chmod(0o600)
    error = refusal(minted / "server.pem", key)
    assert error.problem == (
        "is an X448 key, which cannot sign a TLS handshake; expected an RSA, EC or Edwards-curve key"
    )


def test_the_key_of_another_certificate_is_refused(minted: Path) -> None:
    error = refusal(minted / "server.pem", minted / "client.key")
    assert os.path.basename(error.path) == "client.key"
    assert "is not the key of the certificate in " in error.problem
    assert "server.pem" in error.problem


def test_the_key_of_another_kind_is_refused(minted: Path, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
    (tmp_path / "rsa.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    error = refusal(tmp_path / "rsa.pem", minted / "server.key")
    assert "is not the key of the certificate" in error.problem


def test_a_leaf_behind_its_chain_is_refused(pki: Path) -> None:
    """The certificate of the key comes first (RFC 8446, section 4.4.2)."""
    (pki / "wrong.pem").write_bytes((pki / "ca.pem").read_bytes() + (pki / "server.pem").read_bytes())
    assert "is not the key of the certificate" in refusal(pki / "wrong.pem", pki / "server.key").problem
