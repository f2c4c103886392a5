"""The fixtures of the gallery, in separate test runs, found by pytest as an installed package's."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suite.gallery.specimens import SPECIMENS, Must
from suite.testing import TLSGallery
from suite.testing.gallery import bad_specimens
from tests.running import PATIENCE, is_gone, wait_until
from tests.testing.test_pytest_plugin import run

pytest_plugins = "pytester"


@pytest.fixture(scope="module")
def gallery() -> object:
    with TLSGallery() as running:
        yield running


def test_the_gallery_has_all_specimens(gallery: TLSGallery) -> None:
    assert {*gallery.specimens, *gallery.left_out} == {each.name for each in SPECIMENS}
    assert gallery["expired"].must == "refuse"
    assert gallery["expired"].address == ("localhost", gallery["expired"].port)
    assert gallery.ca.read_text().startswith("-----BEGIN CERTIFICATE-----")
    with pytest.raises(KeyError, match="no specimen 'expird': expected one of good"):
        gallery["expird"]


def test_the_names_need_no_gallery() -> None:
    assert bad_specimens() == [each.name for each in SPECIMENS if each.must is Must.REFUSE]


def test_three_lines_are_a_test_of_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket
        import pytest

        def test_refused(bad_tls):
            if bad_tls.name not in ("expired", "self-signed"):
                pytest.skip("two are enough here")
            assert bad_tls.must == "refuse"
            with pytest.raises(OSError), socket.create_connection(bad_tls.address, 30) as sock:
                bad_tls.ssl_context.wrap_socket(sock, server_hostname=bad_tls.host)

        def test_accepted(tls_gallery):
            good = tls_gallery["good"]
            with socket.create_connection(good.address, 30) as sock:
                with good.ssl_context.wrap_socket(sock, server_hostname=good.host) as tls:
                    tls.sendall(b"hola")
                    assert tls.recv(10) == b"hola"

        @pytest.mark.parametrize("bad_tls", ["expired", "no-such-thing"], indirect=True)
        def test_chosen(bad_tls):
            assert bad_tls.name == "expired"
        """
    )
    result = run(pytester, "-v")
    count = len(bad_specimens())
    result.assert_outcomes(passed=4, skipped=count - 2, errors=1)
    result.stdout.fnmatch_lines(["*::test_refused[[]expired[]] PASSED*", "*no specimen 'no-such-thing'*"])


def test_a_fixture_of_the_same_name_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def bad_tls():
            return "ours"

        def test_it(bad_tls):
            assert bad_tls == "ours"
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_gallery_ends_with_the_tests_however_these_end(tmp_path: Path) -> None:
    script = (
        "import time; from suite.testing import TLSGallery; gallery = TLSGallery();"
        "print(gallery._process.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    wait_until(lambda: is_gone(pid), "the gallery has ended")
