"""Who may ask the admin interface for what: the rules alone."""

from __future__ import annotations

import pytest

from suite.admin.access import check_host, check_origin, has_token, host_of, is_near
from suite.admin.exchange import Problem

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:9901", "localhost"),
        ("LocalHost", "localhost"),
        ("localhost.:80", "localhost"),
        ("[::1]:9901", "::1"),
        ("[FE80::1%25eth0]", "fe80::1%25eth0"),
        ("127.0.0.1:", "127.0.0.1"),
        ("", ""),
    ],
)
def test_the_host_in_a_header(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize("header", ["a:b", "::1", "[::1", "a:123456", "user@host:x", "[x]"])
def test_what_is_no_host(header: str) -> None:
    with pytest.raises(Problem) as caught:
        host_of(header)
    assert caught.value.status == 400
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost",
        "a.b.localhost:1",
        "127.0.0.1",
        "192.0.2.1:9901",
        "[::1]:9901",
        "[fe80::1%eth0]",
        "echo.example:80",
        "ECHO.example.",
    ],
)
def test_hosts_that_are_served(host: str | None) -> None:
    check_host(host, {"echo.example"})


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x.echo.example", "0x7f.1"]
)
def test_a_name_that_leads_here_by_mistake_or_on_purpose(host: str) -> None:
    with pytest.raises(Problem) as caught:
        check_host(host, {"echo.example"})
    assert caught.value.status == 421


@pytest.mark.parametrize(
    ("origin", "site", "host"),
    [
        (None, None, "localhost:9901"),
        ("http://localhost:9901", "same-origin", "localhost:9901"),
        ("http://LOCALHOST:9901", None, "localhost:9901"),
        (None, "none", "localhost:9901"),
    ],
)
def test_pages_of_this_site_and_other_clients(origin: str | None, site: str | None, host: str) -> None:
    check_origin(origin, site, host)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("http://evil.example", None),
        ("http://localhost:9902", None),
        ("https://localhost:9901", None),
        ("null", None),
        ("http://localhost:9901", "same-site"),
        (None, "cross-site"),
    ],
)
def test_pages_of_other_sites(origin: str | None, site: str | None) -> None:
    with pytest.raises(Problem) as caught:
        check_origin(origin, site, "localhost:9901")
    assert caught.value.status == 403


def test_the_token() -> None:
    assert has_token("Bearer 0123456789abcdef", TOKEN)
    assert has_token("bearer  0123456789abcdef ", TOKEN)
    assert not has_token(None, TOKEN)
    assert not has_token(None, None)


@pytest.mark.parametrize(
    ("header", "token", "status"),
    [
        ("Bearer 0123456789abcdeF", TOKEN, 401),
        ("Bearer", TOKEN, 401),
        ("Bearer \xff", TOKEN, 401),
        ("Basic MDEyMzQ1Njc4OWFiY2RlZg==", TOKEN, 401),
        ("Bearer 0123456789abcdef", None, 403),
        ("Bearer ", None, 403),
    ],
)
def test_another_token(header: str, token: bytes | None, status: int) -> None:
    with pytest.raises(Problem) as caught:
        has_token(header, token)
    assert caught.value.status == status
    assert ("WWW-Authenticate" in caught.value.headers) is (status == 401)


@pytest.mark.parametrize(
    ("host", "near"),
    [(None, True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False)],
)
def test_what_is_on_this_machine(host: str | None, near: bool) -> None:
    assert is_near(host) is near
