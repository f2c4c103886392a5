"""The page in a real browser: what a person sees, and does, with and without scripts."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from suite.admin.page import wording
from tests.admin.asking_http import ask
from tests.admin.page.browsing import Browsing, browser_path, browsing
from tests.running import PATIENCE, RunningSuite, client_program, running, wait_until

pytestmark = pytest.mark.timeout(240)

TOKEN = "a-token-that-no-one-can-guess-0123456789"

CONFIG = """
[endpoints]
tcp = "tcp:{tcp}"
udp = "udp:0"
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
unix = "unix:echo.sock"
full = {{ listen = "tcp:0", limits = {{ connections = 1, per_peer = 1 }} }}
[gallery]
ports = 0
only = ["good", "expired"]
[admin]
listen = "tcp:{admin}"
token_file = "token"
"""

#: How much is received and sent each second, as the page says.
RATES = "document.querySelector('.hero .rates').textContent"

Chromium = Iterator[Browsing]


@pytest.fixture(scope="module")
def chromium() -> Chromium:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    browser_path()  # before a suite is started in vain
    found = tmp_path_factory.mktemp("page")
    (found / "token").write_text(TOKEN)
    (found / "token").chmod(0o600)
    return found


@pytest.fixture(scope="module")
def suite(directory: Path) -> Iterator[RunningSuite]:
    with running(directory, CONFIG.format(admin=0, tcp=0)) as suite:
        suite.asked_for.append("refused")
        yield suite


def url_of(suite: RunningSuite, path: str = "/") -> str:
    host, port = suite.admin[0]
    return f"http://{host}:{port}{path}"


def open_page(chromium: Browsing, suite: RunningSuite, path: str = "/", **options: object) -> None:
    chromium.do("open", url=url_of(suite, path), **options)
    if options.get("scripts", True):
        chromium.wait("#link", "live")


def check_seen(chromium: Browsing, suite: RunningSuite, problems: str = "") -> None:
    """Check that the page has asked nobody else, and has had no problems but *problems*, a pattern."""
    seen = chromium.do("seen")
    assert seen["requests"]
    assert not [each for each in seen["requests"] if not each.startswith(url_of(suite))]
    assert not [each for each in seen["problems"] if not re.search(problems or r"(?!)", each)]


def give_token(chromium: Browsing, token: str = TOKEN) -> None:
    chromium.do("click", selector="[data-do=token]")
    chromium.do("fill", selector="#token", text=token)
    chromium.do("press", key="Enter")
    chromium.wait("#notice", "the token is kept")


def card(name: str) -> str:
    return f"#endpoint-{name}"


def open_connections(name: str) -> str:
    return f"document.querySelector('{card(name)} [data-path=\"connections/open\"]').textContent"


def test_a_connection_is_seen_and_closed(chromium: Browsing, suite: RunningSuite, tmp_path: Path) -> None:
    """Somebody connects with nc; somebody else sees it, and closes it with the keyboard alone."""
    nc = client_program("nc")
    open_page(chromium, suite)
    before = int(chromium.do("evaluate", expression=open_connections("tcp")))
    host, port = suite.addresses["tcp"]
    with subprocess.Popen([nc, host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"hola\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hola\n"
        chromium.do("wait_for", expression=f"{open_connections('tcp')} === '{before + 1}'")
        give_token(chromium)
        chromium.do("focus", selector=f"{card('tcp')} .copy")
        assert chromium.do("press", key="Tab") == "Details of tcp"
        chromium.do("press", key="Enter")
        connection = chromium.wait(f"{card('tcp')} tbody tr:has-text('5 B') th")
        for _ in range(30):
            if chromium.do("press", key="Tab") == f"Close {connection}":
                break
        else:
            pytest.fail("no key leads to the button")
        chromium.do("press", key="Enter")
        chromium.wait("#notice", f"{connection} of 127.0.0.1")
        client.stdin.close()
        assert client.wait(PATIENCE) == 0
    chromium.do("wait_for", expression=f"{open_connections('tcp')} === '{before}'")
    chromium.wait("#by-reason", "operator")
    check_seen(chromium, suite)


def test_what_is_changed(chromium: Browsing, suite: RunningSuite) -> None:
    """Without the token nothing is; with it a fault strikes the next connection, and a pause holds it."""
    open_page(chromium, suite, "/?endpoint=tcp")
    form = f"{card('tcp')} .add-faults"
    chromium.do("fill", selector=f"{form} input", text="refuse=100%")
    chromium.do("press", key="Enter")
    refusal = chromium.wait("#notice .failed")
    assert "takes the token in admin.token_file" in refusal
    give_token(chromium, "another one")
    chromium.do("click", selector=f"{form} button")
    chromium.wait("#notice .failed", "the token is not the one")
    give_token(chromium)

    # What is wrong with a fault is said in the words of the command line.
    chromium.do("fill", selector=f"{form} input", text="latencey=200ms")
    chromium.do("press", key="Enter")
    chromium.wait("#notice .failed", "did you mean latency?")

    chromium.do("fill", selector=f"{form} input", text="latency=1ms jitter=1ms")
    chromium.do("press", key="Enter")
    chromium.wait(f"{card('tcp')} .chips.faults", "latency=1ms jitter=1ms")
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        chromium.wait(f"{card('tcp')} [data-counted=struck]", "latency")
        chromium.wait("#log", "faults: latency=")
    chromium.do("click", selector=f"{card('tcp')} .in-force button")
    chromium.wait(f"{card('tcp')} .chips.faults", state="hidden")

    chromium.do("click", selector=f"{card('tcp')} [data-do=pause]")
    chromium.wait(f"{card('tcp')} .badge.strong", "paused")
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        chromium.do("click", selector=f"{card('tcp')} [data-do=resume]")
        assert sock.recv(4) == b"hola"
    chromium.wait(f"{card('tcp')} .badge.strong", state="hidden")
    chromium.do("click", selector="[data-do=reload]")
    chromium.wait("#notice .done", "reloaded: ")
    check_seen(chromium, suite, r"the server responded with a status of 40[01] ")


def test_nothing_that_a_peer_sends_is_markup(chromium: Browsing, suite: RunningSuite) -> None:
    """A TLS client asks for a server whose name is an element; people see its letters."""
    name = "<img src=x onerror=alert(1)>"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suite.connect("tls") as plain, context.wrap_socket(plain, server_hostname=name) as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        for scripts in (True, False):
            open_page(chromium, suite, "/?endpoint=tls", scripts=scripts)
            assert name in chromium.wait(f"{card('tls')} .connections tbody tr", "onerror")
            if scripts:
                assert chromium.do("evaluate", expression="document.images.length") == 1
            check_seen(chromium, suite)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(chromium: Browsing, suite: RunningSuite, scheme: str) -> None:
    """Axe finds nothing, on a desk and on a phone, with everything open."""
    page = "/api/v1/connections?endpoint=full"
    wait_until(lambda: not ask(suite.admin[0], page).json["connections"], "the others have ended")
    with ExitStack() as stack:
        for name in ("tcp", "full", "full"):
            stack.enter_context(suite.connect(name))
        for width in (1280, 390):
            open_page(chromium, suite, scheme=scheme, width=width)
            chromium.wait("#by-reason", "connections")
            for name in ("tcp", "full"):
                chromium.do("click", selector=f"{card(name)} .more")
                chromium.wait(f"{card(name)} .connections tbody tr")
            chromium.do("click", selector="#gallery summary")
            assert chromium.do("axe") == []
            assert chromium.do("evaluate", expression="document.documentElement.scrollWidth <= innerWidth"), (
                f"wider than {width}"
            )
            chromium.do("click", selector="[data-do=drain]")
            chromium.wait("#drain-dialog", "Drain the suite?")
            assert chromium.do("axe") == []
            check_seen(chromium, suite)


def test_without_scripts(chromium: Browsing, suite: RunningSuite) -> None:
    """What the API says can be read, of all endpoints and of one, and nothing is there that does nothing."""
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
        status = ask(suite.admin[0], "/api/v1/status").json
        open_page(chromium, suite, scripts=False)
        assert chromium.wait("#state") == "serving"
        for endpoint in ask(suite.admin[0], "/api/v1/endpoints").json["endpoints"]:
            if endpoint["gallery"]:
                assert endpoint["addresses"][0] in chromium.wait("#gallery", state="attached")
                continue
            shown = chromium.wait(card(endpoint["name"]))
            for fact in (*endpoint["addresses"], endpoint["transport"], endpoint["answer"], endpoint["try"]):
                assert fact in shown
        assert str(status["pid"]) in chromium.wait("#process")
        chromium.wait(".actions", state="hidden")
        chromium.do("click", selector=f"{card('tcp')} .more")
        row = chromium.wait(f"{card('tcp')} .connections tbody tr", "127.0.0.1:")
        assert re.search(r"tcp/\d+.*answering", row)
        assert "10,000" in chromium.wait(f"{card('tcp')} .details")
        check_seen(chromium, suite)


def test_it_says_the_same_with_and_without_scripts(chromium: Browsing, suite: RunningSuite) -> None:
    """Sizes, durations and numbers: the server's words are those of the scripts."""
    numbers = [
        0,
        1,
        999,
        1000,
        1023,
        1024,
        1536,
        10**5,
        104_857,
        1024**2 - 1,
        10**9,
        2**40,
        2**50,
        123_456_789,
    ]
    seconds = [
        0,
        0.00002,
        0.0009,
        0.25,
        0.9996,
        1,
        4.3,
        59.94,
        59.96,
        60,
        61,
        3599,
        3600,
        3661,
        86_399,
        10**6,
    ]
    open_page(chromium, suite)
    script = (
        f"import('/static/wording.js').then(({{size, duration, number, UNKNOWN}}) => [{numbers}.map(size),"
        f" {seconds}.map(duration), {numbers}.map(number), [size(null), duration(null), number(null)]])"
    )
    assert chromium.do("evaluate", expression=script) == [
        [*map(wording.size, numbers)],
        [*map(wording.duration, seconds)],
        [*map(wording.number, numbers)],
        [wording.UNKNOWN] * 3,
    ]


