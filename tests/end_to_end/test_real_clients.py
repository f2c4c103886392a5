"""The clients that people really use, each run as its manual says, against a running suite."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import FOUR_TRANSPORTS, PATIENCE, RunningSuite, client_program, running

HELLO = b"hola mundo...\r\n\xf0\n"
assert len(HELLO) == 17

BOTH_SIZES = pytest.mark.parametrize("data", [HELLO, os.urandom(2**20)], ids=["17 bytes", "1 MiB"])

PICKY = """
[endpoints.picky]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { minimum = "1.3", alpn = ["h2", "http/1.1"] }
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("suite"), FOUR_TRANSPORTS + PICKY) as suite:
        yield suite


def output_of(suite: RunningSuite, program: str, *arguments: str, data: bytes = HELLO) -> bytes:
    """What *program* prints when *data* is all that its standard input has."""
    result = subprocess.run(
        [client_program(program), *arguments],
        cwd=suite.directory,
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return result.stdout


def host_and_port(suite: RunningSuite, endpoint: str) -> tuple[str, str]:
    host, port = suite.addresses[endpoint]
    return host, str(port)


@BOTH_SIZES
def test_nc(suite: RunningSuite, data: bytes) -> None:
    assert output_of(suite, "nc", "-N", *host_and_port(suite, "tcp"), data=data) == data


@BOTH_SIZES
def test_nc_unix(suite: RunningSuite, data: bytes) -> None:
    assert output_of(suite, "nc", "-NU", suite.addresses["unix"], data=data) == data


def test_nc_udp(suite: RunningSuite) -> None:
    assert output_of(suite, "nc", "-u", "-W", "1", *host_and_port(suite, "udp")) == HELLO


@BOTH_SIZES
def test_ncat(suite: RunningSuite, data: bytes) -> None:
    assert output_of(suite, "ncat", *host_and_port(suite, "tcp"), data=data) == data


def test_ncat_unix(suite: RunningSuite) -> None:
    assert output_of(suite, "ncat", "-U", suite.addresses["unix"]) == HELLO


@BOTH_SIZES
def test_ncat_ssl(suite: RunningSuite, data: bytes) -> None:
    trust = ("--ssl-verify", "--ssl-trustfile", "certs/ca.pem", "--ssl-servername", "localhost")
    port = host_and_port(suite, "tls")[1]
    assert output_of(suite, "ncat", "--ssl", *trust, "localhost", port, data=data) == data


@BOTH_SIZES
def test_socat(suite: RunningSuite, data: bytes) -> None:
    address = ":".join(host_and_port(suite, "tcp"))
    # -t: how long to wait for the other direction once one has ended
    assert output_of(suite, "socat", "-t", "30", "-", f"TCP:{address}", data=data) == data


@BOTH_SIZES
def test_socat_unix(suite: RunningSuite, data: bytes) -> None:
    address = f"UNIX-CONNECT:{suite.addresses['unix']}"
    assert output_of(suite, "socat", "-t", "30", "-", address, data=data) == data


def test_socat_udp(suite: RunningSuite) -> None:
    address = ":".join(host_and_port(suite, "udp"))
    assert output_of(suite, "socat", "-t", "1", "-", f"UDP:{address}") == HELLO


@BOTH_SIZES
def test_socat_openssl(suite: RunningSuite, data: bytes) -> None:
    address = ":".join(host_and_port(suite, "tls"))
    target = f"OPENSSL:{address},cafile=certs/ca.pem,commonname=localhost"
    assert output_of(suite, "socat", "-t", "30", "-", target, data=data) == data


@BOTH_SIZES
@pytest.mark.parametrize("priority", ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"])
def test_gnutls_cli(suite: RunningSuite, priority: str, data: bytes) -> None:
    port = host_and_port(suite, "tls")[1]
    flags = ("--logfile", "/dev/null", "--x509cafile", "certs/ca.pem", "--priority", priority)
    assert output_of(suite, "gnutls-cli", *flags, "-p", port, "localhost", data=data) == data


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(suite: RunningSuite, version: str) -> None:
    address = ":".join(host_and_port(suite, "tls"))
    flags = ("-quiet", "-no_ign_eof", version, "-CAfile", "certs/ca.pem", "-verify_return_error")
    name = ("-verify_hostname", "localhost")
    # It leaves at the end of its input without a look at what comes: keep that open until it is there.
    with subprocess.Popen(
        [client_program("openssl"), "s_client", *flags, *name, "-connect", address],
        cwd=suite.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(HELLO)
        client.stdin.flush()
        assert client.stdout.read(len(HELLO)) == HELLO
        client.stdin.close()
        assert client.wait(PATIENCE) == 0


def s_client(suite: RunningSuite, endpoint: str, *arguments: str) -> str:
    """What ``openssl s_client`` says about *endpoint*."""
    address = ":".join(host_and_port(suite, endpoint))
    result = subprocess.run(
        [client_program("openssl"), "s_client", "-CAfile", "certs/ca.pem", "-connect", address, *arguments],
        cwd=suite.directory,
        input=b"",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return (result.stdout + result.stderr).decode(errors="replace")


def test_tls_parameters(suite: RunningSuite) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        verify = "-verify_hostname" if name == "localhost" else "-verify_ip"
        assert "Verify return code: 0 (ok)" in s_client(suite, "tls", verify, name)
    said = s_client(suite, "tls", "-tls1_2")
    assert "Secure Renegotiation IS supported" in said
    assert "Compression: NONE" in said


@pytest.mark.parametrize(
    "refused",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"),
    ],
)
def test_old_versions_and_weak_suites_are_refused(suite: RunningSuite, refused: tuple[str, ...]) -> None:
    assert "Cipher is (NONE)" in s_client(suite, "tls", *refused)


def test_renegotiation_is_refused(suite: RunningSuite) -> None:
    address = ":".join(host_and_port(suite, "tls"))
    with subprocess.Popen(
        [client_program("openssl"), "s_client", "-tls1_2", "-connect", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as client:
        _, said = client.communicate(b"R\n", PATIENCE)
    assert b"no renegotiation" in said


@pytest.mark.parametrize("command", ["K", "k"], ids=["both sides", "one side"])
def test_key_updates_are_followed(suite: RunningSuite, command: str) -> None:
    address = ":".join(host_and_port(suite, "tls"))
    with subprocess.Popen(
        [client_program("openssl"), "s_client", "-tls1_3", "-connect", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for number in range(3):
            client.stdin.write(f"{command}\n".encode())
            client.stdin.flush()
            wait_for_line(client.stdout, b"KEYUPDATE")
            client.stdin.write(f"after {number}\n".encode())
            client.stdin.flush()
            wait_for_line(client.stdout, f"after {number}".encode())
        client.stdin.close()
        client.stdout.read()


def wait_for_line(stream: object, word: bytes) -> None:
    """Read lines up to one with *word*."""
    for line in stream:  # type: ignore[attr-defined]
        if word in line:
            return
    pytest.fail(f"{word!r} never came")


def test_what_a_client_offers_and_we_do_not_is_refused(suite: RunningSuite) -> None:
    assert "ALPN protocol: h2" in s_client(suite, "picky", "-alpn", "http/1.1,h2")
    assert "no application protocol" in s_client(suite, "picky", "-alpn", "smtp")
    assert "protocol version" in s_client(suite, "picky", "-tls1_2")


def test_the_command_it_says_to_try_works(suite: RunningSuite, tmp_path: Path) -> None:
    client_program("nc")
    client_program("openssl")
    tls = '[endpoints]\ntls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"'
    unix = '[endpoints]\nunix = "unix:echo.sock"'
    udp = '[endpoints]\nudp = "udp:0"'
    commands = [(suite.lines[-1], suite.directory)]
    for name, config in (("unix", unix), ("udp", udp), ("tls", tls)):
        (tmp_path / name).mkdir()
        with running(tmp_path / name, config) as other:
            commands.append((other.lines[-1], other.directory))
            check_command(*commands[-1])
    check_command(*commands[0])


def check_command(line: str, directory: Path) -> None:
    """Run what the ready *line* says after ``try:``."""
    command = line.partition("try: ")[2]
    result = subprocess.run(
        ["/bin/sh", "-c", command], cwd=directory, capture_output=True, timeout=PATIENCE, check=False
    )
    assert result.stdout == b"hola mundo...\n", command
