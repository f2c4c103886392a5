"""TLS faults as other people's clients see them: OpenSSL's, GnuTLS's, curl and Python's."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from suite import certs
from tests.running import (
    PATIENCE,
    RunningSuite,
    TLSClient,
    client_program,
    echo,
    read_to_end,
    running,
    wait_until,
)
from tests.server.test_reload import reloaded

ENDS = ("notify+fin", "notify", "fin", "rst", "silence", "alert")


def only(*names: str) -> str:
    return f"only = {[f'{name}.localhost' for name in names]}"


def plain(word: str) -> str:
    """*word* as a label of a name."""
    return word.replace("+", "-")


#: Each fault for the clients that ask for its name; ``after-…`` ends by itself after 5 bytes, ``early-…``
#: after the handshake.
FAULTS = [
    *(
        f'{{ handshake = "{how}", {only(how)} }}'
        for how in ("silent", "stall-after-hello", "close", "reset", "garbage")
    ),
    f'{{ alert = "unrecognized_name", {only("alert")} }}',
    *(f'{{ fragment = "{size}B", {only(f"fragment-{size}")} }}' for size in (1, 100)),
    f"{{ key_update = 33, {only('updates')} }}",
    f'{{ key_update = 300, after = "100000B", {only("storm")} }}',
    f'{{ key_update = 300, after = "500000B", {only("storm")} }}',
    *(
        f'{{ end = "{end}", {only(*(f"{when}-{plain(end)}" for when in ("late", "after", "early")))} }}'
        for end in ENDS
    ),
    f'{{ close = true, after = "5B", {only(*(f"after-{plain(end)}" for end in ENDS))} }}',
    f"{{ early_close = true, {only(*(f'early-{plain(end)}' for end in ENDS))} }}",
]

#: ``held`` is for those whose connections only a limit ends.
CONFIG = f"""
drain = "500ms"
[endpoints.tls]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
faults = [{", ".join(FAULTS)}]
[endpoints.held]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
faults = [{", ".join(FAULTS)}]
limits = {{ handshake = "500ms", half_close = "300ms" }}
"""

HELD = ("silent", "stall-after-hello", "silence", "notify")


def endpoint_for(name: str) -> str:
    return (
        "held" if name.removeprefix("late-").removeprefix("after-").removeprefix("early-") in HELD else "tls"
    )


@pytest.fixture(scope="module", params=["echo-engine", "epoll"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    directory = tmp_path_factory.mktemp("faults")
    certs.mint(directory / "certs")
    with running(directory, CONFIG, "--reactor", request.param, "--log-level", "debug") as suite:
        yield suite


both = pytest.mark.parametrize("version", ["1.2", "1.3"])


# Clients.


def openssl(suite: RunningSuite, version: str, name: str, *options: str, data: str = "hola\n") -> str:
    """What ``openssl s_client`` prints; it ends when it has its echo, or the server ends."""
    host, port = suite.addresses[endpoint_for(name)]
    return talk(
        [
            *(client_program("openssl"), "s_client", "-connect", f"{host}:{port}", "-no_ign_eof"),
            *("-CAfile", str(suite.directory / "certs/ca.pem"), "-servername", f"{name}.localhost"),
            *(f"-tls{version.replace('.', '_')}", *options),
        ],
        data,
    )


def gnutls(suite: RunningSuite, version: str, name: str) -> str:
    """What ``gnutls-cli`` prints."""
    host, port = suite.addresses[endpoint_for(name)]
    return talk(
        [
            *(client_program("gnutls-cli"), "--x509cafile", str(suite.directory / "certs/ca.pem")),
            *("--sni-hostname", f"{name}.localhost", "--verify-hostname", "localhost"),
            *("--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "-p", str(port), host),
        ],
        "hola\n",
    )


def talk(command: list[str], data: str) -> str:
    """What *command* prints; its input ends when ``hola`` has come back.

    :param data: what it is told; a second line follows when it has sent a KeyUpdate.
    """
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first, *lines = data.encode().splitlines(keepends=True)
        said = b""
        with suppress(BrokenPipeError):  # where its handshake goes wrong, it may have ended: it has said why
            process.stdin.write(first)
        while some := os.read(process.stdout.fileno(), 65536):
            said += some
            if lines and b">>> TLS 1.3, Handshake [length 0005], KeyUpdate" in said:
                process.stdin.write(lines.pop())
            if b"\nhola\n" in said and not process.stdin.closed and "after-" not in " ".join(command):
                process.stdin.close()
    return said.decode(errors="replace")


def python(suite: RunningSuite, version: str, name: str, context: ssl.SSLContext | None = None) -> TLSClient:
    """A client with Python's ssl, once its handshake has completed."""
    if context is None:
        context = suite.client_context(getattr(ssl.TLSVersion, f"TLSv{version.replace('.', '_')}"))
    context.check_hostname = False
    sock = suite.connect(endpoint_for(name))
    try:
        return TLSClient(sock, context, f"{name}.localhost")
    except BaseException:
        sock.close()
        raise


