"""Mutual TLS against clients we did not write: whom it admits, whom it refuses, and what it tells them.

In TLS 1.3 a client that is refused has finished its own handshake already: it learns of it when it reads.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import hashes

from suite.identities import load_certificates
from tests.running import PATIENCE, RunningSuite, client_program, running, wait_until

HELLO = b"hola mundo...\n"

MUTUAL = """
[endpoints.mutual]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "certs/ca.pem" }

[endpoints.asks]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "certs/ca.pem", client_auth = "optional" }

[endpoints.any]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "certs/ca.pem", client_auth = "unverified" }
"""

VERSIONS = ("1.2", "1.3")


@dataclass(frozen=True)
class Refusal:
    """How a client is refused.

    :ivar certificate: the name of the certificate it shows; None: it shows none.
    :ivar logged: what the suite logs.
    :ivar alerts: the number of the alert it sends, by TLS version (RFC 5246 7.2, RFC 8446 6).
    """

    certificate: str | None
    logged: str
    alerts: dict[str, int]


FAILED = "certificate verify failed"

REFUSALS = {
    # 40 is handshake_failure: certificate_required, 116, is new in 1.3.
    "none": Refusal(None, "peer did not return a certificate", {"1.2": 40, "1.3": 116}),
    "of another CA": Refusal(
        "stranger",
        f"{FAILED}: unable to get local issuer certificate",
        {"1.2": 48, "1.3": 48},
    ),
    "signed by itself": Refusal("itself", f"{FAILED}: self-signed certificate", {"1.2": 48, "1.3": 48}),
    "expired": Refusal("expired", f"{FAILED}: certificate has expired", {"1.2": 45, "1.3": 45}),
    "not valid yet": Refusal("early", f"{FAILED}: certificate is not yet valid", {"1.2": 42, "1.3": 42}),
}


def issue(directory: Path, name: str, ca: trustme.CA, begins: timedelta, ends: timedelta) -> None:
    """A client's certificate and key, signed by *ca*, valid between two times counted from now."""
    now = datetime.now(UTC)
    issued = ca.issue_cert(f"{name}.example", not_before=now + begins, not_after=now + ends)
    issued.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
    issued.private_key_pem.write_to_path(directory / f"{name}.key")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """A suite, and in its directory the certificates of clients good and bad."""
    directory = tmp_path_factory.mktemp("suite")
    with running(directory, MUTUAL) as suite:
        pki = directory / "certs"
        ours = trustme.CA.from_pem((pki / "ca.pem").read_bytes(), (pki / "ca.key").read_bytes())
        day = timedelta(days=1)
        issue(pki, "valid", ours, -day, day)
        issue(pki, "expired", ours, -2 * day, -day)
        issue(pki, "early", ours, day, 2 * day)
        issue(pki, "stranger", trustme.CA(), -day, day)
        itself = trustme.CA()
        itself.cert_pem.write_to_path(pki / "itself.pem")
        itself.private_key_pem.write_to_path(pki / "itself.key")
        yield suite