def test_it_survives_a_restart(chromium: Browsing, directory: Path, tmp_path: Path) -> None:
    """While nobody answers it says so, and shows no rates; it goes on by itself, with what has changed."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with running(tmp_path, CONFIG.format(admin=0, tcp=0)) as suite:
        open_page(chromium, suite)
        chromium.do("wait_for", expression=f"/^[0-9]/.test({RATES})")
        port: Any = suite.admin[0][1]
    chromium.wait("#link", "connection lost, retrying; the numbers are those of ")
    assert chromium.do("evaluate", expression=RATES) == "\N{EN DASH} in, \N{EN DASH} out"
    changed = CONFIG.format(admin=port, tcp=0) + '[endpoints.another]\nlisten = "tcp:0"\nanswer = "discard"\n'
    with running(tmp_path, changed) as suite:
        chromium.wait("#link", "live")
        assert "discard" in chromium.wait(card("another"))
        with suite.connect("another"):
            chromium.do("wait_for", expression=f"{open_connections('another')} === '1'")
        check_seen(chromium, suite, r"Failed to load resource: net::ERR_")


def test_it_can_be_ended(chromium: Browsing, tmp_path: Path) -> None:
    """Draining takes a second word; whoever has not given it has ended nothing."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with running(tmp_path, CONFIG.format(admin=0, tcp=0)) as suite:
        open_page(chromium, suite)
        give_token(chromium)
        chromium.do("click", selector="[data-do=drain]")
        assert chromium.do("press", key="Enter") == "Drain…"  # "Cancel" had the focus
        with suite.connect("tcp") as sock:
            sock.sendall(b"hola")
            assert sock.recv(4) == b"hola"
            chromium.do("click", selector="[data-do=drain]")
            chromium.do("click", selector="#drain-dialog [data-confirm]")
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(4) == b""
        assert suite.process.wait(PATIENCE) == 0
        chromium.wait("#link", "connection lost")