def last_event(suite: RunningSuite, text: str) -> dict[str, Any]:
    """The closing line of the connection whose faults have *text* in them."""

    def closed() -> list[dict[str, Any]]:
        return [event for event in suite.events if "reason" in event and text in event["message"]]

    wait_until(lambda: bool(closed()), f"a connection is closed with {text!r}")
    return closed()[-1]


# Handshakes.

#: What OpenSSL, GnuTLS and Python say to each.
HANDSHAKES = {
    "silent": ("errno=104", "Error in the pull function", ConnectionResetError),
    "stall-after-hello": ("errno=104", "Error in the pull function", ConnectionResetError),
    # SSLEOFError in some builds of Python
    "close": ("unexpected eof while reading", "non-properly terminated", ssl.SSLError),
    "reset": ("errno=104", "Error in the pull function", ConnectionResetError),
    "garbage": ("wrong version number", "An unexpected TLS packet was received", ssl.SSLError),
    "alert": (
        "alert number 112",
        "Received alert [112]: The server name sent was not recognized",
        ssl.SSLError,
    ),
}


@both
@pytest.mark.parametrize("how", HANDSHAKES)
def test_a_handshake_goes_wrong(suite: RunningSuite, version: str, how: str) -> None:
    ours, theirs, error = HANDSHAKES[how]
    assert ours in openssl(suite, version, how, "-brief")
    assert theirs in gnutls(suite, version, how)
    with pytest.raises(error):
        python(suite, version, how)


def test_a_stalled_handshake_has_said_hello(suite: RunningSuite) -> None:
    said = openssl(suite, "1.3", "stall-after-hello", "-msg")
    assert [
        line.rpartition(" ")[2] for line in said.splitlines() if line.startswith("<<< TLS 1.3, Hand")
    ] == ["ServerHello"]
    assert last_event(suite, "stall-after-hello")["reason"] == "handshake", "the limit has ended it"