def openssl(
    suite: RunningSuite, version: str, certificate: str | None, endpoint: str = "mutual"
) -> tuple[bytes, str]:
    """What ``openssl s_client`` gets back for HELLO, and what it says meanwhile."""
    host, port = suite.addresses[endpoint]
    shown = ["-cert", f"certs/{certificate}.pem", "-key", f"certs/{certificate}.key"] if certificate else []
    with subprocess.Popen(
        [
            *(client_program("openssl"), "s_client", "-quiet", "-no_ign_eof", "-connect", f"{host}:{port}"),
            *("-CAfile", "certs/ca.pem", "-verify_return_error", f"-tls{version.replace('.', '_')}", *shown),
        ],
        cwd=suite.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        # It leaves at the end of its input without a look at what comes: keep that open until it is there.
        with suppress(BrokenPipeError):
            client.stdin.write(HELLO)
        received = b""
        while len(received) < len(HELLO) and (some := client.stdout.read(100)):
            received += some
        with suppress(BrokenPipeError):
            client.stdin.close()
        said = client.stderr.read().decode(errors="replace")
        client.wait(PATIENCE)
    return received, said


def gnutls(suite: RunningSuite, version: str, certificate: str | None) -> tuple[bytes, str]:
    """The same of ``gnutls-cli``."""
    port = suite.addresses["mutual"][1]
    shown = ["--x509certfile", f"certs/{certificate}.pem", "--x509keyfile", f"certs/{certificate}.key"]
    result = subprocess.run(
        [
            *(client_program("gnutls-cli"), "--logfile", "gnutls.log", "--x509cafile", "certs/ca.pem"),
            *("--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", *(shown if certificate else [])),
            *("-p", str(port), "localhost"),
        ],
        cwd=suite.directory,
        input=HELLO,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    log = (suite.directory / "gnutls.log").read_text(errors="replace")
    return result.stdout, log + result.stderr.decode(errors="replace")


CLIENTS = {"openssl": openssl, "gnutls": gnutls}

#: How each client names an alert.
ALERTS = {"openssl": "SSL alert number {}", "gnutls": "alert [{}]"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("certificate", ["client", "valid"])
def test_a_client_of_the_ca_is_admitted(
    suite: RunningSuite, client: str, version: str, certificate: str
) -> None:
    """The one that the suite has made, and one that we have made with its CA, as the bad ones are."""
    before = len(suite.errors)
    received, said = CLIENTS[client](suite, version, certificate)
    assert received == HELLO, said
    # What it has shown is logged.
    (shown,) = load_certificates(suite.directory / "certs" / f"{certificate}.pem")
    line = (
        f"client certificate: {shown.subject.rfc4514_string()}, serial {shown.serial_number:x},"
        f" SHA-256 {shown.fingerprint(hashes.SHA256()).hex()}"
    )
    wait_until(lambda: any(line in logged for logged in suite.errors[before:]), line)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("why", REFUSALS)
def test_any_other_is_refused_and_told_why(suite: RunningSuite, client: str, version: str, why: str) -> None:
    refusal = REFUSALS[why]
    before = len(suite.errors)
    received, said = CLIENTS[client](suite, version, refusal.certificate)
    assert received == b""
    assert ALERTS[client].format(refusal.alerts[version]) in said
    wait_until(
        lambda: any(refusal.logged in line for line in suite.errors[before:]),
        "the suite has logged the reason",
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_optional_admits_a_client_that_shows_nothing(suite: RunningSuite, version: str) -> None:
    """And still refuses one that shows something that does not verify."""
    assert openssl(suite, version, None, "asks")[0] == HELLO
    assert openssl(suite, version, "client", "asks")[0] == HELLO
    before = len(suite.errors)
    assert openssl(suite, version, "expired", "asks")[0] == b""
    said = f"{FAILED}: certificate has expired"
    wait_until(lambda: any(said in line for line in suite.errors[before:]), said)


@pytest.mark.parametrize("why", REFUSALS)
def test_unverified_admits_any_and_logs_what_is_wrong(suite: RunningSuite, why: str) -> None:
    refusal = REFUSALS[why]
    before = len(suite.errors)
    assert openssl(suite, "1.3", refusal.certificate, "any")[0] == HELLO
    if refusal.certificate is not None:
        said = f", not verified: {refusal.logged.removeprefix(f'{FAILED}: ')}"
        wait_until(lambda: any(said in line for line in suite.errors[before:]), said)


def test_the_cas_that_it_takes_are_named_to_the_client(suite: RunningSuite) -> None:
    host, port = suite.addresses["mutual"]
    said = subprocess.run(
        [client_program("openssl"), "s_client", "-connect", f"{host}:{port}"],
        input=b"",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    ).stdout
    names = said.partition(b"Acceptable client certificate CA names\n")[2].splitlines()
    # OpenSSL 3.0 puts spaces around the equals sign, 3.5 does not.
    assert names[0].replace(b" = ", b"=") == b"O=echo suite, OU=development CA"
