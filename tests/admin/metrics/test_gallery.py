"""What the gallery's endpoints do is counted as everywhere."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.admin.metrics.scraping import scrape, wait_for
from tests.running import RunningSuite, TLSClient, echo, read_to_end, running

CONFIG = """
[admin]
listen = "unix:admin.sock"
[gallery]
ports = 0
only = ["good", "expired"]
ca = "run/ca.pem"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    with running(tmp_path_factory.mktemp("gallery"), CONFIG) as suite:
        yield suite


def context(suite: RunningSuite) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(suite.directory / "run/ca.pem"))


def test_a_page_and_an_echo(suite: RunningSuite) -> None:
    """A page is longer than the request for it; what is sent is what it has."""
    [name] = [name for name in suite.addresses if name.endswith("good")]
    with suite.connect(name) as sock:
        client = TLSClient(sock, context(suite), "good.localhost")
        request = b"GET / HTTP/1.1\r\nHost: good\r\n\r\n"
        client.sendall(request)
        page = read_to_end(client.recv)
        client.close_notify()
    found = wait_for(suite, 1, "connections_ended_total", endpoint=name, reason="answered")
    assert found.value("stream_received_bytes_total", endpoint=name) == len(request)
    assert found.value("stream_sent_bytes_total", endpoint=name) == len(page)
    with suite.connect(name) as sock:
        client = TLSClient(sock, context(suite), "good.localhost")
        assert echo(client, b"no request", client.close_notify) == b"no request"  # type: ignore[arg-type]
    found = wait_for(suite, 1, "connections_ended_total", endpoint=name, reason="closed")
    assert found.value("stream_received_bytes_total", endpoint=name) == len(request) + 10
    assert found.value("stream_sent_bytes_total", endpoint=name) == len(page) + 10
    assert sum(found.by("cipher", "tls_handshakes_total", endpoint=name).values()) == 2


def test_a_client_that_refuses_a_specimen(suite: RunningSuite) -> None:
    [name] = [name for name in suite.addresses if name.endswith("expired")]
    with suite.connect(name) as sock, pytest.raises(ssl.SSLCertVerificationError):
        context(suite).wrap_socket(sock, server_hostname="expired.localhost")
    found = wait_for(suite, 1, "tls_handshakes_failed_total", endpoint=name)
    assert sum(found.by("word", "tls_handshake_failures_total", endpoint=name).values()) == 1


def test_its_certificates_are_wrong_on_purpose(suite: RunningSuite) -> None:
    assert not scrape(suite).by("endpoint", "certificate_expiry_timestamp_seconds")