def test_curl_names_an_alert(suite: RunningSuite) -> None:
    port = suite.addresses["tls"][1]
    said = subprocess.run(
        [
            *(client_program("curl"), "-sS", "-k", "--resolve", f"alert.localhost:{port}:127.0.0.1"),
            f"https://alert.localhost:{port}/",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (said.returncode, "unrecognized name" in said.stderr) == (35, True)
    event = last_event(suite, "faults: alert")
    assert (event["reason"], event["message"].partition(";")[0]) == (
        "fault",
        "closed: alert unrecognized_name",
    )


# Ends.

#: What OpenSSL and GnuTLS say to each.
SAID = {
    "notify+fin": ("closed", "Peer has closed the GnuTLS connection"),
    "notify": ("closed", "Peer has closed the GnuTLS connection"),
    "fin": ("unexpected eof while reading", "The TLS connection was non-properly terminated"),
    "rst": ("CONNECTION CLOSED BY SERVER", "Error in the pull function"),
    "silence": ("CONNECTION CLOSED BY SERVER", "Error in the pull function"),
    "alert": ("SSL alert number 80", "Received alert [80]: Internal error"),
}


@both
@pytest.mark.parametrize("end", ENDS)
def test_the_server_ends(suite: RunningSuite, version: str, end: str) -> None:
    """After what it has echoed; a connection that is held open is reset by a limit."""
    brief = ["-brief"] if end in ("rst", "silence") else []  # without it, s_client does not say so
    for said, expected in (
        (openssl(suite, version, f"after-{plain(end)}", *brief), SAID[end][0]),
        (gnutls(suite, version, f"after-{plain(end)}"), SAID[end][1]),
    ):
        assert "\nhola\n" in said
        assert expected in said


@both
@pytest.mark.parametrize(
    ("end", "sees"),
    [
        ("notify+fin", "close_notify"),
        ("notify", "close_notify"),
        ("fin", "fin"),
        ("rst", ConnectionResetError),
        ("silence", ConnectionResetError),
        ("alert", ssl.SSLError),
    ],
)
@pytest.mark.parametrize("when", ["late", "early"])
def test_python_sees_an_end(suite: RunningSuite, version: str, end: str, sees: Any, when: str) -> None:
    """After the client's own, and before it has said anything."""
    data = os.urandom(100_000) if when == "late" else b""

    def receive() -> tuple[bytes, str]:
        client = python(suite, version, f"{when}-{plain(end)}")
        with client.sock:
            if when == "late":
                client.sendall(data)
                client.close_notify()
            received = b""
            while some := client.recv(65536):
                received += some
                if isinstance(sees, type) and received == data:
                    with pytest.raises(sees):
                        client.recv(1)
                    raise sees
            return received, client.end

    if isinstance(sees, type):
        with pytest.raises(sees):
            receive()
    else:
        assert receive() == (data, sees)


# Records.


@both
def test_openssl_shows_the_sizes_of_records(suite: RunningSuite, version: str) -> None:
    said = openssl(suite, version, "fragment-100", "-msg")
    received = re.findall(r"^<<< .*RecordHeader.*\n +(\w\w) 03 03 (\w\w) (\w\w)", said, re.MULTILINE)
    sizes = [int(high + low, 16) for kind, high, low in received if kind in ("16", "17")]
    overhead = 17 if version == "1.3" else 24
    assert 100 <= max(sizes) <= 100 + overhead
    assert len(sizes) > 10
    for message in ("ServerHello", "Certificate", "Finished"):
        assert re.search(rf"^<<< .*, {message}$", said, re.MULTILINE), message
    assert "\nhola\n" in said
    assert "Verify return code: 0 (ok)" in said


@both
def test_gnutls_reads_records_of_one_byte(suite: RunningSuite, version: str) -> None:
    said = gnutls(suite, version, "fragment-1")
    assert "\nhola\n" in said
    assert "- Status: The certificate is trusted." in said


@both
@pytest.mark.parametrize(
    ("name", "size"), [("fragment-1", 50_001), ("fragment-100", 2**20), ("updates", 2**20), ("storm", 2**20)]
)
def test_every_byte_comes_back(suite: RunningSuite, version: str, name: str, size: int) -> None:
    exchange(suite, version, name, os.urandom(size))


@pytest.mark.stress
def test_a_mebibyte_comes_back_in_records_of_one_byte(suite: RunningSuite) -> None:
    exchange(suite, "1.3", "fragment-1", os.urandom(2**20))


def exchange(suite: RunningSuite, version: str, name: str, data: bytes) -> None:
    client = python(suite, version, name)
    with client.sock:
        assert echo(client, data, client.close_notify) == data  # type: ignore[arg-type]  # like a socket
        assert client.end == "close_notify"


@both
def test_sessions_resume(suite: RunningSuite, version: str, tmp_path: Path) -> None:
    session = str(tmp_path / "session")
    assert "New, " in openssl(suite, version, "fragment-100", "-sess_out", session)
    again = openssl(suite, version, "fragment-100", "-sess_in", session, "-msg")
    assert "Reused, " in again
    assert ", Certificate\n" not in again
    assert "\nhola\n" in again


# Key updates.


def test_openssl_counts_key_updates(suite: RunningSuite) -> None:
    said = openssl(suite, "1.3", "updates", "-msg")
    assert len(re.findall(r"^<<< .*, KeyUpdate$", said, re.MULTILINE)) == 33
    assert not re.search(r"^>>> .*, KeyUpdate$", said, re.MULTILINE), "it is asked for none"
    assert "\nhola\n" in said


def test_a_client_may_ask_for_a_key_update(suite: RunningSuite) -> None:
    """``K`` on a line of its own makes s_client ask for one in return."""
    said = openssl(suite, "1.3", "updates", "-msg", data="K\nhola\n")
    assert len(re.findall(r"^<<< .*, KeyUpdate$", said, re.MULTILINE)) == 34
    assert "\nhola\n" in said


def test_gnutls_takes_few_key_updates(suite: RunningSuite) -> None:
    """Eight in a second; this is what such a fault finds out."""
    assert "Too many handshake packets have been received" in gnutls(suite, "1.3", "updates")


def test_tls_1_2_has_no_key_updates_and_the_log_says_so(suite: RunningSuite) -> None:
    said = openssl(suite, "1.2", "updates", "-msg")
    assert "\nhola\n" in said
    (event, *_) = [event for event in suite.events if "does not strike" in event["message"]]
    assert (event["endpoint"], event["level"]) == ("tls", "info")
    assert event["connection"]


# What has no faults.


@both
def test_who_asks_for_another_name_has_no_faults(suite: RunningSuite, version: str) -> None:
    exchange(suite, version, "clean", os.urandom(300_000))
    assert "\nhola\n" in openssl(suite, version, "clean")


def test_a_drain_ends_what_is_held_open(tmp_path: Path) -> None:
    certs.mint(tmp_path / "certs")
    config = CONFIG.replace('handshake = "500ms", half_close = "300ms"', "")  # longer than anybody waits
    with running(tmp_path, config) as suite:
        silent = suite.connect("tls")
        client = python(suite, "1.3", "late-silence")
        client.sendall(b"hola")
        assert client.recv(4) == b"hola"
        client.close_notify()
        assert suite.stop() == 0
        with silent, client.sock, pytest.raises(ConnectionResetError):
            read_to_end(client.sock.recv)


def test_a_reload_begins_and_ends_it(tmp_path: Path) -> None:
    """The listener stays, and so does a connection that is open."""
    listen = 'listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"'
    certs.mint(tmp_path / "certs")
    clean = f"[endpoints.tls]\n{listen}\n"
    with running(tmp_path, clean) as suite:
        before = python(suite, "1.3", "localhost")
        with before.sock:
            reloaded(suite, f'{clean}faults = [{{ alert = "access_denied" }}]\n')
            with pytest.raises(ssl.SSLError, match="ACCESS_DENIED"):
                python(suite, "1.3", "localhost")
            before.sendall(b"hola")
            assert before.recv(4) == b"hola"
        reloaded(suite, clean)
        with python(suite, "1.3", "localhost").sock:
            pass


@both
def test_a_client_asks_for_faults_by_name(tmp_path: Path, version: str) -> None:
    certs.mint(tmp_path / "certs")
    config = CONFIG.partition("faults = ")[0] + 'faults = "requested"\n'
    with running(tmp_path, config) as suite:
        exchange(suite, version, "fragment-10b.key_update-5", os.urandom(100_000))
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            python(suite, version, "alert-unknown_ca")
