"""The fixtures beside other plugins of pytest's, event loops, frozen clocks and unittest.

The plugins are in a directory of their own, since they would be loaded for our own tests as well:
``make .venv/plugins/installed``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.running import cannot_run

pytest_plugins = "pytester"

PLUGINS = Path(sys.prefix) / "plugins"

TESTS = '''
import asyncio
import socket
import time
import unittest

import anyio
import freezegun
import pytest
import trio


def check(suite, text):
    """It has received *text* in this test, and nothing before."""
    assert suite.received("tcp") == text
    assert suite.connections("tcp").opened == 1


@pytest.mark.asyncio
async def test_asyncio(echo_suite):
    reader, writer = await asyncio.open_connection(*echo_suite.tcp)
    writer.write(b"asyncio")
    assert await reader.readexactly(7) == b"asyncio"
    writer.close()
    await writer.wait_closed()
    await asyncio.to_thread(echo_suite.wait_for, "tcp", open=0)
    check(echo_suite, b"asyncio")


@pytest.mark.trio
async def test_trio(echo_suite):
    async with await trio.open_tcp_stream(*echo_suite.tcp) as stream:
        await stream.send_all(b"trio")
        assert await stream.receive_some() == b"trio"
    await trio.to_thread.run_sync(lambda: echo_suite.wait_for("tcp", open=0))
    check(echo_suite, b"trio")


@pytest.mark.anyio
async def test_anyio(echo_suite, anyio_backend):
    async with await anyio.connect_tcp(*echo_suite.tcp) as stream:
        await stream.send(b"anyio")
        assert await stream.receive() == b"anyio"
    await anyio.to_thread.run_sync(lambda: echo_suite.wait_for("tcp", open=0))
    check(echo_suite, b"anyio")


@pytest.mark.parametrize("number", range(3))
def test_asked_for_by_name(request, number):
    suite = request.getfixturevalue("echo_suite")
    with suite.connect("tcp") as sock:
        sock.sendall(b"by name")
        assert sock.recv(7) == b"by name"
    check(suite, b"by name")


@freezegun.freeze_time("2012-01-14")
def test_frozen_clocks(make_echo_suite):
    """Waiting ends, and so does closing, though no clock of this process does."""
    from suite.testing import StillOpenError

    before = time.monotonic()
    suite = make_echo_suite(patience=0.1)
    with suite.connect("tls") as sock:
        sock.sendall(b"frozen")
        assert sock.recv(6) == b"frozen"
        with pytest.raises(TimeoutError, match="opened=1"):
            suite.wait_for("tls", opened=2, timeout=0.1)
        with pytest.raises(StillOpenError):
            suite.close()
    assert time.monotonic() == before


def test_another_file_system(fs, echo_suite):
    with echo_suite.connect("tls") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
    echo_suite.wait_for("tls", open=0)
    assert "Traceback" not in echo_suite.log


class ClientTest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def use_suite(self, echo_suite):
        self.suite = echo_suite

    def setUp(self):
        self.sock = socket.create_connection(self.suite.tcp, 10)
        self.addCleanup(self.sock.close)

    def test_it(self):
        self.sock.sendall(b"unittest")
        self.assertEqual(self.sock.recv(8), b"unittest")
        check(self.suite, b"unittest")
'''

GEVENT = """
from gevent import monkey

monkey.patch_all()
"""

GREENLETS = """
import socket

import gevent


def test_greenlets(echo_suite):
    def client(number):
        with socket.create_connection(echo_suite.tcp, 10) as sock:
            sock.sendall(b"x" * number)
            echo_suite.wait_for("tcp", opened=8)  # while the others connect
            assert sock.recv(100)

    gevent.joinall([gevent.spawn(client, number) for number in range(1, 9)], raise_error=True)
    assert echo_suite.wait_for("tcp", open=0).received == sum(range(1, 9))


def test_making_and_closing(make_echo_suite):
    suite = make_echo_suite({"endpoints": {"tcp": "tcp:0"}})
    with suite.connect("tcp") as sock:
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
    suite.close()
"""


def test_plugins_and_loops(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-asyncio, pytest-trio, anyio, pytest-randomly, pytest-xdist, pyfakefs; warnings are errors."""
    if not PLUGINS.is_dir():
        cannot_run("the other plugins are not installed; `make .venv/plugins/installed` does that")
    monkeypatch.setenv("PYTHONPATH", str(PLUGINS))
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")  # or it warns
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        def pytest_configure(config):
            for name in ("randomly", "asyncio", "trio", "anyio", "xdist", "echo-suite"):
                assert config.pluginmanager.hasplugin(name), name
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "-n", "2", timeout=100)
    result.assert_outcomes(passed=9)


def test_gevent(pytester: pytest.Pytester) -> None:
    """The standard library is made cooperative before anything else; the suite's own waiting is, too."""
    pytest.importorskip("gevent", reason="gevent comes with Locust")
    pytester.makeconftest(GEVENT)
    pytester.makepyfile(GREENLETS)
    # Without -W error: gevent warns when another plugin has imported ssl before.
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=100)
    result.assert_outcomes(passed=2)


def test_warnings_as_errors_reach_the_tests_only(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the server, whose requirements may warn; nor does another path or mode of Python."""
    pytester.makepyfile("def test_it(echo_suite):\n    assert not echo_suite.log")
    pytester.mkdir("elsewhere").joinpath("suite.py").write_text("raise AssertionError")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "elsewhere"))
    pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=100).assert_outcomes(passed=1)


def test_the_log_of_a_failing_test(pytester: pytest.Pytester) -> None:
    """With ``--echo-suite-log``: of each suite that it has used, what was logged in its time."""
    pytester.makepyfile(
        """
        import socket

        def fail_handshake(address):
            with socket.create_connection(address, 10) as sock:
                sock.sendall(b"this is no TLS")
                while sock.recv(100):
                    pass

        def test_passes(echo_suite):
            with echo_suite.connect("tls"):
                pass
            fail_handshake(echo_suite.tls)

        def test_fails(echo_suite):
            fail_handshake(echo_suite.tls)
            assert False

        def test_fails_with_its_own(make_echo_suite):
            suite = make_echo_suite()
            fail_handshake(suite.tls)
            assert False

        def test_fails_without(echo_suite):
            assert False
        """
    )
    arguments = ("-p", "no:cacheprovider", "-p", "no:randomly")
    result = pytester.runpytest_subprocess(*arguments, "--echo-suite-log", timeout=100)
    result.assert_outcomes(passed=1, failed=3)
    assert len([line for line in result.outlines if '"reason": "tls"' in line]) == 2
    assert len([line for line in result.outlines if " echo suite log " in line]) == 2
